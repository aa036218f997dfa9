"""Arguments and options that several commands share, each written once."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from segdeploy.artifacts import Store
from segdeploy.errors import SegdeployError
from segdeploy.spec import Device, Size

if TYPE_CHECKING:
    from segdeploy.pipeline.modes import Mode

DEFAULT_MODEL = "demo"  # the one whose weights come with the package
DATA = Path("data")  # where data sets are looked for
STORE = Store()
E = TypeVar("E", bound=StrEnum)

Model = Annotated[
    str, typer.Argument(help="A model of the zoo, a method such as deeplabv3plus, or a TOML file.")
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Weights, or random:SEED. Default: the bundled or downloaded file."
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|DIR", help="What int8 is calibrated on. Default: the data set's own list."
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        envvar="SEGDEPLOY_DATA", metavar="DIR", help="The data set, or a folder that holds it."
    ),
]


def parse_device(text: str) -> Device:
    """The name of a device, such as cuda:1."""
    try:
        return Device(text)
    except SegdeployError as error:
        raise typer.BadParameter(error.problem) from error


DeviceName = Annotated[
    Device | None,
    typer.Option(
        parser=parse_device,
        metavar="cpu|cuda[:N]",
        help="Where it runs. Default: a GPU for TensorRT, else the CPU.",
    ),
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Build an engine again that does not fit this machine."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class BuildTarget(StrEnum):
    """What `build-engine` builds for."""

    AUTO = "auto"
    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class Tuned(StrEnum):
    """What `export --for` rewrites for."""

    CPU = "cpu"
    GPU = "gpu"


def parse_size(text: str) -> Size:
    """Height and width, such as 512x1024."""
    try:
        return Size.parse(text)
    except SegdeployError as error:
        raise typer.BadParameter(f"{error.problem}, {error.hint}") from error


def parse_batch(text: str) -> int | None:
    """A number, or None for "dynamic"."""
    if text == "dynamic":
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"--batch {text}: wanted a number or dynamic")
    return int(text)


def parse_list(text: str, known: type[E], option: str) -> tuple[E, ...]:
    """The members of a comma-separated list, each once."""
    values = dict.fromkeys(part.strip() for part in text.split(","))
    for value in values:
        if value not in list(known):
            raise typer.BadParameter(
                f"{option} {text}: {value!r} is unknown, wanted {', '.join(known)}"
            )
    return tuple(known(value) for value in values)


class Passage(StrEnum):
    """What `--mode` says: how much of an image the network sees at a time."""

    WHOLE = "whole"
    SLIDE = "slide"


ModeName = Annotated[
    Passage, typer.Option("--mode", help="The whole image, or crops whose scores are averaged.")
]
Crop = Annotated[
    str | None, typer.Option("--crop", metavar="HxW", help="Of --mode slide: size of a crop.")
]
Stride = Annotated[
    str | None, typer.Option("--stride", metavar="HxW", help="Of --mode slide: from crop to crop.")
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Average six scales and their mirror images: mmseg's ms+flip.")
]


def parse_mode(name: Passage, crop: str | None, stride: str | None, *, tta: bool) -> "Mode":
    """How an image passes through the network, of the four options that say so."""
    from segdeploy.pipeline.modes import Mode

    sides = [text for text in (crop, stride) if text is not None]
    if name is Passage.WHOLE and sides:
        raise typer.BadParameter("--crop and --stride go with --mode slide")
    if name is Passage.SLIDE and len(sides) < 2:
        raise typer.BadParameter("--mode slide wants --crop HxW and --stride HxW")
    try:
        return Mode(
            crop=None if crop is None else parse_size(crop),
            stride=None if stride is None else parse_size(stride),
            tta=tta,
        )
    except SegdeployError as error:
        raise typer.BadParameter(error.problem) from error
