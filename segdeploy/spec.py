"""The vocabulary: what a model is, and the array types that pass along the line."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple, Self, assert_never

import numpy as np
from numpy.typing import NDArray

from segdeploy.errors import SegdeployError

Images = NDArray[np.uint8]  # (N, H, W, 3), RGB, as decoded; the graph normalizes
Image = NDArray[np.uint8]  # (H, W, 3), RGB
Labels = NDArray[np.uint8]  # (N, H, W), train ids; 255 is "ignore" and occurs in ground truth only
LabelMap = NDArray[np.uint8]  # (H, W), one of `Labels`
Logits = NDArray[np.float32]  # (N, classes, H / stride, W / stride), before the bilinear resize

# How a range is read off a histogram, see calibrate.collect_ranges.
RANDOM = "random:"  # and the seed: weights that have a speed but no accuracy
RangeMethod = Literal["max", "percentile", "entropy", "mse"]

INPUT = "image"  # name of every graph's input
MIN_SIDE = 32  # pixels: below it the pyramid's 6 bins are wider than the map at stride 8
MAX_SIDE = 8192  # pixels: four times the largest image of the test protocols
MAX_BATCH = 64
IGNORE = 255  # mmseg's ignore_index: a pixel of the ground truth that is not scored


class Precision(StrEnum):
    """The number format of a graph's convolutions: a property of the graph, never of a builder."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Method(StrEnum):
    """The decode head, as MMSegmentation's configs spell it."""

    FCN = "fcn"
    PSPNET = "pspnet"
    DEEPLABV3 = "deeplabv3"
    DEEPLABV3PLUS = "deeplabv3plus"

    @property
    def display_name(self) -> str:
        """The name that papers and tables print."""
        return {"fcn": "FCN", "pspnet": "PSPNet", "deeplabv3": "DeepLabV3"}.get(self, "DeepLabV3+")

    @property
    def stride(self) -> int:
        """Pixels of the image per logit along one axis."""
        return 4 if self is Method.DEEPLABV3PLUS else 8


class Output(StrEnum):
    """What a graph returns: `labels` at image size, or `logits` at the head's stride."""

    LABELS = "labels"
    LOGITS = "logits"


class Tuning(StrEnum):
    """Which exact rewrites a graph has been through: none, those that help anywhere, or more."""

    PLAIN = "plain"
    ANY = "any"
    CPU = "cpu"
    GPU = "gpu"


class MaskPlace(StrEnum):
    """Where labels are made of logits: in the graph, or by the session behind it."""

    GRAPH = "graph"
    HOST = "host"


class Runtime(StrEnum):
    """What executes an artifact."""

    PYTORCH = "pytorch"
    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"

    @property
    def display_name(self) -> str:
        """As its makers spell it."""
        match self:
            case Runtime.PYTORCH:
                return "PyTorch"
            case Runtime.ONNXRUNTIME:
                return "ONNX Runtime"
            case Runtime.TENSORRT:
                return "TensorRT"
            case Runtime.TENSORRT_RTX:
                return "TensorRT-RTX"
            case _:
                assert_never(self)

    @property
    def is_tensorrt(self) -> bool:
        """Either flavour."""
        return self in (Runtime.TENSORRT, Runtime.TENSORRT_RTX)


class Device(str):
    """Where a session runs: "cpu", or "cuda:1" for the second GPU; "cuda" means the first."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Read it; other names are refused."""
        kind, colon, index = text.lower().partition(":")
        is_number = index.isascii() and index.isdecimal() and len(index) < 4
        if kind == "cuda" and (is_number or not colon):
            return super().__new__(cls, f"cuda:{int(index or 0)}")
        if text.lower() != "cpu":
            raise SegdeployError(f"device {text!r:.60}; wanted cpu, cuda or cuda:N")
        return super().__new__(cls, "cpu")

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self != "cpu"

    @property
    def number(self) -> int:
        """Of the GPU, as CUDA counts them; 0 for the CPU."""
        return int(self.partition(":")[2] or 0)


CPU = Device("cpu")
GPU = Device("cuda")  # the first


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "512x1024" (height first)."""
        height, cross, width = text.lower().partition("x")
        if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
            raise SegdeployError(
                f"size {text!r}: expected HEIGHTxWIDTH", hint="for example 512x1024"
            )
        return cls(int(height), int(width))


@dataclass(frozen=True)
class ClassSet:
    """Class names, and their RGB colours: index = train id."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= IGNORE:
            raise SegdeployError(f"{len(self.names)} classes; wanted 2 to {IGNORE}")
        if len(self.names) != len(self.palette):
            raise SegdeployError(f"{len(self.names)} class names but {len(self.palette)} colours")
        if any(
            len(rgb) != 3 or not all(0 <= value <= 255 for value in rgb) for rgb in self.palette
        ):
            raise SegdeployError("a palette colour is not three values of 0 to 255")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def numbered(cls, count: int) -> Self:
        """Stand-in names and evenly spread colours, for a checkpoint that names no classes."""
        hues = [(37 * k % 256, 151 * k % 256, 211 * k % 256) for k in range(count)]
        return cls(tuple(f"class {k}" for k in range(count)), tuple(hues))


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation of RGB in 0..255; the default is ImageNet's."""

    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.mean)):
            raise SegdeployError(f"mean {self.mean}; wanted finite numbers")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise SegdeployError(f"standard deviation {self.std}; wanted finite numbers above 0")


@dataclass(frozen=True)
class ModelSpec:
    """Facts of one model; `classes` None means that the checkpoint file brings them."""

    name: str
    method: Method
    classes: ClassSet | None = None
    dataset: str | None = None
    size: Size | None = None  # what is traced by default; None: every image has its own size
    width: float = 1.0  # mmseg's widen_factor of the backbone
    head_channels: int = 512
    normalization: Normalization = field(default_factory=Normalization)
    checkpoint: Path | None = None  # bundled with the package
    checkpoint_url: str = ""
    sha256_prefix: str = ""
    license: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise SegdeployError(f"{self.name}: width {self.width}; wanted a number above 0")
        if self.head_channels < 1:
            raise SegdeployError(
                f"{self.name}: head_channels {self.head_channels}; wanted 1 or more"
            )

    @property
    def title(self) -> str:
        """For a table: the method and what it was trained on."""
        return f"{self.method.display_name} {self.dataset or 'own classes'}"
