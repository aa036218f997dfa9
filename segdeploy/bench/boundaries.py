"""The boundaries of one session, timed one after the other in this process."""

import itertools
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.cuda import bus_id
from segdeploy.cuda.seam import Buffer, open_gpu
from segdeploy.datasets import Dataset
from segdeploy.datasets.files import PairedFiles
from segdeploy.images import read_image, write_png
from segdeploy.measurement import Boundary, Part, Timing
from segdeploy.pipeline.modes import WHOLE, Mode, best_labels
from segdeploy.pipeline.protocol import predictor
from segdeploy.pipeline.segment import segment_input
from segdeploy.runtime import Session, Splitting
from segdeploy.spec import Image, Images, Output, Size
from segdeploy.telemetry import machine_state
from segdeploy.timing import measure_latency

logger = logging.getLogger(__name__)

STEPS = 195  # timed by mmseg's tools/benchmark.py, after 5 of warm-up
WARMUP = 5
OTHERS = 3  # the boundaries beside `mmseg` get a third of its time each

Step = Callable[[], object]
PartTimes = dict[Part, list[float]]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a session is timed on.

    Args:
        inputs: images at network size, each with its original size; they take turns.
        load: decodes the same images, by their place in `inputs`.
        scale: of the test protocol's resize.
        mode: how an image passes through the network.
        max_seconds: bounds `mmseg`.
    """

    inputs: Sequence[tuple[Image, Size]]
    load: Callable[[int], Image]
    scale: tuple[int, int] | None = None
    mode: Mode = WHOLE
    max_seconds: float


@contextmanager
def decoding(dataset: Dataset | None, images: Iterable[Image]) -> Iterator[Callable[[int], Image]]:
    """What decodes the first images: of a data set's own files, or of PNG files written for it."""
    if isinstance(dataset, PairedFiles):
        yield dataset.load_image
        return
    with tempfile.TemporaryDirectory(prefix="segdeploy-") as folder:
        for k, image in enumerate(images):  # one at a time: peak memory shall be that of inference
            write_png(Path(folder) / f"{k}.png", image)
        yield lambda k: read_image(Path(folder) / f"{k}.png")


def time_boundaries(session: Session, work: Workload) -> dict[Boundary, Timing]:
    """Time each boundary that there is.

    In crops or at many scales an image is many runs of the network: `engine` and `host`, which are
    of one, are left out. So is `engine` on a GPU without a package that reaches its memory.
    """
    found: dict[Boundary, Timing] = {}
    less = work.max_seconds / OTHERS
    if work.mode == WHOLE:
        batches = [_batch(image, session) for image, _ in work.inputs]
        if session.device.is_cuda and not _reaches_memory():
            logger.warning("the boundary engine is left out: it needs pip install segdeploy[cuda]")
        else:
            with in_place(session, batches) as step:
                found[Boundary.ENGINE] = _time(session, step, less)
        parts: PartTimes = {}
        host = host_step(session, batches, parts)
        found[Boundary.HOST] = _time(session, host, less, parts)
    turns = itertools.cycle(work.inputs)
    found[Boundary.MMSEG] = _time(
        session, lambda: segment_input(session, *next(turns), work.mode), work.max_seconds
    )
    predict = predictor(session, work.scale, work.mode)
    places = itertools.cycle(range(len(work.inputs)))
    found[Boundary.E2E] = _time(session, lambda: predict(work.load(next(places))), less)
    return found


def _reaches_memory() -> bool:
    return find_spec("cuda") is not None and find_spec("cuda.core") is not None


def _one_of_each_shape(batches: Sequence[Images]) -> list[Images]:
    return list({images.shape: images for images in batches}.values())


def _batch(image: Image, session: Session) -> Images:
    """As many copies as the artifact takes at once."""
    return np.repeat(image[None], session.manifest.batch or 1, axis=0)


def _time(session: Session, step: Step, seconds: float, parts: PartTimes | None = None) -> Timing:
    address = bus_id(session.device.number) if session.device.is_cuda else ""
    before = machine_state(address)
    latency = measure_latency(step, warmup=WARMUP, steps=STEPS, max_seconds=seconds)
    after = machine_state(address)
    skipped = len(latency.warmup_ms)
    timed = {part: tuple(times[skipped:]) for part, times in (parts or {}).items()}
    return Timing(latency=latency, before=before, after=after, parts_ms=timed)


def host_step(session: Session, batches: Sequence[Images], parts: PartTimes) -> Step:
    """Pixels in host memory to the mask at their size there; the GPU's own times go to `parts`."""
    turns = itertools.cycle(batches)

    def run(images: Images) -> NDArray[Any]:
        if not isinstance(session, Splitting):
            return session.run(images)
        found = session.split(images)
        times = (found.upload_ms, found.compute_ms, found.download_ms)
        for part, time in zip(Part, times, strict=True):
            parts.setdefault(part, []).append(time)
        return found.result

    def step() -> object:
        images = next(turns)
        result = run(images)
        if session.manifest.output is Output.LABELS:
            return result
        size = Size(*images.shape[1:3])
        return [best_labels(scores, size, size) for scores in result]

    return step


class _Placed:
    """Memory of a GPU, as `enqueue` takes it."""

    def __init__(self, buffer: Buffer) -> None:
        self.__cuda_array_interface__ = {
            "shape": buffer.host.shape,
            "typestr": buffer.host.dtype.str,
            "data": (buffer.address, False),
            "strides": None,
            "version": 3,
        }


@contextmanager
def in_place(session: Session, batches: Sequence[Images]) -> Iterator[Step]:
    """A step on arrays that lie where the session runs, made before; it ends with its work."""
    shaped = {images.shape: session.run(images) for images in _one_of_each_shape(batches)}
    results = [np.empty_like(shaped[images.shape]) for images in batches]
    if not session.device.is_cuda:
        pairs = itertools.cycle(list(zip(batches, results, strict=True)))
        yield lambda: session.enqueue(*next(pairs))
        return
    with ExitStack() as stack:
        gpu = stack.enter_context(closing(open_gpu(session.device.number)))
        stack.enter_context(gpu.current())
        stream = stack.enter_context(closing(gpu.stream()))

        def place(array: NDArray[Any]) -> _Placed:
            buffer = stack.enter_context(closing(gpu.buffer(array.shape, array.dtype)))
            np.copyto(buffer.host, array)
            buffer.upload(stream)
            return _Placed(buffer)

        placed = [(place(a), place(b)) for a, b in zip(batches, results, strict=True)]
        stream.wait()
        turns = itertools.cycle(placed)

        def step() -> None:
            session.enqueue(*next(turns), stream.handle)
            stream.wait()

        yield step
