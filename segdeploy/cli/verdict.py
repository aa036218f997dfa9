"""What `build-engine --min-miou` asks for and shows: options, progress, the table and the end."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from segdeploy.cli import printing
from segdeploy.cli.engine_tables import built_facts, built_json
from segdeploy.cli.tables import table_of
from segdeploy.errors import SegdeployError

if TYPE_CHECKING:
    from segdeploy.pipeline.make import EngineRequest
    from segdeploy.pipeline.verdict import Judged, VerdictRequest
    from segdeploy.verdict import Candidate
    from segdeploy.verdict_page import Trial

BUDGET = "10m"
SECONDS = {"s": 1, "m": 60, "h": 3600}

MinMiou = Annotated[
    str | None,
    typer.Option(
        metavar="99%|-0.5", help="Of --int8: what to keep of fp32's mIoU; ends with a verdict."
    ),
]
MinIou = Annotated[
    list[str] | None,
    typer.Option(metavar="CLASS=99%|CLASS=-1", help="The same for a class; can be repeated."),
]
ScoredOn = Annotated[
    str | None,
    typer.Option(
        "--dataset", metavar="NAME|DIR", help="What a verdict scores. Default: the model's."
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Score the first N images only.")
]
BudgetText = Annotated[
    str, typer.Option("--budget", metavar="90s|10m|1h", help="How long layers may be searched.")
]
PagePath = Annotated[
    Path | None, typer.Option("--report", metavar="F.md", help="Write the verdict as a page.")
]


def parse_seconds(text: str) -> float:
    """Read "90s", "10m" or "1.5h"."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh])", text)
    if match is None:
        raise typer.BadParameter(f"--budget {text}: wanted a time such as 90s, 10m or 1h")
    return float(match[1]) * SECONDS[match[2]]


def parse_verdict(
    min_miou: str | None,
    min_iou: Sequence[str] | None,
    *,
    dataset: str | None,
    limit: int | None,
    budget: str,
    report: Path | None,
) -> "VerdictRequest | None":
    """What a verdict is asked about; None if no floor is named."""
    seconds = parse_seconds(budget)
    if min_miou is None and not min_iou:
        if (dataset, limit, budget, report) != (None, None, BUDGET, None):
            raise typer.BadParameter(
                "--dataset, --limit, --budget and --report go with --min-miou or --min-iou"
            )
        return None
    from segdeploy.accuracy import AccuracyFloor
    from segdeploy.pipeline.verdict import VerdictRequest

    try:
        floor = AccuracyFloor.parse(min_miou, min_iou or ())
    except SegdeployError as error:
        raise typer.BadParameter(error.problem) from error
    if report is not None and report.suffix != ".md":
        raise typer.BadParameter(f"--report {report}: wanted a name that ends in .md")
    return VerdictRequest(
        floor=floor,
        dataset=dataset,
        limit=limit,
        budget_s=seconds,
        report=report,
        command=" ".join(["segdeploy", *sys.argv[1:]]),
        created=datetime.now(UTC).date().isoformat(),
        tell=printing.note,
    )


def run_verdict(
    model: str,
    checkpoint: str | None,
    engine: "EngineRequest",
    wanted: "VerdictRequest",
    *,
    json: bool,
) -> None:
    """Search, show what was measured and how it ended; exit 1 if the floor cannot be met."""
    from segdeploy.pipeline.verdict import build_with_verdict

    judged = build_with_verdict(model, checkpoint, engine, wanted)
    verdict = judged.trial.verdict
    if json:
        printing.show_json(judged_json(judged))
    else:
        printing.show_table(candidate_table(judged.trial))
        print(verdict)
        if judged.built is not None:
            printing.show_facts(built_facts(judged.built))
    if judged.built is None:
        raise typer.Exit(1)


def candidate_table(trial: "Trial") -> Table:
    """What was measured, for people."""
    from segdeploy.verdict import pareto

    table = table_of("engine", "MACs floating", "mIoU %", "", "p50 ms", "MB", "front")
    front = pareto(trial.candidates)
    for candidate in trial.candidates:
        score = candidate.score
        table.add_row(
            f"{candidate.name}{' <' if candidate == trial.verdict.chosen else ''}",
            f"{candidate.floating_macs:.1%}",
            f"{score.miou:.3f}" if score else "-",
            f"{score.miou - trial.reference.miou:+.3f}" if score else "-",
            f"{candidate.median_ms:.2f}",
            f"{candidate.artifact_bytes / 1e6:.2f}",
            "yes" if candidate in front else "",
        )
    return table


def judged_json(judged: "Judged") -> dict[str, Any]:
    """A verdict for machines, with every step time."""
    trial, verdict = judged.trial, judged.trial.verdict
    return {
        "verdict": verdict.kind,
        "sentences": verdict.sentences,
        "floor": str(trial.floor),
        "dataset": trial.dataset,
        "images": trial.images,
        "is_complete": trial.found.is_complete,
        "chosen": candidate_json(verdict.chosen),
        "candidates": [candidate_json(candidate) for candidate in trial.candidates],
        "notes": trial.notes,
        "engine": None if judged.built is None else built_json(judged.built),
    }


def candidate_json(candidate: "Candidate") -> dict[str, Any]:
    """One row of it."""
    score = candidate.score
    return {
        "precision": candidate.precision,
        "floating": candidate.floating,
        "floating_macs": candidate.floating_macs,
        "miou": score.miou if score else None,
        "per_class_iou": dict(score.per_class) if score else {},
        "bytes": candidate.artifact_bytes,
        "p50_ms": candidate.median_ms,
        "steps_ms": candidate.latency_ms,
    }
