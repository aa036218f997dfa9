"""INT8 on this CPU: how fast it is, what calibration costs, and what TensorRT-RTX makes of it.

    python benchmarks/int8.py speed --out benchmarks/results/int8-cpu.json
        [--openvino PYTHON] [--mmseg PYTHON]
    python benchmarks/int8.py calibration --out benchmarks/results/int8-calibration-cpu.json
    python benchmarks/int8.py engines --out benchmarks/results/int8-tensorrt-rtx.json

Subjects take turns (turns.py); a figure is the median over the turns. PYTHON is an interpreter with
MMSegmentation 1.2.2, or with OpenVINO and NNCF, which quantizes for it. Weights are random: values
do not change the speed, and nothing here says anything about accuracy (quantizers.py does).
"""

import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from turns import Row, Subject, measure_rows, mmseg_subjects, ratio, take_turns, write
from weights import source_of

from segdeploy.artifacts import Graph, Store
from segdeploy.datasets.scenes import draw_scene
from segdeploy.environment import describe_environment
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.graphs import export_model
from segdeploy.pipeline.make import EngineRequest, engine_of_graph, export_options, make_engine_of
from segdeploy.spec import Output, Precision, Runtime, Size, Tuning

PEER = Path(__file__).with_name("peer_quantizer.py")
METHODS = ("fcn", "pspnet", "deeplabv3", "deeplabv3plus")
CITYSCAPES = ",".join(f"{method}-cityscapes" for method in METHODS)
ADE20K = CITYSCAPES.replace("cityscapes", "ade20k")
CALIBRATION = "speed-only"
PLAIN, FP32, INT8, FULL_RANGE = "plain fp32", "rewritten fp32", "int8", "int8 full range"
OPENVINO_FP32, OPENVINO_INT8 = "openvino fp32", "openvino int8"
app = typer.Typer(add_completion=False, help=__doc__)
Out = Annotated[Path, typer.Option(help="The JSON to write.")]
Rounds = Annotated[int, typer.Option(help="Turns of each subject.")]
Models = Annotated[str, typer.Option(help="Names, with commas.")]
At = Annotated[str, typer.Option(help="HxW of the image.")]


@dataclass(frozen=True)
class EngineRow:
    """What a builder made of a model."""

    model: str
    runtime: str
    convolutions: dict[str, int]  # how many run in each precision
    file_bytes: int
    activation_bytes: int | None
    seconds: float


def export(model: str, size: Size, tuning: Tuning, folder: Path) -> Graph:
    """A graph from pixels to labels; the demo has weights of its own, the others random ones."""
    source = source_of(model, Store(folder))
    options = export_options(
        size=size, batch=1, precision=Precision.FP32, output=Output.LABELS, tuning=tuning
    )
    return export_model(source, options, folder / f"{tuning}.onnx", verify=False).graph


def prepare(model: str, size: Size, folder: Path) -> tuple[Graph, Graph, Path]:
    """The plain graph, the rewritten one, and an image for both."""
    image = folder / "image.npy"
    np.save(image, draw_scene(0, size)[0][None])
    plain, rewritten = (export(model, size, kind, folder) for kind in (Tuning.PLAIN, Tuning.ANY))
    return plain, rewritten, image


def our_subjects(plain: Graph, rewritten: Graph, folder: Path) -> list[Subject]:
    """The plain graph as ONNX Runtime takes it, and our engines."""
    subjects = [Subject(PLAIN, "segdeploy", str(plain.path))]
    fp32 = build_engine(rewritten, Runtime.ONNXRUNTIME, folder / "fp32.ort")
    subjects.append(Subject(FP32, "segdeploy", str(fp32.plan.path)))
    for name, full_range in ((INT8, False), (FULL_RANGE, True)):
        request = EngineRequest(
            precision=Precision.INT8,
            runtime=Runtime.ONNXRUNTIME,
            calibration=CALIBRATION,
            full_range=full_range,
            store=Store(folder),
            out=folder / f"{name.replace(' ', '-')}.ort",
        )
        built = engine_of_graph(rewritten, request)
        subjects.append(Subject(name, "segdeploy", str(built.plan.path)))
    return subjects


def openvino_subjects(graph: Graph, folder: Path, python: Path) -> list[Subject]:
    """OpenVINO with our rewritten graph, floating and as NNCF quantizes it for a CPU."""
    inputs, out = folder / "inputs.npz", folder / "nncf.onnx"
    size = graph.manifest.size
    assert size is not None
    np.savez(inputs, images=np.stack([draw_scene(k, size)[0] for k in range(2)]))
    command: list[str | Path] = [
        python,
        PEER,
        "nncf",
        "--graph",
        graph.path,
        "--inputs",
        inputs,
        "--out",
        out,
    ]
    subprocess.run([*command, "--json", folder / "nncf.json"], check=True, capture_output=True)
    return [
        Subject(OPENVINO_FP32, "openvino", str(graph.path), str(python)),
        Subject(OPENVINO_INT8, "openvino", str(out), str(python)),
    ]


def print_speed(rows: list[Row]) -> None:
    """A line for each model: milliseconds, and how many times faster int8 is; by CPU time."""
    names = list(dict.fromkeys(row.subject for row in rows))
    rivals = [name for name in names if name not in (INT8, FULL_RANGE)]
    print(f"| model | {' | '.join(f'{name} ms' for name in names)} |", end=" ")
    print(f"{' | '.join(f'int8 x {name}' for name in rivals)} |")
    print("|---|" + "---:|" * (len(names) + len(rivals)))
    for model in dict.fromkeys(row.model for row in rows):
        group = [row for row in rows if row.model == model]
        cells = [f"{statistics.median(row.cpu_ms):.0f}" for row in group]
        for rival in rivals:
            value = ratio(group, rival, INT8, cpu=True)
            cells.append("-" if value is None else f"{value:.2f}")
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


@app.command()
def speed(
    out: Out,
    models: Models = CITYSCAPES,
    size: At = "512x1024",
    threads: Annotated[int, typer.Option(help="Of each subject.")] = 1,
    rounds: Rounds = 9,
    openvino: Annotated[Path | None, typer.Option(help="A python with OpenVINO, NNCF.")] = None,
    mmseg: Annotated[Path | None, typer.Option(help="A python with MMSegmentation.")] = None,
) -> None:
    """Pixels to labels: plain, rewritten and int8, OpenVINO and MMSegmentation."""
    environment = describe_environment()
    shape = Size.parse(size)
    rows: list[Row] = []
    for model in models.split(","):
        with TemporaryDirectory() as name:
            folder = Path(name)
            plain, rewritten, image = prepare(model, shape, folder)
            subjects = our_subjects(plain, rewritten, folder)
            if openvino is not None:
                subjects += openvino_subjects(rewritten, folder, openvino)
            subjects += mmseg_subjects(model, mmseg)
            rows += measure_rows(model, subjects, image, threads, rounds)
        typer.echo(f"{model}: done", err=True)
    print_speed(rows)
    write(out, environment, rows)


@app.command()
def calibration(
    out: Out,
    models: Models = CITYSCAPES,
    size: At = "1024x2048",
    images: Annotated[int, typer.Option(help="That are counted.")] = 6,
) -> None:
    """Time and memory of counting images beside those of running them, one thread."""
    environment = describe_environment()
    shape = Size.parse(size)
    rows: list[Row] = []
    heads = ("ms an image", "x plain", "MB", "MB after 1 image", "MB of plain")
    print(f"| model | size | images | {' | '.join(heads)} |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for model in models.split(","):
        with TemporaryDirectory() as name:
            folder = Path(name)
            plain, rewritten, image = prepare(model, shape, folder)
            counting = Subject("calibration", "calibration", str(rewritten.path))
            [first] = take_turns([counting], image, 1, 1).values()
            running = Subject(PLAIN, "segdeploy", str(plain.path))
            group = measure_rows(model, [counting, running], image, 1, images)
        rows += group
        value = ratio(group, "calibration", PLAIN, cpu=True)
        cells = [f"{statistics.median(group[0].cpu_ms):.0f}", f"{value:.2f}"]
        sizes = (group[0].peak_bytes, first[-1]["peak_bytes"], group[1].peak_bytes)
        cells += [f"{count / 1e6:.0f}" for count in sizes]
        print(f"| {model} | {shape} | {images + 1} | {' | '.join(cells)} |", flush=True)
    write(out, environment, rows)


@app.command()
def engines(out: Out, models: Models = f"{CITYSCAPES},{ADE20K}") -> None:
    """Build every model in int8 with TensorRT-RTX; the build log proves each convolution."""
    environment = describe_environment()
    rows = []
    print("| model | int8 | fp16 | MB | activation MB | s |")
    print("|---|---:|---:|---:|---:|---:|")
    for model in models.split(","):
        with TemporaryDirectory() as name:
            request = EngineRequest(
                precision=Precision.INT8,
                runtime=Runtime.TENSORRT_RTX,
                calibration=CALIBRATION,
                store=Store(Path(name)),
            )
            built = make_engine_of(model, "random:0", request)
            size = built.plan.path.stat().st_size
        record = built.plan.manifest.build
        assert record is not None  # TensorRT-RTX built it
        convolutions = {precision: count for precision, count, _ in record.convolutions}
        counts = [convolutions.get(kind, 0) for kind in (Precision.INT8, Precision.FP16)]
        (activation_bytes,) = record.activation_bytes
        megabytes = (size / 1e6, activation_bytes / 1e6)
        print(
            f"| {model} | {counts[0]} | {counts[1]} | {megabytes[0]:.1f} | {megabytes[1]:.0f} "
            f"| {built.seconds:.1f} |",
            flush=True,
        )
        rows.append(
            EngineRow(
                model=model,
                runtime=f"{built.plan.manifest.runtime} {built.plan.manifest.runtime_version}",
                convolutions=convolutions,
                file_bytes=size,
                activation_bytes=activation_bytes,
                seconds=built.seconds,
            )
        )
    write(out, environment, rows)


if __name__ == "__main__":
    app()
