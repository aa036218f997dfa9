"""The report as values: what is compared with what, and what comes back from its JSON."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from measured import ENVIRONMENT, INT8, PYTORCH, RANDOM, TARGET, report, timed

from segdeploy.environment import Checkout
from segdeploy.errors import SegdeployError
from segdeploy.measurement import Boundary, Part, Timing
from segdeploy.report import Report
from segdeploy.spec import Device
from segdeploy.telemetry import GpuState, MachineState
from segdeploy.timing import Latency, Timer

STATE = MachineState(load_average=0.5, own_s=1.5, gpu=GpuState(clock_mhz=1980, power_w=350.5))
FULL = replace(
    INT8,
    device=Device("cuda:1"),
    boundaries={
        Boundary.HOST: Timing(
            latency=Latency((2.0, 2.5), (9.0,)),
            before=STATE,
            after=replace(STATE, gpu=replace(STATE.gpu, throttled_by=("temperature",))),
            parts_ms={Part.UPLOAD: (0.5, 0.5)},
        ),
        **INT8.boundaries,
    },
    timer=Timer(70.5, 40),
)


def test_report_of_nothing_is_refused() -> None:
    with pytest.raises(SegdeployError, match="no measurement"):
        report()


def test_speedup_and_change_are_against_pytorch_of_the_same_run() -> None:
    both = report(PYTORCH, INT8)

    assert both.speedup(INT8) == pytest.approx(4)
    assert both.miou_change(INT8) == pytest.approx(-10)
    assert both.speedup(PYTORCH) == 1
    assert report(INT8).speedup(INT8) is None


@pytest.mark.parametrize(
    "change",
    [{"device": Device("cuda")}, {"resolution": "1024x2048"}, {"batch": 2}, {"threads": 1}],
)
def test_speed_is_never_compared_across_settings(change: dict[str, Any]) -> None:
    other = replace(INT8, **change)

    assert report(PYTORCH, other).speedup(other) is None


@pytest.mark.parametrize("change", [{"images": 20}, {"dataset": "other"}, {"tally": None}])
def test_miou_is_never_compared_across_images(change: dict[str, Any]) -> None:
    images = change.pop("images", None)
    other = replace(INT8, **(change or {"tally": replace(INT8.tally, images=images)}))

    assert report(PYTORCH, other).miou_change(other) is None


def test_accuracy_on_another_device_is_compared() -> None:
    other = replace(INT8, device=Device("cuda"))

    assert report(PYTORCH, other).miou_change(other) == pytest.approx(-10)


def test_a_gain_over_a_run_that_is_not_sure_says_so() -> None:
    steady = replace(PYTORCH, boundaries=timed(*[100.0] * 40))
    faster = replace(INT8, boundaries=timed(*[20.0] * 40))

    assert report(steady, faster).speedup_told(faster) == "5.00"
    assert report(PYTORCH, faster).speedup_told(faster) == "~5.00"  # of three steps
    assert report(faster).speedup_told(faster) == ""


def test_json_holds_rows_reference_and_environment() -> None:
    whole = json.loads(report(PYTORCH, INT8).to_json())

    assert whole["schema"] == 2
    assert whole["created"] == "2026-03-01"
    assert whole["command"] == "segdeploy bench --model fcn-cityscapes"
    assert whole["environment"]["gpus"][0]["name"] == "Example GPU"
    derived = [row["derived"] for row in whole["rows"]]
    assert [row["speedup"] for row in derived] == pytest.approx([1, 4])
    assert [row["miou_change"] for row in derived] == pytest.approx([0, -10])
    assert whole["reference"]["rows"]["fcn-cityscapes"]["miou"] == 71.19


def test_random_weights_are_never_set_beside_a_reference_miou() -> None:
    whole = json.loads(report(RANDOM).to_json())

    assert whole["reference"]["rows"]["fcn-cityscapes"] == {**vars(TARGET), "miou": None}


def test_a_list_of_numbers_is_one_line_of_json() -> None:
    text = report(PYTORCH).to_json()

    assert '"steps_ms": [ 100.0, 100.0, 100.0 ]' in text


def test_a_report_comes_back_from_its_json(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    environment = replace(ENVIRONMENT, clock_mhz=(800, 3500), checkout=Checkout("ab" * 20, True))
    written = replace(report(PYTORCH, FULL), environment=environment)
    path.write_text(written.to_json())

    found = Report.load(path)

    assert found == written
    assert isinstance(found.measurements[1].device, Device)
    assert found.to_json() == written.to_json()


def test_what_is_derived_is_never_read_back(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    whole = json.loads(report(PYTORCH).to_json())
    whole["rows"][0]["derived"] = {"fps": 1e9, "miou": 100}
    path.write_text(json.dumps(whole))

    assert Report.load(path) == report(PYTORCH)


def _set(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(whole: Any) -> None:
        *way, last = path
        for key in way:
            whole = whole[key]
        whole[last] = to

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_set("schema", to=1), "schema 1, this version reads 2"),
        (_set("rows", to={}), "rows is no list"),
        (_set("rows", to=[]), "no measurement"),
        (_set("rows", 0, to=3), "row 1 is no table"),
        (_set("created", to="2026-03-01\n# <b>"), "Invalid isoformat string"),
        (_set("rows", 0, "title", to="FCN \u202e"), "turns the direction"),
        (_set("rows", 0, "artifact_bytes", to=-5), "memory of so many bytes cannot be"),
        (_set("rows", 0, "peak_memory_bytes", to=10**400), "memory of so many bytes cannot be"),
        (
            _set("rows", 0, "boundaries", "mmseg", "latency", "steps_ms", to=[1e308]),
            "ms; wanted more than 0, at most",
        ),
        (
            _set("rows", 0, "boundaries", "mmseg", "latency", "steps_ms", to=[10**400]),
            "int too large to convert to float",
        ),
        (_set("rows", 0, "extra", to=3), "row 1 has the unknown key 'extra'"),
        (_set("rows", 0, "device", to="tpu"), "device 'tpu'"),
        (_set("rows", 0, "runtime", to="magic"), "'magic' is not a valid Runtime"),
        (_set("rows", 0, "boundaries", to={}), "not timed at the boundary mmseg"),
        (_set("rows", 0, "boundaries", to={"mine": {}}), "'mine' is not a valid Boundary"),
        (
            _set("rows", 0, "boundaries", "mmseg", "latency", "steps_ms", to=[]),
            "no step was timed",
        ),
        (
            _set("rows", 0, "boundaries", "mmseg", "latency", "steps_ms", to=[float("inf")]),
            "Infinity is no number",
        ),
        (_set("rows", 0, "tally", "counts", 0, 0, to=-1), "holds counts from 0"),
        (_set("rows", 0, "tally", "counts", 0, 0, to=True), "counts is True, not int"),
        (_set("environment", to=[]), "the environment has no table of versions"),
        (_set("environment", "cpu", to=7), "cpu is 7, not str"),
        (_set("command", to=None), "command is no text"),
        (_set("reference", to=[]), "reference is no table"),
        (_set("reference", "rows", "fcn-cityscapes", "fps", to="9"), "fps is '9', not float"),
    ],
)
def test_nothing_of_a_file_is_trusted(
    tmp_path: Path, change: Callable[[Any], None], problem: str
) -> None:
    path = tmp_path / "report.json"
    whole = json.loads(report(PYTORCH).to_json())
    change(whole)
    path.write_text(json.dumps(whole))

    with pytest.raises(SegdeployError, match=problem) as caught:
        Report.load(path)

    assert str(path) in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize("key", ["rows", "environment", "command", "created", "reference"])
def test_a_report_lacks_nothing(tmp_path: Path, key: str) -> None:
    path = tmp_path / "report.json"
    whole = json.loads(report(PYTORCH).to_json())
    del whole[key]
    path.write_text(json.dumps(whole))

    with pytest.raises(SegdeployError, match=f"lacks the key '{key}'"):
        Report.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\ufeff{}", "NaN"])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)

    with pytest.raises(SegdeployError, match="is not a report"):
        Report.load(path)


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegdeployError, match=r"nowhere\.json: no such file"):
        Report.load(tmp_path / "nowhere.json")
