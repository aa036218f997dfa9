"""Changes for people and machines: a table for the terminal, Markdown for GitHub, JSON."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from segdeploy.changes.conditions import Broken
from segdeploy.changes.metrics import UNDECIDED, Change, Metric
from segdeploy.changes.pairs import Changes, RowChange
from segdeploy.markdown import escape
from segdeploy.measurement import Boundary
from segdeploy.steadiness import LIMIT

NONE = "-"
SHORT = "undecided"
LEGEND = f"{SHORT}: {UNDECIDED}; in brackets: 95 % confidence interval"
STYLES = {"faster": "green", "slower": "red"}


def terminal_table(changes: Changes) -> Table:
    """One line for each boundary of each row."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in _HEADER:
        numeric = column in _NUMERIC
        table.add_column(column, overflow="fold", justify="right" if numeric else "left")
    for row in changes.rows:
        for number, cells in enumerate(_lines(row)):
            name = row.name if number == 0 else ""
            style = STYLES.get(cells[-1].partition(" ")[0].rstrip(","), "")
            texts = [Text(cell) for cell in (name, *cells[:-1])]
            table.add_row(*texts, Text(cells[-1], style=style))
    return table


def notes(changes: Changes) -> list[str]:
    """What a reader must know beside the table."""
    found = [f"environments differ: {text}" for text in changes.differences]
    found += [f"only before: {name}" for name in changes.only_before]
    found += [f"only after: {name}" for name in changes.only_after]
    found += [f"{row.name}: {caveat}" for row in changes.rows for caveat in row.caveats]
    return found


def sentence(broken: Broken) -> str:
    """A condition in words."""
    change = f"{broken.condition.metric} {_told(broken.condition.metric, broken.change)}"
    shaky = " (of an inconclusive run)" if broken.shaky else ""
    if broken.holds:
        return f"{broken.condition} holds: {broken.row}: {change}{shaky}"
    return f"{broken.condition} is not sure: {broken.row}: {change}{shaky}; {_doubt(broken.change)}"


def _doubt(change: Change) -> str:
    if change.needed and not change.apart:
        return f"it takes {change.needed} steps of each"
    if change.is_shown:
        return f"two runs of the same file differ by up to {LIMIT:.0%}"
    return "it may be chance"


def markdown(changes: Changes, broken: Sequence[Broken], names: tuple[str, str]) -> str:
    """A summary for a pull request or `$GITHUB_STEP_SUMMARY`."""
    sections = [
        f"### Benchmark: {changes.headline}",
        f"`{_code(names[0])}` → `{_code(names[1])}`",
        *(f"> [!CAUTION]\n> {_escape(sentence(b))}" for b in broken if b.holds),
        *(f"> [!WARNING]\n> {_escape(sentence(b))}" for b in broken if not b.holds),
        _markdown_table(changes),
        f"{LEGEND}. A difference of up to 3 % is not called one, because two runs of the same file "
        "differ by as much.",
    ]
    if found := notes(changes):
        listed = "\n".join(f"- {_escape(note)}" for note in found)
        sections.append(
            f"<details><summary>Notes ({len(found)})</summary>\n\n{listed}\n\n</details>"
        )
    return "\n\n".join(sections) + "\n"


def to_json(changes: Changes, broken: Sequence[Broken]) -> dict[str, Any]:
    """All numbers for machines."""
    return {
        "headline": changes.headline,
        "failed": any(b.holds for b in broken),
        "rows": [
            {
                "name": row.name,
                "verdict": row.verdict,
                "boundaries": {
                    boundary.value: {
                        "verdict": _verdict(own),
                        "conclusive": boundary not in row.shaky,
                        **{metric.value: _numbers(change) for metric, change in own.items()},
                    }
                    for boundary, own in row.times.items()
                },
                "counted": {metric.value: _numbers(c) for metric, c in row.counted.items()},
                "caveats": list(row.caveats),
            }
            for row in changes.rows
        ],
        "conditions": [
            {
                "condition": str(b.condition),
                "row": b.row,
                "holds": b.holds,
                "conclusive": not b.shaky,
                **_numbers(b.change),
            }
            for b in broken
        ],
        "only_before": list(changes.only_before),
        "only_after": list(changes.only_after),
        "differences": list(changes.differences),
    }


_HEADER = ("row", "boundary", "p50 ms", "change of p50", "of p99", "mIoU", "verdict")
_NUMERIC = _HEADER[2:6]


def _lines(row: RowChange) -> list[list[str]]:
    """Cells of each boundary, that of the reference table first; the last one is the verdict."""
    lines = []
    for boundary in sorted(row.times, key=lambda b: b is not Boundary.MMSEG):
        own = row.times[boundary]
        miou = row.counted.get(Metric.MIOU) if boundary is Boundary.MMSEG else None
        lines.append([
            boundary.value,
            f"{_number(own[Metric.P50_MS].before)} > {_number(own[Metric.P50_MS].after)}",
            _told(Metric.P50_MS, own[Metric.P50_MS]),
            _told(Metric.P99_MS, own[Metric.P99_MS]),
            NONE if miou is None else _points(miou),
            _verdict(own) + (", but inconclusive" if boundary in row.shaky else ""),
        ])  # fmt: skip
    return lines


def _verdict(own: Mapping[Metric, Change]) -> str:
    """Of the median; where that is undecided, of the tail."""
    median, tail = own[Metric.P50_MS].verdict, own[Metric.P99_MS].verdict
    if median != UNDECIDED:
        return median
    return SHORT if tail == UNDECIDED else f"{tail} in the tail only"


def _points(miou: Change) -> str:
    return f"{miou.before:.2f} > {miou.after:.2f}  {miou.difference:+.2f}"


def _told(metric: Metric, change: Change) -> str:
    """By how much, with the interval."""
    percent, interval = change.percent, change.interval
    if metric.is_score or percent is None:
        return f"{change.difference:+.2f}{metric.unit}"
    between = f" ({interval.low:+.1f} to {interval.high:+.1f})" if interval else ""
    return f"{percent:+.1f} %{between}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _numbers(change: Change) -> dict[str, Any]:
    ratio = None if change.ratio is None else list(change.ratio)
    more = {
        "difference": change.difference,
        "percent": change.percent,
        "shown": change.is_shown,
        "sure": change.is_sure,
    }
    return {**asdict(change), "ratio": ratio, **more}


def _markdown_table(changes: Changes) -> str:
    lines = [f"| {' | '.join(_HEADER)} |", "|---|---|---:|---:|---:|---:|---|"]
    for row in changes.rows:
        for cells in _lines(row):
            mark = {"faster": "🟢 ", "slower": "🔴 "}.get(
                cells[-1].partition(" ")[0].rstrip(","), ""
            )
            texts = [row.name, *cells[:-1], f"{mark}{cells[-1]}"]
            lines.append(f"| {' | '.join(map(_escape, texts))} |")
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Names come from files: as Markdown they are one line of plain text."""
    return escape(text, more="_#@")  # on GitHub a name is no heading and calls nobody


def _code(text: str) -> str:
    return re.sub(r"[`\s]", "_", text)
