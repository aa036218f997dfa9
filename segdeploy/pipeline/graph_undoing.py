"""Causes that lie in a graph: undone in a copy of it, or done to the graph of the reference."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.causes import (
    Attempt,
    Cause,
    ColorResponse,
    Floats,
    fit_normalization,
    is_close,
    mean_by_padding,
    normalization_words,
    pixels_as_if,
    swapped_behind,
    usual_mistakes,
)
from segdeploy.difference import LayerNoise
from segdeploy.errors import needs
from segdeploy.pipeline.sides import Kept, Layered, Run, Side, open_model
from segdeploy.spec import LabelMap, Normalization, Precision, Size

Measure = Callable[[Cause, str, Callable[[Kept], tuple[LabelMap, LabelMap]]], Attempt]

FLAT = 128  # of 255: the colours that a first convolution is probed with
PADDED = 2  # rows and columns of its map that may see padding: a kernel of 7 with stride 2


class GraphUndoing:
    """What `Undoing` asks for."""

    def __init__(
        self, reference: Side, other: Side, kept: Sequence[Kept], measure: Measure
    ) -> None:
        self._reference, self._other, self._kept = reference, other, kept
        self._measure = measure
        self.untried: list[str] = []

    def try_build(self) -> Iterator[Attempt]:
        """The graph that an engine was built of, in place of the engine."""
        if (graph := self._other.graph) is not None:
            yield self.repaired(Cause.BUILD, "the graph in place of the engine", graph)

    def repaired(self, cause: Cause, what: str, graph: Layered) -> Attempt:
        """A repaired graph in place of the other artifact."""
        with open_model(graph) as run:
            return self._measure(cause, what, lambda kept: (kept.reference.labels, _run(run, kept)))

    def _graph(self, what: str) -> Layered | None:
        """Of the other, to be repaired."""
        if self._other.graph is None:
            self.untried.append(
                f"{what}: {self._other.name} has no graph beside it; put the graph beside it"
            )
        return self._other.graph

    def try_half(self, layers: Sequence[LayerNoise], not_finite: int) -> Iterator[Attempt]:
        """Compute in single precision."""
        from segdeploy.repairs import in_float32, is_half

        graph = self._graph(Cause.OVERFLOW)
        if graph is None or not is_half(graph.model):
            return
        overflows = not_finite or any(layer.not_finite for layer in layers)
        cause = Cause.OVERFLOW if overflows else Cause.HALF
        wide = Layered(in_float32(graph.model), graph.manifest)
        yield self.repaired(cause, f"{self._other.name} computed in fp32", wide)

    def try_normalizations(self) -> Iterator[Attempt]:
        """Show the reference pixels as another mean and deviation would leave them."""
        from segdeploy.graph import taking_floats
        from segdeploy.repairs import takes_floats

        graph = self._reference.graph
        if graph is None or not takes_floats(graph.model):
            self.untried.append(
                f"{Cause.MEAN}: {self._reference.name} has no graph that takes pixels of any value"
            )
            return
        own = self._reference.manifest.normalization
        with open_model(Layered(taking_floats(graph.model), graph.manifest)) as run:
            for what, other in self._normalizations(own).items():

                def redo(kept: Kept, other: Normalization = other) -> tuple[LabelMap, LabelMap]:
                    pixels: Any = pixels_as_if(kept.image, own, other)
                    return run(pixels).labels, kept.other.labels

                yield self._measure(Cause.MEAN, f"{what} in the reference too", redo)
            for what, divided in (("mean", False), ("normalization", True)):

                def swap(kept: Kept, divided: bool = divided) -> tuple[LabelMap, LabelMap]:
                    pixels: Any = swapped_behind(kept.image, own, divided=divided)
                    return run(pixels).labels, kept.other.labels

                words = f"the channels swapped behind the {what} in the reference too"
                yield self._measure(Cause.CHANNELS, words, swap)

    def _normalizations(self, own: Normalization) -> dict[str, Normalization]:
        """The other's own and the one that its first layer shows, before what is often wrong."""
        found = {}
        stated = self._other.manifest.normalization
        if stated != own:
            found[normalization_words(stated)] = stated
        shown = self._first_layer(own)
        if shown is not None and not is_close(shown, own):
            found[normalization_words(shown)] = shown
        usual = usual_mistakes(own)
        for what, other in found.items():
            known = next((words for words, one in usual.items() if is_close(one, other)), None)
            usual = {known or what: other} | usual  # the found ones first
        return usual

    def _first_layer(self, own: Normalization) -> Normalization | None:
        """What the other's first convolution shows; of int8, whose channels are stretched, a mean.

        The deviation is the reference's then.
        """
        from segdeploy.layer_pairs import pair_layers

        what = f"{Cause.MEAN} that is not usual"
        reference, other = self._reference.graph, self._graph(what)
        if reference is None or other is None:
            return None
        first = next(iter(pair_layers(reference.model, other.model)), None)
        if first is None:
            self.untried.append(f"{what}: no first layer could be compared")
            return None
        inside, lacking = self._color_responses(other, first.other)
        if Precision.INT8 not in (reference.manifest.precision, other.manifest.precision):
            wanted, _ = self._color_responses(reference, first.reference)
            return fit_normalization(own, wanted, inside)
        mean = mean_by_padding(inside, lacking)
        if mean is None:
            self.untried.append(f"{what}: the first layer of {self._other.name} shows no padding")
            return None
        return Normalization(mean, own.std)

    def _color_responses(
        self, layered: Layered, tensor: str
    ) -> tuple[ColorResponse, ColorResponse]:
        """Of a first convolution inside (C,), and what top and left border lack of it (2C,)."""
        from segdeploy.graph import up_to
        from segdeploy.pipeline.calibration import graph_batch

        with needs("onnxruntime", extra="onnxruntime"):
            from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
        size = layered.manifest.size or Size(*self._kept[0].image.shape[:2])
        part = up_to(layered.model, [tensor]).SerializeToString()
        with OnnxRuntimeSession(part, layered.manifest) as session:

            def answer(color: NDArray[np.uint8]) -> tuple[Floats, Floats]:
                flat = np.broadcast_to(color, (*size, 3))
                found = session.outputs(graph_batch(layered.manifest, flat))[tensor][0]
                inner = found[:, PADDED:-PADDED, PADDED:-PADDED].mean(axis=(1, 2), dtype=np.float64)
                top = found[:, 0, PADDED:-PADDED].mean(axis=1, dtype=np.float64)
                left = found[:, PADDED:-PADDED, 0].mean(axis=1, dtype=np.float64)
                return inner, np.concatenate([inner - top, inner - left])

            colors = (np.zeros(3, np.uint8), *(FLAT * color for color in np.eye(3, dtype=np.uint8)))
            inside, lacking = zip(*map(answer, colors), strict=True)
        return _color_response(*inside), _color_response(*lacking)

    def try_resizes(self) -> Iterator[Attempt]:
        """Resize the maps of the other as the reference does."""
        from segdeploy.repairs import resize_words, with_resizes_of

        graph, like = self._graph("resized maps"), self._reference.graph
        repaired = with_resizes_of(graph.model, like.model) if graph and like else None
        if graph is None or like is None or repaired is None:
            return
        what = resize_words(graph.model, like.model)
        cause = Cause.NEAREST if "not nearest" in what else Cause.ALIGN_CORNERS
        yield self.repaired(cause, what, Layered(repaired, graph.manifest))

    def try_weights(self) -> Iterator[Attempt]:
        """Put the reference's weights into the other's graph."""
        from segdeploy.repairs import with_weights_of

        graph, like = self._graph(Cause.CHECKPOINT), self._reference.graph
        found = with_weights_of(graph.model, like.model) if graph and like else None
        if graph is None or found is None:
            return
        repaired, differing, compared = found
        where = (
            f"all {compared} layers"
            if differing == compared
            else (f"the layers where they differ, {differing} of {compared}")
        )
        what = f"the reference's weights in {where}"
        yield self.repaired(Cause.CHECKPOINT, what, Layered(repaired, graph.manifest))


def _color_response(black: Floats, *colors: Floats) -> ColorResponse:
    return ColorResponse(black, np.stack([color - black for color in colors], axis=1) / FLAT)


def _run(run: Run, kept: Kept) -> LabelMap:
    return run(kept.image).labels
