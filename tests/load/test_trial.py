"""What may be concluded from a run, and what may not."""

import json
from dataclasses import replace

import pytest

from segdeploy.load.line import Query
from segdeploy.load.scenario import Generator, LoadOptions, Scenario
from segdeploy.load.trial import Ruling, Trial
from segdeploy.telemetry import MachineState

SERVER = LoadOptions(scenario=Scenario.SERVER, bound_ms=100, rate=50)
QUIET = MachineState(cores_s=0, busy_s=0, own_s=0)
DISTURBED = MachineState(cores_s=10, busy_s=9, own_s=1)


def trial(options: LoadOptions, latencies_s, **state) -> Trial:
    queries = [Query(0.1 * k, 0, 0.1 * k, 0.1 * k + found) for k, found in enumerate(latencies_s)]
    return Trial(options=options, queries=tuple(queries), seed=0, **state)


@pytest.mark.parametrize(
    ("fast", "slow", "ruling"),
    [
        (569, 0, Ruling.VALID),
        (568, 0, Ruling.INCONCLUSIVE),
        (823, 1, Ruling.VALID),
        (900, 9, Ruling.INCONCLUSIVE),
        (900, 50, Ruling.INVALID),
    ],
)
def test_a_bound_holds_only_if_there_is_evidence(fast, slow, ruling):
    found = trial(SERVER, [0.05] * fast + [0.2] * slow)

    assert found.judge()[0] is ruling
    assert found.over == slow


def test_loadgen_is_judged_by_the_rule_for_one_look():
    options = replace(SERVER, generator=Generator.LOADGEN)

    assert trial(options, [0.05] * 459).judge() == (Ruling.VALID, ())
    assert trial(options, [0.05] * 458).judge()[0] is Ruling.INCONCLUSIVE


def test_what_is_not_decided_says_what_it_takes():
    _, (reason,) = trial(SERVER, [0.05] * 300 + [0.2]).judge()

    assert (
        reason
        == "1 of 301 queries took longer than 100 ms; with so many late, p99 takes 824 queries"
    )


def test_a_lost_bound_on_a_busy_machine_is_inconclusive():
    lost = [0.05] * 900 + [0.2] * 50

    quiet = trial(SERVER, lost, before=QUIET, after=QUIET)
    busy = trial(SERVER, lost, before=QUIET, after=DISTURBED)

    assert quiet.judge()[0] is Ruling.INVALID
    assert busy.judge()[0] is Ruling.INCONCLUSIVE
    assert "other work took 80% of the cores" in busy.judge()[1]


def test_a_bound_that_is_kept_on_a_busy_machine_is_kept():
    assert trial(SERVER, [0.05] * 600, before=QUIET, after=DISTURBED).judge() == (Ruling.VALID, ())


def test_dropped_frames_are_late():
    options = LoadOptions(scenario=Scenario.CONSTANT_STREAM, streams=1, percentile=99)
    kept = trial(options, [0.01] * 900)
    dropped = tuple(Query(90 + 0.1 * k, is_dropped=True) for k in range(50))

    found = replace(kept, queries=kept.queries + dropped)

    assert found.judge()[0] is Ruling.INVALID
    assert (found.over, found.derived()["dropped"]) == (50, 50)
    assert found.derived()["p999_ms"] is None  # that frame has no latency


def test_a_single_stream_has_an_estimate_above_its_percentile():
    steps = [0.010 + 0.00001 * (37 * k % 100) for k in range(2048)]

    found = trial(LoadOptions(scenario=Scenario.SINGLE_STREAM), steps)

    assert found.judge() == (Ruling.VALID, ())
    assert found.derived()["p90_ms"] < found.estimate_ms
    assert found.estimate_ms == pytest.approx(1000 * sorted(steps)[2048 - 173])


def test_too_few_queries_are_inconclusive():
    found = trial(LoadOptions(scenario=Scenario.SINGLE_STREAM), [0.01] * 63)

    assert found.judge() == (Ruling.INCONCLUSIVE, ("63 queries; p90 takes 64",))
    assert found.estimate_ms is None


def test_a_multi_stream_counts_each_image():
    options = LoadOptions(scenario=Scenario.MULTI_STREAM, samples=8)

    assert trial(options, [0.1] * 10).samples_per_s == pytest.approx(80)


def test_offline_has_to_take_its_time():
    options = LoadOptions(scenario=Scenario.OFFLINE, seconds=10)

    assert trial(options, [0.1] * 100).judge()[0] is Ruling.VALID
    assert trial(options, [0.1] * 50).judge()[0] is Ruling.INCONCLUSIVE


def test_every_latency_is_in_the_json():
    found = trial(SERVER, [0.05] * 3 + [0.2])
    left = (Query(9.0, left_s=9.25), Query(9.2, left_s=9.25))  # the bound is 100 ms
    found = replace(found, queries=found.queries + left)

    row = json.loads(json.dumps(found.to_row(), allow_nan=False))

    assert row["latency_ms"] == [50, 50, 50, 200, None, None]
    assert (row["left"], row["left_waited_ms"]) == ([4, 5], [250, 50])
    assert row["seed"] == 0


def test_what_was_left_late_is_late_and_what_was_not_says_nothing():
    found = trial(SERVER, [0.05] * 900)
    late = tuple(Query(90.0, left_s=90.11) for _ in range(50))
    fresh = tuple(Query(90.1, left_s=90.11) for _ in range(7))

    found = replace(found, queries=found.queries + late + fresh)

    assert found.judge()[0] is Ruling.INVALID
    said = found.derived()
    assert [said[name] for name in ("queries", "over", "left", "left_late")] == [950, 50, 57, 50]
    assert (said["p90_ms"], said["p99_ms"]) == (50, None)
