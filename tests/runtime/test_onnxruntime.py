"""ONNX Runtime runs graphs and engines alike, and refuses what does not fit here."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch

from segdeploy.artifacts import EnginePlan, Graph
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.engines import build_engine
from segdeploy.runtime import open_engine, open_session
from segdeploy.runtime.onnxruntime import VERSION, OnnxRuntimeSession, processor_kind
from segdeploy.spec import CPU, Device, Method, Output, Precision, Runtime, Size

SIZE = Size(64, 96)


@pytest.fixture(scope="module")
def graph(exported) -> Graph:
    return exported(Method.FCN)


@pytest.fixture(scope="module")
def plan(graph, tmp_path_factory) -> EnginePlan:
    out = tmp_path_factory.mktemp("engine") / "fp32.ort"
    return build_engine(graph, Runtime.ONNXRUNTIME, out).plan


@pytest.fixture(params=["mask in the graph", "mask on the host"])
def artifact(request) -> Graph | EnginePlan:
    """Labels are made in a graph, and behind an engine."""
    return request.getfixturevalue("graph" if "graph" in request.param else "plan")


@pytest.fixture(params=[np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def as_given(request):
    """Turns an array into what a caller has, over the same memory."""
    return request.param


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


def test_a_device_that_onnx_runtime_passes_over_is_an_error(graph, monkeypatch):
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)

    with pytest.raises(SegdeployError, match="it gave CPUExecutionProvider"):
        open_session(graph, device=Device("cuda"))


@pytest.mark.parametrize("shape", [(1, 64, 97, 3), (2, 64, 96, 3)])
def test_a_batch_of_another_size_is_refused_with_a_hint(graph, shape):
    with open_session(graph) as session, pytest.raises(SegdeployError) as caught:
        session.run(np.zeros(shape, np.uint8))

    assert str(shape) in caught.value.problem
    assert "segdeploy inspect" in caught.value.hint


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 3, 64, 96), np.uint8),
        np.zeros((64, 96, 3), np.uint8),
        np.zeros((1, 64, 96, 4), np.uint8),
        np.zeros((1, 64, 96, 3), np.float32),
        torch.zeros((1, 64, 96, 3), dtype=torch.uint8),
        [[[[0, 0, 0]]]],
    ],
)
def test_what_is_no_batch_of_pixels_is_refused(graph, images):
    with open_session(graph) as session, pytest.raises(SegdeployError, match="images: are"):
        session.run(images)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 1000])
def test_what_is_no_model_is_refused(tmp_path, graph, content):
    (tmp_path / "bad.onnx").write_bytes(content)

    with pytest.raises(SegdeployError, match=r"bad\.onnx: ONNX Runtime .* cannot load it"):
        OnnxRuntimeSession(tmp_path / "bad.onnx", graph.manifest)


@pytest.mark.parametrize("optimized", [True, False])
def test_bytes_are_loaded_as_what_they_are_said_to_be(graph, plan, optimized):
    """A graph taken for an engine would be searched for no weights in other files."""
    other = graph if optimized else plan

    with pytest.raises(SegdeployError, match="cannot load it"):
        OnnxRuntimeSession(other.path.read_bytes(), other.manifest, optimized=optimized)


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


def test_threads_with_a_session_each_get_the_labels_of_a_direct_run(artifact, blocks):
    batches = [blocks(SIZE, seed=seed) for seed in range(4)]
    with open_session(artifact) as session:
        expected = [session.run(images) for images in batches]

    with open_engine(artifact, CPU) as engine, ThreadPoolExecutor(4) as pool:

        def work(k: int) -> list[np.ndarray]:
            with engine.session() as own:
                return [own.run(batches[k]) for _ in range(3)]

        found = list(pool.map(work, range(4)))

    for k in range(4):
        assert all(np.array_equal(labels, expected[k]) for labels in found[k])


def test_a_map_is_a_run_of_each_batch_in_order(artifact, blocks):
    batches = [blocks(SIZE, seed=seed) for seed in range(3)]

    with open_session(artifact) as session:
        expected = [session.run(images) for images in batches]
        found = list(session.map(iter(batches)))

    assert len(found) == 3
    assert all(map(np.array_equal, found, expected))


def test_labels_are_written_to_the_array_of_the_caller(artifact, blocks, as_given):
    images, result = blocks(SIZE), np.full((1, *SIZE), 99, np.uint8)

    with open_session(artifact) as session:
        session.enqueue(as_given(images), as_given(result))
        expected = session.run(images)

    assert np.array_equal(result, expected)


def test_logits_are_written_to_the_array_of_the_caller(exported, blocks, as_given):
    images, result = blocks(SIZE), np.full((1, 7, 8, 12), np.nan, np.float32)

    with open_session(exported(Method.FCN, output=Output.LOGITS)) as session:
        session.enqueue(as_given(images), as_given(result))
        expected = session.run(images)

    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (np.full((1, 64, 95), 99, np.uint8), "is 1x64x95; these images give 1x64x96"),
        (np.full((1, 64, 96), 99, np.int64), "is int64 1x64x96; wanted uint8"),
        (np.full((1, 96, 64), 99, np.uint8), "is 1x96x64; these images give 1x64x96"),
        (np.full((1, 64, 192), 99, np.uint8)[..., ::2], "1x64x96 is not contiguous"),
    ],
)
def test_a_result_that_does_not_fit_is_refused_and_left_as_it_was(
    artifact, blocks, result, complaint
):
    with (
        open_session(artifact) as session,
        pytest.raises(SegdeployError, match=f"result: {complaint}"),
    ):
        session.enqueue(blocks(SIZE), result)

    assert (result == 99).all()


def test_a_size_that_the_graph_does_not_take_is_refused_in_place_too(artifact, blocks):
    images, result = blocks(Size(32, 96)), np.zeros((1, 32, 96), np.uint8)

    with open_session(artifact) as session, pytest.raises(SegdeployError, match="was refused"):
        session.enqueue(images, result)


def test_a_session_on_the_cpu_takes_no_stream(artifact, blocks):
    with open_session(artifact) as session, pytest.raises(SegdeployError, match="has no stream"):
        session.enqueue(blocks(SIZE), np.zeros((1, *SIZE), np.uint8), 7)


def test_a_session_is_refused_after_it_is_closed(artifact, blocks):
    images, result = blocks(SIZE), np.zeros((1, *SIZE), np.uint8)
    session = open_session(artifact)
    session.close()
    session.close()

    for use in (
        partial(session.run, images),
        partial(session.enqueue, images, result),
        lambda: list(session.map([images])),
    ):
        with pytest.raises(SegdeployError, match=r"a session of narrow-fcn: is closed"):
            use()


def test_closing_an_engine_closes_its_sessions_and_closing_a_session_no_other(artifact, blocks):
    images = blocks(SIZE)
    engine = open_engine(artifact, CPU)
    first, second = engine.session(), engine.session()

    first.close()
    assert second.run(images).shape == (1, *SIZE)
    engine.close()

    with pytest.raises(SegdeployError, match="a session of narrow-fcn: is closed"):
        second.run(images)
    with pytest.raises(SegdeployError, match="the engine of narrow-fcn: is closed"):
        engine.session()


def test_a_session_in_use_is_refused_to_another_thread(artifact, blocks):
    images = blocks(SIZE)

    with open_session(artifact) as session, session._lease.use(), ThreadPoolExecutor(1) as pool:
        failed = pool.submit(session.run, images).exception()

    assert isinstance(failed, SegdeployError)
    assert str(failed) == "a session of narrow-fcn: is in use by another thread"


def test_two_engines_live_in_one_process(graph, plan, blocks):
    images = blocks(SIZE)

    with open_engine(plan, CPU) as second:
        with open_engine(graph, CPU) as first:
            expected = first.session().run(images)
        found = second.session().run(images)  # the first is closed

    assert np.array_equal(found, expected)


def test_an_engine_is_refused_in_a_process_forked_after_it_was_opened(artifact, blocks, in_fork):
    images = blocks(SIZE)

    with open_engine(artifact, CPU) as engine, engine.session() as session:
        of_session = in_fork(lambda: session.run(images))
        of_engine = in_fork(engine.session)
        expected = session.run(images)

    assert str(of_session).startswith("a session of narrow-fcn: was opened before this process was")
    assert str(of_engine).startswith("the engine of narrow-fcn: was opened before this process was")
    assert expected.shape == (1, *SIZE)  # the parent goes on
