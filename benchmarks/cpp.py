r"""What C++ costs: a session over the bare call of ONNX Runtime, and opening an artifact.

    cmake -S cpp -B build -DSEGDEPLOY_TESTS=ON && cmake --build build
    python benchmarks/cpp.py build --out benchmarks/results/cpp-cpu.json \
        --page docs/embedding-cpp.md

It writes its tables into the page, which a test holds to the result.
"""

import argparse
import json
import subprocess
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from c_library import ONNXRUNTIME

from segdeploy.artifacts import EnginePlan, Store, write_json
from segdeploy.environment import describe_environment
from segdeploy.markdown import table
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.source import Source, resolve_source
from segdeploy.spec import CPU, Output, Precision, Runtime, Size

LARGE, DEMO = Size(512, 1024), Size(256, 512)
OPENINGS = 7  # processes, each of which opens once; their median is kept
THREADS = (1, 2)


def make_engine(source: Source, precision: Precision, size: Size, store: Store) -> EnginePlan:
    """Takes single images; a session makes its labels."""
    options = export_options(size=size, batch=1, precision=Precision.FP32, output=Output.LABELS)
    request = EngineRequest(precision=precision, runtime=Runtime.ONNXRUNTIME, store=store)
    engine = make_artifact(source, options, request, CPU)
    assert isinstance(engine, EnginePlan)
    return engine


def make_files(store: Store, size: Size) -> dict[str, Path]:
    """The demo model: a graph, which makes its labels itself, and engines."""
    source = resolve_source("demo", None, store)
    floating = make_engine(source, Precision.FP32, size, store)
    int8 = make_engine(source, Precision.INT8, size, store)
    return {"graph-fp32": floating.find_source(), "engine-fp32": floating.path,
            "engine-int8": int8.path}  # fmt: skip


def measure(program: Path, artifact: Path, calls: int, threads: int) -> dict[str, Any]:
    """One process of cpp/benchmarks/overhead.cpp; without a call it opens the artifact alone."""
    command = [str(word) for word in (program, artifact, ONNXRUNTIME, calls, threads)]
    row: dict[str, Any] = json.loads(subprocess.check_output(command))
    return row


def derive(row: dict[str, Any]) -> dict[str, Any]:
    """Shares of the bare call: of all that a session adds, and of that without the mask.

    A mask on the host is work that the bare call leaves undone, so it is counted apart. What a
    session adds is read off its own clock: two calls of the network differ by more than that.
    """
    mask = row["labels_ms"] if row["mask"] == "host" else 0.0
    return {
        **row,
        "overhead_percent": round(100 * (row["added_ms"] - mask) / row["bare_ms"], 3),
        "with_mask_percent": round(100 * row["added_ms"] / row["bare_ms"], 3),
    }


def measure_opening(program: Path, kind: str, artifact: Path, model: str) -> dict[str, Any]:
    """Opening as the first thing that a process does, the library with it.

    On a busy machine the time of the CPU says more.
    """
    rows = [measure(program, artifact, 0, 1) for _ in range(OPENINGS)]
    times = {key: median(row[key] for row in rows) for key in ("cold_open_ms", "cold_open_cpu_ms")}
    return {"kind": kind, "model": model, "bytes": artifact.stat().st_size, **times}


def run(build: Path, calls: int) -> dict[str, Any]:
    """All rows, and the machine."""
    program = build / "benchmarks" / "overhead"
    rows, openings = [], []
    environment = describe_environment()
    for size in (LARGE, DEMO):
        with TemporaryDirectory() as folder:
            files = make_files(Store(Path(folder)), size)
            for kind, path in files.items():
                for threads in THREADS:
                    rows.append({"kind": kind, **derive(measure(program, path, calls, threads))})
                    print(json.dumps(rows[-1]), flush=True)
            if size == DEMO:
                openings += [measure_opening(program, *item, "demo") for item in files.items()]
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        source = resolve_source("fcn-cityscapes", "random:0", store)
        engine = make_engine(source, Precision.FP32, LARGE, store)
        openings.append(measure_opening(program, "engine-fp32", engine.path, source.spec.name))
    return {
        "environment": environment.to_dict(), "calls": calls, "rows": rows, "openings": openings,
    }  # fmt: skip


def costs_table(result: dict[str, Any]) -> str:
    """What a session adds at the large size, as docs/embedding-cpp.md has it."""
    header = ("artifact, 512x1024", "threads", "bare call ms", "session adds ms", "overhead",
              "with the mask")  # fmt: skip
    rows = [
        (
            row["kind"].replace("-", " "),
            str(row["threads"]),
            f"{row['bare_ms']:.1f}",
            f"{row['added_ms']:.2f}",
            f"{row['overhead_percent']:.2f} %",
            f"{row['with_mask_percent']:.2f} %",
        )
        for row in result["rows"]
        if row["height"] == LARGE.height
    ]
    return table(header, rows)


def openings_table(result: dict[str, Any]) -> str:
    """What opening takes, as docs/embedding-cpp.md has it."""
    rows = [
        (
            f"{row['model']}, {row['kind'].replace('-', ' ')}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['cold_open_ms']:.0f}",
            f"{row['cold_open_cpu_ms']:.0f}",
        )
        for row in result["openings"]
    ]
    return table(("opened", "MB", "ms", "of CPU ms"), rows)


def with_table(page: str, new: str) -> str:
    """The page with `new` in place of its table of the same header."""
    begin = page.index(new.partition("\n")[0])
    return page[:begin] + new + page[page.index("\n\n", begin) :]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path, help="folder of a build with SEGDEPLOY_TESTS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="Markdown with the tables")
    parser.add_argument("--calls", type=int, default=60)
    arguments = parser.parse_args()
    result = run(arguments.build, arguments.calls)
    write_json(arguments.out, result)
    if arguments.page is not None:
        page = arguments.page.read_text()
        for new in (costs_table(result), openings_table(result)):
            page = with_table(page, new)
        arguments.page.write_text(page)


if __name__ == "__main__":
    main()
