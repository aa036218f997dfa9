"""The options of TensorRT's builder, each written once, and what they say together."""

import re
from pathlib import Path
from typing import Annotated

import typer

from segdeploy.engine_options import EngineOptions, Hardware, Verbosity
from segdeploy.shapes import Profile, ShapeProfile
from segdeploy.spec import INPUT

Shapes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MIN,OPT,MAX",
        help="TensorRT: the images that a context takes, such as 1x256x512,1x512x1024,4x1024x2048. "
        "Repeat it for contexts that run at the same time.",
    ),
]
Workspace = Annotated[
    str | None,
    typer.Option(metavar="BYTES", help="TensorRT: the most that a layer may take, such as 4GiB."),
]
OptimizationLevel = Annotated[
    int | None, typer.Option(metavar="0..5", help="TensorRT: from a fast build to a fast engine.")
]
Tf32 = Annotated[bool, typer.Option("--tf32", help="TensorRT: fp32 with 10 bits of mantissa.")]
ComputeCapability = Annotated[
    list[str] | None,
    typer.Option(metavar="M.N", help="TensorRT-RTX: a GPU to build for, such as 8.9."),
]
VersionCompatible = Annotated[
    bool, typer.Option("--version-compatible", help="TensorRT: later versions load it too.")
]
HardwareCompatible = Annotated[
    Hardware | None, typer.Option("--hardware-compatible", help="TensorRT: other GPUs run it too.")
]
Refit = Annotated[bool, typer.Option("--refit", help="TensorRT: weights can be replaced.")]
StripPlan = Annotated[
    bool, typer.Option("--strip-plan", help="TensorRT: leave the weights to the graph's file.")
]
Sparsity = Annotated[
    bool, typer.Option("--sparsity", help="TensorRT: use kernels for 2:4 sparse weights.")
]
VerbosityName = Annotated[
    Verbosity, typer.Option("--verbosity", help="TensorRT: what the plan tells of its layers.")
]
NoTimingCache = Annotated[
    bool, typer.Option("--no-timing-cache", help="TensorRT: keep no kernel times for later.")
]
SaveLog = Annotated[
    Path | None, typer.Option(metavar="F", help="TensorRT: write what the builder said.")
]
DryRunFlag = Annotated[
    bool, typer.Option("--dry-run", help="TensorRT: say what would be built, and its memory.")
]


def parse_builder(
    *,
    shapes: list[str] | None,
    workspace: str | None,
    optimization_level: int | None,
    tf32: bool,
    compute_capability: list[str] | None,
    version_compatible: bool,
    hardware: Hardware | None,
    refit: bool,
    strip: bool,
    sparsity: bool,
    verbosity: Verbosity,
    timing_cache: bool,
) -> EngineOptions | None:
    """What TensorRT is told; None where nothing was asked for."""
    usual = EngineOptions()
    told = EngineOptions(
        profiles=tuple(map(parse_shapes, shapes or ())),
        workspace_bytes=usual.workspace_bytes if workspace is None else parse_bytes(workspace),
        optimization_level=optimization_level,
        tf32=tf32,
        compute_capabilities=tuple(compute_capability or ()),
        version_compatible=version_compatible,
        hardware=hardware or usual.hardware,
        refit=refit,
        strip=strip,
        sparsity=sparsity,
        verbosity=verbosity,
        timing_cache=timing_cache,
    )
    return None if told == usual else told


def parse_shapes(text: str) -> Profile:
    """The smallest, the usual and the largest images of one context; one alone is all three.

    Each is NxHxW, or HxW for single images.
    """
    parts = text.split(",")
    if len(parts) not in (1, 3):
        raise typer.BadParameter(f"--shapes {text}: wanted MIN,OPT,MAX or one shape")
    low, usual, high = (_parse_shape(part, text) for part in (parts * 3)[:3])
    return (ShapeProfile(tensor=INPUT, min=low, opt=usual, max=high),)


def _parse_shape(part: str, text: str) -> tuple[int, ...]:
    found = re.fullmatch(r"(?:(\d+)x)?(\d+)x(\d+)", part.strip().lower())
    if found is None:
        raise typer.BadParameter(f"--shapes {text}: {part!r} is not NxHxW or HxW")
    batch, height, width = found.groups(default="1")
    return (int(batch), int(height), int(width), 3)


def parse_bytes(text: str) -> int:
    """A number of bytes, with or without KiB, MiB or GiB."""
    found = re.fullmatch(r"(\d+)\s*([KMG]iB)?", text)
    if found is None:
        raise typer.BadParameter(f"--workspace {text}: wanted a size such as 512MiB or 4GiB")
    number, unit = found.groups()
    return int(number) << {None: 0, "KiB": 10, "MiB": 20, "GiB": 30}[unit]
