"""Whether an engine plan can be loaded here, decided before a byte of it is deserialized."""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from segdeploy.artifacts import Manifest
from segdeploy.cuda import GpuFacts
from segdeploy.engine_options import Hardware
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.spec import Runtime

OLDEST_RTX = "8.0"  # that a TensorRT-RTX plan is for where no compute capability was asked for
AMPERE = "8.0"
# NVIDIA's table of version compatibility: version-compatible plans of 10 load in 11, no others
# across a major version.
NEXT_MAJOR = {10: 11}


@dataclass(frozen=True)
class Here:
    """What a plan meets: the library's version, the system, and the GPU."""

    version: str
    os: str
    gpu: GpuFacts


def system_name() -> str:
    """System and processor, as in "Linux x86_64"."""
    return f"{platform.system()} {platform.machine()}"


def flavour_of(path: Path, manifest: Manifest) -> Runtime:
    """Which TensorRT a plan is for.

    Raises:
        SegdeployError: it is for none.
    """
    if manifest.runtime is not None and manifest.runtime.is_tensorrt:
        return manifest.runtime
    raise SegdeployError(
        f"{path}: is made for {manifest.runtime or 'no runtime'}; wanted an engine of "
        f"{Runtime.TENSORRT} or {Runtime.TENSORRT_RTX}",
        hint="segdeploy build-engine makes one",
    )


def check_compatible(path: Path, manifest: Manifest, here: Here) -> None:
    """Refuse a plan that was built for another version, system or GPU.

    Raises:
        MisfitError: in one line: built with X, this is Y; and what to do.
    """
    build, runtime = manifest.build, flavour_of(path, manifest)
    title = runtime.display_name
    if build is None:
        raise MisfitError(
            f"{path}: its manifest has no record of the build: an older segdeploy made it",
            hint=_rebuild(manifest),
        )
    if not _version_fits(manifest.runtime_version, here.version, build.options.version_compatible):
        raise MisfitError(
            f"{path}: built with {title} {manifest.runtime_version}, this is {here.version}; "
            + ("it loads in later versions" if build.options.version_compatible else
               "a plan loads only in the version that built it"),
            hint=f"install {title} {manifest.runtime_version}, or {_rebuild(manifest)}",
        )  # fmt: skip
    if build.os != here.os and runtime is Runtime.TENSORRT:  # NVIDIA: RTX plans serve any system
        raise MisfitError(
            f"{path}: built on {build.os}, this is {here.os}", hint=_rebuild(manifest)
        )
    found = here.gpu.compute_capability
    if wanted := _wanted_capability(manifest, found):
        on = f" on {build.gpu}" if build.gpu else ""
        raise MisfitError(
            f"{path}: built{on} for compute capability {wanted}, "
            f"this is {here.gpu.name} with {found}",
            hint=_rebuild(manifest),
        )


def _version_fits(built: str, here: str, compatible: bool) -> bool:
    if built == here or not compatible:
        return built == here
    first, second = _numbers(built), _numbers(here)
    if first[0] == second[0]:
        return first <= second
    return NEXT_MAJOR.get(first[0]) == second[0]


def _wanted_capability(manifest: Manifest, found: str) -> str:
    """What the GPU would have to have, in words; "" if it has it."""
    build = manifest.build
    assert build is not None
    if manifest.runtime is Runtime.TENSORRT_RTX:
        asked = build.options.compute_capabilities or (OLDEST_RTX,)
        oldest = min(asked, key=_numbers)
        return "" if _numbers(found) >= _numbers(oldest) else f"{oldest} or later"
    if build.options.hardware is Hardware.AMPERE_PLUS:
        return "" if _numbers(found) >= _numbers(AMPERE) else f"{AMPERE} or later"
    return "" if found == build.compute_capability else build.compute_capability or "unknown"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version))) or (0,)


def _rebuild(manifest: Manifest) -> str:
    return (
        f"build it here: --rebuild, or segdeploy build-engine {manifest.model} "
        f"--target {manifest.runtime}"
    )
