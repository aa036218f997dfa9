"""One thread at a time, in one process, while it is open; everything else is a sentence."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from segdeploy.errors import SegdeployError
from segdeploy.runtime.lease import Lease

SOON = 10.0  # seconds: that something happens at all
NOT_YET = 0.05  # seconds: that something does not happen


@pytest.fixture
def lease() -> Lease:
    return Lease("a session of demo")


def hold(lease: Lease) -> Iterator[int]:
    """As `map` does: the lease is held between two results."""
    with lease.use():
        yield 1
        yield 2


def test_it_can_be_used_again_and_again(lease):
    for _ in range(3):
        with lease.use():
            lease.check()


def test_an_error_inside_gives_it_back(lease):
    with pytest.raises(ZeroDivisionError), lease.use():
        raise ZeroDivisionError

    with lease.use():
        pass


def test_use_after_close_is_refused(lease):
    lease.end(lambda: None)

    with pytest.raises(SegdeployError, match=r"^a session of demo: is closed$") as caught:
        lease.check()
    with pytest.raises(SegdeployError, match="is closed"), lease.use():
        pytest.fail("it is closed")

    assert caught.value.hint == "open it again"


def test_closing_twice_frees_once(lease):
    freed: list[int] = []

    lease.end(lambda: freed.append(1))
    lease.end(lambda: freed.append(2))

    assert freed == [1]


def test_two_threads_at_once_are_refused_and_not_queued(lease):
    def use() -> str:
        with pytest.raises(SegdeployError) as caught, lease.use():
            pytest.fail("another thread has it")
        return caught.value.problem

    with ThreadPoolExecutor() as pool, lease.use():
        problem = pool.submit(use).result(SOON)

    assert problem == "a session of demo: is in use by another thread"


def test_a_thread_that_asks_to_wait_gets_it_when_the_other_is_done(lease):
    order: list[str] = []

    def use() -> None:
        with lease.use(wait=True):
            order.append("second")

    with ThreadPoolExecutor() as pool:
        with lease.use():
            waiting = pool.submit(use)
            with pytest.raises(TimeoutError):
                waiting.result(NOT_YET)
            order.append("first")
        waiting.result(SOON)

    assert order == ["first", "second"]


def test_a_map_that_has_not_ended_is_named(lease):
    results = hold(lease)
    next(results)

    with pytest.raises(SegdeployError, match="in use by a map of this thread") as caught:
        next(hold(lease))
    with pytest.raises(SegdeployError, match=r"a map of this thread .*; finish it first"):
        lease.end(lambda: pytest.fail("it would wait for itself"))

    assert "engine.session()" in caught.value.hint


def test_a_map_that_is_given_up_gives_it_back(lease):
    results = hold(lease)
    next(results)

    results.close()

    lease.end(lambda: None)
    with pytest.raises(SegdeployError, match="is closed"):
        lease.check()


def test_close_waits_for_the_thread_that_uses_it(lease):
    order: list[str] = []

    with ThreadPoolExecutor() as pool:
        with lease.use():
            closing = pool.submit(lease.end, lambda: order.append("freed"))
            with pytest.raises(TimeoutError):
                closing.result(NOT_YET)
            order.append("used")
        closing.result(SOON)

    assert order == ["used", "freed"]


class TakenToClose:
    """A lock that another thread gets first, which closes."""

    def __init__(self, lease: Lease) -> None:
        self.lease, self.lock = lease, threading.Lock()

    def acquire(self, *, blocking: bool) -> bool:
        self.lease.end(lambda: None)
        return self.lock.acquire(blocking)

    def release(self) -> None:
        self.lock.release()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *error: object) -> None:
        self.lock.release()


def test_a_thread_that_waited_while_it_was_closed_is_refused(lease, monkeypatch):
    monkeypatch.setattr(lease, "_lock", TakenToClose(lease))

    with pytest.raises(SegdeployError, match="is closed"), lease.use(wait=True):
        pytest.fail("it was closed")


def test_a_forked_process_may_not_use_it_and_is_told_what_to_do(lease, in_fork):
    found = in_fork(lease.check)

    assert isinstance(found, SegdeployError)
    assert str(found).startswith("a session of demo: was opened before this process was forked")
    assert "post_worker_init" in found.hint
    lease.check()  # the parent still may


def test_a_fork_while_it_is_used_is_refused_and_does_not_hang(lease, in_fork):
    def use() -> None:
        with lease.use(wait=True):
            pass

    with lease.use():
        found = in_fork(use)

    assert "forked" in str(found)


def test_a_forked_process_frees_nothing(lease, in_fork):
    freed: list[int] = []

    def close() -> list[int]:
        lease.end(lambda: freed.append(1))
        return freed

    assert in_fork(close) == []
    lease.end(lambda: freed.append(2))
    assert freed == [2]


def test_what_could_not_be_freed_stays_open(lease):
    def fail() -> None:
        raise SegdeployError("a map of it has not ended")

    with pytest.raises(SegdeployError, match="has not ended"):
        lease.end(fail)

    lease.check()
