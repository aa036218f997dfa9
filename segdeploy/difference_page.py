"""A difference as a Markdown page, with pictures and all numbers as JSON beside it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from segdeploy.artifacts import write_json, writing
from segdeploy.causes import Attempt, percent
from segdeploy.difference import Difference, LayerNoise
from segdeploy.errors import SegdeployError
from segdeploy.images import overlay, write_png
from segdeploy.markdown import code, escape, table
from segdeploy.spec import ClassSet, Image, LabelMap

NONE = "-"
ABSENT = "absent"  # a class that only the other predicts
PAGE = "diff.md"  # in a folder
DIFFERENT = np.array((255, 0, 0), np.uint8)
DIM = 3  # by which the picture is darkened where both agree


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and what both made of it."""

    id: str
    image: Image
    reference: LabelMap
    other: LabelMap


def write_page(
    difference: Difference,
    pictures: Sequence[Picture],
    classes: ClassSet,
    place: Path,
    command: str,
) -> Path:
    """Write the page, and beside it a picture of each image and a JSON file; return the page.

    Args:
        difference: what was found.
        pictures: worst first.
        classes: their colours.
        place: a name that ends in .md, or a folder.
        command: to repeat it.
    """
    page = place if place.suffix == ".md" else place / PAGE
    if place.is_file() and place != page:
        raise SegdeployError(f"{place}: is a file; wanted a folder, or a name that ends in .md")
    shown = []
    for number, picture in enumerate(pictures, 1):
        path = page.with_name(f"{page.stem}-{number}.png")
        write_png(path, draw(picture, classes))
        shown.append(f"**{escape(picture.id)}**\n\n![{escape(picture.id)}]({quote(path.name)})")
    write_json(page.with_suffix(".json"), to_json(difference))
    with writing(page) as temporary:
        temporary.write_text(to_markdown(difference, shown, command), encoding="utf-8")
    return page


def draw(picture: Picture, classes: ClassSet) -> Image:
    """Above, both label maps over the image; below, the image, and red where they differ."""
    image = picture.image
    both = [overlay(image, labels, classes) for labels in (picture.reference, picture.other)]
    red = image // DIM
    red[picture.reference != picture.other] = DIFFERENT
    return np.vstack([np.hstack(both), np.hstack([image, red])])


def to_json(difference: Difference) -> dict[str, Any]:
    """Everything; null for a number that is infinite, as the SQNR of equal layers is."""
    cause, departs = difference.likely, difference.departs
    found = asdict(difference)
    found |= {
        "sentence": difference.sentence,
        "cause": cause.cause if cause else None,
        "first_layer_that_departs": departs.name if departs else None,
        "class_changes": [{**asdict(c), "points": c.points} for c in difference.class_changes],
        "attempts": [
            {**asdict(a), "explained": a.explained, "named": a.is_named}
            for a in difference.attempts
        ],
    }
    cleaned: dict[str, Any] = _finite(found)
    return cleaned


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_markdown(difference: Difference, pictures: Sequence[str] = (), command: str = "") -> str:
    """The page; `pictures` are the lines of Markdown that show them."""
    facts = [
        ("Reference", difference.reference),
        ("Other", difference.other),
        ("Images", f"{len(difference.images)} of {difference.dataset}"),
        *((name, value) for name, value in summary(difference).items()),
    ]
    notes = [f"- {escape(note)}" for note in difference.notes]
    sections = [
        f"# {escape(difference.reference)} and {escape(difference.other)}",
        f"**{escape(difference.sentence)}**",
        "\n".join([*(f"- {name}: {escape(str(value))}" for name, value in facts), *notes]),
        "## Classes",
        _class_table(difference),
        "Percent, and points. The last column holds the other's labels against the reference's.",
        *_pictures(pictures),
        *_layers(difference),
        *_tried(difference),
        "## Images",
        table(
            ["Image", "Equal pixels"],
            [
                [escape(match.id), percent(match.agreement)]
                for match in sorted(difference.images, key=lambda match: match.agreement)
            ],
        ),
        *([f"## Repeat it\n\n    {command}"] if command else []),
    ]
    return "\n\n".join(sections) + "\n"


def summary(difference: Difference) -> dict[str, str]:
    """The numbers of the whole, by name; those that there are."""
    before, after = difference.before, difference.after
    found = {"equal pixels": percent(difference.agreement)}
    if before and after:
        change = f"{after.miou - before.miou:+.2f}"
        found["mIoU"] = f"{before.miou:.2f} to {after.miou:.2f} ({change})"
    else:
        found["mIoU of the other against the reference"] = f"{difference.between.miou:.2f}"
    if difference.logits_sqnr_db is not None:
        found["SQNR of the logits"] = decibel_words(difference.logits_sqnr_db)
    if difference.layers:
        departs = difference.departs
        found["first layer that departs"] = layer_words(departs) if departs else "none"
    return found


def layer_words(layer: LayerNoise) -> str:
    """Its name and noise."""
    infinite = f", {layer.not_finite} values not finite" if layer.not_finite else ""
    return f"{layer.name} ({decibel_words(layer.sqnr_db)}{infinite})"


def decibel_words(ratio_db: float) -> str:
    """One digit behind the point; "equal" where there is no noise."""
    return "equal" if ratio_db == math.inf else f"{ratio_db:.1f} dB"


def _class_table(difference: Difference) -> str:
    before, after, between = difference.before, difference.after, difference.between
    rows = []
    for change in difference.class_changes:
        name = change.name
        scores = [before.per_class.get(name) if before else None]
        scores += [after.per_class.get(name) if after else None]
        cells = [_number(score) for score in (*scores, between.per_class.get(name))]
        shown = f"{change.points:+.2f}" if before else NONE
        if change.before is None:
            cells[0], shown = ABSENT, NONE
        rows.append([escape(name), cells[0], cells[1], shown, cells[2]])
    header = ["Class", "Reference", "Other", "Change", "Other against reference"]
    return table(header, rows)


def _pictures(shown: Sequence[str]) -> list[str]:
    if not shown:
        return []
    text = (
        "Above: the labels of the reference and of the other over the image. Below: the image, and "
        "in red where they differ."
    )
    return ["## Worst images", text, *shown]


def _layers(difference: Difference) -> list[str]:
    if not difference.layers:
        return []
    departs = difference.departs
    rows = [
        [
            f"`{code(layer.name)}`{' departs' if layer == departs else ''}",
            decibel_words(layer.sqnr_db),
            str(layer.not_finite or NONE),
        ]
        for layer in difference.layers
    ]
    text = (
        "In the order of computation, on the worst images: what a convolution returns, power of "
        "the signal by that of the difference. Channels that int8 stretches are laid on the "
        "reference's first."
    )
    return ["## Layers", text, table(["Layer", "SQNR", "Not finite"], rows)]


def _tried(difference: Difference) -> list[str]:
    named = difference.likely
    rows = [
        [
            f"{escape(attempt.cause)}{', named' if attempt == named else ''}",
            escape(attempt.what),
            percent(attempt.before),
            percent(attempt.after),
            str(attempt.images),
        ]
        for attempt in sorted(difference.attempts, key=_gain)
    ]
    header = ["Cause", "With", "Equal before", "After", "Images"]
    lines = [table(header, rows, left=2)] if rows else []
    if difference.facts:
        lines.append("\n".join(f"- Certain: {escape(fact.sentence)}" for fact in difference.facts))
    if difference.untried:
        lines.append("\n".join(f"- Not tried: {escape(text)}" for text in difference.untried))
    return ["## Causes that were undone", *lines] if lines else []


def _gain(attempt: Attempt) -> float:
    return -attempt.explained


def _number(score: float | None) -> str:
    return NONE if score is None else f"{score:.2f}"
