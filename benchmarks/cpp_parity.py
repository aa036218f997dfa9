"""Every pixel of the C++ library beside Python's: all models at full width, in fp32 and int8.

    cmake -S cpp -B build && cmake --build build
    python benchmarks/cpp_parity.py build/libsegdeploy.so --out benchmarks/results/cpp-parity.json

The demo has its own weights, the other models random ones of a seed; the images are drawn. Each
graph and each engine is opened once; eight threads with a session each then label the same few
images, each in another order, and every label map is compared with Python's. It ends with 1 if a
pixel differs.
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from c_library import ONNXRUNTIME, Library
from weights import source_of

import segdeploy
from segdeploy.artifacts import EnginePlan, Store, write_json
from segdeploy.datasets.scenes import draw_scene
from segdeploy.environment import describe_environment
from segdeploy.images import write_png
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.source import Source
from segdeploy.recipes import model_names
from segdeploy.spec import CPU, Images, Labels, Output, Precision, Runtime, Size

SIZES = (Size(256, 512), Size(131, 197))  # of the shape of Cityscapes; odd, and no multiple of 8
IMAGES = 4  # different ones
THREADS = 8
EACH = 2  # images that each thread labels
CALIBRATION = 8  # images, of other seeds


@dataclass(frozen=True)
class Row:
    """One artifact: how many pixels were compared, and how many differ."""

    model: str
    precision: str
    kind: str  # graph or engine
    mask: str  # who makes the labels: the graph, or the session
    height: int
    width: int
    classes: int  # that occur in Python's labels
    threads: int
    pixels: int
    different: int


def draw_images(count: int, size: Size, first_seed: int) -> Images:
    """(N, H, W, 3), the same for the same arguments."""
    return np.stack([draw_scene(first_seed + k, size)[0] for k in range(count)])


def make_artifacts(source: Source, size: Size, folder: Path) -> Iterator[tuple[str, Path]]:
    """A graph and an engine in each precision."""
    calibration = folder / "calibration"
    for index, image in enumerate(draw_images(CALIBRATION, size, first_seed=1000)):
        write_png(calibration / f"{index}.png", image)
    options = export_options(size=size, batch=1, precision=Precision.FP32, output=Output.LABELS)
    for precision in (Precision.FP32, Precision.INT8):
        request = EngineRequest(
            precision=precision,
            runtime=Runtime.ONNXRUNTIME,
            calibration=str(calibration) if precision is Precision.INT8 else None,
            store=Store(folder),
        )
        engine = make_artifact(source, options, request, CPU)
        assert isinstance(engine, EnginePlan)
        yield "graph", engine.find_source()
        yield "engine", engine.path


def count_different(library: Library, path: Path, images: Images, expected: Labels) -> int:
    """Pixels that differ, over all threads."""
    with library.open(path) as engine:

        def label(thread: int) -> int:
            with engine.session() as session:
                return sum(
                    int(np.count_nonzero(session.run(images[k][None])[0] != expected[k]))
                    for k in ((thread + turn) % len(images) for turn in range(EACH))
                )

        with ThreadPoolExecutor(THREADS) as pool:
            return sum(pool.map(label, range(THREADS)))


def compare(library: Library, model: str, size: Size, folder: Path) -> Iterator[Row]:
    """A model at one size: its graphs and engines."""
    images = draw_images(IMAGES, size, first_seed=0)
    for kind, path in make_artifacts(source_of(model, Store(folder)), size, folder):
        with segdeploy.open(path) as engine, engine.session() as session:
            manifest = engine.manifest
            expected = np.concatenate([session.run(image[None]) for image in images])
        yield Row(
            model=model,
            precision=manifest.precision,
            kind=kind,
            mask=manifest.mask,
            height=size.height,
            width=size.width,
            classes=len(np.unique(expected)),
            threads=THREADS,
            pixels=THREADS * EACH * size.height * size.width,
            different=count_different(library, path, images, expected),
        )


def main(
    library: Annotated[Path, typer.Argument(help="libsegdeploy.so of a build")],
    out: Annotated[Path, typer.Option(help="the JSON to write")],
    model: Annotated[list[str] | None, typer.Option(help="of the zoo; none named: all")] = None,
) -> None:
    """Compare, print a line each, and write rows and environment."""
    opened, environment = Library(library, ONNXRUNTIME), describe_environment()
    rows: list[Row] = []
    for name in model or model_names():
        for size in SIZES:
            with TemporaryDirectory() as folder:
                for row in compare(opened, name, size, Path(folder)):
                    rows.append(row)
                    print(json.dumps(asdict(row)), flush=True)
    content = {
        "environment": environment.to_dict(),
        "onnxruntime_library": ONNXRUNTIME.name,
        "pixels": sum(row.pixels for row in rows),
        "different": sum(row.different for row in rows),
        "rows": [asdict(row) for row in rows],
    }
    write_json(out, content)
    sys.exit(bool(content["different"]))


if __name__ == "__main__":
    typer.run(main)
