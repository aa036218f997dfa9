"""What a C++ session costs: over the bare call of ONNX Runtime, at 512x1024, and when opened.

cmake -S cpp -B build -DSEGDEPLOY_TESTS=ON && cmake --build build
python benchmarks/cpp.py build --out benchmarks/results/cpp-cpu.json
"""

import argparse
import json
import subprocess
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import onnxruntime

from segdeploy.artifacts import Store, writing
from segdeploy.environment import describe_environment
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.source import resolve_source
from segdeploy.spec import CPU, Output, Precision, Runtime, Size

SIZES = {"512x1024": Size(512, 1024), "256x512": Size(256, 512)}
DEMO = SIZES["256x512"]
OPENINGS = 7  # processes, each of which opens once; their median is kept
THREADS = (1, 2)


def make_files(store: Store, size: Size) -> dict[str, Path]:
    """The demo model: a graph, and the engines in fp32 and int8 whose labels a session makes."""
    source = resolve_source("demo", None, store)
    options = export_options(size=size, batch=1, precision=Precision.FP32, output=Output.LABELS)

    def make(precision: Precision) -> Path:
        request = EngineRequest(precision=precision, runtime=Runtime.ONNXRUNTIME, store=store)
        return make_artifact(source, options, request, CPU).path

    engines = {f"engine-{p}": make(p) for p in (Precision.FP32, Precision.INT8)}
    graph = next(path for path in engines["engine-fp32"].parent.glob("fp32*.onnx"))
    return {"graph-fp32": graph, **engines}


def measure(program: Path, artifact: Path, calls: int, threads: int) -> dict[str, Any]:
    """One process of cpp/benchmarks/overhead.cpp."""
    library = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    command = [str(word) for word in (program, artifact, library, calls, threads)]
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


def cold_open(program: Path, artifact: Path, threads: int) -> dict[str, float]:
    """Opening as the first thing that a process does, the library with it.

    On a busy machine the time of the CPU says more.
    """
    rows = [measure(program, artifact, 1, threads) for _ in range(OPENINGS)]
    return {key: median(row[key] for row in rows) for key in ("cold_open_ms", "cold_open_cpu_ms")}


def run(build: Path, calls: int) -> dict[str, Any]:
    """All rows, and the machine."""
    program = build / "benchmarks" / "overhead"
    rows = []
    with TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            files = make_files(Store(Path(folder) / name), size)
            for kind, path in files.items():
                for threads in THREADS:
                    row = derive(measure(program, path, calls, threads))
                    if size == DEMO:
                        row |= cold_open(program, path, threads)
                    rows.append({"kind": kind, **row})
                    print(json.dumps(rows[-1]), flush=True)
    return {"environment": describe_environment().to_dict(), "calls": calls, "rows": rows}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path, help="folder of a build with SEGDEPLOY_TESTS")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=60)
    arguments = parser.parse_args()
    result = run(arguments.build, arguments.calls)
    with writing(arguments.out) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
