"""Each cause of a difference undone, on the images that differ most: what then agrees?

Either the other artifact is repaired, or the same is done wrong to the reference; whichever leaves
nothing else changed. A cause is first tried on the worst image alone, and on the others if that
helps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from segdeploy.causes import (
    SETTLED,
    STEPS,
    TURNS,
    Attempt,
    Cause,
    Fact,
    class_offset,
    equal_share,
    moved_image,
    overlap,
    step_words,
    transposed,
    try_classes,
)
from segdeploy.difference import ALIKE, LayerNoise
from segdeploy.images import resize, resize_labels
from segdeploy.pipeline.graph_undoing import GraphUndoing
from segdeploy.pipeline.modes import best_labels
from segdeploy.pipeline.remasking import Resizing, remask
from segdeploy.pipeline.scale_undoing import ScaleUndoing
from segdeploy.pipeline.sides import Kept, Side
from segdeploy.spec import Image, LabelMap, Output, Size

PROMISING = 0.2  # of the disagreement on the worst image: worth the others
MISTAKES = {
    Resizing.ALIGN_CORNERS: Cause.ALIGN_CORNERS,
    Resizing.ASYMMETRIC: Cause.ALIGN_CORNERS,
    Resizing.NEAREST: Cause.NEAREST,
    Resizing.NEAREST_CENTRE: Cause.NEAREST,
}


Redo = Callable[[Kept], tuple[LabelMap, LabelMap]]  # the labels to compare instead


@dataclass(frozen=True)
class Undone:
    """All that was tried, what is certain without, and what could not be tried."""

    attempts: tuple[Attempt, ...]
    facts: tuple[Fact, ...]
    untried: tuple[str, ...]


class Undoing:
    """Tries cause after cause until one explains nearly everything."""

    def __init__(
        self,
        reference: Side,
        other: Side,
        kept: Sequence[Kept],
        *,
        layers: Sequence[LayerNoise],
        not_finite: int,
    ) -> None:
        """Take what the comparison left.

        Args:
            reference: open.
            other: open.
            kept: images, worst first.
            layers: compared; none where that could not be done.
            not_finite: images of which the other's logits are not finite.
        """
        self._reference, self._other, self._kept = reference, other, kept
        self._layers, self._not_finite = layers, not_finite
        self._untried: list[str] = []

    def try_all(self, counts: np.ndarray, agreement: float, images: int) -> Undone:
        """Undo one cause after the other; none where there is nothing to explain.

        Args:
            counts: pixels by both labels, of all images.
            agreement: of all images.
            images: how many there were.
        """
        if agreement >= ALIKE:
            return Undone((), (), ())
        attempts: list[Attempt] = []
        for attempt in self._attempts(counts, images):
            attempts.append(attempt)
            if attempt.is_named and attempt.explained >= SETTLED:
                break
        return Undone(tuple(attempts), tuple(self._facts()), tuple(self._untried))

    def _attempts(self, counts: np.ndarray, images: int) -> Iterator[Attempt]:
        names = self._reference.manifest.classes.names
        graphs = GraphUndoing(self._reference, self._other, self._kept, self.measure)
        if not self._other.is_graph and self._other.graph is not None:
            yield from graphs.try_build()
        yield from try_classes(counts, names, images)
        yield from self._try_turns()
        yield from self._try_image("the channels of the image swapped", Cause.CHANNELS, _swapped)
        yield from graphs.try_half(self._layers, self._not_finite)
        yield from graphs.try_normalizations()
        yield from self._try_masks()
        yield from self._try_steps()
        yield from self._try_size()
        yield from graphs.try_resizes()
        scales = ScaleUndoing(self._reference, self._other, self._kept, graphs.repaired)
        yield from scales.try_scales(self._layers)
        yield from self._try_bias()
        yield from graphs.try_weights()
        self._untried += [*graphs.untried, *scales.untried]

    def measure(self, cause: Cause, what: str, redo: Redo) -> Attempt:
        """The share of equal pixels before and after: of the worst image, or of all that are kept.

        Pixels without a counterpart, at the border of a moved image, are left out.
        """
        done: list[tuple[float, float]] = []
        for kept in self._kept:
            done.append((kept.agreement, equal_share(*redo(kept))))
            before, after = np.mean(done, axis=0).tolist()
            attempt = Attempt(cause, what, before, after, len(done))
            if attempt.explained < PROMISING:
                break
        return attempt

    def _try_image(
        self, what: str, cause: Cause, change: Callable[[Image], Image]
    ) -> Iterator[Attempt]:
        """Show the other artifact a changed image."""

        def redo(kept: Kept) -> tuple[LabelMap, LabelMap]:
            changed = np.ascontiguousarray(change(kept.image))
            return kept.reference.labels, self._other.run(changed).labels

        yield self.measure(cause, what, redo)

    def _try_turns(self) -> Iterator[Attempt]:
        turns = dict(TURNS)
        if all(kept.image.shape[0] == kept.image.shape[1] for kept in self._kept):
            turns |= {"rows and columns exchanged": transposed}
        for words, turn in turns.items():
            yield self.measure(Cause.FLIPPED, f"{words} in the mask", partial(_turned, turn))
            yield from self._try_image(f"{words} in the image", Cause.FLIPPED, turn)

    def _try_masks(self) -> Iterator[Attempt]:
        """Make the reference's mask as it should not be made."""
        if not self._other.labels_are_given:
            return
        if any(kept.reference.logits is None for kept in self._kept):
            self._untried.append("align_corners, nearest-resized mask: the reference has no logits")
            return
        for resizing, cause in MISTAKES.items():

            def redo(kept: Kept, resizing: Resizing = resizing) -> tuple[LabelMap, LabelMap]:
                assert kept.reference.logits is not None
                mask = remask(kept.reference.logits, kept.reference.network, resizing)
                return resize_labels(mask, _size(kept.image)), kept.other.labels

            yield self.measure(cause, f"the reference's logits resized {resizing}", redo)

    def _try_steps(self) -> Iterator[Attempt]:
        for step in STEPS:
            words = step_words(step)
            yield self.measure(Cause.SHIFT, f"the mask moved {words}", partial(_overlap, step))
            yield from self._try_image(
                f"the image moved {words}", Cause.SHIFT, partial(moved_image, step)
            )

    def _try_bias(self) -> Iterator[Attempt]:
        """Raise or lower the other's logits of one class, as the worst image shows it."""
        worst = self._kept[0]
        reference, other = worst.reference.logits, worst.other.logits
        if reference is None or other is None or reference.shape != other.shape:
            self._untried.append(f"{Cause.BIAS}: there are no logits to compare")
            return
        if self._not_finite:
            return
        index, offset = class_offset(reference, other)

        def redo(kept: Kept) -> tuple[LabelMap, LabelMap]:
            assert kept.other.logits is not None
            logits = kept.other.logits.copy()
            logits[index] += offset
            made = best_labels(logits, kept.other.network, _size(kept.image))
            return kept.reference.labels, made

        name = self._reference.manifest.classes.names[index]
        moved = f"{'raised' if offset > 0 else 'lowered'} by {abs(offset):.3g}"
        yield self.measure(Cause.BIAS, f"the logits of {name} {moved}", redo)

    def _sizes(self) -> tuple[Size, Size]:
        """That either network sees of the worst image."""
        worst = self._kept[0]
        return worst.reference.network, worst.other.network

    def _try_size(self) -> Iterator[Attempt]:
        own, size = self._sizes()
        if own == size or self._reference.manifest.size is not None:
            return

        def redo(kept: Kept) -> tuple[LabelMap, LabelMap]:
            answer = self._reference.run(resize(kept.image, size))
            full = _size(kept.image)
            made = self._other.manifest.output is Output.LABELS
            labels = resize_labels(answer.labels, full) if made else answer.at(full)
            return labels, kept.other.labels

        yield self.measure(Cause.SIZE, f"the reference at {size} too", redo)

    def _facts(self) -> Iterator[Fact]:
        own, others = self._reference, self._other
        if self._not_finite:
            yield Fact(
                Cause.OVERFLOW,
                f"the logits of {others.name} are not finite on {self._not_finite} images",
            )
        infinite = next((layer for layer in self._layers if layer.not_finite), None)
        if infinite is not None:
            yield Fact(Cause.OVERFLOW, f"values of {infinite.name} in {others.name} are not finite")
        sizes = self._sizes()
        if sizes[0] != sizes[1]:
            yield Fact(
                Cause.SIZE, f"{others.name} sees images of {sizes[1]}, {own.name} of {sizes[0]}"
            )
        found, wanted = others.manifest, own.manifest
        known = found.checkpoint_sha256 and wanted.checkpoint_sha256
        if known and found.checkpoint_sha256 != wanted.checkpoint_sha256:
            yield Fact(
                Cause.CHECKPOINT,
                f"{others.name} was made of {_weights(found.checkpoint, found.checkpoint_sha256)}, "
                f"{own.name} of {_weights(wanted.checkpoint, wanted.checkpoint_sha256)}",
            )


def _weights(name: str, sha256: str) -> str:
    return name if sha256.startswith(name) else f"{name} ({sha256[:12]})"


def _turned(turn: Callable[[LabelMap], LabelMap], kept: Kept) -> tuple[LabelMap, LabelMap]:
    return kept.reference.labels, turn(kept.other.labels)


def _overlap(step: tuple[int, int], kept: Kept) -> tuple[LabelMap, LabelMap]:
    return overlap(kept.reference.labels, kept.other.labels, step)


def _swapped(image: Image) -> Image:
    return image[..., ::-1]


def _size(image: Image) -> Size:
    return Size(*image.shape[:2])
