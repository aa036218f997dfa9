"""`segdeploy bench`: speed and accuracy of the same artifact."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from segdeploy.cli import printing
from segdeploy.cli.options import (
    DATA,
    STORE,
    Calibration,
    Checkpoint,
    Crop,
    Data,
    DeviceName,
    ModeName,
    Passage,
    Rebuild,
    Stride,
    Tta,
    parse_list,
    parse_mode,
)
from segdeploy.cli.suites import LockedPath, LockPath, SuiteName, bench_suite, check_unused
from segdeploy.spec import Precision, Runtime


def bench(
    context: typer.Context,
    subjects: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL|ARTIFACT]...", help="Default: the data set's models."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="cityscapes, ade20k, camvid, demo or a folder.")] = (
        "demo"
    ),
    data: Data = DATA,
    checkpoint: Checkpoint = None,
    precision: Annotated[str, typer.Option(metavar="LIST", help="fp32, fp16, int8.")] = "fp32",
    calibration: Calibration = None,
    runtime: Annotated[str, typer.Option(metavar="LIST", help="Such as onnxruntime,pytorch.")] = (
        "onnxruntime,pytorch"
    ),
    device: DeviceName = None,
    rebuild: Rebuild = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N images only.")] = None,
    speed_only: Annotated[bool, typer.Option("--speed-only", help="fps without the data.")] = False,
    seconds: Annotated[float, typer.Option(help="Time each row no longer than this.")] = 60.0,
    mode: ModeName = Passage.WHOLE,
    crop: Crop = None,
    stride: Stride = None,
    tta: Tta = False,
    json: Annotated[Path | None, typer.Option(metavar="F", help="Write the rows as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="F.md", help="Write a page.")] = None,
    suite: SuiteName = None,
    lock: LockPath = None,
    locked: LockedPath = None,
    html: Annotated[
        Path | None, typer.Option(metavar="F.html", help="Write a page with plots, in one file.")
    ] = None,
) -> None:
    """Measure fps and mIoU of the same artifact, beside PyTorch and the reference row."""
    from segdeploy.bench.measure import BenchOptions
    from segdeploy.bench.outputs import Outputs
    from segdeploy.bench.run import Comparison, compare
    from segdeploy.report_page import terminal_table

    outputs = Outputs(
        json_path=json,
        report_path=report,
        html_path=html,
        lock_path=lock,
        command=" ".join(["segdeploy", *sys.argv[1:]]),
        created=datetime.now(UTC).date().isoformat(),
        show=lambda made: printing.show_table(terminal_table(made)),
    )
    if suite is not None or lock is not None or locked is not None:
        from segdeploy.bench.suite import SuiteOptions

        check_unused(context)
        chosen = SuiteOptions(data=data, device=device, store=STORE, outputs=outputs)
        bench_suite(suite, locked, chosen)
        return
    compare(
        Comparison(
            subjects=tuple(subjects or ()),
            checkpoint=checkpoint,
            precisions=parse_list(precision, Precision, "--precision"),
            runtimes=parse_list(runtime, Runtime, "--runtime"),
            calibration=calibration,
        ),
        BenchOptions(
            dataset=dataset,
            data=data,
            limit=limit,
            speed_only=speed_only,
            max_seconds=seconds,
            device=device,
            rebuild=rebuild,
            mode=parse_mode(mode, crop, stride, tta=tta),
            store=STORE,
        ),
        outputs,
    )
