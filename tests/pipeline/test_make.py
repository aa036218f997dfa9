"""A model becomes the engine that was asked for, and nothing is made twice or passed off."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from segdeploy.artifacts import EnginePlan, Graph, Store
from segdeploy.errors import SegdeployError
from segdeploy.export import ExportOptions
from segdeploy.graph import read_graph
from segdeploy.images import write_png
from segdeploy.pipeline import engines, graphs, plans
from segdeploy.pipeline.calibration import open_calibration
from segdeploy.pipeline.make import (
    EngineRequest,
    default_graph_path,
    engine_of_graph,
    make_artifact,
    make_engine,
    make_engine_of,
)
from segdeploy.rewrite import passes
from segdeploy.runtime import open_session
from segdeploy.spec import CPU, Method, Output, Precision, Runtime, Size

SIZE = Size(64, 96)
OPTIONS = ExportOptions(size=SIZE)


@pytest.fixture(scope="module")
def source(narrow_source):
    return narrow_source(Method.FCN)


@pytest.fixture
def store(tmp_path, exported, source) -> Store:
    """A store that has the model's graph already."""
    store = Store(tmp_path / "artifacts")
    place = default_graph_path(source, OPTIONS, store)
    place.parent.mkdir(parents=True)
    shutil.copy(exported(Method.FCN).path, place)
    return store


@pytest.fixture
def frames(tmp_path, blocks) -> Path:
    for seed in range(4):
        write_png(tmp_path / "frames" / f"{seed}.png", blocks(Size(80, 100), seed=seed)[0])
    return tmp_path / "frames"


def ask(store: Store, **changes) -> EngineRequest:
    return EngineRequest(
        **{"precision": None, "runtime": Runtime.ONNXRUNTIME, "store": store, **changes}
    )


class ExportedAgain(Exception):  # noqa: N818  # a signal, not an error
    """A graph would have been traced."""


@pytest.fixture
def no_export(monkeypatch):
    def refuse(*_args: object) -> None:
        raise ExportedAgain

    monkeypatch.setattr(graphs, "export_model", refuse)


def test_what_is_there_and_fits_is_used_again(store, source, no_export):
    first = make_engine(source, OPTIONS, ask(store))
    written = first.plan.path.stat().st_mtime_ns

    second = make_engine(source, OPTIONS, ask(store))

    assert first.seconds > 0
    assert second.seconds == 0
    assert second.plan == first.plan
    assert second.plan.path.stat().st_mtime_ns == written
    assert first.plan.path == store.root / "narrow-fcn" / "fp32-64x96.onnxruntime.ort"


def test_another_checkpoint_is_exported_anew(store, source, no_export):
    other = replace(source, checkpoint=replace(source.checkpoint, sha256="another"))

    with pytest.raises(ExportedAgain):
        make_engine(other, OPTIONS, ask(store))


def test_a_damaged_graph_is_exported_anew(store, source, no_export):
    place = default_graph_path(source, OPTIONS, store)
    place.write_bytes(place.read_bytes()[:-100])

    with pytest.raises(ExportedAgain):
        make_engine(source, OPTIONS, ask(store))


def test_a_damaged_engine_is_built_anew(store, source):
    plan = make_engine(source, OPTIONS, ask(store)).plan
    plan.path.write_bytes(plan.path.read_bytes()[:-1])

    again = make_engine(source, OPTIONS, ask(store))

    assert again.seconds > 0
    assert EnginePlan.load(plan.path) == again.plan


def test_an_engine_goes_where_it_is_asked_to(store, source, tmp_path):
    built = make_engine(source, OPTIONS, ask(store, out=tmp_path / "here" / "own.ort"))

    assert built.plan.path == tmp_path / "here" / "own.ort"
    assert EnginePlan.load(built.plan.path).manifest.source_sha256


def test_an_engine_needs_the_suffix_that_other_commands_know(store, source, tmp_path):
    with pytest.raises(SegdeployError, match=r"own\.bin: wanted a name that ends in \.ort"):
        make_engine(source, OPTIONS, ask(store, out=tmp_path / "own.bin"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ExportOptions(), "fp32"),  # dynamic, as the model itself
        (ExportOptions(size=SIZE), "fp32-64x96"),
        (ExportOptions(precision=Precision.FP16, batch=None), "fp16-batchN"),
        (ExportOptions(size=SIZE, batch=4, output=Output.LOGITS), "fp32-64x96-batch4-logits"),
    ],
)
def test_a_graph_is_named_for_what_sets_it_apart(source, options, name):
    path = default_graph_path(source, options, Store(Path("a")))

    assert path == Path("a/narrow-fcn") / f"{name}.onnx"


def test_a_dynamic_graph_of_a_model_of_fixed_size_says_so(source):
    fixed = replace(source, spec=replace(source.spec, size=SIZE))

    path = default_graph_path(fixed, ExportOptions(), Store(Path("a")))

    assert path.name == "fp32-dynamic.onnx"


@pytest.fixture
def int8(store, exported, frames):
    return engine_of_graph(
        exported(Method.FCN), ask(store, precision=Precision.INT8, calibration=str(frames))
    )


def test_an_int8_engine_knows_what_it_was_calibrated_on(int8):
    manifest = EnginePlan.load(int8.plan.path).manifest

    assert manifest.precision is Precision.INT8
    assert manifest.calibration.startswith("frames: 4 images of folder:frames, ")
    assert manifest.calibration_split == "folder:frames"
    assert manifest.quantization == "onnxruntime"


def test_an_int8_engine_mostly_agrees_with_its_floating_graph(int8, exported, blocks):
    images = blocks(SIZE, seed=1)

    with open_session(exported(Method.FCN)) as floating, open_session(int8.plan) as quantized:
        agreement = (floating.run(images) == quantized.run(images)).mean()

    assert 0.7 < agreement < 1  # random weights quantize badly; measured: 0.89


def test_an_int8_graph_is_calibrated_once_for_the_same_images(int8, store, exported, frames):
    request = ask(store, precision=Precision.INT8, calibration=str(frames))
    graph = next(store.root.rglob("int8*.onnx"))
    written = graph.stat().st_mtime_ns

    again = engine_of_graph(exported(Method.FCN), request)

    assert again.seconds == 0
    assert graph.stat().st_mtime_ns == written


def test_other_images_are_calibrated_on_anew(int8, store, exported, frames, blocks):
    write_png(frames / "0.png", blocks(Size(80, 100), seed=77)[0])

    again = engine_of_graph(
        exported(Method.FCN), ask(store, precision=Precision.INT8, calibration=str(frames))
    )

    assert again.seconds > 0
    assert again.plan.manifest.request != int8.plan.manifest.request


def test_an_int8_graph_is_built_as_it_is(int8, store):
    graph = read_graph(next(store.root.rglob("int8*.onnx")))

    again = engine_of_graph(graph, ask(store))

    assert again.plan == int8.plan
    assert again.seconds == 0


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_an_engine_whose_rewrites_change_the_logits_is_not_built(
    int8, store, exported, monkeypatch, tmp_path, precision
):
    def spoil(model: ir.Model) -> int:
        """Everything a tenth larger that has a float for each channel."""
        floats = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.FLOAT]
        changed = [value for value in floats if value.const_value.size > 1]
        for value in changed:
            value.const_value = ir.tensor(value.const_value.numpy() * np.float32(1.1))
        return len(changed)

    monkeypatch.setattr(passes, "ON_CPU", (spoil,))
    quantized = next(store.root.rglob("int8*.onnx"))
    graph = exported(Method.FCN) if precision is Precision.FP32 else read_graph(quantized)

    with pytest.raises(SegdeployError, match=r"its logits differ by .* nothing was built"):
        engine_of_graph(graph, ask(store, precision=None, out=tmp_path / "spoiled.ort"))

    assert not (tmp_path / "spoiled.ort").exists()


def test_int8_needs_images_where_the_model_names_no_data_set(store, exported):
    with pytest.raises(SegdeployError, match="needs images to calibrate on"):
        engine_of_graph(exported(Method.FCN), ask(store, precision=Precision.INT8))


def test_a_precision_that_the_graph_does_not_have_is_refused(store, exported):
    with pytest.raises(SegdeployError, match="is fp32, asked for fp16") as caught:
        engine_of_graph(exported(Method.FCN), ask(store, precision=Precision.FP16))

    assert caught.value.hint == "segdeploy export narrow-fcn --precision fp16"


def test_an_int8_graph_has_no_way_back(int8, store):
    graph = read_graph(next(store.root.rglob("int8*.onnx")))

    with pytest.raises(SegdeployError, match="is int8, asked for fp32"):
        engine_of_graph(graph, ask(store, precision=Precision.FP32))


def test_int8_of_onnx_runtime_is_not_for_tensorrt(int8, store):
    graph = read_graph(next(store.root.rglob("int8*.onnx")))

    with pytest.raises(SegdeployError, match="is quantized for ONNX Runtime") as caught:
        engine_of_graph(graph, ask(store, runtime=Runtime.TENSORRT_RTX))

    assert "--int8 --target tensorrt-rtx" in caught.value.hint


def test_an_int8_graph_cannot_be_quantized_again(int8, store, frames, tmp_path):
    graph = read_graph(next(store.root.rglob("int8*.onnx")))
    calibration = open_calibration(str(frames), tmp_path)

    request = graphs.QuantizeRequest(calibration=calibration, runtime=Runtime.ONNXRUNTIME)

    with pytest.raises(SegdeployError, match="is an int8 graph already"):
        graphs.quantize_graph(graph, request, tmp_path / "twice.onnx")


def test_pytorch_has_no_engines(store, exported, tmp_path):
    with pytest.raises(SegdeployError, match="it has no engines"):
        engine_of_graph(exported(Method.FCN), ask(store, runtime=Runtime.PYTORCH))


def test_a_graph_takes_no_checkpoint(store, exported):
    graph: Graph = exported(Method.FCN)

    with pytest.raises(SegdeployError, match="has its weights in it"):
        make_engine_of(str(graph.path), "random:0", ask(store))


def test_the_file_of_a_graph_is_enough(store, exported):
    built = make_engine_of(str(exported(Method.FCN).path), None, ask(store))

    assert built.plan.manifest.model == "narrow-fcn"


def test_tensorrt_says_in_one_sentence_what_is_missing(store, exported, monkeypatch):
    monkeypatch.setattr(plans, "driver_problem", lambda: "there is no NVIDIA driver")
    monkeypatch.setattr(plans, "find_spec", lambda _name: None)

    with pytest.raises(SegdeployError, match="no NVIDIA driver, and the package tensorrt is not"):
        engine_of_graph(exported(Method.FCN), ask(store, runtime=Runtime.TENSORRT))


@pytest.mark.parametrize(
    ("driver", "installed", "runtime"),
    [
        ("none", (), Runtime.ONNXRUNTIME),
        ("none", ("tensorrt",), Runtime.ONNXRUNTIME),
        (None, ("tensorrt", "tensorrt_rtx"), Runtime.TENSORRT),
        (None, ("tensorrt_rtx",), Runtime.TENSORRT_RTX),
        (None, (), Runtime.ONNXRUNTIME),
    ],
)
def test_the_best_runtime_is_one_that_can_run_here(monkeypatch, driver, installed, runtime):
    monkeypatch.setattr(engines, "driver_problem", lambda: driver)
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in installed else None)

    assert engines.best_runtime() is runtime


@pytest.mark.slow
def test_what_is_odd_about_the_images_is_logged_where_only_the_engine_is_wanted(
    source, store, frames, caplog
):
    made = make_artifact(
        source, OPTIONS, ask(store, precision=Precision.INT8, calibration=str(frames)), CPU
    )

    assert made.path.suffix == ".ort"
    assert any("4 images" in record.getMessage() for record in caplog.records)
