"""What `build-engine` shows: the engine that was built, or that would be."""

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from segdeploy.build_record import BuildRecord
from segdeploy.engine_options import EngineOptions
from segdeploy.shapes import ShapeProfile, shape_text

if TYPE_CHECKING:
    from segdeploy.pipeline.built import Built
    from segdeploy.pipeline.dry_run import DryRun


def built_json(built: "Built") -> dict[str, Any]:
    """An engine for machines."""
    manifest = built.plan.manifest
    return {
        "engine": str(built.plan.path),
        "runtime": manifest.runtime,
        "runtime_version": manifest.runtime_version,
        "precision": manifest.precision,
        "bytes": built.plan.path.stat().st_size,
        "seconds": built.seconds,
        "build": None if manifest.build is None else asdict(manifest.build),
        "calibration": manifest.calibration,
        "sha256": manifest.sha256,
        "warnings": built.warnings,
    }


def built_facts(built: "Built") -> dict[str, Any]:
    """An engine for people."""
    manifest = built.plan.manifest
    return {
        "engine": built.plan.path,
        "runtime": f"{manifest.runtime} {manifest.runtime_version}",
        "precision": manifest.precision,
        "megabytes": f"{built.plan.path.stat().st_size / 1e6:.2f}",
        "seconds": f"{built.seconds:.1f}" if built.seconds else "0 (the same engine was there)",
        **build_facts(manifest.build),
        "calibration": manifest.calibration,
    }


def build_facts(build: BuildRecord | None) -> dict[str, Any]:
    """Of an engine of TensorRT: where it was built, and how; nothing of another one."""
    if build is None:
        return {}
    gpu = f"{build.gpu}, compute capability {build.compute_capability}, driver {build.driver}"
    return {
        "built on": f"{build.os}, {gpu if build.gpu else 'without a GPU'}",
        "convolutions": ", ".join(
            f"{count} {precision} ({share:.1%} of the multiplications)"
            for precision, count, share in build.convolutions
        ),
        "shapes": "; ".join(
            _shapes_text(shapes) for profile in build.options.profiles for shapes in profile
        ),
        "options": _options_text(build.options),
        "activation memory": _memory_text(build.activation_bytes),
    }


def dry_run_json(found: "DryRun") -> dict[str, Any]:
    """An engine that was not built, for machines."""
    return {
        "graph": str(found.graph.path),
        "precision": found.graph.manifest.precision,
        "runtime": found.runtime,
        "runtime_version": found.version,
        "machine": found.machine,
        "options": asdict(found.options),
        "shapes": [asdict(shapes) for shapes in found.shapes],
        "estimated_activation_bytes": found.activation_bytes,
        "engine": str(found.engine),
        "is_there": found.is_there,
        "warnings": found.warnings,
    }


def dry_run_facts(found: "DryRun") -> dict[str, Any]:
    """An engine that was not built, for people."""
    state = "the same is there already" if found.is_there else "would be built"
    memory = _memory_text(found.activation_bytes)
    return {
        "graph": found.graph.path,
        "precision": found.graph.manifest.precision,
        "runtime": f"{found.runtime} {found.version}",
        "runs on": found.machine,
        "shapes": "; ".join(map(_shapes_text, found.shapes)),
        "options": _options_text(found.options) or "the usual ones",
        "engine": f"{found.engine} ({state})",
        "activation memory": f"{memory} or more, estimated from the graph",
    }


def _shapes_text(shapes: ShapeProfile) -> str:
    """For example 1x32x32 to 8x2048x2048, fastest at 1x512x1024."""
    low, usual, high = (shape_text(shape[:3]) for shape in (shapes.min, shapes.opt, shapes.max))
    return low if low == high else f"{low} to {high}, fastest at {usual}"


def _options_text(options: EngineOptions) -> str:
    """What differs from the usual options; shapes are told apart."""
    usual = EngineOptions()
    told = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name != "profiles" and getattr(options, field.name) != getattr(usual, field.name)
    }
    return ", ".join(
        f"{name} {', '.join(value) if isinstance(value, tuple) else value}"
        for name, value in told.items()
    )


def _memory_text(bytes_by_context: tuple[int, ...]) -> str:
    return ", ".join(f"{size / 1e6:.0f} MB" for size in bytes_by_context)
