"""Where Winograd's form of a convolution pays: ONNX Runtime's own against it, side by side.

    python benchmarks/winograd.py --out benchmarks/results/winograd-cpu.json

A 3x3 convolution between two 1x1 ones, as it stands in a head, for maps and channels of all sizes.
`rewrite.winograd.LEAST_CHANNELS` is read off the table.
"""

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import typer
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from segdeploy.artifacts import write_json
from segdeploy.environment import describe_environment
from segdeploy.rewrite import winograd
from segdeploy.spec import Size

MAPS = (Size(8, 16), Size(16, 32), Size(32, 64), Size(64, 128), Size(128, 256))
CHANNELS = ((64, 64), (64, 256), (256, 64), (112, 192), (128, 128), (256, 256), (512, 512))
LARGEST = 512 * 512 * 64 * 128  # products of channels and pixels: beyond it a run takes minutes


@dataclass(frozen=True)
class Row:
    """Milliseconds, turn by turn, and the largest difference of outputs with deviation 1."""

    size: str
    inputs: int
    outputs: int
    threads: int
    direct_ms: tuple[float, ...]
    winograd_ms: tuple[float, ...]
    error: float


def build(size: Size, inputs: int, outputs: int) -> onnx.ModelProto:
    """1x1, ReLU, 3x3, ReLU, 1x1."""
    dice = np.random.default_rng(0)

    def weights(*shape: int) -> NDArray[np.float32]:
        scale = (2 / np.prod(shape[1:])) ** 0.5
        return (dice.standard_normal(shape) * scale).astype(np.float32)

    constants = {
        "first": weights(inputs, inputs, 1, 1),
        "dense": weights(outputs, inputs, 3, 3),
        "last": weights(16, outputs, 1, 1),
    }
    shape = (1, inputs, *size)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "first"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "dense"], ["c"], pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["d"]),
            helper.make_node("Conv", ["d", "last"], ["y"]),
        ],
        "layer",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def measure(size: Size, inputs: int, outputs: int, threads: int, rounds: int) -> Row:
    """Both in turn."""
    model = build(size, inputs, outputs)
    draft = ir.from_proto(model)
    if winograd.apply_winograd(draft) != 1:
        raise RuntimeError(f"{inputs} to {outputs} channels at {size}: not rewritten")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.force_spinning_stop", "1")
    sessions = [
        onnxruntime.InferenceSession(
            one.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for one in (model, ir.to_proto(draft))
    ]
    x = np.random.default_rng(1).standard_normal((1, inputs, *size)).astype(np.float32)
    results = [session.run(None, {"x": x})[0] for session in sessions]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for session, steps in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, {"x": x})
            steps.append(1e3 * (time.perf_counter() - start))
    error = float(np.abs(results[1] - results[0]).max() / results[0].std())
    return Row(str(size), inputs, outputs, threads, tuple(times[0]), tuple(times[1]), error)


def main(
    out: Annotated[Path, typer.Option(help="The JSON to write.")],
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 9,
) -> None:
    """Measure every map and number of channels, print a table, and write the JSON."""
    winograd.LEAST_CHANNELS = 1
    environment = describe_environment()
    rows = []
    print("| map | channels | threads | direct ms | Winograd ms | x | error |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for threads in (1, 2):
        for size in MAPS:
            for inputs, outputs in CHANNELS:
                if inputs * outputs * size.height * size.width > LARGEST:
                    continue
                row = measure(size, inputs, outputs, threads, rounds)
                rows.append(row)
                pairs = zip(row.direct_ms, row.winograd_ms, strict=True)
                ratio = statistics.median(a / b for a, b in pairs)
                direct, fast = map(statistics.median, (row.direct_ms, row.winograd_ms))
                print(
                    f"| {size} | {inputs} > {outputs} | {threads} | {direct:.2f} | {fast:.2f} "
                    f"| {ratio:.2f} | {row.error:.0e} |",
                    flush=True,
                )
    content = {"environment": environment.to_dict(), "rows": [asdict(row) for row in rows]}
    write_json(out, content)


if __name__ == "__main__":
    typer.run(main)
