"""Images of many callers: batches are full or on time, and everybody gets his own labels."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segdeploy.artifacts import Graph
from segdeploy.batching import Batcher, BatchOptions
from segdeploy.errors import BusyError, SegdeployError
from segdeploy.runtime import open_engine
from segdeploy.spec import CPU, Images, Method, Size

LONG_MS = 10_000.0  # a batch that waits for it does not end within a test
PATIENCE_S = 30.0


class FakeEngine:
    """Returns the red channel, and remembers each batch; `gate` holds its sessions back."""

    def __init__(self, batch: int | None = None) -> None:
        self.manifest = SimpleNamespace(model="demo", batch=batch)
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed = 0

    def session(self) -> Any:
        return self

    def run(self, images: np.ndarray) -> np.ndarray:
        assert self.gate.wait(PATIENCE_S)
        self.batches.append(len(images))
        if (images == 255).any():
            raise SegdeployError("the engine did not run")
        return images[..., 0]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def image(value: int, size: tuple[int, int] = (2, 3)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def results(futures: list[Future[np.ndarray]]) -> Iterator[int]:
    _, late = wait(futures, PATIENCE_S)
    assert not late
    return (int(future.result().flat[0]) for future in futures)


def test_a_full_batch_waits_no_longer(engine: FakeEngine) -> None:
    with Batcher(engine, BatchOptions(size=4, wait_ms=LONG_MS)) as batcher:
        futures = [batcher.submit(image(k)) for k in range(8)]

        assert list(results(futures)) == list(range(8))

    assert engine.batches == [4, 4]


def test_a_lonely_image_runs_when_its_time_is_up(engine: FakeEngine) -> None:
    with Batcher(engine, BatchOptions(size=4, wait_ms=1)) as batcher:
        assert list(results([batcher.submit(image(7))])) == [7]

    assert engine.batches == [1]


def test_sizes_are_never_mixed(engine: FakeEngine) -> None:
    with Batcher(engine, BatchOptions(size=2, wait_ms=LONG_MS)) as batcher:
        futures = [
            batcher.submit(image(k, size))
            for k, size in enumerate([(2, 3), (4, 4), (2, 3), (4, 4)])
        ]

        assert list(results(futures)) == [0, 1, 2, 3]
        assert futures[1].result().shape == (4, 4)

    assert engine.batches == [2, 2]


def test_an_engine_of_a_fixed_batch_is_given_full_ones() -> None:
    engine = FakeEngine(batch=4)

    with Batcher(engine, BatchOptions(size=3, wait_ms=1)) as batcher:
        assert list(results([batcher.submit(image(5))])) == [5]

    assert engine.batches == [4]


def test_a_batch_larger_than_the_engine_s_is_refused() -> None:
    with pytest.raises(SegdeployError, match="demo: takes batches of 2; wanted 4"):
        Batcher(FakeEngine(batch=2), BatchOptions(size=4))


def test_an_error_reaches_all_who_waited_and_no_other(engine: FakeEngine) -> None:
    with Batcher(engine, BatchOptions(size=2, wait_ms=LONG_MS)) as batcher:
        bad = [batcher.submit(image(255)), batcher.submit(image(1))]
        good = [batcher.submit(image(2)), batcher.submit(image(3))]
        wait([*bad, *good], PATIENCE_S)

    assert all(isinstance(future.exception(), SegdeployError) for future in bad)
    assert list(results(good)) == [2, 3]


def test_one_image_too_many_is_refused_at_once(engine: FakeEngine) -> None:
    engine.gate.clear()
    with Batcher(engine, BatchOptions(size=1, limit=2)) as batcher:
        running = batcher.submit(image(0))
        while not running.running():
            pass
        waiting = [batcher.submit(image(1)), batcher.submit(image(2))]

        with pytest.raises(BusyError, match="2 images are waiting"):
            batcher.submit(image(3))
        engine.gate.set()

        assert list(results([running, *waiting])) == [0, 1, 2]


def test_a_cancelled_image_is_not_run(engine: FakeEngine) -> None:
    with Batcher(engine, BatchOptions(size=2, wait_ms=LONG_MS)) as batcher:
        first = batcher.submit(image(1))
        assert first.cancel()
        second = batcher.submit(image(2))

        assert list(results([second])) == [2]

    assert engine.batches == [1]


def test_closing_runs_what_waits_and_refuses_more(engine: FakeEngine) -> None:
    batcher = Batcher(engine, BatchOptions(size=8, wait_ms=LONG_MS, sessions=2))
    futures = [batcher.submit(image(k)) for k in range(3)]

    batcher.close()

    assert list(results(futures)) == [0, 1, 2]
    assert engine.closed == 2
    with pytest.raises(SegdeployError, match="the batcher is closed"):
        batcher.submit(image(0))


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 3)), "a.png"])
def test_what_is_no_image_is_refused_to_him_who_sends_it(engine: FakeEngine, wrong: Any) -> None:
    with (
        Batcher(engine, BatchOptions(size=1)) as batcher,
        pytest.raises(SegdeployError, match="images: are"),
    ):
        batcher.submit(wrong)


@pytest.mark.parametrize("values", [{"size": 0}, {"size": 1, "wait_ms": -1.0}])
def test_options_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SegdeployError, match="wanted sizes of 1 or more"):
        BatchOptions(**values)


def test_labels_are_those_of_a_direct_run(
    exported: Callable[..., Graph], blocks: Callable[..., Images]
) -> None:
    images = blocks(Size(64, 96), count=6)
    graph = exported(Method.FCN, batch=None)

    with open_engine(graph, CPU) as engine:
        expected = engine.session().run(images)
        with Batcher(engine, BatchOptions(size=4, wait_ms=50)) as batcher:
            futures = [batcher.submit(image) for image in images]
            found = [future.result(PATIENCE_S) for future in futures]

    np.testing.assert_array_equal(np.stack(found), expected)
