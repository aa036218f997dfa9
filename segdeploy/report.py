"""The measurements of one run: written as JSON, and read back without trusting it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

from segdeploy.environment import Environment
from segdeploy.errors import SegdeployError
from segdeploy.measurement import Measurement
from segdeploy.recipes import Target
from segdeploy.records import read_record
from segdeploy.spec import Precision, Runtime

SCHEMA = 2
SOURCE = "MMSegmentation 1.2.2, configs/mobilenet_v2/README.md"  # of every reference row
AGAIN = "measure again with segdeploy bench --json"
# What a row must share with PyTorch FP32 to be so many times as fast.
SAME_SPEED = ("model", "weights", "device", "resolution", "batch", "threads")
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # marks of Unicode's bidi
NUMBERS = re.compile(r"\[\n[-+.eE\d,\s]*\]")  # a list of them, which goes on one line


@dataclass(frozen=True, kw_only=True)
class Report:
    """The measurements of one run, and what is needed to read and to repeat them."""

    measurements: tuple[Measurement, ...]
    environment: Environment
    command: str  # repeats the run
    created: str  # ISO date
    targets: Mapping[str, Target] = field(default_factory=dict)  # reference rows by model

    def __post_init__(self) -> None:
        if not self.measurements:
            raise SegdeployError("the report has no measurement; wanted at least 1")

    def speedup(self, measurement: Measurement) -> float | None:
        """Times the fps of PyTorch FP32 on the same device, at the same size, batch and threads."""
        pytorch = self._pytorch(measurement, SAME_SPEED)
        return None if pytorch is None else measurement.fps / pytorch.fps

    def speedup_told(self, measurement: Measurement) -> str:
        """The same in words, with ~ where either run is inconclusive; empty: no such row."""
        speedup = self.speedup(measurement)
        if speedup is None:
            return ""
        pytorch = self._pytorch(measurement, SAME_SPEED)
        is_stable = all(m is not None and m.steadiness.is_stable for m in (measurement, pytorch))
        return f"{'' if is_stable else '~'}{speedup:.2f}"

    def miou_change(self, measurement: Measurement) -> float | None:
        """Percentage points above PyTorch FP32 on the same images at the same size."""
        same = ("model", "weights", "resolution", "dataset", "images")
        pytorch = self._pytorch(measurement, same)
        if pytorch is None or pytorch.miou is None or measurement.miou is None:
            return None
        return measurement.miou - pytorch.miou

    def _pytorch(self, measurement: Measurement, same: Sequence[str]) -> Measurement | None:
        names = ("runtime", "precision", *same)
        fixed = (Runtime.PYTORCH, Precision.FP32)
        wanted = (*fixed, *(getattr(measurement, name) for name in same))
        found = (m for m in self.measurements if tuple(getattr(m, n) for n in names) == wanted)
        return next(found, None)

    @property
    def references(self) -> dict[str, Target]:
        """The reference rows of the models that were measured, in the order they were."""
        models = dict.fromkeys(measurement.model for measurement in self.measurements)
        return {model: self._reference(model) for model in models if model in self.targets}

    def _reference(self, model: str) -> Target:
        """A reference row; random weights are never set beside an mIoU."""
        target = self.targets[model]
        is_random = all(m.is_random for m in self.measurements if m.model == model)
        return replace(target, miou=None) if is_random else target

    def to_json(self) -> str:
        """The whole report as JSON text."""
        rows = []
        for m in self.measurements:
            row = m.to_row()
            row["derived"] |= {"speedup": self.speedup(m), "miou_change": self.miou_change(m)}
            rows.append(row)
        whole = {
            "schema": SCHEMA,
            "created": self.created,
            "command": self.command,
            "environment": self.environment.to_dict(),
            "rows": rows,
            "reference": {
                "source": SOURCE,
                "rows": {model: asdict(target) for model, target in self.references.items()},
            },
        }
        text = json.dumps(whole, indent=1, allow_nan=False)
        return NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back what `to_json` wrote; nothing is trusted, and what is derived is left out.

        Raises:
            SegdeployError: the file is missing, is no report, or is of another schema.
        """
        try:
            return cls._of(json.loads(path.read_text("utf-8"), parse_constant=_refuse))
        except FileNotFoundError as error:
            raise SegdeployError(f"{path}: no such file") from error
        except OSError as error:
            raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
        except RecursionError as error:
            raise SegdeployError(f"{path}: is not a report (it nests too deep)") from error
        except (KeyError, TypeError, ValueError, OverflowError) as error:  # or JSONDecodeError
            said = f"lacks the key {error}" if isinstance(error, KeyError) else error
            raise SegdeployError(f"{path}: is not a report ({said})", hint=AGAIN) from error
        except SegdeployError as error:
            raise SegdeployError(f"{path}: {error.problem}", hint=error.hint or AGAIN) from error

    @classmethod
    def _of(cls, whole: Any) -> Self:
        whole = _table(whole, "the file")
        if BIDI.search(json.dumps(whole, ensure_ascii=False)):
            raise ValueError("a text in it turns the direction of what follows")
        if whole.get("schema") != SCHEMA:
            raise ValueError(f"schema {whole.get('schema')!r:.20}, this version reads {SCHEMA}")
        if not isinstance(whole["rows"], list):
            raise TypeError("rows is no list")
        names = [f"row {number}" for number in range(1, len(whole["rows"]) + 1)]
        rows = [_table(row, name) for row, name in zip(whole["rows"], names, strict=True)]
        raw = [{key: value for key, value in row.items() if key != "derived"} for row in rows]
        targets = _table(_table(whole["reference"], "reference")["rows"], "reference rows")
        return cls(
            measurements=tuple(map(partial(read_record, Measurement), raw, names)),
            environment=Environment.from_dict(whole["environment"]),
            command=_text(whole["command"], "command"),
            created=date.fromisoformat(_text(whole["created"], "created")).isoformat(),
            targets={model: read_record(Target, row, model) for model, row in targets.items()},
        )


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} is no table")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} is no text")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
