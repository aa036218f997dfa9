"""A line in simulated time: known service times give known capacities, and waiting is counted."""

import itertools
import math

import pytest
import simulated_load

from segdeploy.load import issuing
from segdeploy.load.arrivals import Arrival, all_at_once, camera_arrivals, poisson_arrivals
from segdeploy.load.line import Ending, Line
from segdeploy.load.scenario import LoadOptions, Scenario
from segdeploy.load.trial import Ruling, Trial


def run(arrivals, service_s, *, servers=1, bound_s=0.1, percent=99.0, **options) -> Line:
    ending = Ending(seconds=10, max_seconds=60, bound_s=bound_s, percent=percent)
    line = Line(arrivals, ending, **options)
    simulated_load.work_off(line, servers, service_s)
    return line


def latencies(line: Line) -> list[float]:
    return [q.latency_s for q in line.queries if q.latency_s is not None]


def test_a_query_waits_from_its_own_moment_on():
    """One slow answer delays all that were to come meanwhile: coordinated omission hides it."""
    arrivals = iter([Arrival(0.1 * k) for k in range(30)])
    services = iter([1.0] + [0.01] * 29)

    line = run(arrivals, lambda _: next(services), bound_s=None)

    assert latencies(line)[:11] == pytest.approx([1.0] + [0.91 - 0.09 * k for k in range(10)])
    worked = [q.done_s - q.began_s for q in line.queries]
    assert sum(found > 0.1 for found in worked) == 1  # what timing the work alone would report
    assert sum(found > 0.15 for found in latencies(line)) == 10


@pytest.mark.parametrize("servers", [1, 2, 3])
def test_all_at_once_take_the_time_of_all(servers):
    line = run(all_at_once(60), lambda _: 0.05, servers=servers, bound_s=None)

    assert max(q.done_s for q in line.queries) == pytest.approx(60 * 0.05 / servers)


def test_a_batch_takes_what_waits_and_no_more():
    sizes = []

    def serve(numbers):
        sizes.append(len(numbers))
        return 0.1

    run(all_at_once(10), serve, batch=4, bound_s=None)

    assert sizes == [4, 4, 2]


def test_waiting_in_the_line_is_that_of_queueing_theory():
    """One server, constant service: Pollaczek and Khinchin say how long a query waits."""
    rate, service_s = 5.0, 0.1
    ending = Ending(seconds=4000, max_seconds=4000, bound_s=None)
    line = Line(poisson_arrivals(rate, 0), ending)

    simulated_load.work_off(line, 1, lambda _: service_s)

    used = rate * service_s
    expected = used * service_s / (2 * (1 - used))
    waited = [q.began_s - q.scheduled_s for q in line.queries]
    assert sum(waited) / len(waited) == pytest.approx(expected, rel=0.05)  # 4 % of 20000 queries


def test_an_overload_ends_soon_and_leaves_the_rest():
    line = run(poisson_arrivals(100, 0), lambda _: 0.1)

    assert max(q.done_s or 0 for q in line.queries) < 3
    assert any(q.latency_s is None for q in line.queries)


def test_a_light_load_ends_when_it_is_decided():
    line = run(poisson_arrivals(60, 0), lambda _: 0.001)

    assert all(q.latency_s <= 0.1 for q in line.queries)
    assert 10 <= line.queries[-1].scheduled_s < 11  # 600 queries: 569 are enough


@pytest.mark.parametrize("stall_s", [0.4, 0.6, 2.0])
@pytest.mark.parametrize("stalled_at_s", [3, 6, 8, 9, 9.7, 9.8, 9.9, 15])
def test_a_stall_is_judged_with_the_queries_that_waited(stalled_at_s, stall_s):
    """They were counted to end the run and then thrown away: the rest kept the bound."""
    clock = simulated_load.SimulatedClock()
    stalls = iter([stall_s])

    def answer(_numbers):
        clock.time_s += next(stalls, 0.005) if clock.time_s >= stalled_at_s else 0.005

    options = LoadOptions(scenario=Scenario.SERVER, rate=100, bound_ms=50)
    ending = Ending(seconds=10, max_seconds=60, bound_s=0.05, percent=99.0)
    line = Line(poisson_arrivals(100, 0), ending)
    issuing.work_off(line, [answer], clock)
    trial = Trial(options=options, queries=tuple(line.queries), seed=0, rate=100)

    unanswered = [q for q in line.queries if q.done_s is None]
    waited = sum(clock.time_s - q.scheduled_s > 0.05 for q in unanswered)
    answered_late = sum(q.done_s is not None and q.latency_s > 0.05 for q in line.queries)
    assert trial.over == answered_late + waited
    if stalled_at_s < 10:  # more than 4 of the 100 queries of a second, in ten seconds
        assert trial.judge()[0] is Ruling.INVALID
    else:
        assert trial.judge()[0] is Ruling.VALID  # it had been decided


def test_a_stall_does_not_end_a_long_run_that_forgives_it():
    services = itertools.chain([1.0], itertools.repeat(0.001))
    ending = Ending(seconds=200, max_seconds=300, bound_s=0.05, percent=99.0)
    line = Line(poisson_arrivals(100, 0), ending)

    simulated_load.work_off(line, 1, lambda _: next(services))

    assert line.queries[-1].scheduled_s > 199  # 100 late of 20 000
    assert all(q.done_s for q in line.queries)


def test_a_run_is_not_lost_while_those_in_hand_may_turn_it():
    arrivals = iter([Arrival(0.0)] * 10 + [Arrival(0.2)] * 20 + [Arrival(1.0)])
    ending = Ending(seconds=0.01, max_seconds=60, bound_s=0.15, percent=50.0)
    line = Line(arrivals, ending, batch=20)
    late, in_hand = line.claim(0.0), line.claim(0.2)
    line.finish(late, 0.24)  # 10 of 10 answered ones are late: beyond all doubt, were they all

    assert line.claim(0.26) == 1.0
    line.finish(in_hand, 0.3)  # all in time
    assert line.claim(0.6) == 1.0


def test_a_rare_percentile_takes_longer_than_was_asked_for():
    line = run(poisson_arrivals(100, 0), lambda _: 0.001, percent=99.9)

    assert len(line.queries) >= 5704
    assert line.queries[-1].scheduled_s > 50


def test_nothing_comes_after_the_end_of_time():
    line = run(poisson_arrivals(2, 0), lambda _: 0.001)  # 120 queries decide nothing

    assert 58 < line.queries[-1].scheduled_s < 60
    assert all(q.done_s for q in line.queries)


def test_a_new_frame_replaces_one_of_its_own_camera_that_waits():
    arrivals = iter([Arrival(0.0, 0), Arrival(0.1, 1), Arrival(0.2, 0), Arrival(0.3, 0)])

    line = run(arrivals, lambda _: 0.35, bound_s=0.1, replaces=True)

    assert [q.is_dropped for q in line.queries] == [False, False, True, False]
    assert line.queries[2].latency_s == math.inf
    assert line.queries[2].began_s is None


def test_a_server_keeps_every_query_however_late():
    arrivals = iter([Arrival(0.1 * k) for k in range(5)])

    line = run(arrivals, lambda _: 0.35)

    assert [q.is_dropped for q in line.queries] == [False] * 5


def test_arrivals_repeat_with_their_seed():
    def first(seed):
        arrivals = poisson_arrivals(10, seed)
        return [next(arrivals) for _ in range(5)]

    assert first(1) == first(1) != first(2)


def test_poisson_arrivals_have_their_rate():
    arrivals = poisson_arrivals(20, 0)
    last = [next(arrivals).at_s for _ in range(20_000)][-1]

    assert last == pytest.approx(1000, rel=0.03)  # 4 standard deviations


def test_cameras_keep_their_rate_and_their_phase():
    arrivals = camera_arrivals(3, 30, 7)
    frames = [next(arrivals) for _ in range(300)]

    assert frames == sorted(frames)
    for stream in range(3):
        moments = [frame.at_s for frame in frames if frame.stream == stream]
        assert moments[99] - moments[0] == pytest.approx(99 / 30)
