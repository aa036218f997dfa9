"""TensorRT sessions on a simulated GPU: their order of the calls gives right label maps."""

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from simulated_gpu import PER_THREAD, batches

from segdeploy.artifacts import EnginePlan
from segdeploy.errors import SegdeployError
from segdeploy.runtime import RunOptions, Session
from segdeploy.runtime.tensorrt import TensorRTEngine
from segdeploy.spec import Device

GPU = Device("cuda")


def test_a_batch_goes_through_the_engine(session: Session) -> None:
    (images,) = batches((2, 4, 6))

    np.testing.assert_array_equal(session.run(images), images[..., 0])


def test_the_copies_are_told_from_the_work_between_them(session: Session) -> None:
    (images,) = batches((2, 4, 6))
    session.run(images)

    found = session.split(images)

    np.testing.assert_array_equal(found.result, images[..., 0])
    assert (found.upload_ms, found.compute_ms, found.download_ms) == (1, 5, 1)  # as simulated


def test_a_split_leaves_no_event_behind_and_is_a_use(session: Session, world: Any) -> None:
    (images,) = batches((1, 4, 6))
    session.split(images)
    before = set(world.open_parts)

    session.split(images)

    assert world.open_parts == before
    with pytest.raises(SegdeployError, match="are float32"):
        session.split(images.astype(np.float32))
    session.close()
    with pytest.raises(SegdeployError, match="closed"):
        session.split(images)


def test_a_result_outlives_the_next_run(session: Session) -> None:
    first, second = batches((1, 4, 6), (1, 4, 6))

    labels = session.run(first)
    session.run(second)

    np.testing.assert_array_equal(labels, first[..., 0])


def test_map_gives_what_run_gives_whatever_the_shapes(session: Session) -> None:
    images = batches((1, 4, 6), (1, 4, 6), (2, 4, 6), (1, 8, 8), (1, 8, 8), (1, 8, 8), (1, 4, 6))

    found = list(session.map(images))

    for batch, labels in zip(images, found, strict=True):
        np.testing.assert_array_equal(labels, batch[..., 0])


def test_map_starts_a_batch_before_the_one_before_it_has_ended(
    session: Session, library: Any
) -> None:
    images = iter(batches((1, 4, 6), (1, 4, 6), (1, 4, 6)))
    session.run(batches((1, 4, 6))[0])

    next(iter(session.map(images)))

    (context,) = library.engine.contexts
    assert (context.executions, context.ended) == (3, 2)  # the third waits for nobody yet


def test_a_map_that_was_given_up_spoils_nothing(session: Session) -> None:
    images = batches((1, 4, 6), (1, 4, 6), (1, 4, 6))

    for _ in session.map(images):
        break
    labels = session.run(images[2])

    np.testing.assert_array_equal(labels, images[2][..., 0])


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_what_is_on_its_way_ends_before_its_memory_is_freed(
    plan: EnginePlan, library: Any, cuda_graph: bool
) -> None:
    images = batches((1, 4, 6), (1, 4, 6), (1, 4, 6), (1, 8, 8))

    with (
        TensorRTEngine(plan, GPU, RunOptions(cuda_graph=cuda_graph)) as engine,
        engine.session() as session,
    ):
        for _ in session.map(images[:3]):
            break
        labels = session.run(images[3])  # of another shape

    np.testing.assert_array_equal(labels, images[3][..., 0])


def test_while_a_map_goes_on_the_session_does_nothing_else(session: Session) -> None:
    images = batches((1, 4, 6), (1, 4, 6), (1, 4, 6))
    running = session.map(images)
    next(running)

    with pytest.raises(SegdeployError, match="in use by a map of this thread"):
        session.run(images[0])
    with pytest.raises(SegdeployError, match="finish it first"):
        session.close()

    assert len(list(running)) == 2


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (np.zeros((1, 4, 6, 3), np.float32), "are float32 1x4x6x3; wanted uint8"),
        (np.zeros((4, 6, 3), np.uint8), r"are uint8 4x6x3; wanted uint8 \(N, H, W, 3\)"),
        ([[[0, 0, 0]]], "are a list; wanted a NumPy array"),
    ],
)
def test_what_is_no_batch_of_pixels_is_refused(session: Session, images: Any, problem: str) -> None:
    with pytest.raises(SegdeployError, match=problem):
        session.run(images)


# On the caller's arrays


def test_enqueue_waits_for_nobody_and_writes_in_place(
    session: Session, world: Any, on_gpu: Any
) -> None:
    (images,) = batches((1, 4, 6))
    source, target = on_gpu(images), on_gpu(np.zeros((1, 4, 6), np.uint8))

    session.enqueue(source, target, stream=7)
    before = target.values.copy()
    world.finish(7)

    assert not before.any()
    np.testing.assert_array_equal(target.values, images[..., 0])


def test_the_profile_is_there_before_a_caller_s_stream_executes(
    plan: EnginePlan, library: Any, world: Any, on_gpu: Any
) -> None:
    small, large = (
        [(1, 1, 1, 3), (1, 4, 4, 3), (1, 4, 4, 3)],
        [(1, 1, 1, 3), (1, 8, 8, 3), (1, 8, 8, 3)],
    )
    library.engine.profiles = [small, large]
    (images,) = batches((1, 8, 8))
    target = on_gpu(np.zeros((1, 8, 8), np.uint8))

    with TensorRTEngine(plan, GPU, RunOptions()) as engine, engine.session() as session:
        session.enqueue(on_gpu(images), target, stream=7)
        world.finish(7)

    np.testing.assert_array_equal(target.values, images[..., 0])


def test_arrays_live_until_their_stream_has_passed(
    session: Session, world: Any, on_gpu: Any
) -> None:
    (images,) = batches((1, 4, 6))
    source = on_gpu(images)
    target = on_gpu(np.zeros((1, 4, 6), np.uint8))
    alive = weakref.ref(source)

    session.enqueue(source, target, stream=7)
    del source
    gc.collect()
    while_on_its_way = alive()
    world.finish(7)
    session.enqueue(on_gpu(images), target, stream=7)
    del while_on_its_way
    gc.collect()

    assert alive() is None


def test_while_on_its_way_an_array_is_kept(session: Session, on_gpu: Any) -> None:
    source = on_gpu(batches((1, 4, 6))[0])
    alive = weakref.ref(source)
    session.enqueue(source, on_gpu(np.zeros((1, 4, 6), np.uint8)), stream=7)

    del source
    gc.collect()

    assert alive() is not None


def test_streams_of_several_callers_do_not_overlap_in_one_context(
    session: Session, world: Any, on_gpu: Any
) -> None:
    images = batches((1, 4, 6), (1, 4, 6), (1, 4, 6))
    targets = [on_gpu(np.zeros((1, 4, 6), np.uint8)) for _ in images]
    for stream, batch, target in zip((7, 8, 9), images, targets, strict=True):
        session.enqueue(on_gpu(batch), target, stream=stream)

    world.finish(9)  # the simulated context asserts that 7 and 8 came first

    np.testing.assert_array_equal(targets[2].values, images[2][..., 0])


def test_a_stream_that_is_another_in_each_thread_does_not_overlap_either(
    session: Session, world: Any, on_gpu: Any
) -> None:
    images = batches((1, 4, 6), (1, 4, 6))
    targets = [on_gpu(np.zeros((1, 4, 6), np.uint8)) for _ in images]
    for world.thread, batch, target in zip((1, 2), images, targets, strict=True):
        session.enqueue(on_gpu(batch), target, stream=PER_THREAD)

    world.finish(PER_THREAD)  # of the second thread

    for batch, target in zip(images, targets, strict=True):
        np.testing.assert_array_equal(target.values, batch[..., 0])


@pytest.mark.parametrize("what", ["images", "result"])
def test_memory_that_tensorrt_cannot_use_in_place_is_refused(
    session: Session, on_gpu: Any, what: str
) -> None:
    (images,) = batches((1, 4, 6))
    arrays = {"images": on_gpu(images), "result": on_gpu(np.zeros((1, 4, 6), np.uint8))}
    arrays[what].pointer += 16

    with pytest.raises(SegdeployError, match=f"{what}: begins at no multiple of 256 bytes"):
        session.enqueue(**arrays, stream=7)


def test_run_after_enqueue_waits_for_it(session: Session, on_gpu: Any) -> None:
    first, second = batches((1, 4, 6), (1, 8, 8))
    target = on_gpu(np.zeros((1, 4, 6), np.uint8))

    session.enqueue(on_gpu(first), target, stream=7)
    labels = session.run(second)  # of another shape: the context has to be free

    np.testing.assert_array_equal(labels, second[..., 0])
    np.testing.assert_array_equal(target.values, first[..., 0])


def test_a_result_of_another_shape_is_refused(session: Session, on_gpu: Any) -> None:
    (images,) = batches((1, 4, 6))

    with pytest.raises(SegdeployError, match="result: is 1x4x5; these images give 1x4x6"):
        session.enqueue(on_gpu(images), on_gpu(np.zeros((1, 4, 5), np.uint8)), stream=7)


# CUDA graphs


def test_a_graph_is_captured_once_a_shape_has_run(plan: EnginePlan, library: Any) -> None:
    images = batches((1, 4, 6), (1, 4, 6), (1, 4, 6), (1, 8, 8))

    with (
        TensorRTEngine(plan, GPU, RunOptions(cuda_graph=True)) as engine,
        engine.session() as session,
    ):
        for batch in images:
            np.testing.assert_array_equal(session.run(batch), batch[..., 0])

    calls = [call for call in library.engine.world.calls if not call.startswith("profile")]
    assert calls[:6] == ["execute", "capture", "execute", "launch", "launch", "execute"]


def test_a_package_without_graphs_says_so(plan: EnginePlan, library: Any, world: Any) -> None:
    world.has_graphs = False

    with pytest.raises(SegdeployError, match="pycuda cannot capture CUDA graphs"):
        TensorRTEngine(plan, GPU, RunOptions(cuda_graph=True))


def test_a_session_in_use_is_refused_to_another_thread(session: Session) -> None:
    running = session.map(batches((1, 4, 6), (1, 4, 6)))
    next(running)
    caught: list[SegdeployError] = []

    def other() -> None:
        with pytest.raises(SegdeployError) as error:
            session.run(batches((1, 4, 6))[0])
        caught.append(error.value)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()

    assert "in use by another thread" in caught[0].problem
    list(running)
