"""How much of an evaluation is not inference: in ours, in a plain loop, in mmseg's own.

    python benchmarks/evaluation.py --out benchmarks/results/evaluation-cpu.json [--mmseg PYTHON]

Drawn scenes of 1024x2048 are written in the layout of Cityscapes, and every loop reads the same
files. In each round the loops take turns: inference of images that are decoded already, `evaluate`,
a loop that decodes, predicts and counts one after the other with the arithmetic of IoUMetric, and,
with an interpreter that has MMSegmentation 1.2.2, its runner's test loop. Weights are random; the
time does not depend on them.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from turns import CONFIGS

from segdeploy.artifacts import Artifact, Store, write_json
from segdeploy.cores import default_threads
from segdeploy.datasets import Dataset, open_dataset
from segdeploy.datasets.scenes import draw_scene, scene_seed
from segdeploy.environment import describe_environment
from segdeploy.evaluate import evaluate
from segdeploy.images import write_png
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.protocol import predictor
from segdeploy.pipeline.source import resolve_source
from segdeploy.runtime import open_session
from segdeploy.spec import CPU, Image, LabelMap, Output, Precision, Runtime, Size
from segdeploy.telemetry import disturbances, machine_state

MMSEG_LOOP = Path(__file__).with_name("mmseg_loop.py")
SIZE = Size(1024, 2048)  # of Cityscapes
ALONE, OURS, PLAIN, MMSEG = "inference alone", "segdeploy", "plain loop", "mmseg"
Predict = Callable[[Image], LabelMap]


@dataclass(frozen=True)
class Row:
    """One loop, round by round; times of all images together.

    Processor time is the fairer witness on a busy machine: others' work is not in it.
    """

    precision: str
    loop: str
    images: int
    wall_s: tuple[float, ...]
    inference_s: tuple[float, ...]  # mmseg: inside its model; the others: inference alone
    cpu_s: tuple[float, ...] = ()  # mmseg: its loader has processes of its own, not counted
    inference_cpu_s: tuple[float, ...] = ()
    disturbances: tuple[str, ...] = ()

    @property
    def outside(self) -> float:
        """Share of the loop's time that is not inference."""
        return outside(self.wall_s, self.inference_s)

    @property
    def cpu_outside(self) -> float | None:
        """The same of processor time."""
        return outside(self.cpu_s, self.inference_cpu_s) if self.cpu_s else None


def outside(whole: Sequence[float], inside: Sequence[float]) -> float:
    """What is left of the whole: the median of the rounds."""
    return median(1 - part / all_of_it for all_of_it, part in zip(whole, inside, strict=True))


def write_scenes(root: Path, count: int, size: Size = SIZE) -> None:
    """Drawn scenes in the layout of Cityscapes, with train ids as mmseg wants them."""
    for k in range(count):
        image, labels = draw_scene(scene_seed("val", k), size)
        name = f"drawn/drawn_{k:06d}_000019"
        write_png(root / "leftImg8bit" / "val" / f"{name}_leftImg8bit.png", image)
        write_png(root / "gtFine" / "val" / f"{name}_gtFine_labelTrainIds.png", labels)


def plain_loop(predict: Predict, dataset: Dataset) -> float:
    """Mean IoU, one thing after the other; areas by torch.histc, as IoUMetric has them."""
    classes = len(dataset.classes)
    areas = torch.zeros(3, classes)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        found = torch.from_numpy(predict(sample.image))
        truth = torch.from_numpy(sample.labels)
        mask = truth != 255
        found, truth = found[mask], truth[mask]
        for area, values in zip(areas, (found[found == truth], found, truth), strict=True):
            area += torch.histc(values.float(), bins=classes, min=0, max=classes - 1)
    hits, predicted, true = areas
    return float((hits / (true + predicted - hits)).nanmean())  # 0 / 0 is NaN


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall, and of the processor."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


def measure(artifact: Artifact, dataset: Dataset, threads: int, rounds: int) -> list[Row]:
    """Our loop and the plain one in turn, each beside inference of the same images."""
    images = [dataset.load_image(k) for k in range(len(dataset))]
    precision = artifact.manifest.precision
    times: dict[str, list[tuple[float, float]]] = {ALONE: [], OURS: [], PLAIN: []}
    before = machine_state()
    with open_session(artifact, threads=threads) as session:
        predict = predictor(session, dataset.scale)
        evaluate(predict, dataset, limit=1)  # compiled loops are loaded
        plain = plain_loop(predict, dataset)
        assert abs(plain - evaluate(predict, dataset).miou()) < 1e-5  # IoUMetric sums float32
        for _ in range(rounds):
            times[ALONE].append(timed(lambda: [predict(image) for image in images]))
            times[OURS].append(timed(lambda: evaluate(predict, dataset)))
            times[PLAIN].append(timed(lambda: plain_loop(predict, dataset)))
    after = machine_state()
    wall, cpu = (
        {loop: tuple(t[k] for t in found) for loop, found in times.items()} for k in (0, 1)
    )
    return [
        Row(
            precision=precision,
            loop=loop,
            images=len(dataset),
            wall_s=wall[loop],
            inference_s=wall[ALONE],
            cpu_s=cpu[loop],
            inference_cpu_s=cpu[ALONE],
            disturbances=disturbances(before, after),
        )
        for loop in times
    ]


def measure_mmseg(python: Path, config: str, data: Path, threads: int, rounds: int) -> Row:
    """The test loop of mmseg's runner, each time in a new process."""
    command = [str(python), str(MMSEG_LOOP), config, str(data), str(threads)]
    found = []
    for _ in range(rounds):
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise RuntimeError(f"mmseg's loop failed: {answer.stderr[-2000:]}")
        found.append(json.loads(answer.stdout.splitlines()[-1]))
    return Row(
        precision=Precision.FP32,
        loop=MMSEG,
        images=found[0]["images"],
        wall_s=tuple(one["seconds"] for one in found),
        inference_s=tuple(one["inside"] for one in found),
    )


def main(
    out: Annotated[Path, typer.Option(help="The JSON to write.")],
    model: Annotated[str, typer.Option(help="Of Cityscapes.")] = "fcn-cityscapes",
    precisions: Annotated[str, typer.Option(help="Names, with commas.")] = "fp32,int8",
    images: Annotated[int, typer.Option(help="That are evaluated.")] = 8,
    rounds: Annotated[int, typer.Option(help="Turns of each loop.")] = 5,
    threads: Annotated[int, typer.Option(help="Of the runtime; 0: all cores.")] = 0,
    mmseg: Annotated[Path | None, typer.Option(help="An interpreter that has it.")] = None,
) -> None:
    """Measure, print a table, and write the JSON."""
    environment = describe_environment()
    threads = threads or default_threads()
    rows: list[Row] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder / "data", images)
        dataset = open_dataset("cityscapes", folder / "data", "val")
        source = resolve_source(model, "random:0", Store(folder))
        for precision in map(Precision, precisions.split(",")):
            options = export_options(
                size=SIZE, batch=1, precision=Precision.FP32, output=Output.LABELS
            )
            request = EngineRequest(
                precision=precision,
                runtime=Runtime.ONNXRUNTIME,
                calibration="speed-only" if precision is Precision.INT8 else None,
                store=Store(folder),
            )
            rows += measure(make_artifact(source, options, request, CPU), dataset, threads, rounds)
        if mmseg is not None:
            config = CONFIGS["cityscapes"].format(model.partition("-")[0])
            rows.append(measure_mmseg(mmseg, config, folder / "data", threads, rounds))
    print("| loop | precision | s an image | outside inference % | of processor time % |")
    print("|---|---|---:|---:|---:|")
    for row in rows:
        shares = (None, None) if row.loop == ALONE else (row.outside, row.cpu_outside)
        cells = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
        seconds = f"{median(row.wall_s) / row.images:.3f}"
        print("|", " | ".join([row.loop, row.precision, seconds, *cells]), "|", flush=True)
    if mmseg is None:
        print("mmseg's own loop was not run: --mmseg names an interpreter that has it")
    content: dict[str, Any] = {
        "environment": environment.to_dict(),
        "model": model,
        "size": str(SIZE),
        "threads": threads,
        "rows": [
            {**asdict(row), "outside": row.outside, "cpu_outside": row.cpu_outside} for row in rows
        ],
    }
    write_json(out, content)


if __name__ == "__main__":
    typer.run(main)
