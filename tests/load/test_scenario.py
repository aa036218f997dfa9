"""What may be asked of an engine under load."""

import math

import pytest

from segdeploy.errors import SegdeployError
from segdeploy.load.scenario import USED_BY, Generator, LoadOptions, Scenario

FINITE = "wanted a finite number more than 0"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"scenario": Scenario.SERVER, "rate": 3}, "a server has no bound of its own"),
        ({"seconds": 0}, f"--seconds 0; {FINITE}"),
        ({"percentile": 100}, "less than 100"),
        ({"percentile": math.nan}, "less than 100"),
        ({"scenario": Scenario.OFFLINE, "max_seconds": 5}, "at least --seconds 10"),
        ({"seed": -1}, "--seed -1; wanted 0 or more"),
        ({"threads": -3}, "--threads -3; wanted 0 or more"),
        (
            {"scenario": Scenario.SERVER, "bound_ms": 9, "rate": 1e9},
            r"--rate 1e\+09 per second; wanted at most 100000",
        ),
        (
            {"scenario": Scenario.CONSTANT_STREAM, "streams": 10**9},
            r"--streams by --fps 3e\+10 per second; wanted at most 100000",
        ),
        (
            {"scenario": Scenario.CONSTANT_STREAM, "generator": Generator.LOADGEN},
            "has no constant-stream scenario",
        ),
        (
            {"scenario": Scenario.SERVER, "bound_ms": 9, "generator": Generator.LOADGEN},
            "LoadGen is given a rate",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_an_error(wrong, problem):
    with pytest.raises(SegdeployError, match=problem):
        LoadOptions(**{"scenario": Scenario.SINGLE_STREAM, **wrong})


@pytest.mark.parametrize("name", ["rate", "fps", "bound_ms", "seconds", "max_seconds"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 0.0])
def test_a_number_that_is_none_is_an_error_that_names_the_option(name, value):
    option = f"--{name.replace('_', '-')}"

    with pytest.raises(SegdeployError, match=f"^{option} {value}; {FINITE}"):
        LoadOptions(**{"scenario": Scenario.SERVER, "bound_ms": 100, name: value})


def test_options_of_other_scenarios_are_refused_by_name():
    with pytest.raises(SegdeployError) as caught:
        Scenario.SINGLE_STREAM.check_given(["--rate", "--percentile", "--streams", "--bound-ms"])

    problem = "--scenario single-stream does not use --rate, --streams, --bound-ms"
    assert str(caught.value) == problem


def test_each_scenario_takes_its_own_options():
    for scenario in Scenario:
        scenario.check_given(name for name, users in USED_BY.items() if scenario in users)


def test_a_camera_has_until_its_next_frame():
    assert LoadOptions(scenario=Scenario.CONSTANT_STREAM).bound_s == pytest.approx(1 / 30)
    assert LoadOptions(scenario=Scenario.SINGLE_STREAM).bound_s is None
