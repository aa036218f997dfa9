"""A pool lends each session to one thread at a time, and says so when none is free."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

from segdeploy.artifacts import Graph
from segdeploy.errors import BusyError, SegdeployError
from segdeploy.runtime import open_engine
from segdeploy.runtime.pool import SessionPool
from segdeploy.spec import CPU, Images, Method, Size


def test_many_threads_share_few_sessions(
    exported: Callable[..., Graph], blocks: Callable[..., Images]
) -> None:
    images = blocks(Size(64, 96))
    found: list[np.ndarray] = []
    with open_engine(exported(Method.FCN), CPU) as engine, SessionPool(engine, 2) as pool:
        with pool.session() as session:
            expected = session.run(images)

        def work() -> None:
            for _ in range(3):
                with pool.session() as session:
                    found.append(session.run(images))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(found) == 18
    assert all(np.array_equal(labels, expected) for labels in found)


def test_when_all_are_in_use_the_next_one_is_told_in_time(exported: Callable[..., Graph]) -> None:
    with open_engine(exported(Method.FCN), CPU) as engine, SessionPool(engine, 1) as pool:
        with (
            pool.session(),
            pytest.raises(BusyError, match=r"all 1 sessions of .* in use for 0\.01 s"),
            pool.session(timeout_s=0.01),
        ):
            pytest.fail("there is no second session")

        with pool.session(timeout_s=0.01) as session:
            assert session.manifest == engine.manifest


def test_a_session_comes_back_after_an_error(exported: Callable[..., Graph]) -> None:
    with open_engine(exported(Method.FCN), CPU) as engine, SessionPool(engine, 1) as pool:
        with pytest.raises(SegdeployError), pool.session() as session:
            session.run(np.zeros((1, 8, 8, 3), np.uint8))

        with pool.session(timeout_s=0.01) as session:
            assert session.run(np.zeros((1, 64, 96, 3), np.uint8)).shape == (1, 64, 96)


def test_a_pool_of_none_is_refused(exported: Callable[..., Graph]) -> None:
    with (
        open_engine(exported(Method.FCN), CPU) as engine,
        pytest.raises(SegdeployError, match="a pool of 0 sessions"),
    ):
        SessionPool(engine, 0)
