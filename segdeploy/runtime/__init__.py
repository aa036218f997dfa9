"""Engines and sessions: an artifact, loaded and ready to run."""

from typing import assert_never

from segdeploy.artifacts import Artifact, EnginePlan, Graph, Manifest
from segdeploy.errors import SegdeployError, needs
from segdeploy.runtime.session import Engine, Provider, RunOptions, Session, Splitting
from segdeploy.runtime.shared import SharedEngine
from segdeploy.spec import CPU, GPU, Device, Runtime

__all__ = [
    "Engine",
    "Provider",
    "RunOptions",
    "Session",
    "Splitting",
    "open_engine",
    "open_session",
]
USUAL = RunOptions()


def open_engine(
    artifact: Artifact, device: Device | None = None, options: RunOptions = USUAL
) -> Engine:
    """Load `artifact` with the runtime that owns its kind; a plan is checked against its manifest.

    Args:
        artifact: a graph or an engine.
        device: where it runs; None: what the artifact is made for. Nothing falls back to another.
        options: how it is loaded and run.

    Raises:
        SegdeployError: it does not fit this machine, or the device cannot be had.
    """
    runtime = artifact.manifest.runtime
    if device is None:
        device = GPU if runtime is not None and runtime.is_tensorrt else CPU
    match artifact:
        case Graph():
            with needs("onnxruntime", extra="onnxruntime"):
                from segdeploy.runtime.onnxruntime import open_graph
            return SharedEngine(open_graph(artifact, device, options))
        case EnginePlan(manifest=Manifest(runtime=Runtime.ONNXRUNTIME)):
            if device.is_cuda:
                raise SegdeployError(
                    f"{artifact.path}: is optimized for the CPU, asked for {device}",
                    hint="run the .onnx graph with --device cuda",
                )
            with needs("onnxruntime", extra="onnxruntime"):
                from segdeploy.runtime.onnxruntime import open_plan
            return SharedEngine(open_plan(artifact, threads=options.threads))
        case EnginePlan():
            from segdeploy.runtime.tensorrt import TensorRTEngine

            return TensorRTEngine(artifact, device, options)
        case _:
            assert_never(artifact)


def open_session(artifact: Artifact, *, device: Device | None = None, threads: int = 0) -> Session:
    """The only session of an engine that nobody else holds; closing it frees both."""
    return open_engine(artifact, device, RunOptions(threads=threads)).session()
