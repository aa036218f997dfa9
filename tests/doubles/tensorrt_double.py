"""A double of the package tensorrt: what builds engines needs a GPU, so it records what it is told.

It parses real graphs for their names and reports layers as TensorRT 10 does. Timing caches are
texts: the GPU they are of, and what was measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx

MAGIC = "timing cache"
NAMES = {  # the enumerations, and their members in TensorRT 10.16
    "BuilderFlag": (
        "REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME "
        "STRIP_PLAN REFIT_IDENTICAL"
    ),
    "DataType": "FLOAT HALF INT8 INT32 UINT8",
    "HardwareCompatibilityLevel": "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY",
    "LayerType": "CONVOLUTION DEQUANTIZE QUANTIZE",
    "MemoryPoolType": "WORKSPACE",
    "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH STRONGLY_TYPED",
    "ProfilingVerbosity": "LAYER_NAMES_ONLY NONE DETAILED",
    "Severity": "ERROR WARNING INFO VERBOSE",
}


@dataclass
class Cache:
    """An ITimingCache."""

    gpu: str
    entries: set[str]

    def combine(self, input_cache: "Cache", ignore_mismatch: bool) -> bool:
        """Take what the other one has, if it is of the same GPU."""
        if input_cache.gpu == self.gpu or ignore_mismatch:
            self.entries |= input_cache.entries
        return input_cache.gpu == self.gpu

    def serialize(self) -> bytes:
        """As `read_cache` reads it."""
        return "\n".join([MAGIC, self.gpu, *sorted(self.entries)]).encode()


def read_cache(data: bytes, gpu: str) -> Cache | None:
    """An empty one for no bytes; None for damaged ones."""
    if not data:
        return Cache(gpu, set())
    magic, *rest = data.decode(errors="replace").splitlines()
    return Cache(rest[0], set(rest[1:])) if magic == MAGIC else None


@dataclass
class Config:
    """An IBuilderConfig: attributes hold what was set."""

    gpu: str
    flags: set[str] = field(default_factory=lambda: {"TF32"})
    limits: dict[str, int] = field(default_factory=dict)
    profiles: list[Any] = field(default_factory=list)
    cache: Cache | None = None
    hardware_compatibility_level: Any = None
    profiling_verbosity: Any = None
    builder_optimization_level: int | None = None
    progress_monitor: Any = None

    def set_flag(self, flag: Any) -> None:
        """Remember the name."""
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        """Forget the name."""
        self.flags.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        """Remember the limit."""
        self.limits[pool.name] = size

    def add_optimization_profile(self, profile: Any) -> int:
        """Remember the profile."""
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> Cache | None:
        """Of what `serialize` returned."""
        return read_cache(data, self.gpu)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        """Use it, if it is of this GPU."""
        if cache.gpu != self.gpu and not ignore_mismatch:
            return False
        self.cache = cache
        return True


class Profile:
    """An IOptimizationProfile."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, *shapes: Any) -> None:
        """Remember min, opt and max."""
        self.shapes[name] = shapes


@dataclass
class Tensor:
    """An ITensor."""

    name: str
    dtype: Any
    shape: tuple[int, ...]


@dataclass
class Layer:
    """An ILayer of one input and one output: a convolution of the graph."""

    name: str
    type: Any
    source: Tensor
    num_inputs: int = 1

    @property
    def metadata(self) -> str:
        """As the parser writes it."""
        return f"[ONNX Layer: {self.name}]"

    def get_input(self, _index: int) -> Tensor:
        """The data."""
        return self.source

    def get_output(self, _index: int) -> Tensor:
        """The result."""
        return Tensor(f"{self.name}_out", self.source.dtype, ())


class TensorRT(ModuleType):
    """The module; `config` and `creation_flags` are of the last build.

    Args:
        gpu: that timing caches are of.
        precision: that convolutions run in, as the build log spells it.
    """

    def __init__(self, gpu: str = "GPU-A", precision: str = "Float") -> None:
        super().__init__("tensorrt")
        self.__version__ = "10.16.1.11"
        for name, members in NAMES.items():
            setattr(self, name, IntEnum(name, members, start=0))
        self.ILogger = type("ILogger", (), {"__init__": lambda _: None})
        self.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda _: None})
        self.gpu = gpu
        self.precision = precision
        self.measured = "kernel-1"  # what a build adds to its timing cache
        self.fails = ""  # the error of a build, if it shall fail
        self.meanwhile: Callable[[], object] = lambda: None  # happens during a build
        self.config = Config(gpu)
        self.creation_flags: set[str] = set()

    def nptype(self, dtype: Any) -> Any:
        """The NumPy type."""
        return {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}[dtype.name]

    def Builder(self, log: Any) -> Any:  # noqa: N802  # TensorRT's name
        """An IBuilder."""
        return Builder(self, log)

    def OnnxParser(self, network: Any, _log: Any) -> Any:  # noqa: N802
        """Fills the network."""
        return Parser(self, network)


@dataclass
class Network:
    """An INetworkDefinition."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))
    num_layers = property(lambda self: len(self.layers))

    def get_input(self, index: int) -> Tensor:
        """One of the inputs."""
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        """One of the outputs."""
        return self.outputs[index]

    def get_layer(self, index: int) -> Layer:
        """One of the layers."""
        return self.layers[index]


@dataclass
class Parser:
    """An OnnxParser."""

    library: Any
    network: Network

    def parse_from_file(self, path: str) -> bool:
        """Read inputs, outputs and convolutions."""
        graph = onnx.load(Path(path)).graph
        types = self.library.DataType
        names = {onnx.TensorProto.UINT8: types.UINT8, onnx.TensorProto.FLOAT: types.FLOAT}
        for values, found in ((graph.input, "inputs"), (graph.output, "outputs")):
            for value in values:
                tensor = value.type.tensor_type
                shape = tuple(dim.dim_value or -1 for dim in tensor.shape.dim)
                getattr(self.network, found).append(
                    Tensor(value.name, names[tensor.elem_type], shape)
                )
        self.network.layers = [
            Layer(node.name, self.library.LayerType.CONVOLUTION, Tensor("x", types.FLOAT, ()))
            for node in graph.node
            if node.op_type == "Conv"
        ]
        return True


@dataclass
class Builder:
    """An IBuilder."""

    library: Any
    log: Any

    def create_network(self, flags: int) -> Network:
        """Remember the flags by name."""
        known = self.library.NetworkDefinitionCreationFlag
        self.library.creation_flags = {flag.name for flag in known if flags & 1 << flag}
        return Network()

    def create_builder_config(self) -> Config:
        """As TensorRT sets it up: TF32 is on."""
        self.library.config = Config(self.library.gpu)
        return self.library.config

    def create_optimization_profile(self) -> Profile:
        """Without shapes."""
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        """Measure a kernel, list the layers in the log, return a plan."""
        self.library.meanwhile()
        severity = self.library.Severity
        if self.library.fails:
            self.log.log(severity.ERROR, self.library.fails)
            return None
        if config.cache is not None:
            config.cache.entries.add(self.library.measured)
        for index in range(max(1, len(config.profiles))):
            self.log.log(severity.INFO, f"Total Activation Memory: {1000 + index} bytes")
        if config.profiling_verbosity.name == "DETAILED":
            kernels = (
                f"Name: {layer.name}, LayerType: CaskConvolution, Inputs: [ {{ Name: i, Location: "
                f"Device, Dimensions: [1], Format/Datatype: {self.library.precision} }}], "
                "Outputs: [ ]"
                for layer in network.layers
            )
            self.log.log(severity.VERBOSE, "\n".join(["Layers:", *kernels]))
        return b"a plan of TensorRT"
