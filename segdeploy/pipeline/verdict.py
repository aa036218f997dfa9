"""An int8 engine that keeps its accuracy: measure, move layers back to floating point, judge."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from segdeploy.accuracy import AccuracyFloor, Score
from segdeploy.artifacts import EnginePlan, Graph, engine_suffix, request_hash, writing
from segdeploy.cores import default_threads
from segdeploy.cuda import driver_problem
from segdeploy.environment import Environment, describe_environment
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.built import Built
from segdeploy.pipeline.calibration import check_unseen, default_calibration, open_calibration
from segdeploy.pipeline.graphs import QuantizeRequest, check_floating, quantize_options
from segdeploy.pipeline.make import (
    EngineRequest,
    export_options,
    find_subject,
    int8_variant,
    make_engine_of,
    make_graph,
)
from segdeploy.pipeline.protocol import (
    Evaluation,
    check_scorable,
    first_inputs,
    open_evaluation,
    scored_output,
)
from segdeploy.pipeline.sensitivity import find_layers
from segdeploy.pipeline.source import Source
from segdeploy.pipeline.workbench import Workbench
from segdeploy.spec import Output, Precision, Runtime
from segdeploy.verdict import Budget, Candidate, LayerError, VerdictKind, judge, search
from segdeploy.verdict_page import Trial, write_page
from segdeploy.version import __version__

FEW_IMAGES = 20  # that a slow fp16 engine is scored on all the same
SLOW = 1.1  # times the median of fp32: too slow to be the better choice


@dataclass(frozen=True, kw_only=True)
class VerdictRequest:
    """What int8 must keep, on which images, and how long may be searched for it."""

    floor: AccuracyFloor
    dataset: str | None = None  # None: the one that the model was trained on
    limit: int | None = None  # images that are scored; None: all
    budget_s: float = 600.0
    report: Path | None = None
    command: str = ""
    created: str = ""  # ISO date
    tell: Callable[[str], None] = field(default=lambda line: None)  # hears what just ended


@dataclass(frozen=True)
class Judged:
    """All that was tried, and the engine; None where the floor is not met: none is written."""

    trial: Trial
    built: Built | None


def build_with_verdict(
    model_or_graph: str, checkpoint: str | None, engine: EngineRequest, wanted: VerdictRequest
) -> Judged:
    """Build the int8 engine of a model, or of the fp32 graph of one, that meets the floor."""
    environment = describe_environment()  # first, so that the load it shows is that of others
    subject = _find_subject(model_or_graph, checkpoint, engine)
    evaluation = _open_evaluation(subject, engine, wanted, default_threads())
    fp32 = _floating_graph(subject, Precision.FP32, engine, evaluation)
    workbench = _set_up(subject, fp32, engine, evaluation)
    trial = _try(workbench, subject, fp32, wanted, environment)
    if wanted.report is not None:
        write_page(trial, wanted.report)
    if trial.verdict.kind is VerdictKind.NOT_MET:
        return Judged(trial, None)
    chosen = trial.verdict.chosen
    if fp32.manifest.output is Output.LABELS or isinstance(subject, Graph):
        return Judged(trial, _deliver(workbench, chosen))
    keep_fp32 = (*engine.keep_fp32, *chosen.floating)
    final = replace(engine, precision=Precision.INT8, keep_fp32=keep_fp32)
    return Judged(trial, make_engine_of(model_or_graph, checkpoint, final))


def _find_subject(
    model_or_graph: str, checkpoint: str | None, engine: EngineRequest
) -> Source | Graph:
    if engine.out is not None and engine.out.suffix != engine_suffix(engine.runtime):
        suffix = engine_suffix(engine.runtime)
        raise SegdeployError(f"{engine.out}: wanted a name that ends in {suffix}")
    problem = driver_problem() if engine.runtime is not Runtime.ONNXRUNTIME else None
    if problem is not None:
        raise SegdeployError(
            f"a verdict is measured, and {engine.runtime} cannot run here: {problem}",
            hint="run this on the machine with the GPU, or use --target onnxruntime",
        )
    subject = find_subject(model_or_graph, checkpoint, engine.store)
    if isinstance(subject, Source) and subject.checkpoint.ranges:
        raise SegdeployError(
            f"{subject.checkpoint.name}: was trained with int8 scales, so no layer is chosen here",
            hint="build it without a floor; segdeploy bench MODEL --precision fp32,int8 scores it",
        )
    return subject


def _open_evaluation(
    subject: Source | Graph, engine: EngineRequest, wanted: VerdictRequest, threads: int
) -> Evaluation:
    known = subject.manifest.dataset if isinstance(subject, Graph) else subject.spec.dataset
    name = wanted.dataset or known
    if name is None:
        raise SegdeployError(
            "a verdict needs annotated images, and the model names no data set",
            hint="--dataset NAME, or a folder with images/, labels/ and classes.toml",
        )
    dataset, split = open_evaluation(name, engine.data)
    if wanted.limit is not None and wanted.limit < 1:
        raise SegdeployError(f"limit of {wanted.limit} images; wanted at least 1")
    unknown = [name for name, _ in wanted.floor.per_class if name not in dataset.classes.names]
    if unknown:
        raise SegdeployError(
            f"{dataset.name} has no class {unknown[0]!r:.60}",
            hint=f"one of {', '.join(dataset.classes.names)}",
        )
    images = min(wanted.limit or len(dataset), len(dataset))
    return Evaluation(dataset, split, images, threads)


def _floating_graph(
    subject: Source | Graph, precision: Precision, engine: EngineRequest, evaluation: Evaluation
) -> Graph:
    """Of a model, any; of a graph, itself alone."""
    if isinstance(subject, Graph):
        found = subject.manifest.precision
        if found is not precision:
            raise SegdeployError(
                f"{subject.path.name} is {found}, and {precision} comes of a model",
                hint=f"segdeploy build-engine {subject.manifest.model} --int8 --min-miou ...",
            )
        return subject
    options = export_options(
        size=subject.spec.size,
        batch=1,
        precision=precision,
        output=scored_output(evaluation.dataset.name),
    )
    return make_graph(subject, options, replace(engine, precision=precision))


def _set_up(
    subject: Source | Graph, fp32: Graph, engine: EngineRequest, evaluation: Evaluation
) -> Workbench:
    """Everything that is wrong with the request is found here, before anything is measured."""
    if fp32.manifest.is_random:
        raise SegdeployError(
            f"{fp32.manifest.model}: random weights have no accuracy to keep",
            hint="without --min-miou and --min-iou it is built for its speed",
        )
    dataset = evaluation.dataset
    check_scorable(fp32.manifest, dataset, evaluation.split)
    first_inputs(fp32.manifest, dataset, count=1)
    name = engine.calibration or default_calibration(fp32.manifest.dataset)
    calibration = open_calibration(name, engine.data)
    check_unseen(calibration.split, calibration.ids, dataset, evaluation.split)
    base = fp32
    if engine.runtime is not Runtime.ONNXRUNTIME and not isinstance(subject, Graph):
        base = _floating_graph(subject, Precision.FP16, engine, evaluation)
    check_floating(base)
    options = quantize_options(
        QuantizeRequest(
            calibration=calibration,
            runtime=engine.runtime,
            keep_fp32=engine.keep_fp32,
            full_range=engine.full_range,
        )
    )
    request = request_hash(
        segdeploy=__version__,
        graphs=(fp32.manifest.request, base.manifest.request),
        calibration=(calibration.content, calibration.recipe),
        scored=(
            dataset.name,
            evaluation.split,
            *map(dataset.fingerprint, range(evaluation.images)),
        ),
        how=(engine.runtime, options),
    )
    return Workbench(
        engine=engine,
        base=base,
        layers=find_layers(base, options),
        calibration=calibration,
        evaluation=evaluation,
        folder=engine.store.root / fp32.manifest.model / f"verdict-{request}",
    )


def _try(
    workbench: Workbench,
    subject: Source | Graph,
    fp32: Graph,
    wanted: VerdictRequest,
    environment: Environment,
) -> Trial:
    """Measure fp32, fp16 and int8 candidates, time them all in turns, and judge."""
    floor, tell = wanted.floor, wanted.tell
    floating = [workbench.measure_floating(fp32)]
    reference = _score_of(floating[0])
    floor.check(reference)
    tell(f"fp32: mIoU {reference.miou:.3f} on {workbench.evaluation.images} images")
    fp16, note = _measure_fp16(workbench, subject, floating[0])
    floating += [fp16] if fp16 else []
    tell(note or f"fp16: mIoU {_score_of(floating[-1]).miou:.3f}")
    budget = Budget.from_now(wanted.budget_s, time.monotonic)
    ranking: tuple[LayerError, ...] = ()

    def rank() -> tuple[LayerError, ...]:
        nonlocal ranking
        ranking = workbench.rank(budget)
        tell(f"{len(ranking)} layers ranked by their error; the worst is {ranking[0].name}")
        return ranking

    def measure(layers: frozenset[str]) -> Candidate:
        candidate = workbench.measure_int8(layers)
        score = _score_of(candidate)
        end = "; ".join(floor.misses(reference, score)) or "meets the floor"
        tell(f"{candidate.name}: mIoU {score.miou:.3f}; {end}")
        return candidate

    found = search(
        rank,
        measure,
        lambda candidate: not floor.misses(reference, _score_of(candidate)),
        budget=budget,
        known=workbench.known(),
    )
    tell(f"timing {len(floating) + len(found.candidates)} engines in turns")
    timed = workbench.time((*floating, *found.candidates))
    floating, found = (
        list(timed[: len(floating)]),
        replace(found, candidates=timed[len(floating) :]),
    )
    manifest = workbench.built_of(found.candidates[0]).plan.manifest
    return Trial(
        model=fp32.manifest.model,
        runtime=f"{manifest.runtime} {manifest.runtime_version}",
        dataset=f"{workbench.evaluation.dataset.name}/{workbench.evaluation.split}",
        images=workbench.evaluation.images,
        calibration=workbench.calibration.summary,
        floor=floor,
        reference=reference,
        floating=tuple(floating),
        found=found,
        ranking=ranking,
        verdict=judge(floating, found, floor, reference),
        notes=(*workbench.warnings, *([note] if note else [])),
        environment=environment,
        command=wanted.command,
        created=wanted.created,
    )


def _measure_fp16(
    workbench: Workbench, subject: Source | Graph, fp32: Candidate
) -> tuple[Candidate | None, str]:
    """The candidate if there can be one, and what is missing of it.

    A CPU without half-precision kernels converts around every operator: where that is slower than
    fp32, more than a few images are not worth the time.
    """
    evaluation = workbench.evaluation
    try:
        graph = _floating_graph(subject, Precision.FP16, workbench.engine, evaluation)
        fp16 = workbench.only_built(graph)
    except SegdeployError as error:
        return None, f"fp16 was not measured: {error.problem}"
    if evaluation.images > FEW_IMAGES:
        quick = workbench.time((fp32, fp16), rounds=1)
        if quick[1].median_ms > SLOW * quick[0].median_ms:
            note = (
                f"fp16 was not scored: at {quick[1].median_ms:.2f} ms a step against "
                f"{quick[0].median_ms:.2f} of fp32 it is no choice here"
            )
            return fp16, note
    return workbench.measure_floating(graph), ""


def _deliver(workbench: Workbench, chosen: Candidate) -> Built:
    """The very engine that was measured, where the user asked for it or where int8 lies."""
    engine, built = workbench.engine, workbench.built_of(chosen)
    variant = int8_variant(workbench.base, full_range=engine.full_range)
    model = built.plan.manifest.model
    place = engine.out or engine.store.engine(model, variant, engine.runtime)
    with writing(place) as temporary:
        shutil.copyfile(built.plan.path, temporary)
    plan = EnginePlan(place, built.plan.manifest)
    plan.save_manifest()
    return replace(built, plan=plan)


def _score_of(candidate: Candidate) -> Score:
    assert candidate.score is not None, "only fp16 goes without a score"
    return candidate.score
