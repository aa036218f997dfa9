"""The layers of an engine, read off the build log, and the proof that each has its precision.

The engine inspector needs a GPU; the log has the same text without one, at profiling verbosity
DETAILED. TensorRT 10 and TensorRT-RTX 1.7 write the same lines but for the place of the datatype.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segdeploy.errors import SegdeployError
from segdeploy.spec import Precision

PRECISIONS = {
    "Float": Precision.FP32, "FP32": Precision.FP32,  # the second spelling: TensorRT before 10
    "Half": Precision.FP16, "FP16": Precision.FP16,
    "Int8": Precision.INT8,
}  # fmt: skip

_LAYER = re.compile(r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<rest>.*)")
_INPUTS_END = re.compile(r"\], (?:Constants|Outputs): \[")
_DATATYPE = re.compile(r"Datatype: (?P<datatype>[^,}]+)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
# CaskConvolution, or in Myelin's words correlation; 1x1 ones are also gemm or runtime_fusion.
_CONVOLUTION = re.compile("conv|correlation|gemm|fusion", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """One layer of an engine.

    Args:
        name: TensorRT's own.
        kind: CaskConvolution, correlation, kgen, ...
        datatype: of its first input; "" if it has none.
        origins: the nodes of the graph that went into it.
    """

    name: str
    kind: str
    datatype: str
    origins: tuple[str, ...]

    @property
    def is_convolution(self) -> bool:
        """Whether it can be the kernel of a convolution; generated pointwise kernels cannot."""
        return _CONVOLUTION.search(self.kind) is not None

    @property
    def precision(self) -> Precision | None:
        """The number format of its first input; None for an integer other than int8."""
        words = re.findall(r"\w+", self.datatype)
        return next((PRECISIONS[word] for word in words if word in PRECISIONS), None)


@dataclass(frozen=True)
class Convolution:
    """A convolution of the graph, and the precision that the graph gives it."""

    name: str
    precision: Precision


def parse_layers(message: str) -> tuple[Layer, ...]:
    """Read the message of the log that lists the layers, one a line."""
    layers = []
    for line in message.splitlines():
        match = _LAYER.match(line)
        if match is None:
            continue
        inputs = _INPUTS_END.split(match["rest"], maxsplit=1)[0]
        datatype = _DATATYPE.search(inputs)
        layers.append(
            Layer(
                name=match["name"],
                kind=match["kind"],
                datatype=datatype["datatype"].strip() if datatype else "",
                origins=origins(match["rest"]),
            )
        )
    return tuple(layers)


def origins(metadata: str) -> tuple[str, ...]:
    """The names of the ONNX nodes that TensorRT's metadata of a layer mentions."""
    return tuple(_ORIGIN.findall(metadata))


def check_asked(graph: Path, convolutions: Sequence[Convolution], expected: Precision) -> None:
    """Refuse a graph that is not in the precision it is to be built in.

    FP32 and FP16 must hold for every convolution; an INT8 graph keeps some in floating point, so
    there one convolution behind a Q/DQ pair is enough.
    """
    found = Counter(convolution.precision for convolution in convolutions)
    wanted = found[expected]
    if wanted and (expected is Precision.INT8 or wanted == len(convolutions)):
        return
    raise SegdeployError(
        f"{graph}: has {_counted(found)} convolutions; wanted {expected}",
        hint=f"precision is a property of the graph: build from the {expected} graph",
    )


def prove_precision(
    graph: Path, layers: Sequence[Layer], convolutions: Sequence[Convolution]
) -> None:
    """Find each convolution in the engine, in the precision that the graph gives it.

    Raises:
        SegdeployError: one is missing from `layers`, or runs in another precision.
    """
    kernels = _kernels(layers)
    for convolution in convolutions:
        found = kernels.get(convolution.name, [])
        if not found:
            raise SegdeployError(
                f"{graph}: the build log shows no kernel for the convolution {convolution.name}, "
                f"so its precision {convolution.precision} is not proved"
            )
        for layer in found:
            if layer.precision is not convolution.precision:
                raise SegdeployError(
                    f"{graph}: has the convolution {convolution.name} in {convolution.precision}, "
                    f"the engine runs it in {layer.datatype} ({layer.name})"
                )


def by_precision(
    layers: Sequence[Layer], convolutions: Sequence[Convolution]
) -> Mapping[Precision, tuple[str, ...]]:
    """The graph's convolutions by the precision in which the engine runs them."""
    kernels = _kernels(layers)
    found: dict[Precision, list[str]] = {}
    for convolution in convolutions:
        for layer in kernels.get(convolution.name, [])[:1]:
            if layer.precision is not None:
                found.setdefault(layer.precision, []).append(convolution.name)
    return {precision: tuple(names) for precision, names in found.items()}


def _kernels(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """The layers that can compute a convolution, by the names of the nodes they came from."""
    kernels: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.is_convolution:
            for name in {*layer.origins, *layer.name.split(" + ")}:
                kernels.setdefault(name, []).append(layer)
    return kernels


def _counted(found: Mapping[Precision, int]) -> str:
    return ", ".join(f"{count} {precision}" for precision, count in sorted(found.items())) or "no"
