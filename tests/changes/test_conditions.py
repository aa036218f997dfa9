"""What `--fail-if` understands, and when it fails."""

from dataclasses import replace

import pytest
from measured import INT8, PYTORCH, RANDOM, report

from segdeploy.changes.conditions import check, parse_condition
from segdeploy.changes.metrics import Metric
from segdeploy.changes.page import sentence
from segdeploy.changes.pairs import find_changes
from segdeploy.errors import SegdeployError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("p99_ms>+5%", (Metric.P99_MS, True, 5.0, True)),
        ("miou<-0.3", (Metric.MIOU, False, -0.3, False)),
        (" fps < -3.5 % ", (Metric.FPS, False, -3.5, True)),
        ("memory>+100", (Metric.MEMORY, True, 100.0, False)),
        ("p999_ms>-1%", (Metric.P999_MS, True, -1.0, True)),
    ],
)
def test_conditions_are_read(text, read) -> None:
    condition = parse_condition(text)

    assert (
        condition.metric, condition.above, condition.bound, condition.in_percent,
    ) == read  # fmt: skip
    assert parse_condition(str(condition)) == condition


@pytest.mark.parametrize("metric", Metric)
def test_every_metric_has_a_condition(metric) -> None:
    assert parse_condition(f"{metric}>+1").metric is metric


@pytest.mark.parametrize(
    "text",
    [
        "", "p99_ms", "p99_ms>5%", "p99_ms>=+5%", "p99_ms>+5%%", "p99_ms>+5 ms", "p99_ms>+", "+5%",
        "p99_ms>+1e3", "p99_ms>+5%; fps<-3%", "p99_ms>+inf", "p99_ms>+.5", "p99_ms>+\u0665",
        "P99_MS>+5%",
    ],
)  # fmt: skip
def test_what_is_not_quite_a_condition_is_refused(text) -> None:
    with pytest.raises(SegdeployError, match="is no condition"):
        parse_condition(text)


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SegdeployError, match="'latency' is unknown, wanted fps, p50_ms, p90_ms"):
        parse_condition("latency>+5%")


def test_percent_of_a_score_is_ambiguous() -> None:
    with pytest.raises(SegdeployError, match="percent already") as caught:
        parse_condition("miou<-1%")

    assert caught.value.hint == "miou<-1 means percentage points"


def broken(before, after, *texts):
    changes = find_changes(report(*before), report(*after))
    return check(changes, [parse_condition(text) for text in texts])


def test_a_time_that_grew_too_much_fails(sampled) -> None:
    before, after = [sampled(PYTORCH, 100.0)], [sampled(PYTORCH, 110.0, seed=1)]

    (found,) = broken(before, after, "p50_ms>+5%", "p50_ms>+15%", "fps>+1%")

    assert found.holds
    assert str(found.condition) == "p50_ms>+5%"
    assert found.row == "FCN Cityscapes, PyTorch fp32"


def test_milliseconds_can_be_the_bound(sampled) -> None:
    before, after = [sampled(PYTORCH, 100.0)], [sampled(PYTORCH, 110.0, seed=1)]

    assert broken(before, after, "p50_ms>+8")
    assert not broken(before, after, "p50_ms>+12")
    assert broken(after, before, "p50_ms<-8")
    assert broken(before, after, "fps<-0.5")


def test_a_change_that_may_be_chance_is_told_and_does_not_fail(sampled) -> None:
    before = [sampled(PYTORCH, 100.0, noise=0.8, count=40)]
    after = [sampled(PYTORCH, 125.0, noise=0.8, count=40, seed=1)]

    (found,) = broken(before, after, "p50_ms>+5%")

    assert not found.holds


def test_what_two_runs_of_one_file_differ_by_does_not_fail(sampled) -> None:
    before, after = [sampled(PYTORCH, 100.0)], [sampled(PYTORCH, 102.0)]

    (found,) = broken(before, after, "p50_ms>+1%")

    assert found.change.is_shown
    assert not found.holds
    assert sentence(found).endswith("two runs of the same file differ by up to 3%")


def test_too_few_steps_are_named(sampled) -> None:
    before = [sampled(PYTORCH, 100.0, noise=0.2, count=30)]
    after = [sampled(PYTORCH, 150.0, noise=0.2, count=30, seed=1)]

    (found,) = broken(before, after, "p99_ms>+5%")

    assert not found.holds
    assert sentence(found).endswith("(of an inconclusive run); it takes 100 steps of each")


def test_ten_times_as_long_fails_however_few_the_steps(sampled) -> None:
    before, after = ([sampled(PYTORCH, median, count=3)] for median in (100.0, 1000.0))

    (found,) = broken(before, after, "p99_ms>+5%")

    assert found.holds
    assert sentence(found).endswith("(of an inconclusive run)")


def test_a_row_that_is_gone_never_passes_in_silence(sampled) -> None:
    both = report(sampled(PYTORCH, 100.0), sampled(INT8, 20.0))
    changes = find_changes(both, report(both.measurements[0]))
    conditions = [parse_condition("p50_ms>+5%")]

    with pytest.raises(SegdeployError, match="ONNX Runtime int8 is in the first report only"):
        check(changes, conditions)
    assert check(changes, conditions, allow_missing=True) == ()


def test_nor_does_memory_that_is_no_longer_measured(sampled) -> None:
    before = [sampled(PYTORCH, 100.0), sampled(INT8, 20.0)]
    after = [replace(before[0], peak_memory_bytes=None), before[1]]

    with pytest.raises(SegdeployError, match="PyTorch fp32 cannot be compared: memory was not"):
        broken(before, after, "memory>+5%")


def test_a_score_that_fell_fails(sampled) -> None:
    before = [sampled(PYTORCH, 100.0)]
    after = [replace(before[0], tally=INT8.tally)]

    (found,) = broken(before, after, "miou<-0.3", "miou<-12", "miou>+0")

    assert found.holds
    assert found.change.difference == pytest.approx(-10)


def test_sizes_and_memory_can_be_the_metric(sampled) -> None:
    before = [sampled(PYTORCH, 100.0)]
    after = [replace(before[0], artifact_bytes=40_000_000, peak_memory_bytes=1_000_000_000)]

    found = broken(before, after, "megabytes>+5%", "memory>+50", "megabytes>+6%")

    assert [str(one.condition) for one in found] == ["megabytes>+5%", "memory>+50"]


def test_what_was_not_measured_never_passes_in_silence(sampled) -> None:
    row = sampled(RANDOM, 100.0)

    with pytest.raises(SegdeployError, match="miou<-1: no row of both reports has miou"):
        broken([row], [row], "miou<-1")


def test_a_score_that_is_no_longer_measured_does_not_pass_either(sampled) -> None:
    before = [sampled(PYTORCH, 100.0), sampled(INT8, 20.0)]
    after = [replace(before[0], tally=None, dataset=""), before[1]]

    with pytest.raises(SegdeployError, match="cannot be compared"):
        broken(before, after, "miou<-1")


def test_rows_that_never_had_a_score_do_not_matter(sampled) -> None:
    rows = [sampled(RANDOM, 100.0), sampled(INT8, 20.0)]

    assert broken(rows, rows, "miou<-1") == ()
