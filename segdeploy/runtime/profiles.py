"""Which optimization profile each context has: contexts in use at the same time need one each."""

import math
import threading
from collections.abc import Sequence

from segdeploy.errors import SegdeployError
from segdeploy.shapes import Shape, ShapeProfile, TensorInfo, shape_text


class ProfilePool:
    """The profiles of an engine, lent to its contexts; one of fixed shape has none to lend."""

    def __init__(self, image: TensorInfo, profiles: Sequence[ShapeProfile]) -> None:
        """Begin with all of them free.

        Args:
            image: the engine's input.
            profiles: of that input, by index; of no interest where its shape is fixed.
        """
        self._image = image
        self._profiles = tuple(profiles) if image.is_dynamic else ()
        self._free = set(range(len(self._profiles)))
        self._lock = threading.Lock()

    def take(self, shape: Shape, held: int | None = None) -> int | None:
        """A profile for a batch of this shape, None: no need.

        The one that is held if it will do; or another beside it, until one of both is given back.

        Raises:
            SegdeployError: the engine takes no such shape, or other contexts have its profiles.
        """
        if not self._profiles:
            self._check_fixed(shape)
            return None
        if held is not None and self._profiles[held].covers(shape):
            return held
        fitting = {k for k, profile in enumerate(self._profiles) if profile.covers(shape)}
        if not fitting:
            ranges = ", or ".join(dict.fromkeys(map(str, self._profiles)))
            raise SegdeployError(
                f"an image batch is {shape_text(shape)}; the engine takes {ranges}",
                hint="build it with --shapes MIN,OPT,MAX around this shape",
            )
        with self._lock:
            free = fitting & self._free
            if not free:
                raise SegdeployError(
                    f"all {len(fitting)} profiles for {shape_text(shape)} are in use by other "
                    "sessions; each session needs its own",
                    hint="build the engine with --shapes once for each session, or share sessions "
                    "by SessionPool",
                )
            chosen = min(free, key=lambda k: math.prod(self._profiles[k].max))
            self._free.remove(chosen)
            return chosen

    def give_back(self, held: int | None) -> None:
        """A context is done with its profile."""
        if held is not None and self._profiles:
            with self._lock:
                self._free.add(held)

    def _check_fixed(self, shape: Shape) -> None:
        if shape != self._image.shape:
            raise SegdeployError(
                f"an image batch is {shape_text(shape)}; the engine takes "
                f"{shape_text(self._image.shape)}",
                hint="build an engine of this size, or of any size: export --dynamic",
            )
