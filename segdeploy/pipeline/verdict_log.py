"""What was measured on the way to a verdict, so that a run that was killed goes on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from segdeploy.accuracy import Score
from segdeploy.artifacts import sha256_of, writing
from segdeploy.errors import SegdeployError
from segdeploy.spec import Precision
from segdeploy.verdict import Candidate, LayerError

SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """A candidate, and the hash of the graph that its numbers are of."""

    candidate: Candidate
    graph_sha256: str


@dataclass(frozen=True)
class VerdictLog:
    """Everything of one request: the key of its folder says which graph, images and machine."""

    entries: tuple[Entry, ...] = ()
    ranking: tuple[LayerError, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote; a file that is missing or damaged is an empty log."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["schema"] != SCHEMA:
                return cls()
            return cls(tuple(map(_entry, values["entries"])), tuple(map(_layer, values["ranking"])))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()
        except SegdeployError:  # numbers that no candidate can have
            return cls()

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        values = {
            "schema": SCHEMA,
            "entries": [asdict(entry) for entry in self.entries],
            "ranking": [asdict(layer) for layer in self.ranking],
        }
        with writing(path) as temporary:
            temporary.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n")

    def find(
        self, precision: Precision, floating: tuple[str, ...], graph: Path
    ) -> Candidate | None:
        """What was measured of this very file."""
        for entry in self.entries:
            known = entry.candidate
            if (known.precision, known.floating) == (precision, floating):
                is_same = graph.is_file() and sha256_of(graph) == entry.graph_sha256
                return known if is_same else None
        return None

    def with_entry(self, entry: Entry) -> Self:
        """With one more; it takes the place of an older one of the same layers."""
        new = entry.candidate
        others = [
            known
            for known in self.entries
            if (known.candidate.precision, known.candidate.floating)
            != (new.precision, new.floating)
        ]
        return replace(self, entries=(*others, entry))


def _entry(values: Mapping[str, Any]) -> Entry:
    found = values["candidate"]
    score = found["score"]
    per_class = score["per_class"].items()
    return Entry(
        Candidate(
            precision=Precision(found["precision"]),
            floating=tuple(map(_text, found["floating"])),
            floating_macs=float(found["floating_macs"]),
            score=Score(
                float(score["miou"]),
                {name: None if iou is None else float(iou) for name, iou in per_class},
            ),
            latency_ms=tuple(map(float, found["latency_ms"])),
            artifact_bytes=int(found["artifact_bytes"]),
        ),
        _text(values["graph_sha256"]),
    )


def _layer(values: Mapping[str, Any]) -> LayerError:
    noise = values["noise"]
    return LayerError(
        _text(values["name"]),
        float(values["macs_share"]),
        None if noise is None else float(noise),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value
