"""The pages of a report: what stands in a row, beside what, and what they never say."""

import io
from dataclasses import replace

from measured import INT8, PYTORCH, RANDOM, report
from rich.console import Console

from segdeploy.measurement import Tally
from segdeploy.recipes import load_targets
from segdeploy.report_page import markdown_page, terminal_table
from segdeploy.spec import Precision


def line_with(markdown: str, *words: str) -> str:
    return next(line for line in markdown.splitlines() if all(word in line for word in words))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_only_reference_rows_of_measured_models_are_shown() -> None:
    markdown = markdown_page(report(PYTORCH, targets=load_targets()))

    assert line_with(markdown, "FCN Cityscapes", "mmseg reference", "71.19", "14.2")
    assert "75.20" not in markdown


def test_model_without_reference_says_nothing_of_one() -> None:
    markdown = markdown_page(report(replace(PYTORCH, model="demo", title="Demo")))

    assert "eference" not in markdown


def test_markdown_sets_reference_pytorch_and_rows_side_by_side() -> None:
    markdown = markdown_page(report(INT8, PYTORCH))

    table = [cells(line) for line in markdown.splitlines() if line.startswith("| FCN")][:3]
    assert [row[1] for row in table] == ["mmseg reference (1)", "PyTorch", "ONNX Runtime"]
    assert table[0][3:8] == ["A100", "1024x2048", "71.19", "-", "14.2"]
    assert table[1][5:9] == ["65.00", "+0.00", "10.00", "1.00"]
    assert table[2][5:] == [
        "55.00", "-10.00", "40.00", "4.00", "20.00", "34.70", "900", "38.0",
    ]  # fmt: skip
    assert "1. FCN Cityscapes, mmseg reference: fps is the V100 figure of 2020" in markdown
    assert "another device than this run's: shown, never judged" in markdown
    assert "MMSegmentation 1.2.2, configs/mobilenet_v2/README.md" in markdown


def test_others_stay_in_the_order_they_ran() -> None:
    ort_fp32 = replace(INT8, precision=Precision.FP32)

    markdown = markdown_page(report(INT8, ort_fp32, PYTORCH))

    table = [cells(line) for line in markdown.splitlines() if line.startswith("| FCN")][1:4]
    assert [(row[1], row[2]) for row in table] == [
        ("PyTorch", "fp32"),
        ("ONNX Runtime", "int8"),
        ("ONNX Runtime", "fp32"),
    ]


def test_markdown_tables_are_rectangular() -> None:
    markdown = markdown_page(report(PYTORCH, INT8, RANDOM))

    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    assert all(len({len(cells(line)) for line in block}) == 1 for block in blocks)


def test_markdown_names_the_file_that_was_measured() -> None:
    markdown = markdown_page(report(INT8))

    assert cells(line_with(markdown, "model.pth"))[3:] == [
        "model.pth", "13fef4ea", "labels", "cityscapes-500, mse, 500 images", "80.00", "69.23",
    ]  # fmt: skip


def test_markdown_gives_iou_per_class_with_measurements_as_columns() -> None:
    markdown = markdown_page(report(PYTORCH, INT8))

    assert cells(line_with(markdown, "Class"))[1:] == [
        "FCN Cityscapes PyTorch fp32",
        "FCN Cityscapes ONNX Runtime int8",
    ]
    assert cells(line_with(markdown, "| road")) == ["road", "70.00", "60.00"]
    assert cells(line_with(markdown, "| train")) == ["train", "absent", "absent"]


def test_markdown_says_what_was_timed_where_and_how_to_repeat_it() -> None:
    markdown = markdown_page(report(PYTORCH))

    assert "uint8 image at network size in, label map at original size out" in markdown
    assert "over 500 images of cityscapes" in markdown
    assert "- Processor: Example CPU, 4 of 8 logical cores" in markdown
    assert "- GPU: Example GPU, 24.0 GiB, compute capability 8.9, driver 580.1" in markdown
    assert "- Packages: numpy 2.1.0, torch 2.13.0" in markdown
    assert "    segdeploy bench --model fcn-cityscapes" in markdown
    assert "ot measured" not in markdown
    assert "andom" not in markdown


def test_speed_only_row_says_that_miou_was_not_measured() -> None:
    markdown = markdown_page(report(RANDOM))

    row = line_with(markdown, "FCN Cityscapes, random weights (seed 0)")
    assert cells(row)[5:7] == ["not measured", "-"]
    assert "never has an mIoU" in markdown
    assert "IoUMetric" not in markdown
    assert "per class" not in markdown


def test_names_from_files_cannot_break_the_page() -> None:
    hostile = "a|b\n# <b>[x](y)"
    tally = Tally(images=1, classes=(hostile,), counts=((1, 0), (0, 0)))
    named = replace(PYTORCH, title=hostile, tally=tally, note=hostile)

    markdown = markdown_page(report(named))

    assert "\n# <b>" not in markdown
    assert r"a\|b # \<b\>\[x\](y)" in markdown
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    assert all(len({len(cells(line)) for line in block}) == 1 for block in blocks)


def test_pictures_are_shown_by_relative_path() -> None:
    markdown = markdown_page(report(PYTORCH), ["overlays/frankfurt 1.png"])

    assert "![frankfurt 1](overlays/frankfurt%201.png)" in markdown


def test_terminal_table_loses_no_number_in_a_pipe() -> None:
    file = io.StringIO()
    named = replace(INT8, title="[bold]FCN[/bold]")

    Console(file=file, width=80).print(terminal_table(report(PYTORCH, named)))

    text = file.getvalue()
    for number in ("71.19", "14.2", "65.00", "10.00", "55.00", "40.00", "4.00", "34.70"):
        assert number in text
    assert "\x1b" not in text
    assert "…" not in text
    assert "[bold]" in text
