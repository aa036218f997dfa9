"""Pieces of a Markdown page whose texts come from files."""

import re
from collections.abc import Sequence

MARKUP = "\\`*[]<>|"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table of Markdown cells whose columns after the first `left` are numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def escape(text: str, *, more: str = "") -> str:
    """One line of plain text, whatever is in a name; `more` characters are escaped too."""
    return re.sub(f"([{re.escape(MARKUP + more)}])", r"\\\1", " ".join(text.split()))


def code(name: str) -> str:
    """The name of a layer between backticks, also where it comes from a strange graph."""
    return re.sub(r"[^\w./:-]", "?", name)
