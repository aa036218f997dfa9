"""The command `diff`: where two artifacts differ, and why."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdeploy.cli import printing
from segdeploy.cli.options import DATA, STORE, Checkpoint, Data, Json

if TYPE_CHECKING:
    from segdeploy.difference import Difference

WHAT = "A .onnx, .ort or .plan file, or a model: its checkpoint in PyTorch."
SHOWN = 3  # classes and images in the terminal
LEAST = 0.01  # points of IoU that are shown


def diff(
    reference: Annotated[str, typer.Argument(help=f"What is right. {WHAT}")],
    other: Annotated[str, typer.Argument(help=f"What is held against it. {WHAT}")],
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR", help="Default: the model's own. A folder of images will do."
        ),
    ] = None,
    data: Data = DATA,
    limit: Annotated[int, typer.Option(min=1, help="Run the first N images only.")] = 20,
    checkpoint: Checkpoint = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR|F.md", help="Write a page with pictures, and JSON.")
    ] = None,
    json: Json = False,
) -> None:
    """Run the same images through two artifacts: where they differ, layer by layer, and why."""
    from segdeploy.difference_page import Picture, to_json, write_page
    from segdeploy.pipeline.difference import DifferenceRequest, compare_artifacts

    compared = compare_artifacts(
        DifferenceRequest(
            reference=reference,
            other=other,
            dataset=dataset,
            data=data,
            limit=limit,
            checkpoint=checkpoint,
            store=STORE,
        )
    )
    if report is not None:
        pictures = [
            Picture(kept.id, kept.image, kept.reference.labels, kept.other.labels)
            for kept in compared.worst
        ]
        command = " ".join(["segdeploy", *sys.argv[1:]])
        page = write_page(compared.difference, pictures, compared.classes, report, command)
        printing.note(f"report: {page}")
    if json:
        printing.show_json(to_json(compared.difference))
    else:
        _show(compared.difference)


def _show(difference: "Difference") -> None:
    """The sentence first, then what it rests on."""
    from segdeploy.causes import percent
    from segdeploy.difference_page import summary

    print(difference.sentence)
    changes = [
        str(change)
        for change in difference.class_changes
        if change.before is None or abs(change.points) >= LEAST
    ]
    worst = sorted(difference.images, key=lambda match: match.agreement)[:SHOWN]
    facts = {
        "images": f"{len(difference.images)} of {difference.dataset}",
        **summary(difference),
        "IoU of classes": ", ".join(changes[:SHOWN]),
        "worst images": ", ".join(f"{match.id} {percent(match.agreement)}" for match in worst),
        "not tried": "; ".join(difference.untried),
    }
    printing.show_facts(facts)
    for note in difference.notes:
        printing.note(note)
