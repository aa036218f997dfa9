"""MMSegmentation's own evaluation on a CPU, timed: run by evaluation.py with mmseg's interpreter.

    PYTHON benchmarks/mmseg_loop.py CONFIG CITYSCAPES THREADS

Builds the runner of tools/test.py for a configuration of MMSegmentation 1.2.2 with random weights,
runs its test over the split `val` of CITYSCAPES, and prints JSON: the images, the seconds from the
first forward pass to the end, and those inside the forward passes, which are its predict path. The
start of the processes that decode, and the first image, are left out, in mmseg's favour.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from worker import stand_in_operators


def main() -> None:
    """Time one test loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("data")
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    stand_in_operators()
    import mmseg
    import torch
    from mmengine.config import Config
    from mmengine.runner import Runner

    torch.set_num_threads(arguments.threads)
    configs = Path(mmseg.__file__).parent / ".mim" / "configs" / "mobilenet_v2"
    config = Config.fromfile(configs / f"{arguments.config}.py")
    config.model.pretrained = None
    config.test_dataloader.dataset.data_root = arguments.data
    config.log_level = "ERROR"
    config.launcher = "none"
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder
        runner = Runner.from_cfg(config)
        inside, begun = 0.0, 0.0
        forward = runner.model.forward

        def timed(*given: Any, **named: Any) -> Any:
            nonlocal inside, begun
            start = time.perf_counter()
            begun = begun or start
            found = forward(*given, **named)
            inside += time.perf_counter() - start
            return found

        runner.model.forward = timed
        loop = runner.test_loop  # builds the data set and the loader
        runner.test()
        seconds = time.perf_counter() - begun
        images = len(loop.dataloader.dataset)
    print(json.dumps({"images": images, "seconds": seconds, "inside": inside}))


if __name__ == "__main__":
    main()
