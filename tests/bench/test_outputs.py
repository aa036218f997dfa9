"""What is measured is not lost: places are tried before, rows are kept as they come."""

from dataclasses import replace
from pathlib import Path

import pytest
from measured import LEAST

from segdeploy.bench import run
from segdeploy.bench.measure import BenchOptions, Outcome
from segdeploy.bench.outputs import Outputs, check_outputs
from segdeploy.bench.run import Comparison, Run, measure_runs
from segdeploy.errors import SegdeployError
from segdeploy.report import Report

TODAY = "2026-11-25"
OPTIONS = BenchOptions(dataset="demo", speed_only=True)
RUNS = [
    Run(Comparison(subjects=(name,), checkpoint="random:0", runtimes=()), OPTIONS)
    for name in ("fcn", "pspnet", "deeplabv3")
]


@pytest.fixture
def failing(monkeypatch):
    """A function that lets every row succeed until the named model, which raises."""

    def fail(model: str, error: BaseException) -> None:
        def measure(subject, _options):
            if subject.model == model:
                raise error
            return Outcome(replace(LEAST, model=subject.model))

        monkeypatch.setattr(run, "measure", measure)

    return fail


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("/proc/nope/x.json", "cannot be written"),
        (".", "Is a directory"),
        ("file/x.json", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
)
@pytest.mark.parametrize("output", ["json_path", "report_path", "lock_path"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    failing, tmp_path, monkeypatch, output, place, problem
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    failing("fcn", AssertionError("something was measured"))

    with pytest.raises(SegdeployError, match=problem):
        measure_runs(RUNS, Outputs(created=TODAY, **{output: Path(place)}))


def test_looking_leaves_nothing_behind(tmp_path):
    check_outputs(Outputs(json_path=tmp_path / "new" / "folder" / "x.json"))

    assert list(tmp_path.iterdir()) == []


def test_one_file_for_two_outputs_is_refused(tmp_path):
    place = tmp_path / "x.json"

    with pytest.raises(SegdeployError, match="is named for two outputs"):
        check_outputs(Outputs(json_path=place, lock_path=place))


def test_rows_before_one_that_fails_are_kept_and_shown(failing, tmp_path):
    place = tmp_path / "rows.json"
    place.write_text("an older result")
    shown: list[Report] = []
    failing("deeplabv3", SegdeployError("its process died", hint="a hint"))

    with pytest.raises(SegdeployError) as caught:
        measure_runs(RUNS, Outputs(created=TODAY, json_path=place, show=shown.append))

    kept = Report.load(tmp_path / "rows.part.json")
    assert [row.model for row in kept.measurements] == ["fcn", "pspnet"]
    assert [row.model for row in shown[0].measurements] == ["fcn", "pspnet"]
    assert str(caught.value) == (
        f"its process died; 2 of 3 rows were measured before, kept in {tmp_path}/rows.part.json"
    )
    assert caught.value.hint == "a hint"
    assert place.read_text() == "an older result"


def test_rows_are_kept_when_the_user_has_seen_enough(failing, tmp_path, caplog):
    failing("pspnet", KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        measure_runs(RUNS, Outputs(created=TODAY, json_path=tmp_path / "rows.json"))

    assert len(Report.load(tmp_path / "rows.part.json").measurements) == 1
    assert "interrupted; 1 of 3 rows were measured before, kept in" in caplog.text


def test_the_table_is_shown_before_anything_is_written_and_only_whole_files_stay(failing, tmp_path):
    place = tmp_path / "rows.json"
    failing("none", AssertionError())
    seen: list[bool] = []

    made = measure_runs(
        RUNS,
        Outputs(created=TODAY, json_path=place, show=lambda _report: seen.append(place.exists())),
    )

    assert seen == [False]
    assert Report.load(place).measurements == made.measurements
    assert list(tmp_path.iterdir()) == [place]
