"""A comparison: build what is asked for, measure each in turn, and report."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from segdeploy.bench.live import live_rows
from segdeploy.bench.measure import BenchOptions, Outcome, Subject, measure
from segdeploy.bench.outputs import Outputs, check_outputs, keep_rows, write_pages, write_rows
from segdeploy.bench.pictures import paint
from segdeploy.cores import default_threads
from segdeploy.datasets import find_facts
from segdeploy.environment import describe_environment
from segdeploy.errors import SegdeployError
from segdeploy.html.pictures import Picture
from segdeploy.measurement import Measurement
from segdeploy.pipeline.calibration import check_unseen, default_calibration, open_calibration
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.modes import WHOLE, Mode, check_mode
from segdeploy.pipeline.protocol import scored_output
from segdeploy.pipeline.segment import is_artifact, read_artifact
from segdeploy.pipeline.source import Source, find_checkpoint, resolve_source
from segdeploy.recipes import Target, load_model, load_targets, model_names
from segdeploy.report import Report
from segdeploy.spec import CPU, Output, Precision, Runtime, Size

logger = logging.getLogger(__name__)

ONE_PASS = "mIoU of ms+flip, but fps and resolution of one pass over the whole image"
SPEED_ONLY = "speed-only"  # the calibration set where scores do not matter


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared."""

    subjects: tuple[str, ...] = ()  # models and artifacts; none: the zoo models of the data set
    checkpoint: str | None = None
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    runtimes: tuple[Runtime, ...] = (Runtime.ONNXRUNTIME, Runtime.PYTORCH)
    calibration: str | None = None
    pytorch: bool = True  # whether each model has a row of it, whatever the runtimes


@dataclass(frozen=True)
class Run:
    """A comparison, what it is measured on, and why not more: the note of each of its rows."""

    comparison: Comparison
    options: BenchOptions
    lacks: str = ""


@dataclass(frozen=True)
class _Measured:
    """A run and its subjects, which are built, and one outcome after the other."""

    run: Run
    subjects: tuple[Subject, ...]
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return tuple(outcome.measurement for outcome in self.outcomes)


def compare(comparison: Comparison, options: BenchOptions, outputs: Outputs) -> Report:
    """Build, measure one after the other, and write the report; PyTorch is always in it."""
    return measure_runs([Run(comparison, options)], outputs)


def measure_runs(runs: Sequence[Run], outputs: Outputs) -> Report:
    """Build everything, measure one after the other, and write what is asked for.

    Raises:
        SegdeployError: an output cannot be written, or a row cannot be measured; the rows before
            it are shown and kept.
    """
    check_outputs(outputs)
    environment = describe_environment()  # first, so that the load it shows is that of others
    planned = [_Measured(run, _plan_subjects(run)) for run in runs]
    names = [subject.name for part in planned for subject in part.subjects]
    targets = {n: row for run in runs for n, row in _targets(run.options.mode).items()}

    def report_of(measurements: Iterable[Measurement]) -> Report:
        return Report(
            measurements=tuple(measurements),
            environment=environment,
            command=outputs.command,
            created=outputs.created,
            targets=targets,
        )

    rows: list[Measurement] = []
    try:
        with live_rows(names) as show:
            for row in _measure_all(planned, has_pictures=outputs.has_pages):
                rows.append(row)
                show(row)
                keep_rows(report_of(rows), outputs)
    except (SegdeployError, KeyboardInterrupt) as error:
        if not rows:
            raise
        outputs.show(report_of(rows))
        place = f", kept in {outputs.rows_so_far}" if outputs.rows_so_far else ""
        kept = f"{len(rows)} of {len(names)} rows were measured before{place}"
        if isinstance(error, SegdeployError):
            raise SegdeployError(f"{error.problem}; {kept}", hint=error.hint) from error
        logger.warning("interrupted; %s", kept)
        raise
    report = report_of(rows)
    outputs.show(report)
    write_rows(report, outputs)
    pictures = [_pictures(part, report_of(part.measurements)) for part in planned]
    write_pages(report, tuple(itertools.chain(*pictures)), outputs)
    return report


def _measure_all(planned: Sequence[_Measured], *, has_pictures: bool) -> Iterator[Measurement]:
    """Each row as it comes; its outcome is kept with its run."""
    for part in planned:
        with TemporaryDirectory(prefix="segdeploy-") as folder:
            options = replace(
                part.run.options,
                threads=default_threads(),
                pictures=has_pictures,
                labels=Path(folder),
            )
            for subject in part.subjects:
                found = measure(subject, options)
                note = "; ".join(filter(None, [found.measurement.note, part.run.lacks]))
                row = replace(found.measurement, note=note)
                part.outcomes.append(replace(found, measurement=row))
                options = replace(options, shown=options.shown or tuple(found.pictures))
                yield row


def _plan_subjects(run: Run) -> tuple[Subject, ...]:
    """Build all that a run measures; what is named twice is measured once."""
    comparison, options = run.comparison, run.options
    if not options.speed_only:
        options.open()  # a missing data set is found before anything is built
    names = _names(comparison, options)
    return tuple(dict.fromkeys(s for name in names for s in _plan(name, comparison, options)))


def _targets(mode: Mode) -> dict[str, Target]:
    """The published rows, with the mIoU that was measured in this mode: none for crops."""
    targets = load_targets()
    if mode == WHOLE:
        return targets
    if mode != Mode(tta=True):
        return {}
    return {
        name: replace(target, miou=target.miou_ms_flip, note=f"{ONE_PASS}. {target.note}".strip())
        for name, target in targets.items()
        if target.miou_ms_flip is not None
    }


def _names(comparison: Comparison, options: BenchOptions) -> tuple[str, ...]:
    if comparison.subjects:
        return comparison.subjects
    names = tuple(n for n in model_names() if load_model(n).dataset == options.dataset)
    if not names:
        raise SegdeployError(
            f"no model of the zoo is trained on {options.dataset}",
            hint="name a model with --checkpoint FILE, or an artifact",
        )
    return names


def _plan(name: str, comparison: Comparison, options: BenchOptions) -> Iterator[Subject]:
    """PyTorch first, then each precision on each runtime."""
    if is_artifact(name):
        yield from _plan_artifact(name, comparison, options)
        return
    output = _output(options)
    if comparison.pytorch:
        yield Subject(model=name, checkpoint=comparison.checkpoint, output=output)
    runtimes = [runtime for runtime in comparison.runtimes if runtime is not Runtime.PYTORCH]
    if not runtimes:
        return
    source = resolve_source(name, comparison.checkpoint, options.store)
    traced = export_options(
        size=_traced_size(options), batch=1, precision=Precision.FP32, output=output
    )
    for precision in comparison.precisions:
        calibration = comparison.calibration
        if precision is Precision.INT8 and not source.checkpoint.ranges:  # else as it was trained
            calibration = calibration or _calibration(source, options)
            if not options.speed_only:
                chosen = open_calibration(calibration, options.data)
                check_unseen(chosen.split, chosen.ids, *options.open())
        for runtime in runtimes:
            request = EngineRequest(
                precision=precision,
                runtime=runtime,
                calibration=calibration,
                data=options.data,
                store=options.store,
            )
            yield Subject(
                artifact=make_artifact(source, traced, request, options.device or CPU).path
            )


def _calibration(source: Source, options: BenchOptions) -> str:
    """The set of the model's data set, or of the one that is measured on."""
    if options.speed_only:
        return SPEED_ONLY
    return default_calibration(source.spec.dataset or options.dataset)


def _plan_artifact(name: str, comparison: Comparison, options: BenchOptions) -> Iterator[Subject]:
    """The artifact, after its own checkpoint in PyTorch where that is at hand."""
    path = Path(name)
    manifest = read_artifact(path).manifest
    check_mode(manifest, options.mode)
    checkpoint = find_checkpoint(manifest, comparison.checkpoint, options.store)
    if checkpoint is None:
        logger.warning("%s: no PyTorch row, %s is not at hand", name, manifest.checkpoint)
    elif find_spec("torch") is None:
        logger.warning("%s: no PyTorch row, torch is not installed", name)
    else:
        yield Subject(
            model=manifest.model,
            checkpoint=checkpoint,
            output=manifest.output,
            size=manifest.size,
        )
    yield Subject(artifact=path)


def _output(options: BenchOptions) -> Output:
    """Logits where scores are averaged too: labels cannot be."""
    return Output.LOGITS if options.mode != WHOLE else scored_output(options.dataset)


def _traced_size(options: BenchOptions) -> Size | None:
    """The one size that the network will see, if there is one."""
    known = find_facts(options.dataset)
    if options.mode.tta or known is None or not known.uniform:
        return None
    size, crop = known.nominal_size, options.mode.crop
    if crop is None:
        return size
    fits = crop.height <= size.height and crop.width <= size.width
    return crop if fits else None


def _pictures(part: _Measured, report: Report) -> tuple[Picture, ...]:
    maps = [outcome.pictures for outcome in part.outcomes]
    return paint(maps, part.run.options.open()[0], report) if any(maps) else ()
