"""One post-training quantizer, ours or another, over one of our graphs, and what it took.

    PYTHON peer_quantizer.py TOOL --graph fp32.onnx --inputs inputs.npz --out int8.onnx --json FILE

Started by quantizers.py with an interpreter that has the tool: segdeploy for `segdeploy-...`,
onnxruntime for `ort-...`, NNCF for `nncf...`, Model Optimizer for `mo-...`. inputs.npz holds
`images`, (N, H, W, 3) uint8. The tool runs on the CPU with one thread, and with its defaults where
nothing else is said; one that fails ends with its traceback.

The `ort-` tools but `ort-uint8` write TensorRT's form: symmetric int8 at the inputs of convolutions
alone, so that no pair stands between a convolution and its activation. ONNX Runtime lets all who
read such a tensor read the pair, so the skip input of a residual Add has one too.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray


@dataclass(frozen=True)
class Job:
    """What to quantize, and on which pixels."""

    graph: Path
    images: NDArray[np.uint8]  # (N, H, W, 3)
    out: Path

    @property
    def input_name(self) -> str:
        """The one input of the graph."""
        return str(onnx.load(self.graph).graph.input[0].name)

    def feeds(self) -> Iterator[dict[str, NDArray[np.uint8]]]:
        """One image at a time."""
        name = self.input_name
        return ({name: image[None]} for image in self.images)


Tool = Callable[[Job], None]


def load_onnxruntime(method: str, *, tensorrt: bool) -> Tool:
    """ONNX Runtime's static quantizer: TensorRT's form, or uint8 where it puts pairs by default."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # has no types
        """What ONNX Runtime reads images from, a part at a time."""

        def __init__(self, job: Job) -> None:
            self._all = list(job.feeds())
            self._rest = iter(self._all)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(self._rest, None)

        def __len__(self) -> int:
            return len(self._all)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._rest = iter(self._all[start_index:end_index])

    extra: dict[str, Any] = {}
    if method != "MinMax":
        # Otherwise it keeps the activations of all images: 0.8 GB an image of 360x480 (measured
        # with DeepLabV3+). The scales differ by at most 0.05 %.
        extra["CalibStridedMinMax"] = 1
    if tensorrt:
        extra |= {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
        extra["OpTypesToExcludeOutputQuantization"] = ["Conv"]

    def run(job: Job) -> None:
        quantize_static(
            job.graph,
            job.out,
            Reader(job),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"] if tensorrt else None,
            per_channel=True,
            activation_type=QuantType.QInt8 if tensorrt else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
            extra_options=extra,
        )

    return run


def load_nncf(*, preset: str | None = None, signed: bool = False) -> Tool:
    """NNCF for CPUs with bias correction: its default, a preset, or activations signed throughout.

    By itself it makes what is never negative unsigned. `signedness_to_force` of its quantization
    parameters, which would change that, contradicts its description of CPUs: so change that too.
    """
    import nncf  # type: ignore[import-not-found]
    import nncf.onnx  # type: ignore[import-not-found]  # now, not when `quantize` is timed
    from nncf.common.hardware import qspaces  # type: ignore[import-not-found]

    options = {} if preset is None else {"preset": nncf.QuantizationPreset[preset]}
    if signed:
        for space in (qspaces.q8_a, qspaces.q8_a_ch, qspaces.q8_a_sym):
            object.__setattr__(space, "signedness_to_force", True)

    def run(job: Job) -> None:
        quantized = nncf.quantize(
            with_subtracted_biases(onnx.load(job.graph)),
            nncf.Dataset(list(job.feeds())),
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(job.images),
            **options,
        )
        onnx.save(quantized, job.out)

    return run


def with_subtracted_biases(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write `weights @ x + bias` as `weights @ x - (-bias)`, which is the same to the bit.

    NNCF 3.4 takes the former for a layer with a bias and ends with an IndexError: it looks for x
    on the other side of the product.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[0] in constants
    }
    for node in model.graph.node:
        if node.op_type == "Add" and node.input[0] in products and node.input[1] in constants:
            negated = -onnx.numpy_helper.to_array(constants[node.input[1]])
            name = f"{node.input[1]}_negated"
            model.graph.initializer.append(onnx.numpy_helper.from_array(negated, name))
            node.op_type, node.input[1] = "Sub", name
    return model


def load_modelopt(method: str) -> Tool:
    """Model Optimizer in int8; what it leaves floating stays float32."""
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found]

    def run(job: Job) -> None:
        quantize(
            str(job.graph),
            quantize_mode="int8",
            calibration_data={job.input_name: job.images},
            calibration_method=method,
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",
            output_path=str(job.out),
        )

    return run


def load_segdeploy(form: str) -> Tool:
    """Ours, as `build-engine --int8` does it but for reading images, which are given to all."""
    from segdeploy.calibrate import collect_statistics
    from segdeploy.graph import cut_graph, read_model
    from segdeploy.histograms import Statistics
    from segdeploy.placement import QuantizationForm, activations_to_quantize, graph_sha256
    from segdeploy.quantize.model import QuantizeOptions, quantize_model
    from segdeploy.runtime.onnxruntime import PieceByPiece, int8_weight_bits

    chosen = QuantizationForm(form)
    bits = 8 if chosen is QuantizationForm.TENSORRT else int8_weight_bits()

    def run(job: Job) -> None:
        model = read_model(job.graph)
        runner = PieceByPiece(cut_graph(model, activations_to_quantize(model)), threads=1)
        known = graph_sha256(model)
        del model
        images = (image[None] for image in job.images)
        with TemporaryDirectory() as folder:
            kept = Path(folder) / "statistics.npz"
            collect_statistics(runner.run, images, graph_sha256=known).save(kept)
            statistics = Statistics.load(kept)
        options = QuantizeOptions(form=chosen, weight_bits=bits)
        onnx.save(quantize_model(read_model(job.graph), statistics, options), job.out)

    return run


# The distribution whose version counts, and what loads the tool.
TOOLS: dict[str, tuple[str, Callable[[], Tool]]] = {
    **{
        f"segdeploy-{form}": ("segdeploy", partial(load_segdeploy, form))
        for form in ("tensorrt", "onnxruntime", "onnxruntime-full-range")
    },
    "ort-minmax": ("onnxruntime", lambda: load_onnxruntime("MinMax", tensorrt=True)),
    "ort-entropy": ("onnxruntime", lambda: load_onnxruntime("Entropy", tensorrt=True)),
    "ort-percentile": ("onnxruntime", lambda: load_onnxruntime("Percentile", tensorrt=True)),
    "ort-uint8": ("onnxruntime", lambda: load_onnxruntime("MinMax", tensorrt=False)),
    "nncf": ("nncf", lambda: load_nncf()),
    "nncf-mixed": ("nncf", lambda: load_nncf(preset="MIXED")),
    "nncf-symmetric": ("nncf", lambda: load_nncf(preset="PERFORMANCE", signed=True)),
    "mo-max": ("nvidia-modelopt", lambda: load_modelopt("max")),
    "mo-entropy": ("nvidia-modelopt", lambda: load_modelopt("entropy")),
}


def use_one_thread() -> None:
    """Make ONNX Runtime, which all of the tools calibrate with, open sessions of one thread."""
    import onnxruntime

    original = onnxruntime.InferenceSession

    class OneThread(original):  # type: ignore[misc, valid-type]  # has no types
        """A session as asked for, but for its threads."""

        def __init__(
            self, model: Any, sess_options: Any = None, *arguments: Any, **options: Any
        ) -> None:
            sess_options = sess_options or onnxruntime.SessionOptions()
            sess_options.intra_op_num_threads = 1
            super().__init__(model, sess_options, *arguments, **options)

    onnxruntime.InferenceSession = OneThread


def peak_bytes() -> int:
    """Peak resident memory of this process alone: getrusage begins with that of its parent."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def main() -> None:
    """Load the tool, let it run, and write what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=TOOLS)
    for name in ("--graph", "--inputs", "--out", "--json"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    job = Job(arguments.graph, np.load(arguments.inputs)["images"], arguments.out)
    use_one_thread()
    distribution, load = TOOLS[arguments.tool]
    run = load()
    before, start, cpu = peak_bytes(), time.perf_counter(), time.process_time()
    run(job)
    facts = {
        "version": f"{distribution} {version(distribution)}",
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "before_bytes": before,
        "peak_bytes": peak_bytes(),
    }
    arguments.json.write_text(json.dumps(facts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
