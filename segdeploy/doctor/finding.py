"""One line of `segdeploy doctor`."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One line of `segdeploy doctor`; not `ok`: what needs it fails here, and `advice` helps.

    Args:
        name: of the part.
        ok: it is as it should be on this machine.
        found: what is there, in words.
        advice: what to do if it is not.
        gives: what commands need of this part, and whether it is given.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""
    gives: Mapping[str, bool] = field(default_factory=dict)
