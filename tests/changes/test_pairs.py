"""Which rows are compared, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
from measured import ENVIRONMENT, INT8, PYTORCH, RANDOM, report

from segdeploy.changes.metrics import UNDECIDED, Metric, time_changes
from segdeploy.changes.pairs import find_changes
from segdeploy.errors import SegdeployError
from segdeploy.measurement import Boundary
from segdeploy.timing import Latency


@pytest.mark.parametrize(
    ("after_ms", "verdict"), [(120.0, "slower"), (80.0, "faster"), (100.0, UNDECIDED)]
)
def test_a_real_change_is_found_and_chance_is_not(sampled, after_ms, verdict) -> None:
    before, after = sampled(PYTORCH, 100.0), sampled(PYTORCH, after_ms, seed=1)

    (row,) = find_changes(report(before), report(after)).rows

    assert row.verdict == verdict
    change = row.metrics[Metric.P50_MS]
    assert change.interval.low < 100 * (after_ms / 100 - 1) < change.interval.high
    assert change.interval.high - change.interval.low < 3


def test_a_change_within_what_two_runs_differ_by_is_none(sampled) -> None:
    before, after = sampled(PYTORCH, 100.0, noise=0.001), sampled(PYTORCH, 102.0, noise=0.001)

    (row,) = find_changes(report(before), report(after)).rows

    assert row.metrics[Metric.P50_MS].is_shown
    assert row.verdict == UNDECIDED


def test_noise_hides_a_change(sampled) -> None:
    before = sampled(PYTORCH, 100.0, noise=0.8, count=40)
    after = sampled(PYTORCH, 110.0, noise=0.8, count=40, seed=1)

    (row,) = find_changes(report(before), report(after)).rows

    assert row.verdict == UNDECIDED
    assert row.shaky == {Boundary.MMSEG}
    assert "the median is known to" in row.caveats[0]


def test_three_steps_show_nothing_unless_all_are_beyond_all() -> None:
    before = Latency((100.0, 101.0, 300.0))

    near = time_changes(before, Latency((200.0, 200.0, 301.0)), (1, 1))[Metric.P50_MS]
    far = time_changes(before, Latency((900.0, 900.0, 900.0)), (1, 1))[Metric.P50_MS]

    assert (near.needed, near.verdict) == (20, UNDECIDED)
    assert far.verdict == "slower"
    assert time_changes(before, Latency((9.0, 9.0)), (1, 1))[Metric.P50_MS].verdict == UNDECIDED


def test_a_percentile_needs_a_step_beyond_it() -> None:
    dice = np.random.default_rng(4)
    before, after = (Latency(tuple(scale * dice.lognormal(0, 0.1, 99))) for scale in (1, 1.3))

    changes = time_changes(before, after, (1, 1))

    needed = {metric.value: change.needed for metric, change in changes.items() if change.needed}
    assert needed == {"p99_ms": 100, "p999_ms": 1000}
    assert not changes[Metric.P99_MS].is_shown
    assert changes[Metric.P95_MS].is_shown


@pytest.mark.parametrize("count", [20, 50, 100, 195])
def test_nothing_is_shown_where_nothing_changed(count: int) -> None:
    dice = np.random.default_rng(7)
    alarms = 0
    for _ in range(100):
        before, after = (Latency(tuple(10 + dice.gamma(1, 0.5, count))) for _ in range(2))
        p99 = time_changes(before, after, (1, 1))[Metric.P99_MS]
        alarms += p99.is_shown and p99.percent > 5

    assert alarms <= 3


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    dice = np.random.default_rng(3)
    covered = 0
    for _ in range(60):
        before, after = (Latency(tuple(dice.lognormal(0, 0.1, 60))) for _ in range(2))
        ratio = time_changes(before, after, (1, 1))[Metric.P50_MS].ratio
        covered += ratio.low <= 1 <= ratio.high

    assert covered >= 51  # of 60 at 95 %; fewer have a chance of 1 in 500


def test_the_same_reports_give_the_same_numbers(sampled) -> None:
    before, after = report(sampled(PYTORCH, 100.0)), report(sampled(PYTORCH, 104.0, seed=1))

    assert find_changes(before, after) == find_changes(before, after)


def test_fps_count_the_images_of_a_batch(sampled) -> None:
    row = replace(PYTORCH, batch=4)

    (changed,) = find_changes(
        report(sampled(row, 100.0, noise=0.001)), report(sampled(row, 50.0, noise=0.001))
    ).rows

    fps = changed.metrics[Metric.FPS]
    assert (fps.before, fps.after) == (pytest.approx(40, rel=0.01), pytest.approx(80, rel=0.01))


def test_scores_and_sizes_are_compared_as_they_were_counted(sampled) -> None:
    before = sampled(PYTORCH, 100.0)
    after = replace(before, tally=INT8.tally, artifact_bytes=19_000_000)

    (row,) = find_changes(report(before), report(after)).rows

    assert row.metrics[Metric.MIOU].difference == pytest.approx(-10)
    assert row.metrics[Metric.MEGABYTES].percent == pytest.approx(-50)
    assert row.metrics[Metric.MEMORY].difference == 0
    assert row.metrics[Metric.MIOU].is_shown


def test_scores_of_other_images_are_not_compared(sampled) -> None:
    before = sampled(PYTORCH, 100.0)
    after = replace(before, tally=replace(before.tally, images=20))

    (row,) = find_changes(report(before), report(after)).rows

    assert Metric.MIOU not in row.metrics
    assert row.lost == {Metric.MIOU, Metric.MACC, Metric.AACC}
    assert "500 of cityscapes / 20 of cityscapes" in row.caveats[-1]


def test_rows_are_paired_by_what_they_are_and_not_by_their_place(sampled) -> None:
    first, second = sampled(PYTORCH, 100.0), sampled(INT8, 20.0)
    random = sampled(RANDOM, 100.0)

    changes = find_changes(report(first, second), report(random, second))

    assert [row.name for row in changes.rows] == ["FCN Cityscapes, ONNX Runtime int8"]
    assert changes.only_before == ("FCN Cityscapes, PyTorch fp32",)
    assert changes.only_after == ("FCN Cityscapes, random weights (seed 0), PyTorch fp32",)


def test_two_rows_of_one_kind_keep_their_order(sampled) -> None:
    first, second = sampled(INT8, 20.0), sampled(INT8, 40.0)

    changes = find_changes(report(first, second), report(second, first))

    assert [(row.name, row.verdict) for row in changes.rows] == [
        ("FCN Cityscapes, ONNX Runtime int8", "slower"),
        ("FCN Cityscapes, ONNX Runtime int8 (2)", "faster"),
    ]


def test_other_machines_are_refused_unless_told(sampled) -> None:
    row = sampled(PYTORCH, 100.0)
    elsewhere = replace(report(row), environment=replace(ENVIRONMENT, cpu="Other CPU"))

    with pytest.raises(SegdeployError, match="processor: Example CPU / Other CPU") as caught:
        find_changes(report(row), elsewhere)
    changes = find_changes(report(row), elsewhere, across_machines=True)

    assert "--across-machines" in caught.value.hint
    assert changes.differences == ("processor: Example CPU / Other CPU",)


def test_reports_without_a_row_in_common_are_refused(sampled) -> None:
    with pytest.raises(SegdeployError, match="no row is in both reports"):
        find_changes(report(sampled(PYTORCH, 1.0)), report(sampled(INT8, 1.0)))


def test_other_threads_are_told(sampled) -> None:
    before = sampled(PYTORCH, 100.0)

    (row,) = find_changes(report(before), report(replace(before, threads=2))).rows

    assert row.caveats == ("threads: 4 before, 2 after",)
