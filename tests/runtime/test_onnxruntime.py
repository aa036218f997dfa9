"""ONNX Runtime runs graphs and engines alike, and refuses what does not fit here."""

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from segdeploy.artifacts import EnginePlan, Graph
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.engines import build_engine
from segdeploy.runtime import open_session
from segdeploy.runtime.onnxruntime import VERSION, OnnxRuntimeSession, processor_kind
from segdeploy.spec import Device, Method, Precision, Runtime, Size

SIZE = Size(64, 96)


@pytest.fixture(scope="module")
def graph(exported) -> Graph:
    return exported(Method.FCN)


@pytest.fixture(scope="module")
def plan(graph, tmp_path_factory) -> EnginePlan:
    out = tmp_path_factory.mktemp("engine") / "fp32.ort"
    return build_engine(graph, Runtime.ONNXRUNTIME, out).plan


def edited(plan: EnginePlan, tmp_path, **changes) -> EnginePlan:
    """The same plan with another manifest, read back from its files."""
    copy = EnginePlan(tmp_path / "copy.ort", replace(plan.manifest, **changes))
    copy.path.write_bytes(plan.path.read_bytes())
    copy.save_manifest()
    return EnginePlan.load(copy.path)


def test_an_engine_returns_the_labels_of_its_graph(graph, plan, blocks):
    images = blocks(SIZE)

    with open_session(graph) as of_graph, open_session(plan) as of_plan:
        expected, found = of_graph.run(images), of_plan.run(images)

    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_an_engine_says_what_it_is_tied_to(plan, graph):
    manifest = EnginePlan.load(plan.path).manifest

    assert manifest.runtime is Runtime.ONNXRUNTIME
    assert (manifest.runtime_version, manifest.machine) == (VERSION, processor_kind())
    assert manifest.model == graph.manifest.model
    assert manifest.precision is Precision.FP32


@pytest.mark.parametrize(
    "changes", [{"runtime_version": "1.0.0"}, {"machine": "riscv64"}, {"machine": ""}]
)
def test_an_engine_of_another_version_or_processor_is_refused(plan, tmp_path, changes):
    foreign = edited(plan, tmp_path, **changes)

    with pytest.raises(SegdeployError, match=r"copy\.ort: built with ONNX Runtime") as caught:
        open_session(foreign)

    assert "segdeploy build-engine" in caught.value.hint


def test_an_engine_of_the_cpu_is_refused_on_another_device(plan):
    with pytest.raises(SegdeployError, match="is optimized for the CPU, asked for cuda"):
        open_session(plan, device=Device("cuda"))


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA"
)
def test_a_device_that_is_not_there_is_refused_and_not_replaced(graph):
    with pytest.raises(SegdeployError, match=r"CUDAExecutionProvider") as caught:
        open_session(graph, device=Device("cuda"))

    assert "doctor" in caught.value.hint


@pytest.mark.parametrize(
    "shape", [(1, 64, 97, 3), (2, 64, 96, 3), (1, 3, 64, 96), (64, 96, 3), (1, 64, 96, 4)]
)
def test_a_batch_of_another_shape_is_refused_with_a_hint(graph, shape):
    with open_session(graph) as session, pytest.raises(SegdeployError) as caught:
        session.run(np.zeros(shape, np.uint8))

    assert str(shape) in caught.value.problem
    assert "segdeploy inspect" in caught.value.hint


def test_pixels_of_another_type_are_refused(graph):
    with open_session(graph) as session, pytest.raises(SegdeployError, match="was refused"):
        session.run(np.zeros((1, 64, 96, 3), np.float32))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 1000])
def test_what_is_no_model_is_refused(tmp_path, graph, content):
    (tmp_path / "bad.onnx").write_bytes(content)

    with pytest.raises(SegdeployError, match=r"bad\.onnx: ONNX Runtime .* cannot load it"):
        OnnxRuntimeSession(tmp_path / "bad.onnx", graph.manifest)


def test_threads_change_the_speed_and_not_the_labels(graph, blocks):
    images = blocks(SIZE)

    with open_session(graph, threads=1) as one, open_session(graph, threads=2) as two:
        first, second = one.run(images), two.run(images)

    assert np.array_equal(first, second)


def test_images_need_not_lie_in_one_piece(graph, blocks):
    images = blocks(Size(64, 192))[:, :, ::-2]

    with open_session(graph) as session:
        found, expected = session.run(images), session.run(images.copy())

    assert np.array_equal(found, expected)
