"""What a builder of TensorRT engines is told beside the graph."""

import re
from dataclasses import dataclass
from enum import StrEnum

from segdeploy.errors import SegdeployError
from segdeploy.shapes import Profile

OPTIMIZATION_LEVELS = range(6)  # IBuilderConfig.builder_optimization_level: 0 to 5


class Hardware(StrEnum):
    """Which GPUs a TensorRT plan runs on: the one of the build, or others at some cost of speed."""

    SAME = "same"
    SAME_CAPABILITY = "same-compute-capability"
    AMPERE_PLUS = "ampere-plus"


class Verbosity(StrEnum):
    """What a plan tells of its layers; the proof of their precision needs `detailed`."""

    NONE = "none"
    NAMES = "layer-names"
    DETAILED = "detailed"


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How an engine is built. Precision is not among it: strong typing builds what the graph says.

    Args:
        profiles: what each context may be given; contexts that run at the same time need one each.
            The memory for activations follows `max`.
        workspace_bytes: the most that a layer may take. DeepLabV3+ in FP32 takes 4.99 GB at a
            maximum of 4x1024x2048, the most we measured; TensorRT's own limit is all of the GPU.
        optimization_level: 0 (builds fastest) to 5 (tries most kernels); None: TensorRT's own, 3.
        tf32: let FP32 convolutions round to 10 bits of mantissa on Ampere and later. TensorRT has
            it on; off by default, so that FP32 labels are those of PyTorch.
        compute_capabilities: of the GPUs to build for, as in "8.9"; TensorRT-RTX only. Empty: its
            own choice. With "7.5" an FCN engine is 451 MB instead of 38.5 MB.
        version_compatible: the plan also loads in later versions of TensorRT; not TensorRT-RTX.
        hardware: the GPUs it runs on; not TensorRT-RTX.
        refit: weights can be replaced in the plan.
        strip: leave the weights out of the plan; it is refitted from the graph when it is loaded.
        sparsity: use 2:4 sparse kernels where the weights allow it; weights pruned so are needed.
        verbosity: what the plan tells of its layers.
        timing_cache: keep measured kernel times for the next build, by GPU and version.
    """

    profiles: tuple[Profile, ...] = ()
    workspace_bytes: int = 8 << 30
    optimization_level: int | None = None
    tf32: bool = False
    compute_capabilities: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware: Hardware = Hardware.SAME
    refit: bool = False
    strip: bool = False
    sparsity: bool = False
    verbosity: Verbosity = Verbosity.DETAILED
    timing_cache: bool = True

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
