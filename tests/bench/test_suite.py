"""A suite is planned with what is at hand, says what it lacks, and is one report."""

import logging
from dataclasses import replace

import pytest

from segdeploy.artifacts import Store
from segdeploy.bench import suite as suites
from segdeploy.bench.lock import Lock
from segdeploy.bench.suite import SuiteOptions, plan_suite, run_suite
from segdeploy.environment import describe_environment
from segdeploy.errors import SegdeployError
from segdeploy.measurement import Boundary, Measurement, Timing
from segdeploy.recipes import Suite, SuiteRun, load_model, load_suite, load_targets
from segdeploy.report import Report
from segdeploy.spec import CPU, Output, Precision, Runtime
from segdeploy.timing import Latency

RUN = SuiteRun(
    models=("demo",),
    dataset="demo",
    precisions=(Precision.FP32,),
    runtimes=(Runtime.ONNXRUNTIME,),
    seconds=7.0,
    weights="at-hand",
    accuracy=True,
    limit=3,
)
CITY = replace(RUN, models=("fcn-cityscapes", "pspnet-cityscapes"), dataset="cityscapes")
SUITE = Suite("mine", 5, (RUN, CITY), "0" * 64)


@pytest.fixture
def options(tmp_path) -> SuiteOptions:
    return SuiteOptions(data=tmp_path / "data", store=Store(tmp_path / "artifacts"), command="c")


@pytest.fixture
def compared(monkeypatch) -> list[str]:
    """The models that would have been measured, in order; nothing is."""
    models: list[str] = []

    def record(comparison, bench):
        models.extend(comparison.subjects)
        row = Measurement(
            model=comparison.subjects[0],
            title="FCN",
            precision=Precision.FP32,
            runtime=Runtime.ONNXRUNTIME,
            device=CPU,
            output=Output.LABELS,
            boundaries={Boundary.MMSEG: Timing(latency=Latency((10.0,)))},
            resolution="64x96",
            weights=comparison.checkpoint or "trained",
            dataset=bench.dataset,
            note="mIoU was not measured",
        )
        report = Report(
            measurements=(row,),
            environment=describe_environment(),
            command="",
            created="",
            targets=load_targets(),
        )
        return report, ()

    monkeypatch.setattr(suites, "gather", record)
    return models


def test_what_is_at_hand_is_scored(options):
    demo, *_ = plan_suite(SUITE, options)

    assert (demo.comparison.checkpoint, demo.options.speed_only, demo.lacks) == (None, False, ())
    assert (demo.options.limit, demo.options.max_seconds) == (3, 7.0)


def test_what_is_missing_is_replaced_and_named(options):
    _, fcn, pspnet = plan_suite(SUITE, options)

    assert (fcn.comparison.checkpoint, fcn.options.speed_only) == ("random:5", True)
    assert pspnet.lacks[0].startswith("random weights, speed only: its checkpoint")


def test_weights_without_data_have_their_speed(options):
    place = options.store.checkpoint(load_model("fcn-cityscapes").checkpoint_url.split("/")[-1])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")

    _, fcn, _ = plan_suite(SUITE, options)

    assert (fcn.comparison.checkpoint, fcn.options.speed_only) == (None, True)
    assert fcn.lacks[0].startswith("speed only: ")


def test_pytorch_is_measured_where_it_is_named(options):
    both = replace(RUN, runtimes=(Runtime.ONNXRUNTIME, Runtime.PYTORCH))

    runs = plan_suite(replace(SUITE, runs=(RUN, both)), options)

    assert [run.comparison.pytorch for run in runs] == [False, True]


def test_synthetic_weights_lack_nothing(options):
    chosen = replace(CITY, weights="random", accuracy=False)

    assert [run.lacks for run in plan_suite(replace(SUITE, runs=(chosen,)), options)] == [(), ()]


def test_all_rows_are_one_report(options, compared, tmp_path, caplog):
    options = replace(options, json_path=tmp_path / "r.json", report_path=tmp_path / "r.md")

    with caplog.at_level(logging.WARNING):
        made = run_suite(SUITE, options)

    assert compared == ["demo", "fcn-cityscapes", "pspnet-cityscapes"]
    assert Report.load(tmp_path / "r.json").measurements == made.measurements
    assert list(made.references) == ["fcn-cityscapes", "pspnet-cityscapes"]
    assert "random weights, speed only" in made.measurements[1].note
    assert "fcn-cityscapes: random weights, speed only" in caplog.text
    assert "PSPNet" not in made.measurements[0].note
    assert "random weights (seed 5)" in (tmp_path / "r.md").read_text()


def test_a_lock_names_its_result_and_lets_it_be_made_again(options, compared, tmp_path):
    place = tmp_path / "r.lock.json"
    run_suite(SUITE, replace(options, json_path=tmp_path / "r.json", lock_path=place))

    lock = Lock.load(place)

    assert (lock.result, lock.command, lock.seed) == ("r.json", "c", 5)
    assert lock.weights["fcn-cityscapes"] == "random:5"
    run_suite(SUITE, replace(options, locked=lock))
    assert len(compared) == 6


def test_nothing_is_measured_against_a_lock_that_does_not_fit(options, compared, tmp_path):
    place = tmp_path / "r.lock.json"
    run_suite(SUITE, replace(options, lock_path=place))
    compared.clear()

    with pytest.raises(SegdeployError, match="seed is 6, the lock says 5"):
        run_suite(replace(SUITE, seed=6), replace(options, locked=Lock.load(place)))

    assert compared == []


@pytest.mark.parametrize(("name", "models"), [("demo", 1), ("quick", 9), ("reference", 8)])
def test_the_suites_cover_what_they_say(name, models):
    suite = load_suite(name)

    assert len({model for run in suite.runs for model in run.models}) == models
    if name == "reference":
        assert {model for run in suite.runs for model in run.models} == load_targets().keys()
