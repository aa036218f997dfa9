"""Statistics of a graph over a calibration set: collected once, kept by content, in parts."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segdeploy.artifacts import Graph, Store, request_hash, write_json
from segdeploy.errors import SegdeployError, needs
from segdeploy.pipeline.calibration import CalibrationImages, graph_batch
from segdeploy.progress import track

if TYPE_CHECKING:
    from segdeploy.histograms import Statistics

KEPT_EVERY = 16  # images, after which an interrupted run would go on
WHOLE = (0, 1)


@dataclass(frozen=True)
class Ingredients:
    """All that determines statistics; equal ingredients, equal statistics."""

    graph: str  # hash of the network with its weights
    images: str  # hash of the names and bytes of the images, in their order
    preprocessing: str
    counting: str  # of what, and by which version

    @property
    def key(self) -> str:
        """What they are known by."""
        return request_hash(**asdict(self))


def ingredients_of(graph: Graph, model: Any, calibration: CalibrationImages) -> Ingredients:
    """What the statistics of `graph`, which `model` was read from, are made of."""
    from segdeploy.counting import BINS
    from segdeploy.histograms import SCHEMA
    from segdeploy.placement import activations_to_quantize, graph_sha256

    manifest = graph.manifest
    return Ingredients(
        graph=graph_sha256(model),
        images=calibration.content,
        preprocessing=f"size {manifest.size or 'of each image'}, batch {manifest.batch or 1}",
        counting=f"schema {SCHEMA}, {BINS} bins, {request_hash(of=activations_to_quantize(model))}",
    )


def statistics_of(
    graph: Graph,
    calibration: CalibrationImages,
    store: Store,
    *,
    shard: tuple[int, int] = WHOLE,
    before: Callable[[], None] | None = None,
) -> "Statistics":
    """Collect the statistics, or find them in the store.

    Args:
        graph: floating.
        calibration: the images.
        store: where statistics are kept.
        shard: (k, n): every n-th image from the k-th on, counted from 0.
        before: is called where there are none, before any image is counted.
    """
    from segdeploy.graph import cut_graph, read_model
    from segdeploy.placement import activations_to_quantize

    with needs("onnxruntime", "numba", extra="onnxruntime"):
        from segdeploy.calibrate import collect_statistics
        from segdeploy.runtime.onnxruntime import PieceByPiece
    model = read_model(graph.path)
    ingredients = ingredients_of(graph, model, calibration)
    place = place_of(ingredients.key, store, shard)
    found = _read(place, ingredients.key)
    if found is not None:
        return found
    if before is not None:
        before()
    runner = PieceByPiece(cut_graph(model, activations_to_quantize(model)))
    del model  # the weights are in the runner now
    partial = place.with_suffix(".partial.npz")
    begun = _read(partial, ingredients.key)
    done = begun.images // (graph.manifest.batch or 1) if begun else 0
    first, parts = shard
    total = len(range(first, len(calibration.ids), parts))
    chosen = (
        graph_batch(graph.manifest, image)
        for image in islice(calibration.load(), first, None, parts)
    )
    statistics = collect_statistics(
        runner.run,
        track(islice(chosen, done, None), "calibrating", total - done),
        graph_sha256=ingredients.graph,
        key=ingredients.key,
        threads=runner.threads,
        begun=begun,
        every=KEPT_EVERY,
        keep=lambda so_far: so_far.save(partial),
    )
    if shard != WHOLE:
        statistics = replace(statistics, shards=(first,), of_shards=parts)
    statistics.save(place)
    _describe(place, ingredients, calibration)
    partial.unlink(missing_ok=True)
    return statistics


def merge_statistics(paths: list[Path]) -> "Statistics":
    """Add up shards that were collected apart."""
    from segdeploy.histograms import Statistics

    merged = Statistics.load(paths[0])
    for path in paths[1:]:
        try:
            merged = merged + Statistics.load(path)
        except SegdeployError as error:
            raise SegdeployError(f"{path}: {error.problem}") from error
    return merged


def place_of(key: str, store: Store, shard: tuple[int, int] = WHOLE) -> Path:
    """Where statistics are kept."""
    part = "" if shard == WHOLE else f".{shard[0] + 1}of{shard[1]}"
    return store.root / "calibration" / f"{key}{part}.npz"


def explain_cache(graph: Graph, calibration: CalibrationImages, store: Store) -> tuple[str, ...]:
    """Say whether there are statistics, and if not, what those that are there differ in."""
    from segdeploy.graph import read_model

    wanted = ingredients_of(graph, read_model(graph.path), calibration)
    place = place_of(wanted.key, store)
    if place.is_file():
        return (f"{place}: is used; graph, images, preprocessing and counting are the same",)
    lines = [f"{place}: does not exist; the images are run once"]
    for path in sorted(place.parent.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = Ingredients(**content["ingredients"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            lines.append(f"{path}: cannot be read ({error})")
            continue
        different = [key for key, value in asdict(wanted).items() if value != asdict(found)[key]]
        lines.append(f"{path}: is not used; its {' and '.join(different)} differ")
    return tuple(lines)


def _describe(place: Path, ingredients: Ingredients, calibration: CalibrationImages) -> None:
    content = {"ingredients": asdict(ingredients), "images": list(calibration.ids)}
    write_json(place.with_suffix(".json"), content)


def _read(path: Path, key: str) -> "Statistics | None":
    """Statistics that are there and are what they are called; a damaged file is made again."""
    from segdeploy.histograms import Statistics

    if not path.is_file():
        return None
    try:
        found = Statistics.load(path)
    except SegdeployError:
        return None
    return found if found.key == key else None
