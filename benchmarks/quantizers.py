"""INT8 graphs of other post-training quantizers and of ours: same graph, same images, same score.

    python benchmarks/quantizers.py compare --out results.json --model deeplabv3plus
        --checkpoint FILE --dataset camvid --data DIR --size 360x480
        --peer nncf=PYTHON --peer mo=PYTHON [--keep DIR]

    python benchmarks/quantizers.py steps --out results.json ...

The second compares our own methods, and what is lost without each step before rounding.

PYTHON is an interpreter with NNCF, or with Model Optimizer. `segdeploy`, and `ort`, ONNX Runtime's
own quantizer, run in ours where none is named. Each quantizer runs in a process of its own with
one thread; all graphs are scored by ONNX Runtime on the CPU, on the split that published scores are
of.

`+-` is the standard deviation of the change of the mIoU, by drawing the images again; `a class`
the mean absolute change of a class's IoU, in points. `agree` is the share of labels equal to
fp32's, SQNR 10 log10(sum fp32^2 / sum (fp32 - int8)^2) of the logits as they are resized, over all
images. Time is that of the processor. Memory is the peak
of the process, and what of it there was before the quantizer began: libraries and images.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from graph_scores import Score, run_graph, score

from segdeploy.artifacts import Graph, Store, write_json
from segdeploy.datasets import Dataset, facts, open_dataset
from segdeploy.environment import Environment, describe_environment
from segdeploy.graph import read_model
from segdeploy.pipeline import calibration as sets
from segdeploy.pipeline.make import EngineRequest, export_options, make_graph
from segdeploy.pipeline.source import resolve_source
from segdeploy.pipeline.statistics import statistics_of
from segdeploy.quantize.model import QuantizeOptions, quantize_model
from segdeploy.spec import Output, Precision, Runtime, Size
from segdeploy.thresholds import METHODS

PEER = Path(__file__).with_name("peer_quantizer.py")
OURS = "segdeploy"
PEERS = {
    OURS: (f"{OURS}-tensorrt", f"{OURS}-onnxruntime", f"{OURS}-onnxruntime-full-range"),
    "ort": ("ort-minmax", "ort-entropy", "ort-percentile", "ort-uint8"),
    "nncf": ("nncf", "nncf-mixed", "nncf-symmetric"),
    "mo": ("mo-max", "mo-entropy"),
}
STEPS = {
    **{name: QuantizeOptions(method=name) for name in METHODS},
    "mse, activations as trained": QuantizeOptions(condition=False),
    "mse, pixels rounded": QuantizeOptions(exact_pixels=False),
    "mse, biases as they are": QuantizeOptions(correct_biases=False),
    "mse, none of the three": QuantizeOptions(
        condition=False, exact_pixels=False, correct_biases=False
    ),
}
app = typer.Typer(add_completion=False, help=__doc__)
Model = Annotated[str, typer.Option(help="A model of the zoo, or a method.")]
Weights = Annotated[str | None, typer.Option("--checkpoint", help="Its weights.")]
Scored = Annotated[str, typer.Option("--dataset", help="To calibrate and to score on.")]
DataFolder = Annotated[Path, typer.Option("--data", help="Where the data sets are.")]
ImageSize = Annotated[str | None, typer.Option("--size", help="HxW of the images.")]
Count = Annotated[int, typer.Option("--images", help="How many to calibrate on.")]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
HEADER = """\
| quantizer | mIoU | +- | a class | agree % | SQNR dB | pairs | MB | CPU s | peak MB | before |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True)
class Calibration:
    """The first `images` of the set that is drawn from a data set."""

    dataset: str
    data: Path
    images: int

    def open(self) -> sets.CalibrationImages:
        """The images, as our pipeline takes them."""
        whole = sets.open_calibration(sets.default_calibration(self.dataset), self.data)
        ids, content = whole.ids[: self.images], f"{whole.content}-{self.images}"
        return replace(
            whole, ids=ids, content=content, load=lambda: islice(whole.load(), self.images)
        )

    def open_scored(self) -> Dataset:
        """The split that published scores are of."""
        return open_dataset(self.dataset, self.data, facts(self.dataset).evaluation_split)


@dataclass(frozen=True)
class Quantized:
    """What a quantizer left, or how it failed."""

    name: str
    path: Path
    version: str = ""
    seconds: float | None = None
    cpu_seconds: float | None = None
    before_bytes: int | None = None
    peak_bytes: int | None = None
    error: str = ""


def run_peer(tool: str, path: Path, given: str, command: Sequence[str | Path]) -> Quantized:
    """Run a tool in its process; what it made before of the same input is used again."""
    report, log = path.with_suffix(".json"), path.with_suffix(".log")
    content = json.loads(report.read_text()) if report.is_file() else {}
    if content.pop("given", None) != given or not path.is_file():
        command = [*command, "--out", path, "--json", report]
        with log.open("w") as lines:
            done = subprocess.run(command, stdout=lines, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            said = log.read_text(errors="replace").strip().splitlines()
            return Quantized(tool, path, error=f"exit {done.returncode}: {said[-1:]}")
        content = json.loads(report.read_text())
        report.write_text(json.dumps(content | {"given": given}) + "\n")
    return Quantized(tool, path, **content)


def peer_rows(
    graph: Graph, inputs: Path, given: str, pythons: dict[str, str]
) -> Iterator[Quantized]:
    """What each tool makes; ours always anew, for its code may have changed."""
    for peer, tools in PEERS.items():
        if peer not in pythons:
            print(f"{peer}: no interpreter is named, so it is skipped", file=sys.stderr)
            continue
        for tool in tools:
            path = graph.path.with_name(f"{tool}.onnx")
            if peer == OURS:
                path.unlink(missing_ok=True)
            command: list[str | Path] = [pythons[peer], PEER, tool, "--graph", graph.path]
            yield run_peer(tool, path, given, [*command, "--inputs", inputs])


def table_line(made: Quantized, found: Score | None) -> str:
    """One line of the table; a quantizer that failed says why."""
    if found is None:
        return f"| {made.name} | {made.error} |"
    noise = "" if found.sqnr_db is None else f"{found.sqnr_db:.2f}"
    seconds = "" if made.cpu_seconds is None else f"{made.cpu_seconds:.1f}"
    cells = [made.name, f"{found.miou:.2f}", f"{found.miou_noise:.2f}"]
    cells += [f"{found.class_change:.2f}", f"{found.agree:.2f}", noise, str(found.pairs)]
    cells += [f"{found.file_bytes / 1e6:.2f}", seconds]
    for size in (made.peak_bytes, made.before_bytes):
        cells.append("" if size is None else f"{size / 1e6:.0f}")
    return f"| {' | '.join(cells)} |"


def make_floating(model: str, checkpoint: str | None, size: str | None, folder: Path) -> Graph:
    """Pixels to labels, of a fixed size, as an engine would be built of."""
    store = Store(folder)
    source = resolve_source(model, checkpoint, store)
    fixed = Size.parse(size) if size else source.spec.size
    precision, output = Precision.FP32, Output.LABELS
    options = export_options(size=fixed, batch=1, precision=precision, output=output)
    request = EngineRequest(precision=precision, runtime=Runtime.ONNXRUNTIME, store=store)
    return make_graph(source, options, request)


@app.command()
def compare(
    out: Annotated[Path, typer.Option(help="The JSON to write.")],
    model: Model = "demo",
    checkpoint: Weights = None,
    dataset: Scored = "demo",
    data: DataFolder = Path("data"),
    size: ImageSize = None,
    images: Count = 32,
    peer: Annotated[list[str] | None, typer.Option(help="ort, nncf or mo, =PYTHON.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Where graphs stay; peers' are reused.")] = None,
) -> None:
    """Quantize with every tool, score every graph, print a table and write the JSON."""
    environment = describe_environment()
    os.environ.update(ONE_THREAD)  # of the processes to come
    pythons = {OURS: sys.executable, "ort": sys.executable} | dict(
        entry.split("=", 1) for entry in peer or ()
    )
    calibration = Calibration(dataset, data, images)
    opened, scored = calibration.open(), calibration.open_scored()
    with TemporaryDirectory() as temporary:
        graph = make_floating(model, checkpoint, size, keep or Path(temporary))
        inputs = graph.path.with_name("inputs.npz")
        np.savez(inputs, images=np.stack(list(opened.load())))
        given = f"{graph.manifest.request} {opened.content}"
        exact = run_graph(graph.path, graph, scored)
        print(HEADER)
        rows: list[dict[str, Any]] = []
        made_by_all = peer_rows(graph, inputs, given, pythons)
        for made in chain([Quantized("fp32", graph.path)], made_by_all):
            found = None
            if not made.error:
                same = made.path == graph.path
                results = exact if same else run_graph(made.path, graph, scored)
                found = score(made.path, results, exact, scored)
            print(table_line(made, found), flush=True)
            rows.append(asdict(made) | {"path": made.path.name} | (asdict(found) if found else {}))
    write_results(out, environment, graph, opened, scored, rows)


@app.command()
def steps(
    out: Annotated[Path, typer.Option(help="The JSON to write.")],
    model: Model = "demo",
    checkpoint: Weights = None,
    dataset: Scored = "demo",
    data: DataFolder = Path("data"),
    size: ImageSize = None,
    images: Count = 32,
) -> None:
    """Ours in TensorRT's form: each way to read a range, and without each step before rounding."""
    environment = describe_environment()
    calibration = Calibration(dataset, data, images)
    opened, scored = calibration.open(), calibration.open_scored()
    with TemporaryDirectory() as temporary:
        graph = make_floating(model, checkpoint, size, Path(temporary))
        statistics = statistics_of(graph, opened, Store(Path(temporary)))
        exact = run_graph(graph.path, graph, scored)
        print(HEADER)
        rows: list[dict[str, Any]] = []
        for name, options in STEPS.items():
            made = Quantized(name, graph.path.with_name("steps.onnx"))
            onnx.save(quantize_model(read_model(graph.path), statistics, options), made.path)
            found = score(made.path, run_graph(made.path, graph, scored), exact, scored)
            print(table_line(made, found), flush=True)
            rows.append({"name": name, **asdict(found)})
    write_results(out, environment, graph, opened, scored, rows)


def write_results(
    out: Path,
    environment: Environment,
    graph: Graph,
    opened: sets.CalibrationImages,
    scored: Dataset,
    rows: list[dict[str, Any]],
) -> None:
    """Everything that was measured, and where."""
    content = {
        "environment": environment.to_dict(),
        "graph": graph.manifest.to_strings(),
        "calibration": f"{len(opened.ids)} images of {opened.split}",
        "scored": f"{len(scored)} images of {scored.name}/{facts(scored.name).evaluation_split}",
        "rows": rows,
    }
    write_json(out, content)


if __name__ == "__main__":
    app()
