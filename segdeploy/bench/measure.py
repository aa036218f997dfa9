"""One measurement: an artifact, in a process of its own, timed and then scored."""

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from segdeploy.artifacts import Manifest, Store, sha256_of
from segdeploy.bench.agreement import LabelWatch
from segdeploy.bench.boundaries import Workload, decoding, time_boundaries
from segdeploy.bench.pictures import Worst
from segdeploy.datasets import Dataset, facts
from segdeploy.datasets.scenes import draw_scene
from segdeploy.errors import SegdeployError
from segdeploy.evaluate import evaluate
from segdeploy.measurement import TRAINED, Boundary, Measurement, Tally, Timing
from segdeploy.pipeline.modes import WHOLE, Mode, check_mode
from segdeploy.pipeline.protocol import (
    TIMED_IMAGES,
    check_scorable,
    first_inputs,
    open_evaluation,
    predictor,
)
from segdeploy.pipeline.segment import Opening, open_named
from segdeploy.pipeline.source import resolve_source
from segdeploy.runtime import RunOptions, Session
from segdeploy.spec import CPU, RANDOM, Device, Image, LabelMap, Output, Runtime, Size
from segdeploy.timing import check_timer, peak_memory_bytes


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured: an artifact, or the checkpoint of a model in PyTorch."""

    artifact: Path | None = None
    model: str = ""
    checkpoint: str | None = None
    output: Output = Output.LABELS  # that PyTorch returns
    size: Size | None = None  # that PyTorch is timed at without the data; None: the data set's

    @property
    def name(self) -> str:
        """For people who wait for it; a model may be there twice, with other weights."""
        if self.artifact is not None:
            return str(self.artifact)
        weights = self.checkpoint or ""
        return f"{self.model} {weights if weights.startswith(RANDOM) else ''}".strip() + ", PyTorch"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """On what, and for how long; `max_seconds` bounds `mmseg`, the other boundaries take less."""

    dataset: str
    data: Path = Path("data")
    limit: int | None = None
    speed_only: bool = False
    mode: Mode = WHOLE  # of timing and of scoring
    device: Device | None = None  # None: what the artifact is made for
    rebuild: bool = False  # an engine that does not fit this machine
    threads: int = 0
    max_seconds: float = 60.0
    pictures: bool = False
    shown: tuple[int, ...] = ()  # images of the pictures; none: those that are worst
    labels: Path | None = None  # a folder in which rows keep label maps for those that follow
    store: Store = field(default_factory=Store)

    def __post_init__(self) -> None:
        if not 0 < self.max_seconds < math.inf:
            raise SegdeployError(
                f"seconds = {self.max_seconds}; wanted a finite number above 0",
                hint="for example --seconds 60",
            )

    def open(self) -> tuple[Dataset, str]:
        """The split that published scores are of."""
        return open_evaluation(self.dataset, self.data)

    def nominal_size(self) -> Size:
        """Of the network's input; a known data set need not be there for it."""
        if Path(self.dataset).is_dir():
            return self.open()[0].nominal_size
        return facts(self.dataset).nominal_size


@dataclass(frozen=True)
class Outcome:
    """A measurement, and label maps for the report, by the number of their image."""

    measurement: Measurement
    pictures: Mapping[int, LabelMap] = field(default_factory=dict)


def measure(subject: Subject, options: BenchOptions) -> Outcome:
    """Measure in a fresh process: its peak memory is its own, and nothing warms it up."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_measure, subject, options).result()
        except BrokenProcessPool as error:
            raise SegdeployError(
                f"the process that measured {subject.artifact or subject.model} died",
                hint="most often for want of memory: try a smaller size, or --limit",
            ) from error


def _measure(subject: Subject, options: BenchOptions) -> Outcome:
    timer, path = check_timer(), subject.artifact
    with _open(subject, options) as session:
        manifest = session.manifest
        _check_batch(manifest)
        check_mode(manifest, options.mode)
        dataset = None if options.speed_only else _dataset_for(manifest, options)
        inputs = _timed_inputs(manifest, dataset, subject, options)
        boundaries = _time(session, dataset, inputs, options)
        peak = peak_memory_bytes()  # of inference: before anything is scored
        runtime = manifest.runtime or (Runtime.ONNXRUNTIME if path else Runtime.PYTORCH)
        scored = None if manifest.is_random else dataset
        predict = predictor(session, dataset.scale if dataset else None, options.mode)
        watch = _watch(manifest, runtime, options)
        worst = Worst()
        matrix = (
            evaluate(predict, scored, limit=options.limit, watch=watch, judge=worst)
            if scored
            else None
        )
        pictures: dict[int, LabelMap] = {}
        if dataset is not None and options.pictures:
            shown = options.shown or worst.shown(dataset)
            pictures = {k: predict(dataset.load_image(k)) for k in shown}
    measurement = Measurement(
        model=manifest.model,
        title=_title(manifest, options.mode),
        precision=manifest.precision,
        runtime=runtime,
        device=session.device,
        output=manifest.output,
        boundaries=boundaries,
        resolution=_resolution([Size(*fitted.shape[:2]) for fitted, _ in inputs], options.mode),
        mode=str(options.mode),
        weights=manifest.checkpoint if manifest.is_random else TRAINED,
        artifact=path.name if path else manifest.checkpoint,
        artifact_sha256=sha256_of(path) if path else manifest.checkpoint_sha256,
        artifact_bytes=path.stat().st_size if path else None,
        calibration=manifest.calibration,
        batch=manifest.batch or 1,
        threads=options.threads or None,
        dataset=dataset.name if dataset else options.dataset,
        tally=Tally.of(matrix, manifest.classes.names, _image_count(scored, options.limit))
        if matrix and scored
        else None,
        agreement=watch.agreement() if matrix and watch else (),
        peak_memory_bytes=peak,
        timer=timer,
        note="" if matrix else "mIoU was not measured",
    )
    return Outcome(measurement, pictures)


def _open(subject: Subject, options: BenchOptions) -> Session:
    if subject.artifact is not None:
        opening = Opening(
            device=options.device,
            rebuild=options.rebuild,
            run=RunOptions(threads=options.threads),
        )
        return open_named(str(subject.artifact), opening).session()
    source = resolve_source(subject.model, subject.checkpoint, options.store)
    from segdeploy.runtime.pytorch import PyTorchSession

    return PyTorchSession(
        source.spec,
        source.checkpoint,
        output=subject.output,
        device=options.device or CPU,
        threads=options.threads,
    )


def _time(
    session: Session,
    dataset: Dataset | None,
    inputs: Sequence[tuple[Image, Size]],
    options: BenchOptions,
) -> dict[Boundary, Timing]:
    if dataset is None:
        images = (image for image, _ in inputs)
    else:
        images = (dataset.load_image(k) for k in range(len(inputs)))
    with decoding(dataset, images) as load:
        work = Workload(
            inputs=inputs,
            load=load,
            scale=dataset.scale if dataset else None,
            mode=options.mode,
            max_seconds=options.max_seconds,
        )
        return time_boundaries(session, work)


def _watch(manifest: Manifest, runtime: Runtime, options: BenchOptions) -> LabelWatch | None:
    """Of rows of one checkpoint only: others have no labels in common."""
    if options.labels is None:
        return None
    folder = options.labels / (manifest.checkpoint_sha256 or manifest.model)
    return LabelWatch(folder, (runtime, manifest.precision))


def _check_batch(manifest: Manifest) -> None:
    """Of a batch of logits only one label map is made: its time would not be that of a batch."""
    if manifest.output is Output.LOGITS and manifest.batch not in (None, 1):
        raise SegdeployError(
            f"{manifest.model}: returns logits in batches of {manifest.batch}, "
            "which are made into labels one image at a time",
            hint="measure it with --batch 1 or with --output labels",
        )


def _dataset_for(manifest: Manifest, options: BenchOptions) -> Dataset:
    """The scored split, refused where its scores would mean nothing for this artifact."""
    dataset, split = options.open()
    check_scorable(manifest, dataset, split)
    return dataset


def _timed_inputs(
    manifest: Manifest, dataset: Dataset | None, subject: Subject, options: BenchOptions
) -> list[tuple[Image, Size]]:
    """The first images, decoded and resized, each with its original size."""
    mode = options.mode
    if dataset is None:
        fixed = None if mode.crop else manifest.size or subject.size
        size = fixed or options.nominal_size()
        return [(draw_scene(seed, size)[0], size) for seed in range(TIMED_IMAGES)]
    return first_inputs(manifest, dataset, mode)


def _title(manifest: Manifest, mode: Mode) -> str:
    """What every table shows: a row of another mode never looks like one of whole images."""
    title = f"{manifest.method.display_name} {manifest.dataset or manifest.checkpoint}"
    return title if mode == WHOLE else f"{title}, {mode}"


def _resolution(sizes: Sequence[Size], mode: Mode) -> str:
    """What is compared with a row of equal resolution only: the mode is a part of it."""
    one = len(set(sizes)) == 1
    text = str(sizes[0]) if one else f"short side {min(min(size) for size in sizes)}"
    return text if mode == WHOLE else f"{text}, {mode}"


def _image_count(dataset: Dataset, limit: int | None) -> int:
    return len(dataset) if limit is None else min(limit, len(dataset))
