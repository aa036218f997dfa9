"""Exported graphs equal PyTorch, say what they are, and hold nothing of the machine."""

import itertools
import os
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from segdeploy import export
from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.export import ExportOptions, Parity, measure_parity, parity_sizes, request_of
from segdeploy.graph import OPSET, inputs_and_outputs, read_graph, read_model, save_graph
from segdeploy.masks import labels_from_logits
from segdeploy.pipeline.graphs import export_model
from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import ClassSet, Method, Normalization, Output, Precision, Size, Tuning

SIZE = Size(64, 96)
SIZES = (SIZE, Size(161, 227), Size(32, 33))  # the usual, an odd one, the smallest
LOGIT_ERROR = 1e-5  # of the logit range, fp32; measured: at most 2.4e-6
EQUAL_LABELS = {Precision.FP32: 0.9999, Precision.FP16: 0.99}  # measured: 1.0 and 0.9954


@pytest.fixture(scope="module")
def static(exported):
    return exported(Method.FCN)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
@pytest.mark.parametrize("method", Method)
def test_a_static_graph_equals_pytorch(exported, narrow_source, blocks, method, precision):
    graph, source = exported(method, precision=precision), narrow_source(method)
    images = blocks(SIZE, count=8)

    with (
        PyTorchSession(source.spec, source.checkpoint) as pytorch,
        OnnxRuntimeSession(graph.path, graph.manifest) as session,
    ):
        found = np.concatenate([session.run(images[k : k + 1]) for k in range(8)])
        expected = pytorch.run(images)

    assert found.dtype == np.uint8
    assert (found == expected).mean() >= EQUAL_LABELS[precision]
    assert len(np.unique(found)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method.FCN, Method.PSPNET])
def test_a_dynamic_labels_graph_equals_pytorch_at_every_size(
    exported, narrow_source, blocks, method
):
    graph, source = exported(method, size=None, batch=None), narrow_source(method)

    with (
        PyTorchSession(source.spec, source.checkpoint) as pytorch,
        OnnxRuntimeSession(graph.path, graph.manifest) as session,
    ):
        for size, count in itertools.product(SIZES, (1, 3)):
            images = blocks(size, count)
            found, expected = session.run(images), pytorch.run(images)

            assert found.shape == (count, *size)
            assert (found == expected).mean() >= EQUAL_LABELS[Precision.FP32]


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method.DEEPLABV3, Method.DEEPLABV3PLUS])
def test_a_dynamic_logits_graph_equals_pytorch_at_every_size(
    exported, narrow_source, blocks, method
):
    graph, source = exported(method, size=None, output=Output.LOGITS), narrow_source(method)

    with (
        PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS) as pytorch,
        OnnxRuntimeSession(graph.path, graph.manifest) as session,
    ):
        for size in SIZES:
            found, expected = session.run(blocks(size)), pytorch.run(blocks(size))

            assert found.dtype == np.float32
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= LOGIT_ERROR * np.ptp(expected)


@pytest.mark.slow
def test_logits_resized_twice_are_the_labels_of_mmseg(exported, narrow_source, blocks):
    method = Method.DEEPLABV3PLUS
    graph, source = exported(method, size=None, output=Output.LOGITS), narrow_source(method)
    network, original = Size(96, 137), Size(171, 244)  # as an image of ADE20K is shrunk
    images = blocks(network)

    with (
        PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS) as pytorch,
        OnnxRuntimeSession(graph.path, graph.manifest) as session,
    ):
        found = labels_from_logits(session.run(images), network, original)
        scores = torch.from_numpy(pytorch.run(images))
    for size in (network, original):
        scores = functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)

    expected = scores.argmax(1)[0].numpy()
    assert found.shape == original
    assert (found == expected).mean() >= 0.9998  # measured: 1.0; a tie may fall either way


@pytest.mark.slow
@pytest.mark.parametrize(("method", "precision"), [(Method.PSPNET, "fp32"), (Method.FCN, "fp16")])
def test_convolutions_compute_in_the_precision_of_the_graph(exported, method, precision):
    model = read_model(exported(method, precision=Precision(precision)).path)

    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    kinds = {constants[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}
    assert kinds == {{"fp32": onnx.TensorProto.FLOAT, "fp16": onnx.TensorProto.FLOAT16}[precision]}


def test_a_static_graph_declares_its_shapes(static):
    inputs, outputs = inputs_and_outputs(read_model(static.path))

    assert [str(tensor) for tensor in inputs] == ["image: uint8 (1, 64, 96, 3)"]
    assert [str(tensor) for tensor in outputs] == ["labels: uint8 (1, 64, 96)"]


@pytest.mark.slow
def test_a_dynamic_graph_names_the_same_dims_on_both_sides(exported):
    graph = exported(Method.PSPNET, size=None, batch=None)

    inputs, outputs = inputs_and_outputs(read_model(graph.path))

    assert [str(tensor) for tensor in inputs] == ["image: uint8 (batch, height, width, 3)"]
    assert [str(tensor) for tensor in outputs] == ["labels: uint8 (batch, height, width)"]


def test_a_graph_has_the_opset_that_engines_read(static):
    (opset,) = read_model(static.path).opset_import

    assert (opset.domain, opset.version) == ("", OPSET)


def test_a_graph_holds_nothing_of_the_machine(static):
    data = static.path.read_bytes()

    for trace in (b"stack_trace", b"site-packages", b".py", os.fsencode(Path.cwd()), b"/home/"):
        assert trace not in data


def test_a_graph_is_one_file(static):
    model = read_model(static.path)

    assert all(not tensor.external_data for tensor in model.graph.initializer)
    assert static.path.stat().st_size > sum(len(t.raw_data) for t in model.graph.initializer)


def test_a_graph_tells_what_it_is(static, narrow_source):
    checkpoint = narrow_source(Method.FCN).checkpoint
    keys = {entry.key for entry in read_model(static.path).metadata_props}

    manifest = read_graph(static.path).manifest

    assert keys == {f"segdeploy.{field.name}" for field in fields(Manifest)}
    assert manifest == static.manifest
    assert (manifest.model, manifest.method, manifest.size) == ("narrow-fcn", Method.FCN, SIZE)
    assert manifest.classes == ClassSet.numbered(7)
    assert (manifest.checkpoint, manifest.checkpoint_sha256) == (
        checkpoint.name,
        checkpoint.sha256,
    )
    assert dict(manifest.versions).keys() == {"segdeploy", "torch", "onnx"}


def test_the_graph_normalizes(exported):
    graph = read_model(exported(Method.FCN, tuning=Tuning.PLAIN).path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    found = [value.ravel().tolist() for value in constants.values() if value.shape == (1, 3, 1, 1)]

    wanted = [Normalization().mean, Normalization().std]
    assert sorted(found) == [pytest.approx(values) for values in sorted(map(list, wanted))]


def damage(graph, out):
    """Write the graph with a changed bias of its last layer, as a wrong conversion would."""
    model = read_model(graph.path)
    bias = next(t for t in model.graph.initializer if t.name.endswith("conv_seg.bias"))
    values = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array(values + np.eye(7, dtype=np.float32)[0], bias.name))
    return save_graph(model, graph.manifest, out)


def test_a_graph_that_differs_from_pytorch_is_not_written(
    static, narrow_source, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        export, "export_graph", lambda _spec, _checkpoint, out, **_options: damage(static, out)
    )
    out = tmp_path / "fp32.onnx"

    with pytest.raises(SegdeployError, match=r"fp32\.onnx: differs from PyTorch at 64x96"):
        export_model(narrow_source(Method.FCN), ExportOptions(size=SIZE), out)

    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_is_written_for_a_look(static, narrow_source, tmp_path, monkeypatch):
    monkeypatch.setattr(
        export, "export_graph", lambda _spec, _checkpoint, out, **_options: damage(static, out)
    )

    exported = export_model(
        narrow_source(Method.FCN), ExportOptions(size=SIZE), tmp_path / "a.onnx", verify=False
    )

    assert exported.parities == ()
    assert read_graph(exported.graph.path) == exported.graph


def test_a_graph_needs_the_suffix_that_other_commands_know(narrow_source, tmp_path):
    with pytest.raises(SegdeployError, match=r"a\.json: wanted a name that ends in \.onnx"):
        export_model(narrow_source(Method.FCN), ExportOptions(size=SIZE), tmp_path / "a.json")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"precision": Precision.INT8}, "int8 graphs are made by calibration"),
        ({"size": Size(31, 64)}, "size 31x64; wanted 32 to 8192"),
        ({"size": Size(64, 8193)}, "size 64x8193; wanted 32 to 8192"),
        ({"batch": 0}, "batch 0; wanted 1 to 64"),
        ({"batch": 65}, "batch 65; wanted 1 to 64"),
    ],
)
def test_what_cannot_be_traced_is_refused_before_it_is_tried(changes, complaint):
    with pytest.raises(SegdeployError, match=complaint):
        ExportOptions(**changes)


def test_everything_that_changes_a_graph_changes_its_request(narrow_source):
    source, options = narrow_source(Method.FCN), ExportOptions(size=SIZE)
    spec, checkpoint = source.spec, source.checkpoint

    requests = [
        request_of(spec, checkpoint, options),
        request_of(spec, replace(checkpoint, sha256="other"), options),
        request_of(spec, replace(checkpoint, classes=ClassSet.numbered(8)), options),
        request_of(replace(spec, normalization=Normalization((0, 0, 0))), checkpoint, options),
        request_of(replace(spec, width=0.5), checkpoint, options),
        request_of(spec, checkpoint, replace(options, size=None)),
        request_of(spec, checkpoint, replace(options, batch=2)),
        request_of(spec, checkpoint, replace(options, precision=Precision.FP16)),
        request_of(spec, checkpoint, replace(options, output=Output.LOGITS)),
        request_of(spec, checkpoint, replace(options, tuning=Tuning.PLAIN)),
    ]

    assert len(set(requests)) == len(requests)
    assert request_of(spec, checkpoint, options) == requests[0]


def test_a_dynamic_graph_is_compared_at_an_odd_size_too():
    assert [size for _, size in parity_sizes(ExportOptions(size=SIZE))] == [SIZE]
    assert Size(161, 227) in [size for _, size in parity_sizes(ExportOptions())]


def test_parity_measures_the_difference_that_is_there(narrow_source, blocks):
    source = narrow_source(Method.FCN)
    with PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS) as pytorch:
        (found,) = measure_parity(
            lambda images: (pytorch.run(images) + 0.25, None),
            source.spec,
            source.checkpoint,
            [blocks(SIZE, count=2)],
        )
        logits = pytorch.run(blocks(SIZE, count=2))

    assert (found.size, found.batch) == (SIZE, 2)
    assert found.logit_error == pytest.approx(0.25, rel=1e-4)
    assert found.logit_range == pytest.approx(np.ptp(logits))
    assert found.equal_labels == 1.0  # the same shift of every class changes no label


@pytest.mark.parametrize(
    ("parity", "precision", "holds"),
    [
        (Parity(SIZE, 1, 1e-5, 10.0, 1.0), Precision.FP32, True),
        (Parity(SIZE, 1, 0.1, 10.0, 1.0), Precision.FP32, False),
        (Parity(SIZE, 1, 1e-5, 10.0, 0.99), Precision.FP32, False),
        (Parity(SIZE, 1, 0.1, 10.0, 0.99), Precision.FP16, True),
        (Parity(SIZE, 1, 0.1, 10.0, 0.9), Precision.FP16, False),
        (Parity(SIZE, 1, float("nan"), 10.0, 1.0), Precision.FP16, False),
    ],
)
def test_half_precision_may_differ_more_and_nan_never_holds(parity, precision, holds):
    assert parity.holds(precision) is holds
