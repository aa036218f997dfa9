"""The largest load, on simulated servers of known capacity."""

import pytest
import simulated_load

from segdeploy.load.arrivals import camera_arrivals
from segdeploy.load.line import Ending, Line
from segdeploy.load.scenario import LoadOptions, Scenario
from segdeploy.load.search import find_largest
from segdeploy.load.trial import Ruling, Trial


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 17, 98, 99])
@pytest.mark.parametrize("start", [0, 1, 10, 64, 1000])
def test_a_sharp_edge_is_found_from_anywhere(largest, start):
    assert find_largest(lambda number: number <= largest, start=start, limit=100) == largest


def test_a_lucky_number_has_to_pass_again():
    tries = {}

    def passes(number):
        tries[number] = tries.get(number, 0) + 1
        return number <= 5 or (number == 8 and tries[number] == 1)

    assert find_largest(passes, start=8, limit=100) in (4, 5)
    assert tries[8] == 2


def test_few_tries_are_enough():
    tried = []

    find_largest(lambda number: bool(tried.append(number)) or number <= 700, start=1, limit=1000)

    assert len(tried) < 25


@pytest.mark.parametrize(
    ("servers", "service_ms", "cameras"),
    [
        (1, 33.0, 1),  # 30 fps keep one server busy for 99 % of the time
        (1, 34.0, 0),  # a frame takes longer than the bound
        (3, 33.0, 3),
        (1, 5.0, 6),  # six periods of 5 ms fill a frame's 33.3 ms, however the phases lie
        (2, 5.0, 13),  # two servers have 13.3
    ],
)
def test_as_many_cameras_as_fit(servers, service_ms, cameras):
    scenario = Scenario.CONSTANT_STREAM
    options = LoadOptions(scenario=scenario, seconds=5, max_seconds=200)

    def passes(streams):
        ending = Ending(
            seconds=options.seconds,
            max_seconds=options.max_seconds,
            bound_s=options.bound_s,
            percent=options.percent,
        )
        line = Line(camera_arrivals(streams, options.fps, streams), ending, replaces=True)
        simulated_load.work_off(line, servers, lambda _: service_ms / 1000)
        trial = Trial(options=options, queries=tuple(line.queries), seed=0, streams=streams)
        return trial.judge()[0] is Ruling.VALID

    assert find_largest(passes, start=2, limit=50) == cameras
