"""Write benchmarks/peers.md from the results in benchmarks/results: nothing on it is typed.

python benchmarks/peers.py           # write the page
python benchmarks/peers.py --check   # exit 1 if it is not what the results say
"""

import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from turns import Row

from segdeploy.environment import Environment
from segdeploy.markdown import table

ROOT = Path(__file__).parent
RESULTS, PAGE = ROOT / "results", ROOT / "peers.md"
NONE = "-"
# Subjects of rewrites.py and int8.py: how the page names them, ours last.
FLOATING = {
    "mmseg": "MMSegmentation",
    "pytorch": "PyTorch, our modules",
    "compiled": "torch.compile",
    "plain": "ONNX Runtime, plain graph",
    "openvino plain": "OpenVINO, plain graph",
    "openvino rewritten": "OpenVINO, our graph",
    "rewritten": "segdeploy",
}
INTEGER = {
    "mmseg": "MMSegmentation, fp32",
    "plain fp32": "ONNX Runtime, plain graph, fp32",
    "openvino fp32": "OpenVINO, fp32",
    "openvino int8": "OpenVINO with NNCF, int8",
    "rewritten fp32": "segdeploy, fp32",
    "int8": "segdeploy, int8",
}
QUANTIZERS = {
    "fp32": "none: fp32",
    "ort-minmax": "ONNX Runtime, min-max",
    "ort-entropy": "ONNX Runtime, entropy",
    "ort-percentile": "ONNX Runtime, percentile",
    "ort-uint8": "ONNX Runtime, uint8",
    "nncf": "NNCF",
    "nncf-mixed": "NNCF, mixed preset",
    "nncf-symmetric": "NNCF, symmetric",
    "mo-max": "Model Optimizer, max",
    "mo-entropy": "Model Optimizer, entropy",
    "segdeploy-tensorrt": "segdeploy, TensorRT's form",
    "segdeploy-onnxruntime": "segdeploy, ONNX Runtime's form",
    "segdeploy-onnxruntime-full-range": "segdeploy, ONNX Runtime's form, `--full-range`",
}
# Peers of the harness that need what no result was made with.
MISSING = {
    "trtexec": "needs TensorRT and a GPU; no result yet",
}
SPEED = (
    ("rewrites-cpu.json", "Speed in fp32", FLOATING),
    ("rewrites-compiled-cpu.json", "Beside torch.compile, in fp32", FLOATING),
    ("int8-cpu.json", "Speed in int8", INTEGER),
)
ACCURACY = ("quantizers-demo.json", "quantizers-camvid.json")
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def main(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the page differs.")
    ] = False,
) -> None:
    """Write the page, or check it."""
    text = page(RESULTS)
    if not check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text("utf-8") != text:
        typer.echo(f"{PAGE} is not what the results say: run python benchmarks/peers.py", err=True)
        raise typer.Exit(1)


def page(results: Path) -> str:
    """The whole page of the results in a folder."""
    sections = [
        "# Peers",
        "Written by `python benchmarks/peers.py` from the files in [results](results/README.md), "
        "never by hand; a test compares. How each was measured is told in "
        "[README.md](README.md) and in the docstring of its script.",
    ]
    for name, title, subjects in SPEED:
        sections += speed(results / name, title, subjects)
    for name in ACCURACY:
        sections += accuracy(results / name)
    missing = "\n".join(f"- {peer}: {why}" for peer, why in MISSING.items())
    return "\n\n".join([*sections, "## Not measured", missing]) + "\n"


def speed(path: Path, title: str, subjects: dict[str, str]) -> Iterator[str]:
    """Median milliseconds of each subject, and how many times faster ours is."""
    content = json.loads(path.read_text("utf-8"))
    rows = [Row(**row) for row in content["rows"]]
    *_, ours = subjects
    known = [name for name in subjects if any(row.subject == name for row in rows)]
    yield f"## {title}"
    yield (
        f"Median wall-clock milliseconds of one image; in brackets how many times faster "
        f"{subjects[ours]} is: the median of the ratios turn by turn. All subjects take turns, one "
        "step each, so that what else the machine does meets all alike."
    )
    yield about(path, content)
    for threads in sorted({row.threads for row in rows}):
        own = [row for row in rows if row.threads == threads]
        lines = [
            [row[0].model, row[0].size, *(cell(row, name, ours) for name in known)]
            for row in groups(own)
        ]
        header = ["model", "image", *(subjects[name] for name in known)]
        yield f"{'One thread' if threads == 1 else f'{threads} threads'}:"
        yield table(header, lines, left=2)


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that took turns with each other."""
    keys = dict.fromkeys((row.model, row.size) for row in rows)
    return [[row for row in rows if (row.model, row.size) == key] for key in keys]


def cell(rows: Sequence[Row], name: str, ours: str) -> str:
    """Milliseconds, and the ratio to ours."""
    steps = {row.subject: row.wall_ms for row in rows}
    if name not in steps:
        return NONE
    median = f"{statistics.median(steps[name]):.0f}"
    if name == ours or ours not in steps:
        return median
    ratios = [peer / own for peer, own in zip(steps[name], steps[ours], strict=True)]
    return f"{median} ({statistics.median(ratios):.2f}x)"


def accuracy(path: Path) -> Iterator[str]:
    """MIoU and agreement with fp32 of each quantizer on the same images."""
    content = json.loads(path.read_text("utf-8"))
    found = {row["name"]: row for row in content["rows"]}
    floating = found["fp32"]["miou"]
    lines = []
    for name, label in QUANTIZERS.items():
        row = found.get(name)
        if row is None or row["miou"] is None:
            lines.append([label, NONE if row is None else row["version"], *[NONE] * 4])
            continue
        lines.append([
            label,
            row["version"] or NONE,
            f"{row['miou']:.2f}",
            f"{row['miou'] - floating:+.2f}",
            f"{row['agree']:.2f}",
            f"{row['file_bytes'] / 1e6:.1f}",
        ])  # fmt: skip
    model = json.loads(content["graph"]["segdeploy.model"])
    yield f"## Accuracy in int8: {model}, {content['scored']}"
    yield (
        f"The same floating graph, quantized by each on {content['calibration']}. Δ is in "
        "percentage points against fp32; agreement is the percentage of pixels with fp32's label."
    )
    yield about(path, content)
    header = ["quantizer", "version", "mIoU", "Δ", "agreement", "file MB"]
    yield table(header, lines, left=2)


def about(path: Path, content: dict[str, Any]) -> str:
    """Where it was measured, and the file that holds all numbers."""
    environment = Environment.from_dict(
        {"clock_mhz": None, "checkout": None, **content["environment"]}
    )
    versions = dict(environment.versions)
    named = [f"{name} {versions[name]}" for name in ("onnxruntime", "torch") if name in versions]
    cores = f"{environment.usable_cores} of {environment.logical_cores} cores"
    load = (
        "" if environment.load_average is None else f", load before {environment.load_average:.1f}"
    )
    return (
        f"{environment.cpu}, {cores}{load}; {', '.join(named)}; [{path.name}](results/{path.name})."
    )


if __name__ == "__main__":
    app()
