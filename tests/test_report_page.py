"""The pages of a report: what stands in a row, beside what, and what they never say."""

import io
from dataclasses import replace

import pytest
from measured import INT8, PYTORCH, RANDOM, TARGET, report, timed
from rich.console import Console

from segdeploy.measurement import Boundary, Part, Tally, Timing
from segdeploy.recipes import load_targets
from segdeploy.report_page import markdown_page, terminal_table
from segdeploy.spec import Precision
from segdeploy.telemetry import MachineState
from segdeploy.timing import Latency


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
    assert table[1][5:9] == ["65.00", "+0.00", "10.00", "~1.00"]
    assert table[2][5:] == [
        "55.00", "-10.00", "40.00", "~4.00", "20.00", "34.70", "900", "38.0", "inconclusive",
    ]  # fmt: skip
    assert (
        "1. FCN Cityscapes, mmseg reference: fps is the V100 figure of 2020; "
        "timed at another resolution than the rows beside it" in markdown
    )
    assert "from another device than this run's" in markdown
    assert "MMSegmentation 1.2.2, configs/mobilenet_v2/README.md" in markdown


def test_every_row_is_judged_beside_the_published_one() -> None:
    whole = replace(PYTORCH, resolution="1024x2048")
    markdown = markdown_page(report(whole, INT8))

    table = markdown.partition("## Beside the reference table")[2].partition("## ")[0]
    judged, other = [cells(line) for line in table.splitlines() if line.startswith("| FCN")]
    assert judged[3:5] == [
        "not reached",
        "mIoU 6.19 points below the published; 0.70 times the published fps",
    ]
    assert judged[6:] == ["65.00", "71.19", "10.00", "14.2"]
    assert other[3:5] == ["not comparable", "512x1024 here, 1024x2048 there"]
    marks = [int(mark) for mark in judged[5].split(", ")]
    notes = [line for line in table.splitlines() if line[:1].isdigit()]
    assert "fps is the V100 figure of 2020" in notes[marks[0] - 1]
    assert (
        notes[marks[-1] - 1].partition(" ")[2].startswith("The published fps were taken on a V100")
    )


@pytest.mark.parametrize(
    ("measured", "published"),
    [("1024x2048", "1024x2048"), ("short side 512", "short side 512, about 512x683")],
)
def test_a_row_of_the_reference_resolution_has_no_such_note(measured: str, published: str) -> None:
    own = replace(PYTORCH, resolution=measured)
    target = replace(TARGET, resolution=published)

    assert "another resolution" not in markdown_page(report(own, targets={own.model: target}))
    assert "another resolution" in markdown_page(report(PYTORCH, targets={own.model: target}))


STEADY = tuple(10 + 0.01 * (k % 7) for k in range(40))


def test_each_boundary_has_its_percentiles_and_its_verdict() -> None:
    before = MachineState(load_average=0.5, cores_s=0, busy_s=0, own_s=0)
    after = MachineState(load_average=1.5, cores_s=10, busy_s=9, own_s=5)
    host = Timing(
        latency=Latency(STEADY),
        parts_ms={part: (float(k),) * 40 for k, part in enumerate(Part)},
    )
    mmseg = Timing(latency=Latency(STEADY, (99.0,)), before=before, after=after)
    own = replace(PYTORCH, boundaries={Boundary.HOST: host, Boundary.MMSEG: mmseg})

    markdown = markdown_page(report(own))

    assert cells(line_with(markdown, "| host |"))[3:] == [
        "host", "10.03", "10.02 to 10.04", "10.06", "10.06", "10.06", "10.06 or more", "10.06",
        "10.06", "10.03", "40", "0", "-", "stable",
    ]  # fmt: skip
    assert cells(line_with(markdown, "| mmseg |"))[-2:] == [
        "99.00",
        "inconclusive: other work took 40% of the cores",
    ]
    assert cells(line_with(markdown, "| 0.000 |"))[3:] == ["0.000", "1.000", "2.000"]
    machine = markdown.partition("## The machine meanwhile")[2]
    assert cells(line_with(machine, "| FCN"))[3:7] == ["4", "0.50", "1.50", "40"]


def test_agreement_is_shown_where_it_was_counted() -> None:
    markdown = markdown_page(report(PYTORCH, INT8))

    assert cells(line_with(markdown, "PyTorch fp32 | 99.500"))[1:] == [
        "ONNX Runtime", "int8", "PyTorch fp32", "99.500",
    ]  # fmt: skip
    assert "Agreement" not in markdown_page(report(PYTORCH))


def test_terminal_table_has_a_verdict_and_says_why() -> None:
    stable = replace(PYTORCH, boundaries=timed(*STEADY))
    file = io.StringIO()

    Console(file=file, width=160).print(terminal_table(report(stable, INT8)))

    text = file.getvalue()
    assert "stable" in line_with(text, "PyTorch", "fp32")
    assert "inconclusive" in line_with(text, "ONNX Runtime", "20.00")
    assert "ONNX Runtime int8, inconclusive: too few steps: 3 of 20" in text


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
    assert len(blocks) == 7
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
    for number in ("71.19", "14.2", "65.00", "10.00", "55.00", "40.00", "~4.00", "34.70"):
        assert number in text
    assert "\x1b" not in text
    assert "…" not in text
    assert "[bold]" in text
