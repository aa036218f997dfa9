"""Engines of TensorRT-RTX, built for real, for every method in every precision."""

from dataclasses import replace
from pathlib import Path

import pytest

from segdeploy.artifacts import EnginePlan, Store, sha256_of
from segdeploy.cuda import driver_problem
from segdeploy.engine_options import EngineOptions
from segdeploy.errors import SegdeployError
from segdeploy.images import write_png
from segdeploy.pipeline.make import EngineRequest, engine_of_graph
from segdeploy.runtime import open_session
from segdeploy.spec import Method, Output, Precision, Runtime, Size

library = pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="module")
def frames(tmp_path_factory, blocks) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for seed in range(2):
        write_png(folder / f"{seed}.png", blocks(Size(64, 96), seed=seed)[0])
    return folder


def build(graph, precision, store, frames=None):
    return engine_of_graph(
        graph,
        EngineRequest(
            precision=precision,
            runtime=Runtime.TENSORRT_RTX,
            calibration=None if frames is None else str(frames),
            store=Store(store),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("method", Method)
def test_a_floating_engine_computes_as_its_graph(exported, tmp_path, method, precision):
    built = build(exported(method, precision=precision), precision, tmp_path)

    plan = EnginePlan.load(built.plan.path)
    assert plan.path == tmp_path / f"narrow-{method}" / f"{plan.path.name}"
    assert plan.path.suffix == ".plan"
    assert plan.manifest.precision is precision
    assert plan.manifest.runtime is Runtime.TENSORRT_RTX
    assert plan.manifest.runtime_version == library.__version__
    assert plan.manifest.sha256 == sha256_of(plan.path)
    assert set(built.convolutions) == {precision}
    assert built.convolutions[precision] > 50  # 52 of the backbone alone


@pytest.mark.slow
@pytest.mark.parametrize("method", Method)
def test_an_int8_engine_keeps_only_depthwise_convolutions_floating(
    exported, tmp_path, frames, method
):
    graph = exported(method, precision=Precision.FP16)

    built = build(graph, Precision.INT8, tmp_path, frames)

    manifest = EnginePlan.load(built.plan.path).manifest
    assert manifest.precision is Precision.INT8
    assert manifest.quantization == "tensorrt"
    assert manifest.calibration_split == f"folder:{frames.name}"
    assert built.convolutions[Precision.INT8] > 30
    assert built.convolutions[Precision.FP16] >= 17  # the depthwise ones of the backbone
    assert Precision.FP32 not in built.convolutions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (Method.PSPNET, {"size": None, "batch": None}),
        (Method.DEEPLABV3PLUS, {"size": None, "output": Output.LOGITS}),
    ],
)
def test_a_dynamic_engine_is_built_for_all_sizes_at_once(exported, tmp_path, method, fields):
    built = build(exported(method, **fields), None, tmp_path)

    assert EnginePlan.load(built.plan.path).manifest.size is None
    assert set(built.convolutions) == {Precision.FP32}


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
