"""What the options mean to TensorRT's builder, and what a flavour or a version of it cannot do."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from segdeploy.engine_options import EngineOptions, Hardware, Verbosity
from segdeploy.errors import SegdeployError
from segdeploy.spec import Runtime

VERBOSITIES = {
    Verbosity.NONE: "NONE",
    Verbosity.NAMES: "LAYER_NAMES_ONLY",
    Verbosity.DETAILED: "DETAILED",
}
LEVELS = {
    Hardware.SAME_CAPABILITY: "SAME_COMPUTE_CAPABILITY",
    Hardware.AMPERE_PLUS: "AMPERE_PLUS",
}
TURING = "7.5"
TURING_WARNING = (  # TensorRT-RTX 1.7.1, FCN in fp32 at 512x1024
    f"compute capability {TURING} makes a plan ten times as large: 451 MB instead of 38.5 MB "
    "for FCN; leave it out if no such GPU has to run it"
)


def check_options(runtime: Runtime, options: EngineOptions) -> None:
    """Refuse what the flavour does not have, before anything is loaded.

    Raises:
        SegdeployError: one of the options is the other flavour's.
    """
    if runtime is Runtime.TENSORRT and options.compute_capabilities:
        raise SegdeployError(
            "TensorRT builds for the GPU of this machine only, not for chosen compute capabilities",
            hint=f"leave them out, or build with {Runtime.TENSORRT_RTX}",
        )
    if runtime is Runtime.TENSORRT_RTX and options.version_compatible:
        raise SegdeployError(
            "TensorRT-RTX has no version-compatible plans: they load in the release that built "
            "them only",
            hint=f"leave it out, or build with {Runtime.TENSORRT}",
        )
    if runtime is Runtime.TENSORRT_RTX and options.hardware is not Hardware.SAME:
        raise SegdeployError(
            f"TensorRT-RTX has no hardware level {options.hardware}: its plans are for compute "
            "capabilities",
            hint="leave it out, and name each with --compute-capability, such as 8.9",
        )


def configure(library: ModuleType, builder: Any, runtime: Runtime, options: EngineOptions) -> Any:
    """Tell the builder all but the timing cache.

    A version-compatible plan leaves out the lean runtime. By TensorRT's documentation that runtime
    is host code in the plan, which a loader has to allow and then executes, and nothing in a file
    of ours is trusted so far. Another version loads such a plan with the lean runtime of the
    version that built it (package tensorrt-lean, `Runtime.load_runtime`).

    Raises:
        SegdeployError: this version of the library lacks something, or refuses a profile.
    """
    config = builder.create_builder_config()
    title = f"{runtime.display_name} {library.__version__}"
    config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.profiling_verbosity = _member(
        library.ProfilingVerbosity, VERBOSITIES[options.verbosity], title
    )
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if not options.tf32:  # which TensorRT has on
        config.clear_flag(library.BuilderFlag.TF32)
    for name in _flags(options):
        config.set_flag(_member(library.BuilderFlag, name, title))
    if options.hardware is not Hardware.SAME:
        level = _member(library.HardwareCompatibilityLevel, LEVELS[options.hardware], title)
        config.hardware_compatibility_level = level
    if options.compute_capabilities:
        _set_compute_capabilities(library, config, options.compute_capabilities)
    for wanted in options.profiles:
        profile = builder.create_optimization_profile()
        for shapes in wanted:
            profile.set_shape(shapes.tensor, shapes.min, shapes.opt, shapes.max)
        if config.add_optimization_profile(profile) < 0:
            raise SegdeployError(f"the shape profile {', '.join(map(str, wanted))} was refused")
    return config


def own_warnings(options: EngineOptions) -> tuple[str, ...]:
    """What the library does not say of what it was told."""
    found = []
    if TURING in options.compute_capabilities:
        found.append(TURING_WARNING)
    if options.verbosity is not Verbosity.DETAILED:
        found.append(
            f"the precision of the convolutions is not proved: with verbosity {options.verbosity} "
            f"the build log does not show it, with {Verbosity.DETAILED} it does"
        )
    return tuple(found)


def _flags(options: EngineOptions) -> Sequence[str]:
    flags = {
        "TF32": options.tf32,
        "VERSION_COMPATIBLE": options.version_compatible,
        "EXCLUDE_LEAN_RUNTIME": options.version_compatible,
        "STRIP_PLAN": options.strip,
        # A stripped plan gets its own weights back, for which TensorRT may keep all fusions; one
        # that shall also take others is refittable without that promise.
        "REFIT_IDENTICAL": options.strip and not options.refit,
        "REFIT": options.refit,
        "SPARSE_WEIGHTS": options.sparsity,
    }
    return [name for name, is_set in flags.items() if is_set]


def _member(enumeration: Any, name: str, title: str) -> Any:
    members = enumeration.__members__
    if name not in members:
        raise SegdeployError(
            f"{title} has no {enumeration.__name__}.{name}; it has {', '.join(members)}",
            hint="leave the option out, or upgrade",
        )
    return members[name]


def _set_compute_capabilities(library: ModuleType, config: Any, wanted: tuple[str, ...]) -> None:
    if not hasattr(library, "ComputeCapability"):  # an old TensorRT-RTX
        raise SegdeployError(
            f"TensorRT-RTX {library.__version__} builds for no chosen compute capability",
            hint="leave them out, or upgrade",
        )
    known = {
        f"{name[2:-1]}.{name[-1]}": value
        for name, value in library.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        if capability not in known or not config.set_compute_capability(known[capability], index):
            raise SegdeployError(
                f"TensorRT-RTX {library.__version__} does not build for compute capability "
                f"{capability}",
                hint=f"it builds for {', '.join(known)}",
            )
