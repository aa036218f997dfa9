"""How accurate an engine is, and how much of that it must keep."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from segdeploy.errors import SegdeployError

ROUNDING = 1e-9  # percentage points: 100% of a score is that score


@dataclass(frozen=True)
class Score:
    """Percent: the mean IoU, and the IoU of each class (None: the class does not occur)."""

    miou: float
    per_class: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for score in (self.miou, *self.per_class.values()):
            if score is not None and not 0 <= score <= 100:  # also where it is not a number
                raise SegdeployError(f"a score of {score}; wanted percent, 0 to 100")


@dataclass(frozen=True)
class Bound:
    """The least of one score: a share of the reference's, or so many points below it."""

    percent: float | None = None
    points: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "99.5%" or "-0.5"."""
        match = re.fullmatch(r"(-?)(\d+(?:\.\d+)?)(%?)", text)
        amount = float(match[2]) if match else 0
        if match and bool(match[1]) != bool(match[3]) and amount <= 100:
            if match[1]:
                return cls(points=amount)
            if amount > 0:
                return cls(percent=amount)
        raise SegdeployError(
            f"floor {text!r:.60}; wanted a share of fp32 up to 100%, or points below it",
            hint="such as 99.5% or -0.5",
        )

    def least(self, reference: float) -> float:
        """The lowest score that is enough."""
        if self.percent is not None:
            return reference * self.percent / 100
        return reference - (self.points or 0)

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.percent is not None else f"-{self.points or 0:g}"


@dataclass(frozen=True)
class AccuracyFloor:
    """What int8 must keep of the accuracy of fp32: of the mIoU, and of single classes."""

    miou: Bound | None = None
    per_class: tuple[tuple[str, Bound], ...] = ()

    def __post_init__(self) -> None:
        if self.miou is None and not self.per_class:
            raise SegdeployError("a floor of nothing; wanted one of the mIoU or of a class")
        names = [name for name, _ in self.per_class]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SegdeployError(f"class {twice} has two floors; wanted one")

    @classmethod
    def parse(cls, miou: str | None, per_class: Iterable[str] = ()) -> Self:
        """Read "99%" or "-0.5" for the mIoU, and for classes the same behind "CLASS="."""
        classes = []
        for text in per_class:
            name, equals, bound = text.rpartition("=")
            if not (equals and name):
                raise SegdeployError(f"floor {text!r:.60}; wanted CLASS=99% or CLASS=-0.5")
            classes.append((name, Bound.parse(bound)))
        return cls(None if miou is None else Bound.parse(miou), tuple(classes))

    def check(self, reference: Score) -> None:
        """Refuse floors of classes that the reference says nothing about."""
        for name, _ in self.per_class:
            if name not in reference.per_class:
                known = ", ".join(reference.per_class)
                raise SegdeployError(f"class {name!r:.60} is unknown", hint=f"one of {known}")
            if reference.per_class[name] is None:
                raise SegdeployError(
                    f"class {name} occurs in none of the images that are scored",
                    hint="score more of them with a larger --limit, or leave its floor out",
                )

    def misses(self, reference: Score, score: Score) -> tuple[str, ...]:
        """A sentence for each floor that `score` stays below; none: all are met."""
        self.check(reference)
        rows: list[tuple[str, Bound, float | None, float | None]] = []
        if self.miou:
            rows.append(("mIoU", self.miou, reference.miou, score.miou))
        for name, bound in self.per_class:
            found = score.per_class.get(name)
            rows.append((f"IoU of {name}", bound, reference.per_class[name], found))
        sentences = []
        for what, bound, before, found in rows:
            least = bound.least(before or 0)
            # None: only the reference mistook pixels for this class, so nothing was lost.
            if found is not None and found < least - ROUNDING:
                sentences.append(
                    f"{what} is {found:.3f}, wanted {least:.3f} ({bound} of fp32's {before:.3f})"
                )
        return tuple(sentences)

    def __str__(self) -> str:
        parts = [f"mIoU {self.miou}"] if self.miou else []
        return ", ".join([*parts, *(f"{name} {bound}" for name, bound in self.per_class)])
