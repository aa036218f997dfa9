"""Queries to threads, and one after the other."""

import signal
import threading

import pytest
from simulated_load import SimulatedClock

from segdeploy.errors import SegdeployError
from segdeploy.load.arrivals import all_at_once, poisson_arrivals
from segdeploy.load.issuing import WallClock, one_by_one, work_off
from segdeploy.load.line import Ending, Line


def test_each_query_is_answered_once_whoever_does_it():
    line = Line(all_at_once(500), Ending(seconds=0, max_seconds=60), batch=3)
    answered, lock = [], threading.Lock()

    def answer(numbers):
        with lock:
            answered.extend(numbers)

    work_off(line, [answer] * 4, WallClock())

    assert sorted(answered) == list(range(500))
    assert all(q.done_s >= q.began_s >= 0 for q in line.queries)


def test_nothing_is_answered_before_it_comes():
    line = Line(poisson_arrivals(500, 0), Ending(seconds=0.2, max_seconds=0.2))

    work_off(line, [lambda _: None] * 2, WallClock())

    assert line.queries
    assert all(q.began_s >= q.scheduled_s for q in line.queries)


def test_an_error_ends_the_run_and_reaches_the_caller():
    line = Line(poisson_arrivals(500, 0), Ending(seconds=60, max_seconds=60))

    def fail(_numbers):
        raise SegdeployError("out of memory")

    with pytest.raises(SegdeployError, match="out of memory"):
        work_off(line, [fail, lambda _: None], WallClock())


def test_an_interrupt_ends_the_sessions_work_before_the_caller_closes_them():
    line = Line(poisson_arrivals(500, 0), Ending(seconds=600, max_seconds=600))
    main_thread = threading.main_thread().ident
    threads = threading.active_count()

    def answer(numbers):
        if 20 in numbers:
            signal.pthread_kill(main_thread, signal.SIGINT)

    # A job in the background of a shell starts with SIGINT ignored, and Python leaves it so.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work_off(line, [answer] * 2, WallClock())
    finally:
        signal.signal(signal.SIGINT, inherited)

    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("seconds", "least", "count"), [(1.0, 0, 10), (0.0, 25, 25), (100.0, 0, 50)]
)
def test_one_query_comes_after_the_other_as_long_as_is_asked_for(seconds, least, count):
    clock = SimulatedClock()
    seen = []

    def answer(numbers):
        seen.append(list(numbers))
        clock.time_s += 0.125

    limits = {"seconds": seconds * 1.2, "max_seconds": 6.25, "least": least}
    queries = one_by_one(answer, clock, samples=2, **limits)

    assert len(queries) == count
    assert seen[:2] == [[0, 1], [2, 3]]
    assert {q.latency_s for q in queries} == {0.125}
