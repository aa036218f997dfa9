"""Many threads on one engine for a long time: labels identical, memory flat.

    python benchmarks/soak.py artifacts/demo/int8.onnxruntime.ort --out soak.json
    python benchmarks/soak.py model.plan --device cuda:0 --seconds 600 --out soak.json

Each thread has a session of its own and runs the same few images over and over, in another order
than the others. Every label map is compared with the one of a quiet run before. Memory is read as
the peak of each tenth of the run: the last tenth may not need more than the second one, but for a
slack. It ends with 1 if a label differs or memory grew.
"""

import ctypes
import json
import statistics
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import segdeploy
from segdeploy.artifacts import write_json
from segdeploy.cuda import call_driver
from segdeploy.cuda.context import PrimaryContext
from segdeploy.datasets.scenes import draw_scene
from segdeploy.environment import describe_environment
from segdeploy.runtime import Engine, RunOptions
from segdeploy.spec import Device, Images, Labels, Size
from segdeploy.timing import peak_memory_bytes, reset_peak_memory

IMAGES = 4  # different ones that each thread runs
PARTS = 10
SLACK = 0.02  # of growth that is no leak: fragments, and what Python keeps
SIZE = Size(512, 1024)  # of images for an engine that takes any


@dataclass
class Part:
    """A tenth of the run: the peak of the host's memory, and what the GPU had in use at its end."""

    host_bytes: int | None
    gpu_bytes: int | None


@dataclass
class Soak:
    """What came out."""

    artifact: str
    device: str
    threads: int
    requests: int
    seconds: float
    different: int
    p50_ms: float
    p99_ms: float
    parts: list[Part]
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """What the threads share: how much is left, and what came of it."""

    engine: Engine
    images: list[Images]
    expected: list[Labels]
    limit: int
    until: float  # time.monotonic
    latencies_ms: list[float] = field(default_factory=list)
    different: list[int] = field(default_factory=list)  # which image
    errors: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Enough requests, or enough time."""
        return len(self.latencies_ms) >= self.limit or time.monotonic() >= self.until

    def run(self, seed: int) -> None:
        """One thread."""
        order = np.random.default_rng(seed)
        try:
            with self.engine.session() as session:
                while not self.is_over:
                    index = int(order.integers(len(self.images)))
                    start = time.perf_counter()
                    labels = session.run(self.images[index])
                    self.latencies_ms.append(1e3 * (time.perf_counter() - start))
                    if not np.array_equal(labels, self.expected[index]):
                        self.different.append(index)
        except Exception as error:  # or the thread would end in silence
            self.errors.append(f"thread {seed}: {type(error).__name__}: {error}")


def soak(name: str, device: Device | None, *, threads: int, requests: int, seconds: float) -> Soak:
    """Run until `requests` of each thread are done, or for `seconds`."""
    options = RunOptions(threads=1 if threads > 1 else 0)  # of a CPU: one for each of ours
    with segdeploy.open(name, device, options=options) as engine:
        images = draw_images(engine)
        with engine.session() as session:
            expected = [session.run(image) for image in images]
        begin = time.monotonic()
        work = Work(engine, images, expected, threads * requests, begin + seconds)
        running = [threading.Thread(target=work.run, args=(seed,)) for seed in range(threads)]
        for thread in running:
            thread.start()
        parts = watch(work, begin, seconds, engine.device)
        for thread in running:
            thread.join()
        took_s = time.monotonic() - begin
        found = Soak(
            artifact=Path(name).name,
            device=str(engine.device),
            threads=threads,
            requests=len(work.latencies_ms),
            seconds=round(took_s, 1),
            different=len(work.different),
            p50_ms=round(statistics.median(work.latencies_ms or [0.0]), 2),
            p99_ms=round(float(np.percentile(work.latencies_ms or [0.0], 99)), 2),
            parts=parts,
            problems=work.errors,
        )
    if found.different:
        found.problems.append(f"{found.different} label maps differ from those of a quiet run")
    found.problems += grown(parts)
    return found


def draw_images(engine: Engine) -> list[Images]:
    """Scenes of the size and batch that the engine takes."""
    size, batch = engine.manifest.size or SIZE, engine.manifest.batch or 1
    return [
        np.stack([draw_scene(batch * first + k, size)[0] for k in range(batch)])
        for first in range(IMAGES)
    ]


def watch(work: Work, begin: float, seconds: float, device: Device) -> list[Part]:
    """The memory of each tenth of the run, by requests or by time, whichever is further."""
    parts: list[Part] = []
    context = PrimaryContext(device.number) if device.is_cuda else None
    reset_peak_memory()
    while len(parts) < PARTS:
        time.sleep(0.02)
        share = max(len(work.latencies_ms) / work.limit, (time.monotonic() - begin) / seconds)
        if share < (len(parts) + 1) / PARTS and not work.errors:
            continue
        parts.append(Part(peak_memory_bytes(), gpu_bytes(context)))
        reset_peak_memory()
    if context is not None:
        context.close()
    return parts


def gpu_bytes(context: PrimaryContext | None) -> int | None:
    """Memory in use on the whole GPU."""
    if context is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with context.current():
        call_driver("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return total.value - free.value


def grown(parts: list[Part]) -> list[str]:
    """The first tenth warms up; from the second on memory has to stay."""
    problems = []
    for where in ("host_bytes", "gpu_bytes"):
        before, after = (getattr(part, where) for part in (parts[1], parts[-1]))
        if before and after > before * (1 + SLACK):
            problems.append(f"{where} grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB")
    return problems


def main(
    name: Annotated[str, typer.Argument(help="A .onnx, .ort or .plan file, or a model.")],
    out: Annotated[Path | None, typer.Option(help="The JSON to write.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda:N.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 8,
    requests: Annotated[int, typer.Option(min=1, help="Of each thread.")] = 1000,
    seconds: Annotated[float, typer.Option(help="No longer than this.")] = 3600.0,
) -> None:
    """Soak an engine, print what came out, and end with 1 if something is wrong."""
    environment = describe_environment().to_dict()
    chosen = None if device is None else Device(device)
    found = soak(name, chosen, threads=threads, requests=requests, seconds=seconds)
    content: dict[str, Any] = {"environment": environment, "soak": asdict(found)}
    if out is not None:
        write_json(out, content)
    print(json.dumps(content["soak"], indent=1))
    sys.exit(1 if found.problems else 0)


if __name__ == "__main__":
    typer.run(main)
