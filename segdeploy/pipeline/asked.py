"""Finds the engine of a named model again without reading the model: in under a second, no torch.

What is asked for is hashed: the facts of the model, the bytes of its weights and of the calibration
images, and every choice. The manifest of an engine that was built for it holds the hash.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from segdeploy.artifacts import EnginePlan, engine_suffix, request_hash, sha256_of
from segdeploy.engine_options import EngineOptions
from segdeploy.errors import SegdeployError, needs
from segdeploy.nvinfer import load_library
from segdeploy.pipeline.built import existing_engine
from segdeploy.pipeline.calibration import default_calibration, open_calibration
from segdeploy.pipeline.plans import building_gpu
from segdeploy.pipeline.source import default_checkpoint
from segdeploy.recipes import load_model
from segdeploy.spec import RANDOM, ModelSpec, Precision, Runtime
from segdeploy.version import __version__

if TYPE_CHECKING:
    from segdeploy.pipeline.make import EngineRequest


def hash_of_asked(model: str, checkpoint: str | None, request: "EngineRequest") -> str:
    """What a command asks for; "" where something is missing, which building then names."""
    spec = load_model(model)
    try:
        return request_hash(
            segdeploy=__version__,
            torch=_torch_version(),
            spec=replace(spec, checkpoint=None),  # a path of this machine
            weights=_weights(spec, checkpoint, request),
            precision=request.precision,
            calibration=_calibration(spec, request),
            keep_fp32=request.keep_fp32,
            full_range=request.full_range,
            options=replace(request.builder or EngineOptions(), timing_cache=True),
            runtime=(request.runtime, *_machine(request.runtime)),
        )
    except SegdeployError:
        return ""


def find_asked(model: str, asked: str, request: "EngineRequest") -> EnginePlan | None:
    """The engine that was built for it, whole and unchanged."""
    for path in _candidates(load_model(model).name, request):
        beside = path.with_name(path.name + ".json")
        if beside.is_file() and asked in beside.read_text(errors="replace"):
            plan = existing_engine(path)
            if plan is not None and plan.manifest.asked == asked:
                return plan
    return None


def _candidates(name: str, request: "EngineRequest") -> Iterator[Path]:
    if request.out is not None:
        yield request.out
    else:
        folder = request.store.engine(name, "any", request.runtime).parent
        yield from sorted(folder.glob(f"*.{request.runtime}{engine_suffix(request.runtime)}"))


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def _weights(spec: ModelSpec, checkpoint: str | None, request: "EngineRequest") -> str:
    if checkpoint is not None and checkpoint.startswith(RANDOM):
        return checkpoint
    return sha256_of(Path(checkpoint) if checkpoint else default_checkpoint(spec, request.store))


def _calibration(spec: ModelSpec, request: "EngineRequest") -> tuple[object, ...]:
    if request.precision is not Precision.INT8:
        return ()
    chosen = request.calibration or default_calibration(spec.dataset)
    opened = open_calibration(chosen, request.data)
    return (opened.recipe, opened.content)


def _machine(runtime: Runtime) -> tuple[object, ...]:
    """What an engine is tied to."""
    if runtime is not Runtime.ONNXRUNTIME:
        return (load_library(runtime).__version__, building_gpu(runtime))
    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import VERSION, processor_kind
    return (VERSION, processor_kind())
