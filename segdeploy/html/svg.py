"""Matplotlib figures as SVG inside a page: they take its colours, and their names do not clash."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Drawn in colours that nobody would choose, which the page's own then replace.
INK, FAINT = "#010203", "#040506"
SERIES = tuple(f"#0a0b{number:02x}" for number in range(8))
LINES = ("-", "--", ":", "-.")  # two series of like colour differ in these
LOG_RANGE = 4  # times the least value, from which on an axis is logarithmic
PIXELS = 110  # of an inch at most: text does not grow larger than that of the page
_VARIABLES = {INK: "currentColor", FAINT: "var(--line)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)
}
_STYLE: dict[Any, Any] = {  # matplotlib lists its keys in a type
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "text.parse_math": False,  # a dollar in the name of a class is a dollar
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of so many inches in the style of the page."""
    with rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def series(number: int) -> str:
    """The colour of a series."""
    return SERIES[number % len(SERIES)]


def line(number: int) -> str:
    """The line of a series: another one for each round through the colours."""
    return LINES[number // len(SERIES) % len(LINES)]


def scale_for(axes: Axes, axis: str, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers where the values differ by more than a few times."""
    if low <= 0 or high / low < LOG_RANGE:
        return
    getattr(axes, f"set_{axis}scale")("log")
    chosen = getattr(axes, f"{axis}axis")
    chosen.set_major_locator(LogLocator(subs=(1, 2, 5)))
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    chosen.set_minor_formatter(NullFormatter())


def inline(drawn: Figure, name: str, label: str) -> str:
    """The figure as an element of HTML.

    Args:
        drawn: what `figure` gave.
        name: tells it from the page's other figures; letters, digits and hyphens.
        label: what it shows, for those who do not see it.
    """
    file = io.StringIO()
    empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has fonts of its own
        drawn.savefig(file, format="svg", metadata=empty)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--font)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    size = f"max-width: {drawn.get_figwidth() * PIXELS:.0f}px"
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" style="{size}" ', 1)
