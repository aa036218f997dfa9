"""A suite: the comparisons that belong together, measured one after the other into one report."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from segdeploy.artifacts import Store
from segdeploy.bench.lock import Lock, check_lock, make_lock
from segdeploy.bench.measure import BenchOptions
from segdeploy.bench.run import Comparison, check_page, gather, write_report
from segdeploy.environment import describe_environment
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.source import default_checkpoint
from segdeploy.recipes import Suite, SuiteRun, load_model
from segdeploy.report import Report
from segdeploy.spec import RANDOM, Device, Runtime

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """Where things are, and where the result goes.

    Args:
        data: the folder of the data sets.
        device: None: what each artifact is made for.
        store: of checkpoints and artifacts.
        json_path: of the rows.
        report_path: of the page in Markdown.
        html_path: of the page with plots.
        lock_path: of what re-creates the result.
        locked: a lock that has to fit.
        command: repeats the run.
        created: ISO date.
    """

    data: Path = Path("data")
    device: Device | None = None
    store: Store = field(default_factory=Store)
    json_path: Path | None = None
    report_path: Path | None = None
    html_path: Path | None = None
    lock_path: Path | None = None
    locked: Lock | None = None
    command: str = ""
    created: str = ""


@dataclass(frozen=True)
class PlannedRun:
    """One model of a suite: what is compared, on what, and why not more."""

    comparison: Comparison
    options: BenchOptions
    lacks: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """Its name in the zoo."""
        return self.comparison.subjects[0]


def run_suite(suite: Suite, options: SuiteOptions) -> Report:
    """Measure all of it and write what is asked for.

    Raises:
        SegdeployError: something differs from the lock; nothing has been measured.
    """
    check_page(options.html_path)
    environment = describe_environment()  # first, so that the load it shows is that of others
    runs = tuple(plan_suite(suite, options))
    for run in runs:
        for lack in run.lacks:
            logger.warning("%s: %s", run.model, lack)
    lock: Lock | None = None
    if options.lock_path is not None or options.locked is not None:
        lock = make_lock(suite, {r.model: (r.comparison.checkpoint, r.options) for r in runs})
        lock = replace(lock, command=options.command, device=str(options.device or ""))
    if lock is not None and options.locked is not None:
        check_lock(options.locked, lock)
    has_pages = options.report_path is not None or options.html_path is not None
    gathered = [gather(r.comparison, replace(r.options, pictures=has_pages)) for r in runs]
    reports = [report for report, _ in gathered]
    lacks = {run.model: "; ".join(run.lacks) for run in runs}
    measurements = [
        replace(found, note="; ".join(filter(None, [found.note, lacks[run.model]])))
        for run, report in zip(runs, reports, strict=True)
        for found in report.measurements
    ]
    made = Report(
        measurements=tuple(measurements),
        environment=environment,
        command=options.command,
        created=options.created,
        targets={name: row for report in reports for name, row in report.targets.items()},
    )
    write_report(
        made,
        tuple(picture for _, pictures in gathered for picture in pictures),
        json_path=options.json_path,
        report_path=options.report_path,
        html_path=options.html_path,
    )
    if lock is not None and options.lock_path is not None:
        lock.write(options.lock_path, options.json_path)
    return made


def plan_suite(suite: Suite, options: SuiteOptions) -> Iterator[PlannedRun]:
    """What each model is measured with: its own weights and data, or what stands in for them."""
    for run in suite.runs:
        for model in run.models:
            yield _plan_model(suite, run, model, options)


def _plan_model(suite: Suite, run: SuiteRun, model: str, options: SuiteOptions) -> PlannedRun:
    lacks: list[str] = []
    checkpoint = None if run.weights == "at-hand" else f"{RANDOM}{suite.seed}"
    if checkpoint is None:
        try:
            default_checkpoint(load_model(model), options.store)
        except SegdeployError:
            checkpoint = f"{RANDOM}{suite.seed}"
            lacks.append("random weights, speed only: its checkpoint is not at hand")
    bench = BenchOptions(
        dataset=run.dataset,
        data=options.data,
        limit=run.limit,
        speed_only=checkpoint is not None or not run.accuracy,
        device=options.device,
        max_seconds=run.seconds,
        store=options.store,
    )
    if not bench.speed_only:
        try:
            bench.open()
        except SegdeployError:
            bench = replace(bench, speed_only=True)
            lacks.append(f"speed only: the data set {run.dataset} is not at hand")
    comparison = Comparison(
        subjects=(model,),
        checkpoint=checkpoint,
        precisions=run.precisions,
        runtimes=run.runtimes,
        pytorch=Runtime.PYTORCH in run.runtimes,
        command=options.command,
        created=options.created,
    )
    return PlannedRun(comparison, bench, tuple(lacks))
