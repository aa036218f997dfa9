"""The mask: compiled loops against ONNX Runtime's Resize and ArgMax, side by side in one run.

    python benchmarks/masks.py --out benchmarks/results/masks-cpu.json

Each case is measured on logits as a trained network makes them (soft regions) and on white noise,
where nearly every cell is mixed. The two take turns in one process; memory is the growth of the
peak of a fresh process that makes one mask.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import typer
from onnx import helper, numpy_helper

from segdeploy.artifacts import write_json
from segdeploy.environment import describe_environment
from segdeploy.masks import batch_labels
from segdeploy.resampling import Stretch
from segdeploy.spec import Labels, Logits, Size
from segdeploy.timing import peak_memory_bytes, reset_peak_memory


@dataclass(frozen=True)
class Case:
    """Logits of a head, and what they are resized to."""

    classes: int
    logits: Size
    network: Size
    original: Size

    def __str__(self) -> str:
        sizes = dict.fromkeys((self.logits, self.network, self.original))
        return f"{self.classes} classes, {' > '.join(map(str, sizes))}"


CASES = (
    Case(19, Size(128, 256), Size(1024, 2048), Size(1024, 2048)),
    Case(19, Size(64, 128), Size(512, 1024), Size(512, 1024)),
    Case(19, Size(128, 256), Size(512, 1024), Size(512, 1024)),  # stride 4
    Case(150, Size(64, 86), Size(512, 683), Size(375, 500)),
)


@dataclass(frozen=True)
class Row:
    """Times of both, turn by turn, and how many labels differ."""

    case: str
    logits: str
    threads: int
    onnxruntime_ms: tuple[float, ...]
    masks_ms: tuple[float, ...]
    onnxruntime_cpu_ms: tuple[float, ...]
    masks_cpu_ms: tuple[float, ...]
    onnxruntime_bytes: int
    masks_bytes: int
    different_labels: int


def soft_logits(case: Case) -> Logits:
    """Regions of about a dozen cells with soft borders, and some noise."""
    dice = np.random.default_rng(0)
    height, width = case.logits
    coarse = dice.normal(0, 6, (case.classes, height // 12 + 2, width // 12 + 2))
    across = Stretch.between(coarse.shape[2], width).apply(coarse.astype(np.float32), 2)
    planes = Stretch.between(coarse.shape[1], height).apply(across, 1)
    return (planes + dice.normal(0, 0.3, planes.shape)).astype(np.float32)[None]


def white_logits(case: Case) -> Logits:
    """No two cells alike: the worst case."""
    dice = np.random.default_rng(0)
    return dice.normal(0, 4, (1, case.classes, *case.logits)).astype(np.float32)


def open_onnxruntime(case: Case, threads: int) -> Callable[[Logits], Labels]:
    """Resize, or two of them, ArgMax and a cast, as an exported graph ends."""
    nodes, constants, name = [], [], "logits"
    for step, size in enumerate(dict.fromkeys((case.network, case.original))):
        constants.append(
            numpy_helper.from_array(np.array([1, case.classes, *size]), f"sizes{step}")
        )
        nodes.append(
            helper.make_node(
                "Resize",
                [name, "", "", f"sizes{step}"],
                [f"resized{step}"],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        )
        name = f"resized{step}"
    nodes.append(helper.make_node("ArgMax", [name], ["best"], axis=1, keepdims=0))
    nodes.append(helper.make_node("Cast", ["best"], ["labels"], to=onnx.TensorProto.UINT8))
    shape = (1, case.classes, *case.logits)
    graph = helper.make_graph(
        nodes,
        "mask",
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("labels")],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as our sessions do
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda logits: session.run(None, {"logits": logits})[0]


def open_masks(case: Case, threads: int) -> Callable[[Logits], Labels]:
    """The compiled loops."""
    return lambda logits: batch_labels(logits, case.network, case.original, threads=threads)


OPENERS = {"onnxruntime": open_onnxruntime, "masks": open_masks}


def grown_bytes(name: str, case: Case) -> int:
    """What one mask adds to the peak memory of a process that has everything loaded."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_grown_bytes, (name, case))


def _grown_bytes(name: str, case: Case) -> int:
    logits = soft_logits(case)
    small = Case(case.classes, Size(4, 4), Size(32, 32), Size(32, 32))
    OPENERS[name](small, 1)(soft_logits(small))  # libraries and compiled code
    label = OPENERS[name](case, 1)
    if not reset_peak_memory():
        raise RuntimeError("peak memory cannot be reset here")
    before = peak_memory_bytes()
    label(logits)
    after = peak_memory_bytes()
    assert before is not None
    assert after is not None
    return after - before


def measure(case: Case, kind: str, logits: Logits, threads: int, rounds: int) -> Row:
    """Both in turn."""
    label = {name: opener(case, threads) for name, opener in OPENERS.items()}
    found = {name: function(logits) for name, function in label.items()}
    wall: dict[str, list[float]] = {name: [] for name in label}
    cpu: dict[str, list[float]] = {name: [] for name in label}
    for _ in range(rounds):
        for name, function in label.items():
            start, used = time.perf_counter(), time.process_time()
            function(logits)
            wall[name].append(1e3 * (time.perf_counter() - start))
            cpu[name].append(1e3 * (time.process_time() - used))
    return Row(
        case=str(case),
        logits=kind,
        threads=threads,
        onnxruntime_ms=tuple(wall["onnxruntime"]),
        masks_ms=tuple(wall["masks"]),
        onnxruntime_cpu_ms=tuple(cpu["onnxruntime"]),
        masks_cpu_ms=tuple(cpu["masks"]),
        onnxruntime_bytes=grown_bytes("onnxruntime", case),
        masks_bytes=grown_bytes("masks", case),
        different_labels=int((found["masks"] != found["onnxruntime"]).sum()),
    )


def main(
    out: Annotated[Path, typer.Option(help="The JSON to write.")],
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 11,
) -> None:
    """Measure every case with one thread and with two, print a table, and write the JSON."""
    environment = describe_environment()
    rows: list[Row] = []
    print("| logits | threads | ONNX Runtime ms | masks ms | x | ONNX Runtime MB | masks MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for case in CASES:
        for kind, make in (("regions", soft_logits), ("white noise", white_logits)):
            logits = make(case)
            for threads in (1, 2):
                row = measure(case, kind, logits, threads, rounds)
                rows.append(row)
                pairs = zip(row.onnxruntime_ms, row.masks_ms, strict=True)
                ratio = statistics.median(a / b for a, b in pairs)
                slow, fast = map(statistics.median, (row.onnxruntime_ms, row.masks_ms))
                print(
                    f"| {row.case}, {kind} | {threads} | {slow:.1f} | {fast:.1f} | {ratio:.1f}"
                    f" | {row.onnxruntime_bytes / 1e6:.0f} | {row.masks_bytes / 1e6:.0f} |",
                    flush=True,
                )
    content: dict[str, Any] = {
        "environment": environment.to_dict(),
        "rows": [asdict(row) for row in rows],
    }
    write_json(out, content)


if __name__ == "__main__":
    typer.run(main)
