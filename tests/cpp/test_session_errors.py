"""What a session in C++ refuses, it refuses in the words of Python."""

import threading
from ctypes import byref, c_void_p

import numpy as np
import onnx
import pytest
from c_library import ERROR, CImage, CLabels, Refusal, image_view, labels_view

from segdeploy.graph import read_graph
from segdeploy.pipeline.engines import build_engine
from segdeploy.runtime.lease import Lease
from segdeploy.spec import Method, Output, Precision, Runtime, Size

pytestmark = pytest.mark.xdist_group("cpp")
SIZE = Size(64, 96)


@pytest.fixture
def session(engine, library):
    with library.open(engine.path) as opened, opened.session() as made:
        yield made


BUFFER = np.zeros(2 * 64 * 96 * 3, np.uint8)
PLACE = BUFFER.ctypes.data
IMAGE = CImage(PLACE, 64, 96, 3, 0, 0)
LABELS = CLabels(PLACE, 64, 96, 1, 0)


@pytest.mark.parametrize(
    ("image", "labels", "problem"),
    [
        (CImage(PLACE, 64, 95, 3, 0, 0), LABELS,
         "an image batch is 1x64x95x3; the engine takes 1x64x96x3"),
        (CImage(None, 64, 96, 3, 0, 0), LABELS, "image: has no memory"),
        (CImage(PLACE, -1, 96, 3, 0, 0), LABELS, "image: is -1x96; wanted 1 to 8192 a side"),
        (CImage(PLACE, 64, 96, 2, 0, 0), LABELS, "image: has 2 channels; wanted 3 or 4"),
        (CImage(PLACE, 64, 96, 3, 0, 5), LABELS,
         "image: has rows of 288 bytes and a stride of 5"),
        (IMAGE, CLabels(PLACE, 64, 96, 2, 0),
         "result: has labels of 2 bytes; wanted 1 or 4"),
        (IMAGE, CLabels(PLACE, 64, 95, 1, 0),
         "result: is 64x95; these images give 64x96"),
        (IMAGE, CLabels(None, 64, 96, 1, 0), "result: has no memory"),
    ],
)  # fmt: skip
def test_a_view_that_does_not_fit_is_refused(image, labels, problem, session):
    with pytest.raises(Refusal) as caught:
        session.run_views([image], [labels])

    assert caught.value.problem == problem


@pytest.mark.parametrize(("count", "problem"), [
    (0, "images: there are none; wanted 1 or more"),
    (2, "an image batch is 2x64x96x3; the engine takes 1x64x96x3"),
    (65, "images: are 65; wanted up to 64"),
])  # fmt: skip
def test_a_batch_that_does_not_fit_is_refused(count, problem, session):
    views = [IMAGE] * count

    with pytest.raises(Refusal) as caught:
        session.run_views(views, [LABELS] * count)

    assert caught.value.problem == problem


def test_what_an_artifact_does_not_return_is_refused(session, exported, library, blocks):
    graph = exported(Method.FCN, output=Output.LOGITS)

    with pytest.raises(Refusal, match="returns labels, asked for logits"):
        session.run_logits(blocks(SIZE), (1, 7, 8, 12))
    with library.open(graph.path) as opened, opened.session() as of_logits:
        with pytest.raises(Refusal, match="returns logits, asked for labels"):
            of_logits.run(blocks(SIZE))
        with pytest.raises(Refusal, match="has 5 floats; these images give 1x7x8x12"):
            of_logits.run_logits(blocks(SIZE), (5,))


def test_a_session_on_the_cpu_has_no_stream(session, blocks):
    images = blocks(SIZE)

    with pytest.raises(Refusal, match="a session on the CPU has no stream"):
        session.enqueue(images, np.zeros(images.shape[:3], np.uint8), stream=1)


def test_memory_that_is_missing_is_named(session):
    c, handle = session.library, session.handle
    size = (64, 96)

    for images, count, result, problem in (
        (PLACE, 1, None, "result: has no memory"),
        (None, 1, PLACE, "images: has no memory"),
        (PLACE, 0, PLACE, "images: there are none; wanted 1 or more"),
        (PLACE, 2, PLACE, "an image batch is 2x64x96x3; the engine takes 1x64x96x3"),
    ):
        with pytest.raises(Refusal) as caught:
            c.call("segdeploy_enqueue", handle, images, count, *size, result, None)
        assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("name", "arguments", "what"),
    [
        ("engine_open", (None, None, PLACE), "path"),
        ("engine_open", (b"no.ort", None, None), "engine"),
        ("session_open", (None, PLACE), "engine"),
        ("session_open", (None, None), "session"),
        ("run", (None, byref(IMAGE), 1, byref(LABELS), None), "session"),
        ("run", (None, None, 1, byref(LABELS), None), "images"),
        ("run", (None, byref(IMAGE), 1, None, None), "labels"),
        ("run_logits", (None, byref(IMAGE), 1, PLACE, 1, None), "session"),
        ("enqueue", (None, PLACE, 1, 64, 96, PLACE, None), "session"),
        ("overlay", (None, byref(IMAGE), byref(LABELS), 0.5, PLACE), "engine"),
    ],
)
def test_null_is_refused(name, arguments, what, library):
    with pytest.raises(Refusal) as caught:
        library.call(f"segdeploy_{name}", *arguments)

    assert (caught.value.status, caught.value.problem) == (ERROR, f"{what}: is NULL")


@pytest.mark.parametrize("what", ["image", "labels"])
def test_null_is_not_painted(what, engine, library):
    views = {"image": byref(IMAGE), "labels": byref(LABELS), what: None}

    with library.open(engine.path) as opened, pytest.raises(Refusal) as caught:
        library.call("segdeploy_overlay", opened.handle, *views.values(), 0.5, PLACE)

    assert caught.value.problem == f"{what}: is NULL"


def test_null_has_no_facts_and_is_closed(library):
    facts = library.c.segdeploy_engine_facts(None)

    assert (facts.model, facts.classes) == (None, 0)
    assert library.c.segdeploy_class_name(None, 0) is None
    assert library.c.segdeploy_class_color(None, 0) == -1
    library.c.segdeploy_engine_close(None)
    library.c.segdeploy_session_close(None)


def test_a_long_error_is_cut_at_a_whole_letter(library):
    for begin in ("", "x"):  # one of the two would end in half a letter
        path = begin + "ß" * 800 + ".ort"

        with pytest.raises(Refusal) as caught:  # which decodes what it gets
            library.call("segdeploy_engine_open", path.encode(), None, byref(c_void_p()))

        assert caught.value.problem == path[: len(caught.value.problem)]
        assert 1022 <= len(caught.value.problem.encode()) <= 1023


def test_scores_that_are_no_numbers_are_refused(artifacts, library, tmp_path, blocks):
    source = artifacts(Method.FCN, Precision.FP32)["graph"].path
    model = onnx.load(source)
    bias = next(t for t in model.graph.initializer if "conv_seg" in t.name and "bias" in t.name)
    values = onnx.numpy_helper.to_array(bias).copy()
    values[:] = np.inf
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, tmp_path / "infinite.onnx")
    broken = build_engine(
        read_graph(tmp_path / "infinite.onnx"), Runtime.ONNXRUNTIME, tmp_path / "infinite.ort"
    ).plan.path

    with library.open(broken) as engine, engine.session() as made, pytest.raises(Refusal) as caught:
        made.run(blocks(SIZE))

    assert caught.value.problem == "the network's scores are not finite numbers"
    assert caught.value.status == ERROR


def test_a_fork_is_refused_in_the_words_of_python(session, in_fork, blocks):
    images = blocks(SIZE)
    session.run(images)
    lease = Lease("a session of narrow-fcn")

    found, expected = in_fork(lambda: refusal(lambda: session.run(images))), in_fork(lease.check)

    assert found == (str(expected), expected.hint)


def test_an_engine_makes_no_session_in_a_fork(engine, library, in_fork):
    lease = Lease("the engine of narrow-fcn")

    with library.open(engine.path) as opened:
        found, expected = in_fork(lambda: refusal(opened.session)), in_fork(lease.check)

    assert found == (str(expected), expected.hint)


def refusal(work):
    try:
        work()
    except Refusal as refused:
        return refused.problem, refused.hint
    return None


def test_two_threads_in_one_session_are_refused(engine, library, blocks):
    image, labels = blocks(SIZE)[0], np.zeros(SIZE, np.uint8)
    views = [image_view(image)], [labels_view(labels)]
    refused: list[Refusal] = []
    with library.open(engine.path) as opened, opened.session() as shared:

        def keep_running():
            for _ in range(100):
                try:
                    shared.run_views(*views)
                except Refusal as refusal:
                    refused.append(refusal)

        threads = [threading.Thread(target=keep_running) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert {str(refusal) for refusal in refused} == {
        "a session of narrow-fcn: is in use by another thread"
    }
