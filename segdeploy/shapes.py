"""The shapes that an engine takes: its tensors, its optimization profiles, and their rules."""

from collections.abc import Sequence
from dataclasses import dataclass

from segdeploy.errors import SegdeployError

DYNAMIC = -1  # TensorRT's mark of an axis that is not fixed
Shape = tuple[int, ...]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a network: dtype as NumPy names it, -1 for a dynamic axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def is_dynamic(self) -> bool:
        """Whether an axis is open until run time."""
        return DYNAMIC in self.shape


@dataclass(frozen=True, kw_only=True)
class ShapeProfile:
    """The shapes that one dynamic input may take, and the one to be fastest at."""

    tensor: str
    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def covers(self, shape: Shape) -> bool:
        """Whether every axis lies between `min` and `max`."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )

    def __str__(self) -> str:
        return " to ".join(dict.fromkeys(map(shape_text, (self.min, self.max))))


Profile = tuple[ShapeProfile, ...]  # one for each dynamic input: what one context may be given


def shape_text(shape: Sequence[int]) -> str:
    """As people write it: 1x512x1024x3, with ? for an axis that is not fixed."""
    return "x".join("?" if size == DYNAMIC else str(size) for size in shape)


def check_profiles(inputs: Sequence[TensorInfo], profiles: Sequence[Profile]) -> None:
    """Refuse what TensorRT would accept in silence or report far from its cause.

    Raises:
        SegdeployError: an input with dynamic axes has no profile; or one of the profiles is for an
            unknown input, has two shapes for the same one or none for a dynamic one, its shapes are
            not min <= opt <= max, or they differ from a fixed axis.
    """
    for profile in profiles or ((),):  # without any, an open input is missed all the same
        _check_profile(inputs, profile)


def _check_profile(inputs: Sequence[TensorInfo], profile: Profile) -> None:
    by_name = {tensor.name: tensor for tensor in inputs}
    profiled: set[str] = set()
    for shapes in profile:
        if shapes.tensor not in by_name:
            names = ", ".join(map(repr, by_name))
            raise SegdeployError(
                f"a shape profile names the input {shapes.tensor!r}; the graph has {names}"
            )
        if shapes.tensor in profiled:
            raise SegdeployError(f"input {shapes.tensor!r} is twice in one profile; wanted once")
        profiled.add(shapes.tensor)
        _check_shapes(by_name[shapes.tensor], shapes)
    for tensor in inputs:
        if tensor.is_dynamic and tensor.name not in profiled:
            raise SegdeployError(
                f"input {tensor.name!r} is open ({shape_text(tensor.shape)}) and has no shape "
                "profile",
                hint="give its smallest, usual and largest shape, or a graph of one fixed size",
            )


def _check_shapes(tensor: TensorInfo, profile: ShapeProfile) -> None:
    for word, shape in (("min", profile.min), ("opt", profile.opt), ("max", profile.max)):
        where = f"shape profile of input {tensor.name!r}: {word} {shape_text(shape)}"
        if len(shape) != len(tensor.shape):
            raise SegdeployError(
                f"{where} has {len(shape)} axes; wanted {len(tensor.shape)}, as in "
                f"{shape_text(tensor.shape)}"
            )
        for axis, (size, fixed) in enumerate(zip(shape, tensor.shape, strict=True)):
            if size < 1:
                raise SegdeployError(f"{where} is {size} at axis {axis}; wanted 1 or more")
            if fixed not in (DYNAMIC, size):
                raise SegdeployError(
                    f"{where} is {size} at axis {axis}; wanted {fixed}: it is fixed"
                )
    for axis, sizes in enumerate(zip(profile.min, profile.opt, profile.max, strict=True)):
        if sorted(sizes) != list(sizes):
            raise SegdeployError(
                f"shape profile of input {tensor.name!r}: axis {axis} has min, opt and max "
                f"{', '.join(map(str, sizes))}; wanted min <= opt <= max"
            )
