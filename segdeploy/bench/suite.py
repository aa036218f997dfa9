"""A suite: the comparisons that belong together, measured one after the other into one report."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from segdeploy.artifacts import Store
from segdeploy.bench.lock import Lock, check_lock, make_lock
from segdeploy.bench.measure import BenchOptions
from segdeploy.bench.outputs import Outputs, check_outputs
from segdeploy.bench.run import SPEED_ONLY, Comparison, Run, measure_runs
from segdeploy.datasets import facts
from segdeploy.errors import MissingDataError, SegdeployError
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
        locked: a lock that has to fit.
        outputs: what is written.
    """

    data: Path = Path("data")
    device: Device | None = None
    store: Store = field(default_factory=Store)
    locked: Lock | None = None
    outputs: Outputs = field(default_factory=Outputs)


def run_suite(suite: Suite, options: SuiteOptions) -> Report:
    """Measure all of it and write what is asked for.

    Raises:
        SegdeployError: something differs from the lock; nothing has been measured.
    """
    outputs = options.outputs
    check_outputs(outputs)
    runs = tuple(plan_suite(suite, options))
    for run in runs:
        if run.lacks:
            logger.warning("%s: %s", run.comparison.subjects[0], run.lacks)
    lock: Lock | None = None
    if outputs.lock_path is not None or options.locked is not None:
        lock = replace(make_lock(suite, runs, options.device), command=outputs.command)
    if lock is not None and options.locked is not None:
        check_lock(options.locked, lock)
    made = measure_runs(runs, outputs)
    if lock is not None and outputs.lock_path is not None:
        lock.write(outputs.lock_path, outputs.json_path)
    return made


def plan_suite(suite: Suite, options: SuiteOptions) -> Iterator[Run]:
    """What each model is measured with: its own weights and data, or what stands in for them."""
    for run in suite.runs:
        if not Path(run.dataset).is_dir():
            facts(run.dataset)  # a slip in a name is told before anything else
    for run in suite.runs:
        for model in run.models:
            yield _plan_model(suite, run, model, options)


def _plan_model(suite: Suite, run: SuiteRun, model: str, options: SuiteOptions) -> Run:
    random = f"{RANDOM}{suite.seed}"
    checkpoint, lacks = random, ""
    if run.weights == "at-hand":
        spec = load_model(model)
        try:
            checkpoint = str(default_checkpoint(spec, options.store))
        except SegdeployError:
            lacks = "random weights, speed only: its checkpoint is not at hand"
    bench = BenchOptions(
        dataset=run.dataset,
        data=options.data,
        limit=run.limit,
        speed_only=checkpoint == random or not run.accuracy,
        device=options.device,
        max_seconds=run.seconds,
        store=options.store,
    )
    if not bench.speed_only:
        try:
            bench.open()
        except MissingDataError:
            bench = replace(bench, speed_only=True)
            lacks = f"speed only: the data set {run.dataset} is not at hand"
    comparison = Comparison(
        subjects=(model,),
        checkpoint=checkpoint,
        precisions=run.precisions,
        runtimes=run.runtimes,
        pytorch=Runtime.PYTORCH in run.runtimes,
    )
    return Run(comparison, replace(bench, store=_store_of(comparison, bench)), lacks)


def _store_of(comparison: Comparison, options: BenchOptions) -> Store:
    """All is built before anything is measured: what is timed only must not replace the scored."""
    if not options.speed_only:
        return options.store
    weights = comparison.checkpoint or ""
    name = weights.replace(":", "-") if weights.startswith(RANDOM) else SPEED_ONLY
    return Store(options.store.root / name)
