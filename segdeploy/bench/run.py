"""A comparison: build what is asked for, measure each in turn, and report."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from segdeploy.artifacts import writing
from segdeploy.bench.live import live_rows
from segdeploy.bench.measure import BenchOptions, Outcome, Subject, measure
from segdeploy.bench.pictures import paint
from segdeploy.cores import default_threads
from segdeploy.datasets import find_facts
from segdeploy.environment import describe_environment
from segdeploy.errors import SegdeployError, needs
from segdeploy.html.pictures import Picture, write_pictures
from segdeploy.pipeline.calibration import check_unseen, default_calibration, open_calibration
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.modes import WHOLE, Mode, check_mode
from segdeploy.pipeline.protocol import scored_output
from segdeploy.pipeline.segment import is_artifact, read_artifact
from segdeploy.pipeline.source import Source, find_checkpoint, resolve_source
from segdeploy.recipes import Target, load_model, load_targets, model_names
from segdeploy.report import Report
from segdeploy.report_page import markdown_page
from segdeploy.spec import CPU, Output, Precision, Runtime, Size

logger = logging.getLogger(__name__)

ONE_PASS = "mIoU of ms+flip, but fps and resolution of one pass over the whole image"
SPEED_ONLY = "speed-only"  # the calibration set where scores do not matter


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared; `command` and `created` are for the report."""

    subjects: tuple[str, ...] = ()  # models and artifacts; none: the zoo models of the data set
    checkpoint: str | None = None
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    runtimes: tuple[Runtime, ...] = (Runtime.ONNXRUNTIME, Runtime.PYTORCH)
    calibration: str | None = None
    pytorch: bool = True  # whether each model has a row of it, whatever the runtimes
    command: str = ""
    created: str = ""


def compare(
    comparison: Comparison,
    options: BenchOptions,
    *,
    json_path: Path | None = None,
    report_path: Path | None = None,
    html_path: Path | None = None,
) -> Report:
    """Build, measure one after the other, and write the report; PyTorch is always in it."""
    check_page(html_path)
    has_pages = report_path is not None or html_path is not None
    report, pictures = gather(comparison, replace(options, pictures=has_pages))
    write_report(
        report, pictures, json_path=json_path, report_path=report_path, html_path=html_path
    )
    return report


def check_page(html_path: Path | None) -> None:
    """Refuse a page that cannot be written, before anything is measured."""
    if html_path is not None:
        with needs("matplotlib", "jinja2", extra="report"):
            from segdeploy.html.page import check_name
        check_name(html_path)


def gather(comparison: Comparison, options: BenchOptions) -> tuple[Report, tuple[Picture, ...]]:
    """Build and measure one after the other; the rows, and the pictures that `options` ask for."""
    if not options.speed_only:
        options.open()  # a missing data set is found before anything is built
    environment = describe_environment()  # first, so that the load it shows is that of others
    options = replace(options, threads=default_threads())
    planned = [s for name in _names(comparison, options) for s in _plan(name, comparison, options)]
    subjects = list(dict.fromkeys(planned))
    names = [subject.name for subject in subjects]
    with TemporaryDirectory(prefix="segdeploy-") as folder, live_rows(names) as show:
        options = replace(options, labels=Path(folder))
        outcomes: list[Outcome] = []
        for subject in subjects:
            outcomes.append(measure(subject, options))
            show(outcomes[-1].measurement)
            options = replace(options, shown=options.shown or tuple(outcomes[-1].pictures))
    report = Report(
        measurements=tuple(outcome.measurement for outcome in outcomes),
        environment=environment,
        command=comparison.command,
        created=comparison.created,
        targets=_targets(options.mode),
    )
    return report, _pictures(outcomes, options, report)


def write_report(
    report: Report,
    pictures: tuple[Picture, ...],
    *,
    json_path: Path | None = None,
    report_path: Path | None = None,
    html_path: Path | None = None,
) -> None:
    """Write the rows and the pages that are asked for."""
    if json_path is not None:
        _write(json_path, report.to_json())
    if report_path is not None:
        paths = write_pictures(pictures, report_path.parent / f"{report_path.stem}-pictures")
        beside = [path.relative_to(report_path.parent).as_posix() for path in paths]
        _write(report_path, markdown_page(report, beside))
    if html_path is not None:
        from segdeploy.html.page import write_page

        write_page(report, html_path, pictures)


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


def _pictures(
    outcomes: list[Outcome], options: BenchOptions, report: Report
) -> tuple[Picture, ...]:
    maps = [outcome.pictures for outcome in outcomes]
    return paint(maps, options.open()[0], report) if any(maps) else ()


def _write(path: Path, text: str) -> None:
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
