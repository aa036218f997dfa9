"""What a builder is told beside the graph, and the shapes that it may be told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segdeploy.errors import SegdeployError

DYNAMIC = -1  # TensorRT's mark of an axis that is not fixed
OPTIMIZATION_LEVELS = range(6)  # IBuilderConfig.builder_optimization_level: 0 to 5


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


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine is built. Precision is not among it: strong typing builds what the graph says.

    Args:
        profiles: one for each dynamic input. The memory for activations follows `max`.
        workspace_bytes: the most that a layer may take. DeepLabV3+ in FP32 takes 4.99 GB at a
            maximum of 4x1024x2048, the most we measured; TensorRT's own limit is all of the GPU.
        optimization_level: 0 (builds fastest) to 5 (tries most kernels); None: TensorRT's own, 3.
        tf32: let FP32 convolutions round to 10 bits of mantissa on Ampere and later. TensorRT has
            it on; off by default, so that FP32 labels are those of PyTorch.
        compute_capabilities: of the GPUs to build for, as in "8.9"; TensorRT-RTX only. Empty: its
            own choice. With "7.5" an FCN engine is 451 MB instead of 38.5 MB.
    """

    profiles: tuple[ShapeProfile, ...] = ()
    workspace_bytes: int = 8 << 30
    optimization_level: int | None = None
    tf32: bool = False
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workspace_bytes <= 0:
            raise SegdeployError(f"workspace of {self.workspace_bytes} bytes; wanted more than 0")
        if self.optimization_level not in (None, *OPTIMIZATION_LEVELS):
            raise SegdeployError(f"optimization level {self.optimization_level}; wanted 0 to 5")
        for capability in self.compute_capabilities:
            if not re.fullmatch(r"\d+\.\d", capability):
                raise SegdeployError(
                    f"compute capability {capability!r}; wanted MAJOR.MINOR", hint="for example 8.9"
                )


def check_profiles(inputs: Sequence[TensorInfo], profiles: Sequence[ShapeProfile]) -> None:
    """Refuse what TensorRT would accept in silence or report far from its cause.

    Raises:
        SegdeployError: a profile is for an unknown input or the second for the same one, an input
            with dynamic axes has none, its shapes are not min <= opt <= max, or they differ from a
            fixed axis.
    """
    by_name = {tensor.name: tensor for tensor in inputs}
    profiled: set[str] = set()
    for profile in profiles:
        if profile.tensor not in by_name:
            names = ", ".join(map(repr, by_name))
            raise SegdeployError(
                f"a shape profile names the input {profile.tensor!r}; the graph has {names}"
            )
        if profile.tensor in profiled:
            raise SegdeployError(f"input {profile.tensor!r} has two shape profiles; wanted one")
        profiled.add(profile.tensor)
        _check_profile(by_name[profile.tensor], profile)
    for tensor in inputs:
        if tensor.is_dynamic and tensor.name not in profiled:
            raise SegdeployError(
                f"input {tensor.name!r} is open ({_text(tensor.shape)}) and has no shape profile",
                hint="give its smallest, usual and largest shape, or a graph of one fixed size",
            )


def _check_profile(tensor: TensorInfo, profile: ShapeProfile) -> None:
    for word, shape in (("min", profile.min), ("opt", profile.opt), ("max", profile.max)):
        where = f"shape profile of input {tensor.name!r}: {word} {_text(shape)}"
        if len(shape) != len(tensor.shape):
            raise SegdeployError(
                f"{where} has {len(shape)} axes; wanted {len(tensor.shape)}, as in "
                f"{_text(tensor.shape)}"
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


def _text(shape: Sequence[int]) -> str:
    return "x".join("?" if size == DYNAMIC else str(size) for size in shape)
