"""Many images at the same time in asyncio: a batcher gathers them, the event loop stays free.

    pip install 'segdeploy[default]'
    segdeploy export demo --batch dynamic -o demo.onnx
    segdeploy build-engine demo.onnx -o demo.ort
    python examples/asynchronous.py demo.ort street.png night.png

Prints the largest classes of each image. A batcher takes images of the engine's own size and
returns what the engine returns, so this wants an engine of labels.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import segdeploy
from segdeploy.batching import Batcher, BatchOptions
from segdeploy.errors import SegdeployError
from segdeploy.images import read_image, resize, resize_labels
from segdeploy.runtime import Engine
from segdeploy.spec import ClassSet, Image, LabelMap, Output, Size

SHOWN = 3  # classes of an image


async def segment_all(
    engine: Engine, paths: Sequence[Path], options: BatchOptions
) -> list[LabelMap | BaseException]:
    """The label map of each file, as large as its image, or what went wrong with it."""
    manifest = engine.manifest
    if manifest.output is not Output.LABELS:
        raise SegdeployError(
            f"{manifest.model}: the engine returns {manifest.output}; wanted labels",
            hint="segdeploy export --output labels",
        )
    room = asyncio.Semaphore(options.limit)  # more than that the batcher would refuse

    def load(path: Path) -> tuple[Size, Image]:
        image = read_image(path)
        size = Size(*image.shape[:2])
        return size, resize(image, manifest.size or size)

    async def segment_one(path: Path, batcher: Batcher) -> LabelMap:
        async with room:
            size, image = await asyncio.to_thread(load, path)
            labels: LabelMap = await asyncio.wrap_future(batcher.submit(image))
            return await asyncio.to_thread(resize_labels, labels, size)

    with Batcher(engine, options) as batcher:
        jobs = [segment_one(path, batcher) for path in paths]
        return await asyncio.gather(*jobs, return_exceptions=True)


def describe(labels: LabelMap, classes: ClassSet) -> str:
    """The largest classes and their share of the pixels."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    largest = [k for k in counts.argsort(kind="stable")[::-1][:SHOWN] if counts[k]]
    return ", ".join(f"{classes.names[k]} {counts[k] / labels.size:.0%}" for k in largest)


def main() -> None:
    """Read the command line, segment, print; one bad file does not lose the others."""
    parser = argparse.ArgumentParser(description="Segment images in batches.")
    parser.add_argument("artifact", help="a .onnx, .ort or .plan file that returns labels")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--device", help="cpu or cuda:N (default: the artifact's)")
    parser.add_argument("--batch", type=int, default=4, help="of an engine of any batch")
    args = parser.parse_args()

    failed = []
    with segdeploy.open(args.artifact, args.device) as engine:
        options = BatchOptions(size=engine.manifest.batch or args.batch)
        outcomes = asyncio.run(segment_all(engine, args.images, options))
        for path, outcome in zip(args.images, outcomes, strict=True):
            if isinstance(outcome, SegdeployError):
                failed.append(outcome.to_lines())
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                print(f"{path}: {describe(outcome, engine.manifest.classes)}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    try:
        main()
    except SegdeployError as error:  # a user can put it right: two lines say how
        sys.exit(error.to_lines())
