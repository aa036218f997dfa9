"""What the doctors of calibration say: one complaint, how grave it is, and what it is about."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from segdeploy.errors import SegdeployError


class Severity(StrEnum):
    """Whether calibration stops."""

    REFUSE = "refuse"
    WARN = "warn"


class Fault(StrEnum):
    """What a complaint is about."""

    COUNT = "number of images"
    CONSTANT = "constant image"
    NOISE = "noise"
    DUPLICATE = "duplicate"
    SCORED = "scored image"
    COLOUR_ORDER = "colour order"
    MEAN = "mean"
    GAIN = "scale of the pixels"
    FAR = "activations"
    CLASS = "class"
    CLIPPING = "clipping scale"
    WASTE = "wasteful scale"


@dataclass(frozen=True)
class Complaint:
    """One thing that is wrong, in words, and what to do about it."""

    severity: Severity
    subject: Fault
    sentence: str
    hint: str


def raise_refusals(complaints: Iterable[Complaint]) -> None:
    """Raise the first refusal, telling how many more there are."""
    refused = [complaint for complaint in complaints if complaint.severity is Severity.REFUSE]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise SegdeployError(f"calibration: {refused[0].sentence}{more}", hint=refused[0].hint)
