"""Two rows of a report, one with random weights, and a reference, all made up."""

from dataclasses import replace

from segdeploy.environment import Environment, Gpu
from segdeploy.measurement import Agreement, Boundary, Measurement, Tally, Timing
from segdeploy.recipes import Target
from segdeploy.report import Report
from segdeploy.spec import CPU, Output, Precision, Runtime
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
CLASSES = ("road", "car", "train")


def timed(*steps_ms: float, warmup_ms: tuple[float, ...] = ()) -> dict[Boundary, Timing]:
    """The one boundary that each row has."""
    return {Boundary.MMSEG: Timing(latency=Latency(steps_ms, warmup_ms))}


PYTORCH = Measurement(
    model="fcn-cityscapes",
    title="FCN Cityscapes",
    precision=Precision.FP32,
    runtime=Runtime.PYTORCH,
    device=CPU,
    output=Output.LABELS,
    boundaries=timed(100.0, 100.0, 100.0, warmup_ms=(400.0,)),
    resolution="512x1024",
    artifact="model.pth",
    artifact_sha256="13fef4ea",
    artifact_bytes=38_000_000,
    threads=4,
    dataset="cityscapes",
    tally=Tally(  # road 70, car 60, train absent: mIoU 65, mAcc 85, aAcc 100/130
        images=500,
        classes=CLASSES,
        counts=((70, 20, 0, 10), (0, 30, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    ),
    peak_memory_bytes=900_000_000,
)
INT8 = replace(
    PYTORCH,
    precision=Precision.INT8,
    runtime=Runtime.ONNXRUNTIME,
    boundaries=timed(20.0, 20.0, 35.0),
    tally=Tally(  # road 60, car 50: mIoU 55, mAcc 80, aAcc 90/130
        images=500,
        classes=CLASSES,
        counts=((60, 30, 0, 10), (0, 30, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    ),
    agreement=(
        Agreement(runtime=Runtime.PYTORCH, precision=Precision.FP32, pixels=1000, equal_pixels=995),
    ),
    calibration="cityscapes-500, mse, 500 images",
)
LEAST = Measurement(  # what no row lacks
    model="fcn",
    title="FCN",
    precision=Precision.FP32,
    runtime=Runtime.ONNXRUNTIME,
    device=CPU,
    output=Output.LABELS,
    boundaries=timed(10.0),
    resolution="64x96",
)
RANDOM = replace(PYTORCH, weights="random:0", dataset="", tally=None)
TARGET = Target(71.19, 14.2, "A100", 3.4, "1024x2048", "fps is the V100 figure of 2020")


def report(*measurements: Measurement, targets: dict[str, Target] | None = None) -> Report:
    """A report of these rows."""
    return Report(
        measurements=measurements,
        environment=ENVIRONMENT,
        command="segdeploy bench --model fcn-cityscapes",
        created="2026-03-01",
        targets={"fcn-cityscapes": TARGET} if targets is None else targets,
    )
