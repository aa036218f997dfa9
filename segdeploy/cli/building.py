"""`segdeploy build-engine`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdeploy.cli import printing
from segdeploy.cli.engine_options import (
    ComputeCapability,
    DryRunFlag,
    HardwareCompatible,
    NoTimingCache,
    OptimizationLevel,
    Refit,
    SaveLog,
    Shapes,
    Sparsity,
    StripPlan,
    Tf32,
    VerbosityName,
    VersionCompatible,
    Workspace,
    parse_builder,
)
from segdeploy.cli.options import (
    DATA,
    DEFAULT_MODEL,
    STORE,
    BuildTarget,
    Calibration,
    Checkpoint,
    Data,
    Json,
)
from segdeploy.cli.verdict import (
    BUDGET,
    BudgetText,
    Limit,
    MinIou,
    MinMiou,
    PagePath,
    ScoredOn,
    parse_verdict,
    run_verdict,
)
from segdeploy.engine_options import Verbosity
from segdeploy.spec import Precision, Runtime

if TYPE_CHECKING:
    from segdeploy.pipeline.make import EngineRequest


def build_engine(
    model: Annotated[
        str, typer.Argument(help="A model, or the .onnx file of one.")
    ] = DEFAULT_MODEL,
    checkpoint: Checkpoint = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Half precision.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Calibrate and quantize.")] = False,
    calibration: Calibration = None,
    data: Data = DATA,
    target: Annotated[BuildTarget, typer.Option(help="What runs it.")] = BuildTarget.AUTO,
    out: Annotated[Path | None, typer.Option("-o", help="The engine to write.")] = None,
    keep_fp32: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Leave a layer floating in int8.")
    ] = None,
    full_range: Annotated[
        bool, typer.Option("--full-range", help="int8 for ONNX Runtime alone: all of uint8.")
    ] = False,
    shapes: Shapes = None,
    workspace: Workspace = None,
    optimization_level: OptimizationLevel = None,
    tf32: Tf32 = False,
    compute_capability: ComputeCapability = None,
    version_compatible: VersionCompatible = False,
    hardware_compatible: HardwareCompatible = None,
    refit: Refit = False,
    strip_plan: StripPlan = False,
    sparsity: Sparsity = False,
    verbosity: VerbosityName = Verbosity.DETAILED,
    no_timing_cache: NoTimingCache = False,
    save_log: SaveLog = None,
    dry_run: DryRunFlag = False,
    min_miou: MinMiou = None,
    min_iou: MinIou = None,
    dataset: ScoredOn = None,
    limit: Limit = None,
    budget: BudgetText = BUDGET,
    report: PagePath = None,
    json: Json = False,
) -> None:
    """Compile a model to an engine: a file that one runtime loads without further work."""
    if fp16 and int8:
        raise typer.BadParameter("--fp16 and --int8 exclude each other")
    wanted = parse_verdict(
        min_miou, min_iou, dataset=dataset, limit=limit, budget=budget, report=report
    )
    if wanted is not None and not int8:
        raise typer.BadParameter("--min-miou and --min-iou go with --int8")
    if wanted is not None and (save_log is not None or dry_run):
        raise typer.BadParameter("--save-log and --dry-run are of one build, a floor takes many")
    if wanted is not None and shapes:
        raise typer.BadParameter("--shapes does not go with a floor: it chooses the graph's size")
    if dry_run and save_log is not None:
        raise typer.BadParameter("--dry-run builds nothing, so there is no log to save")
    builder = parse_builder(
        shapes=shapes,
        workspace=workspace,
        optimization_level=optimization_level,
        tf32=tf32,
        compute_capability=compute_capability,
        version_compatible=version_compatible,
        hardware=hardware_compatible,
        refit=refit,
        strip=strip_plan,
        sparsity=sparsity,
        verbosity=verbosity,
        timing_cache=not no_timing_cache,
    )
    from segdeploy.pipeline.engines import best_runtime
    from segdeploy.pipeline.make import EngineRequest

    runtime = best_runtime() if target is BuildTarget.AUTO else Runtime(target)
    if target is BuildTarget.AUTO:
        printing.note(f"building for {runtime}")
    request = EngineRequest(
        precision=Precision.FP16 if fp16 else Precision.INT8 if int8 else None,
        runtime=runtime,
        calibration=calibration,
        data=data,
        store=STORE,
        out=out,
        keep_fp32=tuple(keep_fp32 or ()),
        full_range=full_range,
        builder=builder,
        save_log=save_log,
    )
    if wanted is not None:
        run_verdict(model, checkpoint, request, wanted, json=json)
    elif dry_run:
        _show_dry_run(model, checkpoint, request, json=json)
    else:
        _build(model, checkpoint, request, json=json)


def _build(model: str, checkpoint: str | None, request: "EngineRequest", *, json: bool) -> None:
    from segdeploy.cli.engine_tables import built_facts, built_json
    from segdeploy.pipeline.make import make_engine_of

    built = make_engine_of(model, checkpoint, request)
    for warning in built.warnings:
        printing.note(f"warning: {warning}")
    if json:
        printing.show_json(built_json(built))
    else:
        printing.show_facts(built_facts(built))


def _show_dry_run(
    model: str, checkpoint: str | None, request: "EngineRequest", *, json: bool
) -> None:
    from segdeploy.cli.engine_tables import dry_run_facts, dry_run_json
    from segdeploy.pipeline.dry_run import dry_run

    found = dry_run(model, checkpoint, request)
    for warning in found.warnings:
        printing.note(f"warning: {warning}")
    if json:
        printing.show_json(dry_run_json(found))
    else:
        printing.show_facts(dry_run_facts(found))
