"""Engines of TensorRT-RTX, built for real, for the whole zoo in every precision."""

from dataclasses import replace
from pathlib import Path

import pytest
from tensorrt_double import TensorRT

from segdeploy.artifacts import EnginePlan, Store, sha256_of
from segdeploy.compatibility import system_name
from segdeploy.cuda import GpuFacts, driver_problem
from segdeploy.engine import builder
from segdeploy.engine_options import EngineOptions, Hardware
from segdeploy.environment import Gpu
from segdeploy.errors import SegdeployError
from segdeploy.export import ExportOptions
from segdeploy.images import write_png
from segdeploy.nets.checkpoint import random_checkpoint
from segdeploy.pipeline import plans
from segdeploy.pipeline.graphs import export_model
from segdeploy.pipeline.make import EngineRequest, engine_of_graph
from segdeploy.pipeline.source import Source
from segdeploy.recipes import load_model
from segdeploy.runtime import open_session
from segdeploy.shapes import ShapeProfile
from segdeploy.spec import INPUT, Method, Output, Precision, Runtime, Size

library = pytest.importorskip("tensorrt_rtx")
ZOO = [f"{method}-{dataset}" for method in Method for dataset in ("cityscapes", "ade20k")]
STATIC, DYNAMIC = {"size": Size(64, 96), "batch": 1}, {"size": None, "batch": None}


@pytest.fixture(scope="module")
def frames(tmp_path_factory, blocks) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for seed in range(2):
        write_png(folder / f"{seed}.png", blocks(Size(64, 96), seed=seed)[0])
    return folder


def build(graph, precision, store, frames=None, **changes):
    return engine_of_graph(
        graph,
        EngineRequest(
            **{
                "precision": precision,
                "runtime": Runtime.TENSORRT_RTX,
                "calibration": None if frames is None else str(frames),
                "store": Store(store),
                **changes,
            }
        ),
    )


def zoo_graph(name, precision, axes, folder):
    """At a third of the width with random weights: every layer, little of the work.

    Labels for Cityscapes, logits for ADE20K, so that engines of both are built.
    """
    spec = replace(load_model(name), width=0.35, head_channels=16)
    source = Source(spec, random_checkpoint(spec, seed=0))
    output = Output.LOGITS if name.endswith("ade20k") else Output.LABELS
    options = ExportOptions(**axes, precision=precision, output=output)
    return export_model(source, options, folder / f"{precision}.onnx", verify=False).graph


# Each method at one size, as Cityscapes has it, and at any, as ADE20K needs it: the two models of a
# method differ by their last layer alone.
@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_is_built_in_every_precision(name, tmp_path, frames):
    axes = DYNAMIC if name.endswith("ade20k") else STATIC
    single = zoo_graph(name, Precision.FP32, axes, tmp_path)
    half = zoo_graph(name, Precision.FP16, axes, tmp_path)

    built = {
        Precision.FP32: build(single, Precision.FP32, tmp_path),
        Precision.FP16: build(half, Precision.FP16, tmp_path),
        Precision.INT8: build(half, Precision.INT8, tmp_path, frames),
    }

    for precision, engine in built.items():
        manifest = EnginePlan.load(engine.plan.path).manifest
        assert engine.plan.path.suffix == ".plan"
        assert engine.seconds > 0
        assert manifest.precision is precision
        assert manifest.size == axes["size"]
        assert (manifest.runtime, manifest.runtime_version) == (
            Runtime.TENSORRT_RTX,
            library.__version__,
        )
        assert manifest.sha256 == sha256_of(engine.plan.path)
        record = manifest.build
        assert (record.os, record.gpu) == (system_name(), "")
        assert [tensor.name for tensor in record.inputs] == [INPUT]
        assert record.inputs[0].is_dynamic == (axes is DYNAMIC)
        assert [tensor.name for tensor in record.outputs] == [manifest.output]
        assert len(record.options.profiles) == (axes is DYNAMIC)
        assert len(record.activation_bytes) == 1
        counts = {kind: count for kind, count, _ in record.convolutions}
        assert sum(counts.values()) > 50  # 52 of the backbone alone
        assert 0.95 < sum(share for _, _, share in record.convolutions) <= 1.0
        if precision is Precision.INT8:
            assert manifest.quantization == "tensorrt"
            assert manifest.calibration_split == f"folder:{frames.name}"
            assert counts[Precision.INT8] > 30
            assert counts[Precision.FP16] >= 17  # the depthwise ones of the backbone
            assert set(counts) == {Precision.INT8, Precision.FP16}
            assert record.convolutions[0][2] > 0.8  # of the multiplications
        else:
            assert set(counts) == {precision}


@pytest.mark.slow
def test_shapes_make_a_context_each_and_unfit_ones_are_refused_first(exported, tmp_path):
    graph = exported(Method.PSPNET, size=None, batch=None)
    profiles = (images((1, 32, 32), (2, 64, 96), (4, 161, 227)), images((1, 64, 64)))

    built = build(graph, None, tmp_path, builder=EngineOptions(profiles=profiles))

    record = built.plan.manifest.build
    assert record.options.profiles == profiles
    large, small = record.activation_bytes
    assert large > small
    for unfit, problem in (
        (images((1, 96, 32), (1, 64, 64), (1, 128, 128)), "wanted min <= opt <= max"),
        (images((1, 16, 16)), "wanted from 1x32x32x3 to 64x8192x8192x3"),
        (images((65, 64, 64)), "wanted from 1x32x32x3 to"),
    ):
        with pytest.raises(SegdeployError, match=problem):
            build(graph, None, tmp_path, builder=EngineOptions(profiles=(unfit,)))


def images(*shapes):
    low, usual, high = ((*shape, 3) for shape in (shapes * 3)[:3])
    return (ShapeProfile(tensor=INPUT, min=low, opt=usual, max=high),)


def test_a_graph_of_a_fixed_size_takes_no_shapes(exported, tmp_path):
    options = EngineOptions(profiles=(images((1, 64, 96)),))

    with pytest.raises(SegdeployError, match="takes 1x64x96 and nothing else") as caught:
        build(exported(Method.FCN), None, tmp_path, builder=options)

    assert "--dynamic" in caught.value.hint


def test_tensorrt_keeps_kernel_times_and_says_on_which_gpu_it_built(
    exported, tmp_path, monkeypatch
):
    gpu = Gpu("NVIDIA A100-PCIE-40GB", "580.95.05", "8.0", 40 << 30)
    double = TensorRT()
    for module in (plans, builder):
        monkeypatch.setattr(module, "load_library", lambda _runtime: double)
    monkeypatch.setattr(builder, "require_driver", lambda _what: None)
    monkeypatch.setattr(plans, "_require_tensorrt", lambda: None)
    other = Gpu("an older GPU", gpu.driver, "7.5", None)
    monkeypatch.setattr(plans, "query_gpus", lambda: ((other, gpu), ""))
    facts = GpuFacts(gpu.name, gpu.compute_capability)
    monkeypatch.setattr(plans, "describe_gpu", lambda number: facts)
    graph, cache = (
        exported(Method.FCN),
        tmp_path / "timing/NVIDIA-A100-PCIE-40GB-8.0-10.16.1.11.cache",
    )
    asked = {"runtime": Runtime.TENSORRT}

    without = build(graph, None, tmp_path, builder=EngineOptions(timing_cache=False), **asked)
    again = build(graph, None, tmp_path, **asked)
    there_before = cache.exists()
    wide = build(
        graph, None, tmp_path, builder=EngineOptions(hardware=Hardware.AMPERE_PLUS), **asked
    )

    record = without.plan.manifest.build
    assert (record.gpu, record.compute_capability, record.driver) == (
        gpu.name, "8.0", "580.95.05",
    )  # fmt: skip
    assert without.plan.manifest.machine == gpu.name
    assert again.seconds == 0  # how long it took does not make another engine
    assert not there_before
    assert cache.is_file()
    assert wide.seconds > 0
    assert wide.plan.manifest.machine == "NVIDIA GPUs of compute capability 8.0 and later"


@pytest.mark.slow
def test_what_the_builder_is_told_makes_another_engine(exported, tmp_path):
    graph = exported(Method.FCN)
    request = EngineRequest(
        precision=None, runtime=Runtime.TENSORRT_RTX, store=Store(tmp_path / "a")
    )
    told = replace(request, builder=EngineOptions(workspace_bytes=1 << 28, optimization_level=1))
    log = tmp_path / "build.log"

    usual = engine_of_graph(graph, request)
    other = engine_of_graph(graph, told)
    again = engine_of_graph(graph, told)
    logged = engine_of_graph(graph, replace(told, save_log=log))

    assert min(usual.seconds, other.seconds, logged.seconds) > 0  # a log is of a build
    assert again.seconds == 0
    assert "Layers:" in log.read_text()


def test_onnxruntime_is_told_nothing_of_tensorrts(exported, tmp_path):
    request = EngineRequest(
        precision=None,
        runtime=Runtime.ONNXRUNTIME,
        store=Store(tmp_path),
        builder=EngineOptions(tf32=True),
    )

    with pytest.raises(SegdeployError, match="are TensorRT's; onnxruntime has none"):
        engine_of_graph(exported(Method.FCN), request)

    assert not list(tmp_path.rglob("*.ort"))


@pytest.mark.slow
def test_an_engine_is_built_once(exported, tmp_path):
    graph = exported(Method.FCN)
    first = build(graph, None, tmp_path)

    second = build(graph, None, tmp_path)

    assert first.seconds > 0
    assert second.seconds == 0
    assert second.plan == first.plan


@pytest.mark.slow
@pytest.mark.skipif(driver_problem() is None, reason="there is a driver")
def test_an_engine_without_a_driver_is_refused_in_words(exported, tmp_path):
    plan = build(exported(Method.FCN), None, tmp_path).plan

    with pytest.raises(SegdeployError, match=r"TensorRT-RTX engine") as caught:
        open_session(plan)

    assert "driver" in caught.value.problem
