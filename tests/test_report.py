"""The report: what stands in a row, beside what, and what it never says."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from segdeploy.environment import Environment, Gpu
from segdeploy.errors import SegdeployError
from segdeploy.recipes import Target, load_targets
from segdeploy.report import Measurement, Report
from segdeploy.spec import CPU, Device, Output, Precision, Runtime
from segdeploy.timing import Latency

ENVIRONMENT = Environment(
    cpu="Example CPU",
    logical_cores=8,
    usable_cores=4,
    memory_bytes=16 << 30,
    os="Example Linux",
    python="CPython 3.11.9",
    load_average=0.25,
    governor="performance",
    gpus=(Gpu("Example GPU", "580.1", "8.9", 24 << 30),),
    versions=(("numpy", "2.1.0"), ("torch", "2.13.0")),
)
PYTORCH = Measurement(
    model="fcn-cityscapes",
    title="FCN Cityscapes",
    precision=Precision.FP32,
    runtime=Runtime.PYTORCH,
    device=CPU,
    output=Output.LABELS,
    latency=Latency((100.0, 100.0, 100.0), warmup_ms=(400.0,)),
    resolution="512x1024",
    artifact="model.pth",
    artifact_sha256="13fef4ea",
    artifact_bytes=38_000_000,
    threads=4,
    dataset="cityscapes",
    images=500,
    miou=70.0,
    macc=79.0,
    aacc=95.0,
    per_class_iou={"road": 97.5, "train": None},
    peak_memory_bytes=900_000_000,
)
INT8 = replace(
    PYTORCH,
    precision=Precision.INT8,
    runtime=Runtime.ONNXRUNTIME,
    latency=Latency((20.0, 20.0, 35.0)),
    miou=69.25,
    per_class_iou={"road": 96.5, "train": None},
    calibration="cityscapes-500, mse, 500 images",
)
RANDOM = replace(
    PYTORCH,
    weights="random:0",
    images=0,
    dataset="",
    miou=None,
    macc=None,
    aacc=None,
    per_class_iou={},
)
TARGET = Target(71.19, 14.2, "A100", 3.4, "1024x2048", "fps is the V100 figure of 2020")


def report(*measurements: Measurement, targets: dict[str, Target] | None = None) -> Report:
    return Report(
        measurements=measurements,
        environment=ENVIRONMENT,
        command="segdeploy bench --model fcn-cityscapes",
        created="2026-03-01",
        targets={"fcn-cityscapes": TARGET} if targets is None else targets,
    )


def line_with(markdown: str, *words: str) -> str:
    return next(line for line in markdown.splitlines() if all(word in line for word in words))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_row_has_scores_percentiles_and_raw_times() -> None:
    row = json.loads(json.dumps(INT8.to_row(), allow_nan=False))

    assert row["model"] == "fcn-cityscapes"
    assert (row["precision"], row["runtime"], row["device"]) == ("int8", "onnxruntime", "cpu")
    assert row["miou"] == 69.25
    assert row["fps"] == pytest.approx(40)
    assert row["p50_ms"] == 20
    assert row["p90_ms"] == pytest.approx(32)
    assert row["p99_ms"] == pytest.approx(34.7)
    assert row["peak_memory_mb"] == 900
    assert row["steps_ms"] == [20, 20, 35]
    assert row["warmup_ms"] == []
    assert row["per_class_iou"] == {"road": 96.5, "train": None}


def test_fps_counts_every_image_of_a_batch() -> None:
    batched = replace(PYTORCH, batch=4)

    assert PYTORCH.fps == 10
    assert batched.fps == 40


def test_random_weights_never_have_an_miou() -> None:
    with pytest.raises(SegdeployError, match="random weights"):
        replace(PYTORCH, weights="random:0")


@pytest.mark.parametrize(
    "change",
    [
        {"miou": 170.0},
        {"miou": float("nan")},
        {"per_class_iou": {"road": -1.0}},
        {"images": 0},
        {"dataset": ""},
        {"weights": "mine"},
        {"batch": 0},
    ],
)
def test_impossible_measurement_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SegdeployError, match="fcn-cityscapes"):
        replace(PYTORCH, **change)


def test_report_of_nothing_is_refused() -> None:
    with pytest.raises(SegdeployError, match="no measurement"):
        report()


def test_speedup_and_change_are_against_pytorch_of_the_same_run() -> None:
    both = report(PYTORCH, INT8)

    assert both.speedup(INT8) == pytest.approx(4)
    assert both.miou_change(INT8) == pytest.approx(-0.75)
    assert both.speedup(PYTORCH) == 1
    assert report(INT8).speedup(INT8) is None


@pytest.mark.parametrize(
    "change",
    [{"device": Device("cuda")}, {"resolution": "1024x2048"}, {"batch": 2}, {"threads": 1}],
)
def test_speed_is_never_compared_across_settings(change: dict[str, object]) -> None:
    other = replace(INT8, **change)

    assert report(PYTORCH, other).speedup(other) is None


@pytest.mark.parametrize("change", [{"images": 20}, {"dataset": "other"}, {"miou": None}])
def test_miou_is_never_compared_across_images(change: dict[str, object]) -> None:
    other = replace(INT8, **change)

    assert report(PYTORCH, other).miou_change(other) is None


def test_accuracy_on_another_device_is_compared() -> None:
    other = replace(INT8, device=Device("cuda"))

    assert report(PYTORCH, other).miou_change(other) == pytest.approx(-0.75)


def test_json_holds_rows_reference_and_environment() -> None:
    whole = json.loads(report(PYTORCH, INT8).to_json())

    assert whole["schema"] == 1
    assert whole["created"] == "2026-03-01"
    assert whole["command"] == "segdeploy bench --model fcn-cityscapes"
    assert whole["environment"]["gpus"][0]["name"] == "Example GPU"
    assert [row["speedup"] for row in whole["rows"]] == pytest.approx([1, 4])
    assert [row["miou_change"] for row in whole["rows"]] == pytest.approx([0, -0.75])
    assert whole["reference"]["rows"]["fcn-cityscapes"]["miou"] == 71.19


def test_only_reference_rows_of_measured_models_are_shown() -> None:
    markdown = report(PYTORCH, targets=load_targets()).to_markdown()

    assert line_with(markdown, "FCN Cityscapes", "mmseg reference", "71.19", "14.2")
    assert "75.20" not in markdown


def test_model_without_reference_says_nothing_of_one() -> None:
    markdown = report(replace(PYTORCH, model="demo", title="Demo")).to_markdown()

    assert "eference" not in markdown


def test_markdown_sets_reference_pytorch_and_rows_side_by_side() -> None:
    markdown = report(INT8, PYTORCH).to_markdown()

    table = [cells(line) for line in markdown.splitlines() if line.startswith("| FCN")][:3]
    assert [row[1] for row in table] == ["mmseg reference (1)", "PyTorch", "ONNX Runtime"]
    assert table[0][3:8] == ["A100", "1024x2048", "71.19", "-", "14.2"]
    assert table[1][5:9] == ["70.00", "+0.00", "10.00", "1.00"]
    assert table[2][5:] == [
        "69.25", "-0.75", "40.00", "4.00", "20.00", "34.70", "900", "38.0",
    ]  # fmt: skip
    assert "1. FCN Cityscapes, mmseg reference: fps is the V100 figure of 2020" in markdown
    assert "another device than this run's: shown, never judged" in markdown
    assert "MMSegmentation 1.2.2, configs/mobilenet_v2/README.md" in markdown


def test_others_stay_in_the_order_they_ran() -> None:
    ort_fp32 = replace(INT8, precision=Precision.FP32)

    markdown = report(INT8, ort_fp32, PYTORCH).to_markdown()

    table = [cells(line) for line in markdown.splitlines() if line.startswith("| FCN")][1:4]
    assert [(row[1], row[2]) for row in table] == [
        ("PyTorch", "fp32"),
        ("ONNX Runtime", "int8"),
        ("ONNX Runtime", "fp32"),
    ]


def test_markdown_tables_are_rectangular() -> None:
    markdown = report(PYTORCH, INT8, RANDOM).to_markdown()

    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    assert all(len({len(cells(line)) for line in block}) == 1 for block in blocks)


def test_markdown_names_the_file_that_was_measured() -> None:
    markdown = report(INT8).to_markdown()

    assert cells(line_with(markdown, "model.pth"))[3:] == [
        "model.pth", "13fef4ea", "labels", "cityscapes-500, mse, 500 images", "79.00", "95.00",
    ]  # fmt: skip


def test_markdown_gives_iou_per_class_with_measurements_as_columns() -> None:
    markdown = report(PYTORCH, INT8).to_markdown()

    assert cells(line_with(markdown, "Class"))[1:] == [
        "FCN Cityscapes PyTorch fp32",
        "FCN Cityscapes ONNX Runtime int8",
    ]
    assert cells(line_with(markdown, "| road")) == ["road", "97.50", "96.50"]
    assert cells(line_with(markdown, "| train")) == ["train", "absent", "absent"]


def test_markdown_says_what_was_timed_where_and_how_to_repeat_it() -> None:
    markdown = report(PYTORCH).to_markdown()

    assert "uint8 image at network size in, label map at original size out" in markdown
    assert "over 500 images of cityscapes" in markdown
    assert "- Processor: Example CPU, 4 of 8 logical cores" in markdown
    assert "- GPU: Example GPU, 24.0 GiB, compute capability 8.9, driver 580.1" in markdown
    assert "- Packages: numpy 2.1.0, torch 2.13.0" in markdown
    assert "    segdeploy bench --model fcn-cityscapes" in markdown
    assert "ot measured" not in markdown
    assert "andom" not in markdown


def test_speed_only_row_says_that_miou_was_not_measured() -> None:
    markdown = report(RANDOM).to_markdown()

    row = line_with(markdown, "FCN Cityscapes, random weights (seed 0)")
    assert cells(row)[5:7] == ["not measured", "-"]
    assert "never has an mIoU" in markdown
    assert "IoUMetric" not in markdown
    assert "per class" not in markdown


def test_names_from_files_cannot_break_the_page() -> None:
    hostile = "a|b\n# <b>[x](y)"
    named = replace(PYTORCH, title=hostile, per_class_iou={hostile: 50.0}, note=hostile)

    markdown = report(named).to_markdown()

    assert "\n# <b>" not in markdown
    assert r"a\|b # \<b\>\[x\](y)" in markdown
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    assert all(len({len(cells(line)) for line in block}) == 1 for block in blocks)


def test_pictures_are_shown_by_relative_path() -> None:
    markdown = report(PYTORCH).to_markdown(["overlays/frankfurt 1.png"])

    assert "![frankfurt 1](overlays/frankfurt%201.png)" in markdown


def test_terminal_table_loses_no_number_in_a_pipe() -> None:
    file = io.StringIO()
    named = replace(INT8, title="[bold]FCN[/bold]")

    Console(file=file, width=80).print(report(PYTORCH, named).to_terminal())

    text = file.getvalue()
    for number in ("71.19", "14.2", "70.00", "10.00", "69.25", "40.00", "4.00", "34.70"):
        assert number in text
    assert "\x1b" not in text
    assert "…" not in text
    assert "[bold]" in text


def test_random_weights_are_never_set_beside_a_reference_miou() -> None:
    alone = report(RANDOM, targets={"fcn-cityscapes": TARGET})

    whole = json.loads(alone.to_json())

    assert "71.19" not in alone.to_markdown()
    assert line_with(alone.to_markdown(), "mmseg reference", "14.2")
    assert whole["reference"]["rows"]["fcn-cityscapes"]["miou"] is None
