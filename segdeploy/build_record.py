"""How an engine was built, as its manifest keeps it: what it is tied to, takes and needs."""

from dataclasses import dataclass, field

from segdeploy.engine_options import EngineOptions
from segdeploy.shapes import TensorInfo


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """What a TensorRT build was told and what came of it.

    Args:
        os: system and processor, as in "Linux x86_64"; a plan loads on no other.
        gpu: on which it was built; "": without one.
        compute_capability: of that GPU, as in "8.0".
        driver: of that GPU.
        inputs: in the engine's order; a dynamic axis is -1.
        outputs: in the engine's order.
        activation_bytes: device memory of one context, by profile; empty: the log did not say.
        convolutions: (precision, count, share of the multiplications).
        options: that build it again.
    """

    os: str
    gpu: str = ""
    compute_capability: str = ""
    driver: str = ""
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    activation_bytes: tuple[int, ...] = ()
    convolutions: tuple[tuple[str, int, float], ...] = ()
    options: EngineOptions = field(default_factory=EngineOptions)
