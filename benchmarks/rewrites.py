"""What the rewrites gain on a CPU: each model plain and rewritten, beside its peers, in one run.

    python benchmarks/rewrites.py compare --out benchmarks/results/rewrites-cpu.json
        [--compiled] [--openvino PYTHON] [--mmseg PYTHON]
    python benchmarks/rewrites.py growth --out benchmarks/results/rewrites-growth.json [--plot SVG]
    python benchmarks/rewrites.py profile pspnet-cityscapes

Subjects take turns (turns.py); a figure is the median over the turns. PYTHON is an interpreter with
openvino, or with MMSegmentation 1.2.2; --compiled, for torch.compile, needs a C++ compiler.
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import onnx
import onnxruntime
import typer
from turns import Row, Subject, measure_rows, mmseg_subjects, ratio, write
from weights import source_of

from segdeploy.artifacts import Store
from segdeploy.datasets.scenes import draw_scene
from segdeploy.environment import describe_environment
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.graphs import export_model
from segdeploy.pipeline.make import export_options
from segdeploy.rewrite.cost import measure_cost
from segdeploy.spec import Output, Precision, Runtime, Size, Tuning

SIZES = {"cityscapes": Size(512, 1024), "ade20k": Size(512, 683), "demo": Size(256, 512)}
METHODS = ("fcn", "pspnet", "deeplabv3", "deeplabv3plus")
ZOO = (*(f"{method}-{data}" for data in ("cityscapes", "ade20k") for method in METHODS), "demo")
# What the ratios of CPU time are to, and how the table calls it.
PEERS = {
    "plain": "plain",
    "openvino plain": "OpenVINO",
    "pytorch": "PyTorch",
    "compiled": "torch.compile",
    "mmseg": "mmseg",
}
app = typer.Typer(add_completion=False, help=__doc__)
Out = Annotated[Path, typer.Option(help="The JSON to write.")]
Rounds = Annotated[int, typer.Option(help="Turns of each subject.")]


def prepare(model: str, size: Size, folder: Path) -> tuple[dict[str, Path], dict[str, float]]:
    """The plain graph, the graph for a CPU and its engine, and the GMAC of both graphs."""
    source = source_of(model, Store(folder))
    places, gmac = {}, {}
    for name, tuning in (("plain", Tuning.PLAIN), ("rewritten", Tuning.CPU)):
        options = export_options(
            size=size, batch=1, precision=Precision.FP32, output=Output.LABELS, tuning=tuning
        )
        exported = export_model(source, options, folder / f"{name}.onnx", verify=False)
        places[name] = exported.graph.path
        gmac[name] = measure_cost(onnx.load(exported.graph.path), size).macs / 1e9
    places["engine"] = folder / "rewritten.ort"
    build_engine(exported.graph, Runtime.ONNXRUNTIME, places["engine"])
    return places, gmac


def subjects_of(
    model: str,
    places: dict[str, Path],
    openvino: Path | None,
    mmseg: Path | None,
    *,
    compiled: bool,
) -> list[Subject]:
    """Who takes turns: the plain graph and the engine, and the peers that are at hand."""
    subjects = [
        Subject("plain", "segdeploy", str(places["plain"])),
        Subject("rewritten", "segdeploy", str(places["engine"])),
        Subject("pytorch", "pytorch", model),
    ]
    if compiled:
        subjects.append(Subject("compiled", "compiled", model))
    if openvino is not None:
        for name in ("plain", "rewritten"):
            target = str(places[name])
            subjects.append(Subject(f"openvino {name}", "openvino", target, str(openvino)))
    return subjects + mmseg_subjects(model, mmseg)


def measure(
    model: str,
    size: Size,
    threads: Sequence[int],
    rounds: int,
    *,
    openvino: Path | None = None,
    mmseg: Path | None = None,
    compiled: bool = False,
    only_ours: bool = False,
) -> list[Row]:
    """All subjects of one model at one size, with each number of threads."""
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        places, gmac = prepare(model, size, folder)
        subjects = subjects_of(model, places, openvino, mmseg, compiled=compiled)
        subjects = subjects[: 2 if only_ours else None]
        image = folder / "image.npy"
        np.save(image, draw_scene(0, size)[0][None])
        for count in threads:
            for row in measure_rows(model, subjects, image, count, rounds):
                rows.append(replace(row, gmac=gmac.get(row.subject.rpartition(" ")[2])))
    return rows


def measure_peak(threads: int) -> float:
    """GMAC/s in float32 of this CPU: the fastest dense convolution that ONNX Runtime runs here.

    3x3, 512 channels, 64x128; matrix products of NumPy and PyTorch are slower.
    """
    channels, height, width = 512, 64, 128
    helper = onnx.helper
    weights = np.full((channels, channels, 3, 3), 1e-3, np.float32)
    value = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)],
        "peak",
        [helper.make_tensor_value_info("x", value, (1, channels, height, width))],
        [helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.ones((1, channels, height, width), np.float32)
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        session.run(None, {"x": x})
        seconds.append(time.perf_counter() - start)
    return channels * channels * 9 * height * width / min(seconds) / 1e9


def print_comparison(rows: Sequence[Row], peaks: dict[int, float]) -> None:
    """A line for each model and number of threads; ratios are of CPU time but for the first."""
    heads = ["plain ms", "rewritten ms", "x plain, wall", *(f"x {name}" for name in PEERS.values())]
    print(f"| model | threads | {' | '.join(heads)} |")
    print(f"|---|{'---:|' * (1 + len(heads))}")
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.model, row.threads), []).append(row)
    for (model, threads), group in groups.items():
        wall = {row.subject: statistics.median(row.wall_ms) for row in group}
        ratios = [ratio(group, "plain", "rewritten", cpu=False)]
        for slow in PEERS:
            ratios.append(ratio(group, slow, "rewritten", cpu=True))
        shown = " | ".join("-" if value is None else f"{value:.2f}" for value in ratios)
        print(
            f"| {model} | {threads} | {wall['plain']:.0f} | {wall['rewritten']:.0f} | {shown} |",
            flush=True,
        )
    print()
    print("| model | threads | plain GMAC/s | share of peak | rewritten GMAC/s | share of peak |")
    print("|---|---:|---:|---:|---:|---:|")
    for (model, threads), group in groups.items():
        cells = []
        for row in group:
            if row.subject in ("plain", "rewritten") and row.gmac is not None:
                speed = row.gmac / statistics.median(row.wall_ms) * 1e3
                cells += [f"{speed:.1f}", f"{speed / peaks[threads]:.0%}"]
        print(f"| {model} | {threads} | {' | '.join(cells)} |")


@app.command()
def compare(
    out: Out,
    models: Annotated[str, typer.Option(help="Names, with commas.")] = ",".join(ZOO),
    threads: Annotated[str, typer.Option(help="Numbers, with commas.")] = "1,2",
    rounds: Rounds = 9,
    openvino: Annotated[Path | None, typer.Option(help="A python that has openvino.")] = None,
    mmseg: Annotated[Path | None, typer.Option(help="A python that has mmsegmentation.")] = None,
    compiled: Annotated[bool, typer.Option("--compiled", help="torch.compile too.")] = False,
) -> None:
    """Every model: plain, rewritten, PyTorch and the peers, at the size of its data set."""
    environment = describe_environment()
    counts = [int(count) for count in threads.split(",")]
    peaks = {count: measure_peak(count) for count in counts}
    rows: list[Row] = []
    for model in models.split(","):
        size = SIZES[model.rpartition("-")[2]]
        rows += measure(
            model, size, counts, rounds, openvino=openvino, mmseg=mmseg, compiled=compiled
        )
        typer.echo(f"{model} {size}: done", err=True)
    print_comparison(rows, peaks)
    write(out, environment, rows, peak_gmac_per_second=peaks)


@app.command()
def show(result: Annotated[Path, typer.Argument(help="What compare wrote.")]) -> None:
    """Print the tables of a result again."""
    content = json.loads(result.read_text())
    peaks = {int(count): peak for count, peak in content["peak_gmac_per_second"].items()}
    print_comparison([Row(**row) for row in content["rows"]], peaks)


@app.command()
def growth(
    out: Out,
    sizes: Annotated[str, typer.Option(help="HxW, with commas.")] = (
        "256x512,362x724,512x1024,724x1448,1024x2048"
    ),
    methods: Annotated[str, typer.Option(help="Heads, with commas.")] = ",".join(METHODS),
    rounds: Rounds = 5,
    plot: Annotated[Path | None, typer.Option(help="An SVG to draw, with matplotlib.")] = None,
) -> None:
    """Time and memory of the Cityscapes models against the number of pixels, one thread."""
    environment = describe_environment()
    rows: list[Row] = []
    for method in methods.split(","):
        for text in sizes.split(","):
            rows += measure(f"{method}-cityscapes", Size.parse(text), [1], rounds, only_ours=True)
    print("| model | size | plain ms | rewritten ms | plain MB | rewritten MB | ns a pixel |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for plain, fast in zip(rows[::2], rows[1::2], strict=True):
        size = Size.parse(fast.size)
        before, after = statistics.median(plain.wall_ms), statistics.median(fast.wall_ms)
        print(
            f"| {fast.model} | {fast.size} | {before:.0f} | {after:.0f} "
            f"| {plain.peak_bytes / 1e6:.0f} | {fast.peak_bytes / 1e6:.0f} "
            f"| {1e6 * after / (size.height * size.width):.0f} |"
        )
    write(out, environment, rows, peak_gmac_per_second={1: measure_peak(1)})
    if plot is not None:
        draw_growth(rows, plot)


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="A model of the zoo.")],
    runs: Annotated[int, typer.Option(help="Over how many the times are averaged.")] = 5,
) -> None:
    """Where the time goes: milliseconds by operator, plain and rewritten, one thread."""
    size = SIZES[model.rpartition("-")[2]]
    found: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        places, _ = prepare(model, size, folder)
        for subject, place in (("plain", places["plain"]), ("rewritten", places["engine"])):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / subject)
            session = onnxruntime.InferenceSession(
                str(place), options, providers=["CPUExecutionProvider"]
            )
            image = draw_scene(0, size)[0][None]
            for _ in range(runs + 1):
                session.run(None, {session.get_inputs()[0].name: image})
            events = json.loads(Path(session.end_profiling()).read_text())
            kernels = [e for e in events if e["name"].endswith("_kernel_time")]
            kernels = kernels[len(kernels) // (runs + 1) :]  # without the first run
            for event in kernels:
                times = found.setdefault(event["args"]["op_name"], {})
                times[subject] = times.get(subject, 0) + event["dur"] / 1e3 / runs
    print("| operator | plain ms | rewritten ms |")
    print("|---|---:|---:|")
    for operator, times in sorted(found.items(), key=lambda item: -sum(item[1].values())):
        print(f"| {operator} | {times.get('plain', 0):.1f} | {times.get('rewritten', 0):.1f} |")


def draw_growth(rows: Sequence[Row], place: Path) -> None:
    """Milliseconds and megabytes over megapixels, plain dashed."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for k, model in enumerate(dict.fromkeys(row.model for row in rows)):
        for subject, style in (("plain", "--"), ("rewritten", "-")):
            chosen = [r for r in rows if (r.model, r.subject) == (model, subject)]
            sizes = [Size.parse(row.size) for row in chosen]
            pixels = [size.height * size.width / 1e6 for size in sizes]
            label = f"{model}, {subject}"
            wall = [statistics.median(row.wall_ms) for row in chosen]
            axes[0].plot(pixels, wall, f"C{k}{style}", marker="o", markersize=3, label=label)
            memory = [row.peak_bytes / 1e6 for row in chosen]
            axes[1].plot(pixels, memory, f"C{k}{style}", marker="o", markersize=3)
    for axis, title in zip(axes, ("milliseconds, one thread", "peak megabytes"), strict=True):
        axis.set(xlabel="megapixels", title=title, xlim=0, ylim=0)
    axes[0].legend(fontsize=7)
    figure.savefig(place, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    app()
