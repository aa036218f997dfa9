"""Calibration on its own: a graph and a set to statistics, ranges, or shards of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segdeploy.artifacts import Graph, Store
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.calibration import (
    CalibrationImages,
    default_calibration,
    open_calibration,
)
from segdeploy.pipeline.diagnosis import examine
from segdeploy.pipeline.graphs import check_floating
from segdeploy.pipeline.make import export_options, find_subject, make_floating_graph
from segdeploy.pipeline.statistics import (
    WHOLE,
    explain_cache,
    ingredients_of,
    merge_statistics,
    place_of,
    statistics_of,
)
from segdeploy.spec import Output, Precision

if TYPE_CHECKING:
    from segdeploy.histograms import Statistics

SUFFIXES = (".json", ".npz", ".cache")


@dataclass(frozen=True, kw_only=True)
class CalibrationRequest:
    """What is calibrated, on which images, and what is written."""

    graph: Graph
    calibration: str | None = None  # None: the set that belongs to the model's data set
    data: Path = Path("data")
    store: Store = field(default_factory=Store)
    method: str | None = None  # None: the set's
    percentile: float | None = None
    shard: tuple[int, int] | None = None
    merge: tuple[Path, ...] = ()
    out: Path | None = None

    def open(self) -> CalibrationImages:
        """The images."""
        name = self.calibration or default_calibration(self.graph.manifest.dataset)
        return open_calibration(name, self.data)


@dataclass(frozen=True)
class Calibrated:
    """What was collected, in words, and what is odd about the images."""

    facts: dict[str, str]
    warnings: tuple[str, ...] = ()


def find_graph(
    model_or_graph: str, checkpoint: str | None, precision: Precision, store: Store
) -> Graph:
    """The floating graph that int8 would be made of: exported at the model's usual size."""
    subject = find_subject(model_or_graph, checkpoint, store)
    if isinstance(subject, Graph):
        return subject
    options = export_options(
        size=subject.spec.size, batch=1, precision=precision, output=Output.LABELS
    )
    return make_floating_graph(subject, options, store)


def calibrate_graph(request: CalibrationRequest) -> Calibrated:
    """Collect or merge statistics, and write what was asked for."""
    check_floating(request.graph)
    if request.out is not None and request.out.suffix not in SUFFIXES:
        raise SegdeployError(
            f"{request.out}: wanted a name that ends in {', '.join(SUFFIXES)}",
            hint=".json for ranges, .npz for statistics, .cache for TensorRT up to 10",
        )
    images = request.open()
    warnings: tuple[str, ...] = ()
    if request.merge:
        statistics = _merged(request, images)  # examined where they were collected
    else:
        warnings = examine(request.graph, images, request.data)
        statistics = statistics_of(
            request.graph, images, request.store, shard=request.shard or WHOLE
        )
    facts = {
        "set": images.summary,
        "images": str(statistics.images),
        "tensors": str(len(statistics.histograms)),
        "statistics": str(place_of(statistics.key, request.store)),
    }
    if request.shard:
        facts["shard"] = f"{request.shard[0] + 1} of {request.shard[1]}"
    if request.out is not None:
        _write(request, images, statistics, request.out)
        facts["written"] = str(request.out)
    return Calibrated(facts, warnings)


def explain(request: CalibrationRequest) -> tuple[str, ...]:
    """Why the statistics in the store are or are not used for this request."""
    return explain_cache(request.graph, request.open(), request.store)


def _merged(request: CalibrationRequest, images: CalibrationImages) -> "Statistics":
    """Of this very graph and set; complete ones are kept, so that the next build finds them."""
    statistics = merge_statistics(list(request.merge))
    from segdeploy.graph import read_model

    wanted = ingredients_of(request.graph, read_model(request.graph.path), images)
    if statistics.key != wanted.key:
        raise SegdeployError(
            f"{request.merge[0]}: was collected of another graph or on other images",
            hint="name the model, checkpoint and set that the shards were made with",
        )
    if not statistics.missing:
        statistics.save(place_of(wanted.key, request.store))
    return statistics


def _write(
    request: CalibrationRequest, images: CalibrationImages, statistics: "Statistics", out: Path
) -> None:
    from segdeploy.calibrate import ranges_of

    if out.suffix == ".npz":
        statistics.save(out)
        return
    recipe = images.recipe
    percentile = recipe.percentile if request.percentile is None else request.percentile
    ranges = ranges_of(statistics, request.method or recipe.method, percentile)
    ranges.to_json(out) if out.suffix == ".json" else ranges.to_cache(out)
