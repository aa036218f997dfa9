"""Arguments and options that several commands share, each written once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from segdeploy.artifacts import Store
from segdeploy.errors import SegdeployError
from segdeploy.spec import Size

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
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


class BuildTarget(StrEnum):
    """What `build-engine` builds for."""

    AUTO = "auto"
    ONNXRUNTIME = "onnxruntime"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


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
