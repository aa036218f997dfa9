"""Puts an engine under load: opens it, issues queries, searches, and keeps what came out."""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segdeploy.artifacts import Manifest, sha256_of, writing
from segdeploy.environment import Environment, describe_environment
from segdeploy.load.arrivals import Arrival, all_at_once, camera_arrivals, poisson_arrivals
from segdeploy.load.crew import Crew
from segdeploy.load.early_stopping import queries_needed
from segdeploy.load.issuing import WallClock, one_by_one, work_off
from segdeploy.load.line import Ending, Line, Query
from segdeploy.load.scenario import Generator, LoadOptions, Scenario
from segdeploy.load.search import find_largest
from segdeploy.load.trial import Ruling, Trial
from segdeploy.pipeline.segment import Opening, is_artifact, open_named
from segdeploy.runtime import RunOptions
from segdeploy.spec import Runtime
from segdeploy.telemetry import machine_state
from segdeploy.timing import collector_off

SCHEMA = 2  # 1: a run was decided by MLPerf's rule at every look, without what it had left
NUMBERS = re.compile(r"\[\n[-+.eE\d,\snul]*\]")  # a list of them, which goes on one line
PROBES = 5  # batches that tell what an engine does at best, before anything is measured
STEPS = 50  # in one of which that best is divided for the search of a rate: 2 %
START = 0.6  # share of the best that a search begins at: a queue needs slack
LIMIT = 4  # times the best: out of reach
MARGIN = 1.2  # offline: more images than the best would need for the seconds that are asked for


Tell = Callable[[Trial], object]


def silent(_trial: Trial) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came out: all runs, and which of them is the answer."""

    artifact: str  # file name, never a local path; or a model
    artifact_sha256: str
    manifest: Manifest
    options: LoadOptions
    batch: int
    trials: tuple[Trial, ...]
    answer: Trial | None  # None: no load that was tried keeps the bound
    environment: Environment
    command: str
    created: str

    @property
    def kept(self) -> bool | None:
        """Whether the load that was given or found keeps the bound; None: undecided, or no bound.

        Of a search that found none it is the last that was tried.
        """
        if not self.options.scenario.has_schedule:
            return None
        ruling, _ = (self.answer or self.trials[-1]).judge()
        return {Ruling.VALID: True, Ruling.INVALID: False}.get(ruling)

    @property
    def misses(self) -> bool:
        """Whether a load that was asked for by its number does not keep the bound."""
        is_given = self.options.rate is not None or self.options.streams is not None
        return is_given and self.kept is False

    def to_json(self) -> str:
        """The whole of it as JSON text."""
        manifest, options = self.manifest, asdict(self.options)
        whole = {
            "schema": SCHEMA,
            "kind": "load",
            "created": self.created,
            "command": self.command,
            "environment": self.environment.to_dict(),
            "artifact": self.artifact,
            "artifact_sha256": self.artifact_sha256,
            "model": manifest.model,
            "precision": manifest.precision,
            "runtime": manifest.runtime or Runtime.ONNXRUNTIME,
            "output": manifest.output,
            "weights": manifest.checkpoint,
            "boundary": "host",
            "batch": self.batch,
            "options": options,
            "answer": None if self.answer is None else self.trials.index(self.answer),
            "kept": self.kept,
            "trials": [trial.to_row() for trial in self.trials],
        }
        text = json.dumps(whole, indent=1, allow_nan=False, default=str)
        return NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n"


def put_under_load(
    name: str,
    options: LoadOptions,
    *,
    command: str = "",
    created: str = "",
    out: Path | None = None,
    tell: Tell = silent,
) -> Load:
    """Open an artifact or a model, run the scenario, and write the JSON if a place is named.

    Args:
        name: of an artifact's file, or of a model.
        options: the scenario.
        command: repeats the run.
        created: ISO date.
        out: of the JSON.
        tell: is given each run of a search when it has ended.
    """
    environment = describe_environment()  # first, so that the load it shows is that of others
    opening = Opening(device=options.device, run=RunOptions(threads=options.threads))
    path = Path(name) if is_artifact(name) else None
    with open_named(name, opening) as engine, Crew(engine, options) as crew:
        with collector_off():
            trials, answer = run_scenario(crew, options, tell)
        made = Load(
            artifact=path.name if path else name,
            artifact_sha256=sha256_of(path) if path else "",
            manifest=engine.manifest,
            options=options,
            batch=crew.batch,
            trials=trials,
            answer=answer,
            environment=environment,
            command=command,
            created=created,
        )
    if out is not None:
        with writing(out) as temporary:
            temporary.write_text(made.to_json(), encoding="utf-8")
    return made


def run_scenario(
    crew: Crew, options: LoadOptions, tell: Tell = silent
) -> tuple[tuple[Trial, ...], Trial | None]:
    """All runs of a scenario, and the one that answers it."""
    if options.generator is Generator.LOADGEN:
        from segdeploy.load.loadgen import run_loadgen

        only = run_loadgen(crew, options, probe(crew))
        return (only,), only
    match options.scenario:
        case Scenario.SERVER if options.rate is not None:
            only = run_trial(crew, options, options.seed, rate=options.rate)
        case Scenario.CONSTANT_STREAM if options.streams is not None:
            only = run_trial(crew, options, options.seed, streams=options.streams)
        case Scenario.SERVER | Scenario.CONSTANT_STREAM:
            return _search(crew, options, tell)
        case _:
            only = run_trial(crew, options, options.seed)
    return (only,), only


def _search(crew: Crew, options: LoadOptions, tell: Tell) -> tuple[tuple[Trial, ...], Trial | None]:
    """The largest rate, in steps, or number of cameras whose run is VALID; each has a new seed."""
    best = probe(crew)
    step = best / STEPS if options.scenario is Scenario.SERVER else options.fps
    trials: list[Trial] = []

    def passes(number: int) -> bool:
        asked: dict[str, Any] = {"rate": number * step}
        if options.scenario is Scenario.CONSTANT_STREAM:
            asked = {"streams": number}
        trials.append(run_trial(crew, options, options.seed + len(trials), **asked))
        tell(trials[-1])
        return trials[-1].judge()[0] is Ruling.VALID

    largest = find_largest(
        passes,
        start=int(START * best / step),
        limit=max(2, int(LIMIT * best / step)),
    )
    return tuple(trials), trials[-1] if largest else None  # confirmed last


def run_trial(
    crew: Crew,
    options: LoadOptions,
    seed: int,
    *,
    rate: float | None = None,
    streams: int | None = None,
) -> Trial:
    """One run of our own generator."""
    before = machine_state()
    queries = _issue(crew, options, seed, rate, streams)
    return Trial(
        options=options,
        queries=queries,
        seed=seed,
        rate=rate,
        streams=streams,
        before=before,
        after=machine_state(),
    )


def _issue(
    crew: Crew, options: LoadOptions, seed: int, rate: float | None, streams: int | None
) -> tuple[Query, ...]:
    ending = Ending(
        seconds=options.seconds,
        max_seconds=options.max_seconds,
        bound_s=options.bound_s,
        percent=options.percent,
    )
    match options.scenario:
        case Scenario.OFFLINE:
            count = max(crew.batch, round(probe(crew) * options.seconds * MARGIN))
            arrivals: Iterator[Arrival] = all_at_once(count)
        case Scenario.SERVER:
            assert rate is not None
            arrivals = poisson_arrivals(rate, seed)
        case Scenario.CONSTANT_STREAM:
            assert streams is not None
            arrivals = camera_arrivals(streams, options.fps, seed)
        case _:
            return tuple(_one_by_one(crew, options))
    replaces = options.scenario is Scenario.CONSTANT_STREAM
    line = Line(arrivals, ending, batch=crew.batch, replaces=replaces)
    work_off(line, crew.answers, WallClock())
    return tuple(line.queries)


def _one_by_one(crew: Crew, options: LoadOptions) -> list[Query]:
    is_single = options.scenario is Scenario.SINGLE_STREAM
    return one_by_one(
        crew.answer_together,
        WallClock(),
        samples=1 if is_single else options.samples,
        seconds=options.seconds,
        max_seconds=options.max_seconds,
        least=queries_needed(1, options.percent),
    )


def probe(crew: Crew, clock: Callable[[], float] = time.perf_counter) -> float:
    """Images per second when all are there: what a search begins with, never a result."""
    numbers = range(crew.batch * len(crew.answers))
    moments = [clock()]
    for _ in range(PROBES):
        crew.answer_together(numbers)
        moments.append(clock())
    fastest = min(after - before for before, after in itertools.pairwise(moments))
    return len(numbers) / fastest
