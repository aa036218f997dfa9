"""A suite is planned with what is at hand, says what it lacks, and is one report."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

from segdeploy.artifacts import Store, sha256_of
from segdeploy.bench import run
from segdeploy.bench.lock import Lock
from segdeploy.bench.measure import Outcome, Subject
from segdeploy.bench.outputs import Outputs
from segdeploy.bench.suite import SuiteOptions, plan_suite, run_suite
from segdeploy.errors import SegdeployError
from segdeploy.measurement import Boundary, Measurement, Timing
from segdeploy.recipes import MODELS, Suite, SuiteRun, load_model, load_suite, load_targets
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
    return SuiteOptions(data=tmp_path / "data", store=Store(tmp_path / "artifacts"))


def writing(options, **outputs) -> SuiteOptions:
    return replace(options, outputs=Outputs(command="c", created="2026-11-25", **outputs))


@pytest.fixture
def compared(monkeypatch) -> list[Subject]:
    """What would have been measured, in order; nothing is built or measured."""
    subjects: list[Subject] = []

    def record(subject, bench):
        subjects.append(subject)
        model = subject.artifact.parent.name if subject.artifact else subject.model
        row = Measurement(
            model=model,
            title="FCN",
            precision=Precision.FP32,
            runtime=Runtime.ONNXRUNTIME if subject.artifact else Runtime.PYTORCH,
            device=CPU,
            output=Output.LABELS,
            boundaries={Boundary.MMSEG: Timing(latency=Latency((10.0,)))},
            resolution="64x96",
            weights="random:5" if "random" in str(subject) else "trained",
            dataset=bench.dataset,
            note="mIoU was not measured",
        )
        return Outcome(row)

    def find(model, checkpoint, _store):
        return SimpleNamespace(spec=load_model(model), checkpoint=SimpleNamespace(ranges=None))

    def make(source, _options, request, _device):
        place = request.store.engine(source.spec.name, request.precision, request.runtime)
        return SimpleNamespace(path=place)

    monkeypatch.setattr(run, "resolve_source", find)
    monkeypatch.setattr(run, "make_artifact", make)
    monkeypatch.setattr(run, "measure", record)
    return subjects


def test_what_is_at_hand_is_scored(options):
    demo, *_ = plan_suite(SUITE, options)

    assert demo.comparison.checkpoint == str(load_model("demo").checkpoint)
    assert (demo.options.speed_only, demo.lacks) == (False, "")
    assert (demo.options.limit, demo.options.max_seconds) == (3, 7.0)


def test_what_is_missing_is_replaced_and_named(options):
    _, fcn, pspnet = plan_suite(SUITE, options)

    assert (fcn.comparison.checkpoint, fcn.options.speed_only) == ("random:5", True)
    assert pspnet.lacks.startswith("random weights, speed only: its checkpoint")


@pytest.fixture
def fcn_weights(options):
    place = options.store.checkpoint(load_model("fcn-cityscapes").checkpoint_url.split("/")[-1])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    return place


def test_weights_without_data_have_their_speed(options, fcn_weights):
    _, fcn, _ = plan_suite(SUITE, options)

    assert (fcn.comparison.checkpoint, fcn.options.speed_only) == (str(fcn_weights), True)
    assert fcn.lacks.startswith("speed only: ")


def test_data_that_is_damaged_is_not_missing(options, fcn_weights):
    (options.data / "leftImg8bit" / "val" / "frankfurt").mkdir(parents=True)

    with pytest.raises(SegdeployError, match="frankfurt: holds no image"):
        list(plan_suite(SUITE, options))


def test_a_slip_in_the_name_of_a_data_set_is_told_before_anything_else(options, compared):
    wrong = replace(CITY, dataset="cityscape")

    with pytest.raises(SegdeployError, match="'cityscape' is neither a data set nor a folder"):
        run_suite(replace(SUITE, runs=(RUN, wrong)), options)

    assert compared == []


def test_what_is_timed_only_never_takes_the_place_of_what_is_scored(options):
    random, timed = replace(RUN, weights="random"), replace(RUN, accuracy=False)

    runs = plan_suite(replace(SUITE, runs=(RUN, random, timed)), options)

    root = options.store.root
    places = [root, root / "random-5", root / "speed-only"]
    assert [run.options.store.root for run in runs] == places


def test_pytorch_is_measured_where_it_is_named(options):
    both = replace(RUN, runtimes=(Runtime.ONNXRUNTIME, Runtime.PYTORCH))

    runs = plan_suite(replace(SUITE, runs=(RUN, both)), options)

    assert [run.comparison.pytorch for run in runs] == [False, True]


def test_synthetic_weights_lack_nothing(options):
    chosen = replace(CITY, weights="random", accuracy=False)

    assert [run.lacks for run in plan_suite(replace(SUITE, runs=(chosen,)), options)] == ["", ""]


def test_all_rows_are_one_report(options, compared, tmp_path, caplog):
    options = writing(options, json_path=tmp_path / "r.json", report_path=tmp_path / "r.md")

    with caplog.at_level(logging.WARNING):
        made = run_suite(SUITE, options)

    assert [row.model for row in made.measurements] == ["demo", *CITY.models]
    assert Report.load(tmp_path / "r.json").measurements == made.measurements
    assert list(made.references) == ["fcn-cityscapes", "pspnet-cityscapes"]
    assert "random weights, speed only" in made.measurements[1].note
    assert "fcn-cityscapes: random weights, speed only" in caplog.text
    assert "PSPNet" not in made.measurements[0].note
    assert "random weights (seed 5)" in (tmp_path / "r.md").read_text()


def test_one_count_goes_over_all_rows_and_weights_tell_them_apart(options, compared, capsys):
    both = replace(RUN, runtimes=(Runtime.PYTORCH,))
    runs = both, replace(both, weights="random"), RUN, replace(RUN, weights="random")

    run_suite(replace(SUITE, runs=runs), options)

    root = options.store.root
    assert [line.split(": fps")[0] for line in capsys.readouterr().err.splitlines()] == [
        "1/4 demo, PyTorch",
        "2/4 demo random:5, PyTorch",
        f"3/4 {root / 'demo' / 'fp32.onnxruntime.ort'}",
        f"4/4 {root / 'random-5' / 'demo' / 'fp32.onnxruntime.ort'}",
    ]


def test_a_model_with_two_weights_has_two_notes_and_two_locks(options, compared, tmp_path):
    place = tmp_path / "r.lock.json"
    missing = replace(RUN, models=("fcn-cityscapes",))
    runs = (
        RUN,
        replace(RUN, weights="random", accuracy=False),
        missing,
        replace(missing, weights="random"),
    )

    made = run_suite(replace(SUITE, runs=runs), writing(options, lock_path=place))

    weights = [run.weights for run in Lock.load(place).runs]
    assert weights == [sha256_of(MODELS / "demo.pth"), "random:5", "random:5", "random:5"]
    data = [run.data.partition(",")[0] for run in Lock.load(place).runs]
    assert data == ["val", *["none: speed only"] * 3]
    lacks = ["its checkpoint is not at hand" in row.note for row in made.measurements]
    assert lacks == [False, False, True, False]


def test_a_lock_names_its_result_and_lets_it_be_made_again(options, compared, tmp_path):
    place = tmp_path / "r.lock.json"
    run_suite(SUITE, writing(options, json_path=tmp_path / "r.json", lock_path=place))

    lock = Lock.load(place)

    assert (lock.result, lock.command, lock.seed) == ("r.json", "c", 5)
    assert lock.runs[1].weights == "random:5"
    run_suite(SUITE, replace(options, locked=lock))
    assert len(compared) == 6


def test_nothing_is_measured_against_a_lock_that_does_not_fit(options, compared, tmp_path):
    place = tmp_path / "r.lock.json"
    run_suite(SUITE, writing(options, lock_path=place))
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
