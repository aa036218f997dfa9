"""Compares every model with MMSegmentation itself, through the whole line, on saved references.

A reference is MODEL.pth (an official-format checkpoint) and MODEL__CASE.npz with what
MMSegmentation made of an image: `image_rgb` (H, W, 3) uint8, `resized_bgr` (the network's input
before normalization), `logits` (1, C, h, w) of the decode head, `label` (H, W) after both resizes
and argmax, `margin` (H, W) between the two best final scores. CASE is HxW; HxW_to_LONGxSHORT for
the test pipeline's resize; with _slide-HxW-HxW behind it for crops and their stride, and with _tta
for ms+flip, where only the labels are compared. MODEL is written with an underscore:
fcn_cityscapes.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from segdeploy.artifacts import EnginePlan, Graph, Store, write_json
from segdeploy.environment import describe_environment
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.graphs import existing_or_exported
from segdeploy.pipeline.make import export_options
from segdeploy.pipeline.modes import WHOLE, Mode, mode_input
from segdeploy.pipeline.segment import segment_input
from segdeploy.pipeline.source import Source, resolve_source
from segdeploy.runtime import Session, open_session
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import Image, LabelMap, Output, Precision, Runtime, Size

Reference = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One image through one runtime: largest logit difference, and labels that differ."""

    model: str
    case: str
    runtime: str
    same_input: bool | None  # the resized image is MMSegmentation's, bit for bit; None: several
    logit_error: float | None  # None: scores were averaged
    different_labels: int
    pixels: int
    widest_margin: float  # MMSegmentation's own, where a label differs: how sure it was


def parse_case(case: str) -> tuple[tuple[int, int] | None, Mode]:
    """Long and short side of the test pipeline, and the mode."""
    rest = case.removesuffix("_tta")
    rest, _, parts = rest.partition("_slide-")
    _, _, sides = rest.partition("_to_")
    long_side, _, short_side = sides.partition("x")
    crop, stride = (Size.parse(part) for part in parts.split("-")) if parts else (None, None)
    scale = (int(long_side), int(short_side)) if sides else None
    return scale, Mode(crop=crop, stride=stride, tta=case.endswith("_tta"))


def compare(source: Source, references: dict[str, Reference], folder: Path) -> list[Row]:
    """Every reference of a model through PyTorch, its graph for any runtime, and CPU engines."""
    graph = make_graph(source, None, folder)
    engine = make_engine(source, None, folder)
    pytorch = PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS, threads=1)
    rows = []
    with open_session(graph) as any_runtime, open_session(engine) as dynamic, pytorch:
        sessions = {"pytorch": pytorch, "onnxruntime": any_runtime, "cpu engine": dynamic}
        for case, reference in references.items():
            name = source.spec.name
            rows += [compare_one(*each, name, case, reference) for each in sessions.items()]
            if parse_case(case)[1] == WHOLE:
                size = Size(*reference["resized_bgr"].shape[:2])
                with open_session(make_engine(source, size, folder)) as static:
                    rows.append(compare_one("cpu engine, static", static, name, case, reference))
    return rows


def make_graph(source: Source, size: Size | None, folder: Path) -> Graph:
    """Logits out: the test protocol resizes them twice."""
    options = export_options(size=size, batch=1, precision=Precision.FP32, output=Output.LOGITS)
    return existing_or_exported(source, options, folder / f"{size}.onnx")


def make_engine(source: Source, size: Size | None, folder: Path) -> EnginePlan:
    """With every rewrite that a CPU gets."""
    graph = make_graph(source, size, folder)
    return build_engine(graph, Runtime.ONNXRUNTIME, folder / f"{size}.ort").plan


def compare_one(runtime: str, session: Session, model: str, case: str, reference: Reference) -> Row:
    """One image through one session, by the test protocol."""
    image: Image = reference["image_rgb"]
    scale, mode = parse_case(case)
    fitted = mode_input(image, scale, mode)
    labels: LabelMap = segment_input(session, fitted, Size(*image.shape[:2]), mode)
    wrong = labels != reference["label"].reshape(labels.shape)
    error = None
    if mode == WHOLE:
        error = float(np.abs(session.run(fitted[None]) - reference["logits"]).max())
    resized = reference.get("resized_bgr")
    return Row(
        model=model,
        case=case,
        runtime=runtime,
        same_input=None if resized is None else np.array_equal(fitted[..., ::-1], resized),
        logit_error=error,
        different_labels=int(wrong.sum()),
        pixels=wrong.size,
        widest_margin=float(reference["margin"].reshape(labels.shape)[wrong].max(initial=0)),
    )


def main(
    references: Annotated[Path, typer.Argument(help="folder of MODEL.pth and MODEL__CASE.npz")],
    out: Annotated[Path, typer.Option(help="the JSON to write")],
) -> None:
    """Compare all models of a folder, print a line each, and write rows and environment."""
    rows: list[Row] = []
    environment = describe_environment()
    with TemporaryDirectory() as folder:
        for checkpoint in sorted(references.glob("*.pth")):
            cases = {
                path.stem.partition("__")[2]: dict(np.load(path))
                for path in sorted(references.glob(f"{checkpoint.stem}__*.npz"))
            }
            name = checkpoint.stem.replace("_", "-")
            source = resolve_source(name, str(checkpoint), Store(Path(folder)))
            for row in compare(source, cases, Path(folder)):
                rows.append(row)
                error = "" if row.logit_error is None else f"logits {row.logit_error:.1e}, "
                typer.echo(
                    f"{row.model} {row.case} {row.runtime}: {error}{row.different_labels} of "
                    f"{row.pixels} labels differ, margin there {row.widest_margin:.1e}"
                )
    content = {"environment": environment.to_dict(), "rows": [asdict(row) for row in rows]}
    write_json(out, content)


if __name__ == "__main__":
    typer.run(main)
