"""Subjects of a comparison, each in a process of its own (worker.py), that take turns.

One step each, so that what else the machine does meets all alike; a ratio is the median of the
ratios turn by turn.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from segdeploy.artifacts import write_json
from segdeploy.environment import Environment
from segdeploy.spec import Size

WORKER = Path(__file__).with_name("worker.py")
CONFIGS = {
    "cityscapes": "mobilenet-v2-d8_{}_4xb2-80k_cityscapes-512x1024",
    "ade20k": "mobilenet-v2-d8_{}_4xb4-160k_ade20k-512x512",
}


@dataclass(frozen=True)
class Subject:
    """What one process runs."""

    name: str
    kind: str
    target: str
    python: str = sys.executable


@dataclass(frozen=True)
class Row:
    """The steps of one subject, turn by turn."""

    model: str
    size: str
    subject: str
    threads: int
    wall_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    peak_bytes: int
    gmac: float | None = None  # of the graph that runs


@contextmanager
def running(subject: Subject, image: Path, threads: int) -> Iterator["subprocess.Popen[str]"]:
    """A worker that has opened its subject."""
    command = [subject.python, str(WORKER), subject.kind, subject.target, str(image), str(threads)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "\n":
            if not line:
                raise RuntimeError(f"{subject.name}: {' '.join(command)} did not start")
        yield process
        process.stdin.close()


def mmseg_subjects(model: str, python: Path | None) -> list[Subject]:
    """MMSegmentation with the model's own configuration, if there is an interpreter that has it."""
    method, _, dataset = model.partition("-")
    if python is None or dataset not in CONFIGS:
        return []
    return [Subject("mmseg", "mmseg", CONFIGS[dataset].format(method), str(python))]


def measure_rows(
    model: str, subjects: Sequence[Subject], image: Path, threads: int, rounds: int
) -> list[Row]:
    """A row for each subject; `image` is a .npy file, (1, H, W, 3) uint8."""
    size = Size(*np.load(image, mmap_mode="r").shape[1:3])
    return [
        Row(
            model=model,
            size=str(size),
            subject=subject,
            threads=threads,
            wall_ms=tuple(step["wall_ms"] for step in found),
            cpu_ms=tuple(step["cpu_ms"] for step in found),
            peak_bytes=int(found[-1]["peak_bytes"]),
        )
        for subject, found in take_turns(subjects, image, threads, rounds).items()
    ]


def take_turns(
    subjects: Sequence[Subject], image: Path, threads: int, rounds: int
) -> dict[str, list[dict[str, float]]]:
    """One step of each subject after the other, `rounds` times."""
    with ExitStack() as stack:
        workers = {s.name: stack.enter_context(running(s, image, threads)) for s in subjects}
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, process in workers.items():
                print(file=process.stdin, flush=True)
                steps[name].append(json.loads(process.stdout.readline()))  # type: ignore[union-attr]
        return steps


def ratio(rows: Sequence[Row], slow: str, fast: str, *, cpu: bool) -> float | None:
    """How many times faster `fast` is: the median over the turns."""
    steps = {row.subject: row.cpu_ms if cpu else row.wall_ms for row in rows}
    if slow not in steps or fast not in steps:
        return None
    pairs = zip(steps[slow], steps[fast], strict=True)
    return statistics.median(a / b for a, b in pairs)


def write(out: Path, environment: Environment, rows: Sequence[Any], **more: Any) -> None:
    """Everything that was measured, and where; rows are dataclasses."""
    content = {
        "environment": environment.to_dict(),
        "versions": {name: version(name) for name in ("onnxruntime", "torch", "segdeploy")},
        **more,
        "rows": [asdict(row) for row in rows],
    }
    write_json(out, content)
