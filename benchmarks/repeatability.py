"""Does the same file give the same number twice? Rows repeated, quiet and beside other work.

    python benchmarks/repeatability.py artifacts/demo/int8.onnxruntime.ort [FILE ...] --out FILE

Each run is what `segdeploy bench` does with the artifact: a fresh process, confined to `--cores`,
with a thread for each of them. First all runs on the machine as it is, in turns; then the same with
a busy process on each of these cores. What is told: the coefficient of variation of p50 over the
runs, and how many of them call themselves stable.
"""

import multiprocessing
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from segdeploy.artifacts import write_json
from segdeploy.bench.measure import BenchOptions, Subject, measure
from segdeploy.environment import describe_environment
from segdeploy.measurement import Measurement


@dataclass
class Repeated:
    """One artifact, measured again and again; a list holds one entry for each run."""

    artifact: str
    is_busy: bool  # beside one process for each core that never rests
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)  # with the reasons

    def add(self, row: Measurement) -> None:
        """One more run."""
        self.p50_ms.append(row.latency.p50_ms)
        self.p99_ms.append(row.latency.p99_ms)
        self.verdicts.append(str(row.steadiness))

    @property
    def stable(self) -> int:
        """Runs in which nothing speaks against the number."""
        return self.verdicts.count("stable")

    @property
    def variation(self) -> float:
        """Standard deviation of p50 by its mean; in all runs, whatever they say of themselves."""
        return statistics.stdev(self.p50_ms) / statistics.fmean(self.p50_ms)


def repeat(artifacts: Sequence[Path], runs: int, *, seconds: float, cores: int) -> list[Repeated]:
    """Quiet runs of all artifacts in turns, then busy ones."""
    options = BenchOptions(dataset="demo", speed_only=True, max_seconds=seconds, threads=cores)
    found = []
    for is_busy in (False, True):
        rows = [Repeated(path.name, is_busy) for path in artifacts]
        with working(cores if is_busy else 0):
            for _ in range(runs):
                for path, row in zip(artifacts, rows, strict=True):
                    row.add(measure(Subject(artifact=path), options).measurement)
        found += rows
    return found


@contextmanager
def working(processes: int) -> Iterator[None]:
    """So many processes that never rest, on the cores of this one."""
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=work, daemon=True) for _ in range(processes)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.terminate()
            process.join()


def work() -> None:
    """Until it is stopped."""
    while True:
        sum(range(100_000))


def print_table(rows: Sequence[Repeated]) -> None:
    """A line for each artifact, quiet and busy."""
    print("| artifact | beside | runs | p50 ms | lowest to highest | CV of p50 | stable |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row.artifact} | {'a busy process a core' if row.is_busy else 'nothing'} "
            f"| {len(row.p50_ms)} | {statistics.median(row.p50_ms):.2f} "
            f"| {min(row.p50_ms):.2f} to {max(row.p50_ms):.2f} | {row.variation:.1%} "
            f"| {row.stable} |"
        )


def main(
    artifacts: Annotated[list[Path], typer.Argument(help="What is measured.")],
    out: Annotated[Path, typer.Option(help="The JSON to write.")],
    runs: Annotated[int, typer.Option(min=2, help="Of each, quiet and busy.")] = 10,
    seconds: Annotated[float, typer.Option(help="Time a run no longer than this.")] = 20.0,
    cores: Annotated[str, typer.Option(help="Numbers, with commas: Linux.")] = "0",
) -> None:
    """Repeat, print the table, and write all of it."""
    pinned = {int(core) for core in cores.split(",")}
    os.sched_setaffinity(0, pinned)  # processes that it starts inherit it
    environment = describe_environment()
    rows = repeat(artifacts, runs, seconds=seconds, cores=len(pinned))
    print_table(rows)
    content = {
        "environment": environment.to_dict(),
        "cores": sorted(pinned),
        "rows": [asdict(row) | {"variation": row.variation} for row in rows],
    }
    write_json(out, content)


if __name__ == "__main__":
    typer.run(main)
