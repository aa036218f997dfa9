"""What ONNX Runtime is told of each provider."""

from pathlib import Path

import pytest

from segdeploy.artifacts import Manifest
from segdeploy.runtime.providers import choose_provider
from segdeploy.runtime.session import Provider
from segdeploy.spec import CPU, ClassSet, Device, Method, Precision

CACHE = Path("there/onnxruntime-tensorrt")


def manifest(precision: Precision = Precision.FP32) -> Manifest:
    return Manifest(
        model="demo", method=Method.FCN, classes=ClassSet.numbered(2), precision=precision
    )


@pytest.mark.parametrize("provider", Provider)
def test_on_the_cpu_there_is_one_provider_without_options(provider):
    assert choose_provider(manifest(), CPU, provider, CACHE) == ("CPUExecutionProvider", {})


def test_cuda_runs_on_the_gpu_that_is_named_and_rounds_as_pytorch_does():
    name, options = choose_provider(manifest(), Device("cuda:1"), Provider.CUDA, CACHE)

    assert (name, options["device_id"], options["use_tf32"]) == ("CUDAExecutionProvider", "1", "0")


@pytest.mark.parametrize(
    ("precision", "flags"),
    [(Precision.FP32, "00"), (Precision.FP16, "10"), (Precision.INT8, "11")],
)
def test_tensorrt_may_use_the_precision_of_the_graph_and_no_lower_one(precision, flags):
    name, options = choose_provider(manifest(precision), Device("cuda:2"), Provider.TENSORRT, CACHE)

    assert (name, options["device_id"]) == ("TensorrtExecutionProvider", "2")
    assert options["trt_fp16_enable"] + options["trt_int8_enable"] == flags


def test_tensorrt_keeps_its_engines_where_it_is_told():
    _, options = choose_provider(manifest(), Device("cuda"), Provider.TENSORRT, CACHE)

    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(CACHE)


@pytest.mark.parametrize("provider", Provider)
def test_options_are_strings_as_onnx_runtime_takes_them(provider):
    _, options = choose_provider(manifest(), Device("cuda"), provider, CACHE)

    assert options
    assert {type(value) for value in options.values()} == {str}
