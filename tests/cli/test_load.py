"""`segdeploy load`: an engine under load, and the file that holds all of it."""

import json

import pytest

from segdeploy.load import run
from segdeploy.telemetry import MachineState

pytestmark = pytest.mark.xdist_group("cli")  # one worker traces the tiny model once for all

SHORT = ("--seconds", 0.2, "--max-seconds", 5)


@pytest.mark.parametrize(
    ("options", "queries"),
    [
        (("single-stream",), 64),
        (("multi-stream", "--samples", 3, "--percentile", 90, "--sessions", 2), 64),
        (("offline",), 1),
        (("server", "--rate", 200, "--bound-ms", 60_000, "--percentile", 90), 22),
        (("constant-stream", "--streams", 2, "--percentile", 90), 12),
    ],
    ids=str,
)
def test_every_latency_of_a_scenario_is_kept(segdeploy, graph, inside, tmp_path, options, queries):
    place = tmp_path / "load.json"

    ended = segdeploy("load", graph, "--scenario", *options, *SHORT, "--seed", 3, "--json", place)

    assert ended.code == 0, ended.err
    assert options[0] in ended.out
    whole = json.loads(place.read_text())
    (trial,) = whole["trials"]
    assert whole["environment"]["usable_cores"] >= 1
    assert whole["artifact"] == graph.name
    assert whole["options"]["scenario"] == options[0]
    assert trial["seed"] == 3
    assert len(trial["latency_ms"]) == len(trial["scheduled_ms"]) >= queries
    if options[0] == "server":  # a minute is enough on any machine
        assert trial["derived"]["ruling"] == "valid"


def test_a_search_ends_with_a_load_that_was_confirmed(segdeploy, graph, inside, tmp_path):
    place = tmp_path / "load.json"
    options = ("--bound-ms", 2000, "--percentile", 50, "--fps", 50, *SHORT, "--max-seconds", 2)

    ended = segdeploy("load", graph, "--scenario", "constant-stream", *options, "--json", place)

    assert ended.code == 0, ended.err
    whole = json.loads(place.read_text())
    trials = whole["trials"]
    found = trials[whole["answer"]]
    cameras = "camera" if found["streams"] == 1 else "cameras"
    assert f"{found['streams']} {cameras} of 50 fps under 2000 ms p50" in ended.out
    assert [t["derived"]["ruling"] for t in trials if t["streams"] == found["streams"]][-1] == (
        "valid"
    )
    assert len({trial["seed"] for trial in trials}) == len(trials)


def test_a_batch_that_the_engine_does_not_take_is_an_error(segdeploy, graph, inside):
    ended = segdeploy("load", graph, "--scenario", "offline", "--batch", 4)

    ended.assert_error("takes batches of 1; wanted 4")


def test_a_server_needs_a_bound(segdeploy, graph, inside):
    segdeploy("load", graph, "--scenario", "server").assert_error("has no bound of its own")


@pytest.fixture
def quiet(monkeypatch):
    """A machine without other work: a bound that is lost is no fault of others."""
    monkeypatch.setattr(run, "machine_state", MachineState)


@pytest.mark.parametrize(
    ("options", "kept", "code", "said"),
    [
        (("--rate", 500, "--bound-ms", 0.001), False, 1, "not kept: 500 queries/s under 0.001 ms"),
        (("--rate", 20, "--bound-ms", 60_000), None, 0, "not decided: 20 queries/s under 6e+04 ms"),
        (("--rate", 100, "--bound-ms", 60_000), True, 0, "100 queries/s under 6e+04 ms p90"),
    ],
    ids=["lost", "undecided", "kept"],
)
def test_a_rate_that_was_given_is_kept_or_the_result_denies_it(
    segdeploy, graph, inside, quiet, tmp_path, options, kept, code, said
):
    place = tmp_path / "load.json"
    times = ("--seconds", 0.5, "--max-seconds", 4 if kept else 0.5, "--percentile", 90)

    ended = segdeploy("load", graph, "--scenario", "server", *options, *times, "--json", place)

    assert ended.code == code, ended.err
    (result,) = (line for line in ended.out.splitlines() if line.startswith("result"))
    assert result.removeprefix("result").lstrip().startswith(said)
    assert json.loads(place.read_text())["kept"] is kept


def test_too_many_cameras_exit_with_1(segdeploy, graph, inside, quiet):
    ended = segdeploy(
        "load", graph, "--scenario", "constant-stream", "--streams", 20, "--bound-ms", 0.001, *SHORT
    )

    assert ended.code == 1
    assert "not kept: 20 cameras of 30 fps under 0.001 ms p99.9" in ended.out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--seed", -1), "--seed -1; wanted 0 or more"),
        (("--threads", -3), "--threads -3; wanted 0 or more"),
        (("--max-seconds", "nan"), "--max-seconds nan; wanted a finite number"),
        (
            ("--rate", 5, "--streams", 3, "--bound-ms", 1, "--fps", 30, "--samples", 8),
            "single-stream does not use --rate, --streams, --fps, --samples, --bound-ms$",
        ),
        (("--scenario", "offline", "--percentile", 99), "offline does not use --percentile$"),
        (
            ("--scenario", "server", "--bound-ms", 50, "--rate", "inf"),
            "--rate inf; wanted a finite number more than 0",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_said_in_a_line(segdeploy, graph, inside, options, problem):
    segdeploy("load", graph, *options).assert_error(problem)
