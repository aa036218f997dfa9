"""One subject of a comparison: opens it, then times one step for each line that it reads.

Started by turns.py in a process of its own, with the interpreter that has what it needs: segdeploy
for `segdeploy FILE`, `calibration GRAPH`, `pytorch MODEL` and, with a C++ compiler, `compiled
MODEL`, openvino for `openvino FILE`, MMSegmentation 1.2.2 for `mmseg CONFIG`. It answers each line
with JSON: wall and CPU milliseconds of the step, and the peak memory of the process in bytes.
Threads are those of the runtime; a step is pixels to labels, or one image of a calibration set
counted.
"""

import argparse
import json
import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Step = Callable[[], Any]


def open_artifact(path: str, image: Any, threads: int) -> Step:
    """A session of segdeploy."""
    from segdeploy.pipeline.segment import read_artifact
    from segdeploy.runtime import open_session

    session = open_session(read_artifact(Path(path)), threads=threads)
    return lambda: session.run(image)


def open_calibration(path: str, image: Any, threads: int) -> Step:
    """What `segdeploy calibrate` does with one image."""
    from segdeploy.calibrate import collect_statistics
    from segdeploy.graph import cut_graph, read_model
    from segdeploy.placement import activations_to_quantize
    from segdeploy.runtime.onnxruntime import PieceByPiece

    model = read_model(Path(path))
    runner = PieceByPiece(cut_graph(model, activations_to_quantize(model)), threads=threads)
    del model
    begun = None

    def step() -> None:
        nonlocal begun
        begun = collect_statistics(
            runner.run, [image], graph_sha256="", threads=threads, begun=begun
        )

    return step


def open_pytorch(model: str, image: Any, threads: int) -> Step:
    """The network in PyTorch, eager and unfused, with random weights."""
    from weights import source_of

    from segdeploy.artifacts import Store
    from segdeploy.runtime.pytorch import PyTorchSession

    source = source_of(model, Store())
    session = PyTorchSession(source.spec, source.checkpoint, threads=threads)
    return lambda: session.run(image)


def open_compiled(model: str, image: Any, threads: int) -> Step:
    """The same network through torch.compile, for this one size, its weights taken as constants."""
    import torch
    from weights import source_of

    from segdeploy.artifacts import Store
    from segdeploy.nets.checkpoint import build_network
    from segdeploy.nets.segmentor import PixelsIn
    from segdeploy.spec import Output

    torch.set_num_threads(threads)
    source = source_of(model, Store())
    network, _ = build_network(source.spec, source.checkpoint)
    module = PixelsIn(network, source.spec.normalization, Output.LABELS).eval()
    compiled = torch.compile(module, dynamic=False, options={"freezing": True})
    pixels = torch.from_numpy(image)

    def step() -> Any:
        with torch.no_grad():
            return compiled(pixels)

    return step


def open_openvino(path: str, image: Any, threads: int) -> Step:
    """OpenVINO in float32; its default could be bfloat16."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(path), "CPU", options).create_infer_request()
    return lambda: request.infer([image])


def stand_in_operators() -> None:
    """For mmcv-lite, which has none: these models use none, but mmseg imports their module."""

    class Operators(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ("mmcv.ops", "mmcv.ops.point_sample"):
        module = Operators(name)
        module.__path__ = []
        sys.modules.setdefault(name, module)


def open_mmseg(config: str, image: Any, threads: int) -> Step:
    """MMSegmentation's predict path, timed as tools/analysis_tools/benchmark.py does on a CPU."""
    import torch

    stand_in_operators()
    import mmseg
    from mmengine.config import Config
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    init_default_scope("mmseg")
    torch.set_num_threads(threads)
    configs = Path(mmseg.__file__).parent / ".mim" / "configs" / "mobilenet_v2"
    settings = Config.fromfile(configs / f"{config}.py").model
    settings.pretrained = settings.train_cfg = None
    model = revert_sync_batchnorm(MODELS.build(settings)).eval()
    size = image.shape[1:3]
    sample = SegDataSample(metainfo={"ori_shape": size, "img_shape": size, "flip": None})
    pixels = torch.from_numpy(image[0]).permute(2, 0, 1).contiguous()
    data = model.data_preprocessor({"inputs": [pixels], "data_samples": [sample]}, False)

    def step() -> Any:
        with torch.no_grad():
            return model(data["inputs"], data["data_samples"], mode="predict")

    return step


def peak_bytes() -> int:
    """Peak resident memory of this process alone: getrusage begins with that of its parent."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


OPENERS = {
    "segdeploy": open_artifact,
    "calibration": open_calibration,
    "pytorch": open_pytorch,
    "compiled": open_compiled,
    "openvino": open_openvino,
    "mmseg": open_mmseg,
}


def main() -> None:
    """Open the subject, warm it up, and answer lines until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=OPENERS)
    parser.add_argument("subject")
    parser.add_argument("image", help="a .npy file: (1, H, W, 3) uint8")
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    image = np.load(arguments.image)
    step = OPENERS[arguments.kind](arguments.subject, image, arguments.threads)
    step()
    print(flush=True)  # ready
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        times = [1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)]
        peak = peak_bytes()
        print(json.dumps({"wall_ms": times[0], "cpu_ms": times[1], "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
