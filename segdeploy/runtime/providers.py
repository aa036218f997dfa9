"""What ONNX Runtime is told of each execution provider. Pure: it loads nothing.

The options of the GPU providers are those of ONNX Runtime's documentation; they have not run yet,
see docs/verification.md.
"""

from pathlib import Path
from typing import NamedTuple

from segdeploy.artifacts import Manifest
from segdeploy.runtime.session import Provider
from segdeploy.spec import Device, Precision


class ProviderChoice(NamedTuple):
    """A provider by ONNX Runtime's name, and its options."""

    name: str
    options: dict[str, str]


CPU_PROVIDER = ProviderChoice("CPUExecutionProvider", {})


def choose_provider(
    manifest: Manifest, device: Device, provider: Provider, cache: Path
) -> ProviderChoice:
    """The provider for a graph on `device`.

    Args:
        manifest: of the graph.
        device: where it runs.
        provider: which of the two on a GPU.
        cache: folder for the engines that the TensorRT provider builds, which takes minutes.
    """
    if not device.is_cuda:
        return CPU_PROVIDER
    if provider is Provider.CUDA:
        return ProviderChoice(
            "CUDAExecutionProvider",
            {
                "device_id": str(device.number),
                "use_tf32": "0",  # so that fp32 labels are those of PyTorch
                "arena_extend_strategy": "kSameAsRequested",  # not the next power of two
            },
        )
    is_int8 = manifest.precision is Precision.INT8
    return ProviderChoice(
        "TensorrtExecutionProvider",
        {
            "device_id": str(device.number),
            # It builds weakly typed: without these flags an fp16 or int8 graph runs in fp32.
            "trt_fp16_enable": str(int(manifest.precision is not Precision.FP32)),
            "trt_int8_enable": str(int(is_int8)),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
        },
    )
