"""A checkpoint, traced to ONNX and proved equal to PyTorch."""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from segdeploy.artifacts import Graph, LayerMoments, Manifest, request_hash
from segdeploy.errors import SegdeployError
from segdeploy.graph import OPSET, save_graph
from segdeploy.nets.checkpoint import Checkpoint, build_network
from segdeploy.nets.segmentor import PixelsIn, Segmentor
from segdeploy.spec import (
    INPUT,
    MAX_BATCH,
    MAX_SIDE,
    MIN_SIDE,
    Images,
    Labels,
    Logits,
    ModelSpec,
    Output,
    Precision,
    Size,
    Tuning,
)
from segdeploy.version import __version__

# Least share of equal labels, and largest logit difference as a part of the logit range, against
# PyTorch in float32. Measured on random weights, which are harder than trained ones: fp32 at least
# 0.99997 and at most 4.3e-6; fp16 0.968 (150 classes at 161x227) and 1.2e-2, 1.8e-2 at a third of
# the width.
PARITY = {Precision.FP32: (0.9999, 1e-3), Precision.FP16: (0.95, 2e-2)}
TRACED_DYNAMIC = Size(256, 512)  # what a dynamic graph is traced at
# Layers without activation, and the first one, whose BatchNorm the manifest tells of.
NORMED = (
    "backbone.conv1",
    "backbone.layer1.0.conv.1",
    "backbone.layer2.0.conv.2",
    "backbone.layer2.1.conv.2",
)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a graph is traced."""

    size: Size | None = None  # None: dynamic height and width
    batch: int | None = 1  # None: dynamic
    precision: Precision = Precision.FP32
    output: Output = Output.LABELS
    tuning: Tuning = Tuning.ANY  # which rewrites follow

    def __post_init__(self) -> None:
        if self.precision is Precision.INT8:
            raise SegdeployError(
                "int8 graphs are made by calibration", hint="segdeploy build-engine MODEL --int8"
            )
        if self.size is not None and not MIN_SIDE <= min(self.size) <= max(self.size) <= MAX_SIDE:
            raise SegdeployError(f"size {self.size}; wanted {MIN_SIDE} to {MAX_SIDE} a side")
        if self.batch is not None and not 1 <= self.batch <= MAX_BATCH:
            raise SegdeployError(f"batch {self.batch}; wanted 1 to {MAX_BATCH}, or dynamic")


@dataclass(frozen=True)
class Parity:
    """How a graph compares with PyTorch at one size.

    `logit_error` is the largest difference, `logit_range` the largest minus the smallest logit.
    """

    size: Size
    batch: int
    logit_error: float
    logit_range: float
    equal_labels: float

    def holds(self, precision: Precision) -> bool:
        """Whether the graph may be called the same network."""
        share, error = PARITY[precision]
        return self.equal_labels >= share and self.logit_error <= error * self.logit_range


def request_of(spec: ModelSpec, checkpoint: Checkpoint, options: ExportOptions) -> str:
    """The hash of all that determines the exported graph."""
    return request_hash(
        segdeploy=__version__,
        torch=version("torch"),
        model=spec.name,
        architecture=(spec.method, spec.width, spec.head_channels),
        classes=checkpoint.classes or spec.classes,
        normalization=spec.normalization,
        checkpoint=checkpoint.sha256,
        batch_norms=NORMED,
        options=options,
    )


def export_graph(
    spec: ModelSpec, checkpoint: Checkpoint, out: Path, *, options: ExportOptions
) -> Graph:
    """Trace the network with `torch.onnx.export(dynamo=True)` and write one ONNX file.

    Input `image` (N, H, W, 3) uint8 RGB; output `labels` (N, H, W) uint8, or `logits`
    (N, classes, h, w) float32 at the head's stride. Half precision is traced from a half network,
    with normalization and global means in float32.
    """
    network, classes = build_network(spec, checkpoint)
    network.requires_grad_(False)
    batch_norms = () if checkpoint.is_random else _batch_norms(network)
    if options.precision is Precision.FP16:
        network.half()
    module = PixelsIn(network, spec.normalization, options.output).eval()
    size = options.size or TRACED_DYNAMIC
    example = torch.zeros((options.batch or 2, size.height, size.width, 3), dtype=torch.uint8)
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[str(options.output)],
            dynamic_shapes=_dynamic_shapes(options),
        )
    if program is None:  # only what its signature allows: with dynamo=True it returns a program
        raise RuntimeError("torch.onnx.export returned nothing")
    model = program.model_proto
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    if opset != OPSET:  # the exporter falls back to another opset with a log line only
        raise RuntimeError(f"asked for opset {OPSET}, torch {version('torch')} wrote {opset}")
    _write_output_dims(model, options)
    manifest = Manifest(
        model=spec.name,
        method=spec.method,
        classes=classes,
        precision=options.precision,
        output=options.output,
        size=options.size,
        batch=options.batch,
        dataset=spec.dataset,
        normalization=spec.normalization,
        batch_norms=batch_norms,
        checkpoint=checkpoint.name,
        checkpoint_sha256=checkpoint.sha256,
        request=request_of(spec, checkpoint, options),
        versions=(
            ("segdeploy", __version__),
            ("torch", version("torch")),
            ("onnx", version("onnx")),
        ),
    )
    return save_graph(model, manifest, out)


def parity_sizes(options: ExportOptions) -> tuple[tuple[int, Size], ...]:
    """Batch and size of each comparison: the traced one, and two more if the graph is dynamic."""
    batch = options.batch or 2
    if options.size is not None:
        return ((batch, options.size),)
    # 161 x 227 is odd: a pooling or resize that is right at multiples of 8 only is found out.
    return ((batch, TRACED_DYNAMIC), (options.batch or 1, Size(161, 227)), (batch, Size(192, 128)))


def measure_parity(
    run: Callable[[Images], tuple[Logits, Labels | None]],
    spec: ModelSpec,
    checkpoint: Checkpoint,
    batches: Iterable[Images],
) -> tuple[Parity, ...]:
    """Compare what a graph computes with PyTorch in float32 on the same images.

    Args:
        run: images (N, H, W, 3) uint8 -> the graph's logits (N, classes, h, w), and its labels
            (N, H, W), or None if it returns logits: labels are then made of them.
        spec: of the model.
        checkpoint: that the graph was made of.
        batches: images that the graph takes.
    """
    network, _ = build_network(spec, checkpoint)
    module = PixelsIn(network, spec.normalization, Output.LABELS).eval()
    found = []
    for images in batches:
        logits, labels = run(images)
        size = images.shape[1:3]
        with torch.inference_mode():
            reference = module.logits(torch.from_numpy(images))
            expected = module.labels(reference, size).numpy()
            if labels is None:
                labels = module.labels(torch.from_numpy(logits), size).numpy()
        wanted = reference.numpy()
        found.append(
            Parity(
                size=Size(*size),
                batch=len(images),
                logit_error=float(np.abs(logits.astype(np.float32) - wanted).max()),
                logit_range=float(wanted.max() - wanted.min()),
                equal_labels=float((labels == expected).mean()),
            )
        )
    return tuple(found)


def _batch_norms(network: Segmentor) -> tuple[LayerMoments, ...]:
    """The moments of each layer's output on the training data, in float32, to six digits."""
    found = []
    for layer in NORMED:
        norm = network.get_submodule(f"{layer}.bn")
        variance = norm.get_buffer("running_var")
        eps = norm.eps if isinstance(norm, torch.nn.BatchNorm2d) else 0.0
        deviation = norm.get_parameter("weight").abs() * (variance / (variance + eps)).sqrt()
        means, deviations = norm.get_parameter("bias").tolist(), deviation.tolist()
        found.append(
            LayerMoments(
                weight=f"segmentor.{layer}.conv.weight",
                means=tuple(float(f"{value:.6g}") for value in means),
                deviations=tuple(float(f"{value:.6g}") for value in deviations),
            )
        )
    return tuple(found)


def _dynamic_shapes(options: ExportOptions) -> Any:
    axes: dict[int, Any] = {}
    if options.batch is None:
        axes[0] = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    if options.size is None:
        axes[1] = torch.export.Dim("height", min=MIN_SIDE, max=MAX_SIDE)
        axes[2] = torch.export.Dim("width", min=MIN_SIDE, max=MAX_SIDE)
    return (axes,) if axes else None


def _write_output_dims(model: onnx.ModelProto, options: ExportOptions) -> None:
    """Give labels the input's names for dynamic dims; the exporter leaves formulas there."""
    if options.output is Output.LABELS:
        source = model.graph.input[0].type.tensor_type.shape.dim
        target = model.graph.output[0].type.tensor_type.shape
        target.ClearField("dim")
        target.dim.extend(list(source)[:3])


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's chatter about optional packages and its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
