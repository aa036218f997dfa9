"""Whole networks keep their logits through all passes, at every size, batch and precision."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from segdeploy.errors import SegdeployError
from segdeploy.graph import inputs_and_outputs, logits_tensor, read_model, with_outputs
from segdeploy.rewrite import dilated_winograd, winograd
from segdeploy.rewrite.passes import PASSES, prepare_for_cpu, rewrite_model
from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
from segdeploy.spec import MaskPlace, Method, Output, Precision, Size, Tuning

SIZE = Size(64, 96)
SIZES = (SIZE, Size(161, 227), Size(32, 33))
ERROR = 2e-5  # of the logit range; measured: at most 3e-6
HALF_ERROR = 2e-2  # measured: at most 7e-3
DOES = {
    Method.FCN: {"fold_input_scale", "apply_winograd"},
    Method.PSPNET: {"fold_input_scale", "fold_pooled_branches", "apply_winograd"},
    Method.DEEPLABV3: {"fold_input_scale", "fold_pooled_branches", "apply_winograd"},
    Method.DEEPLABV3PLUS: {
        "fold_input_scale",
        "fold_pooled_branches",
        "apply_winograd",
        "split_concatenations",
        "start_blocked_layout",
    },
}


@pytest.fixture(autouse=True)
def _narrow_networks_are_wide_enough(monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(dilated_winograd, "LEAST_CHANNELS", 1)


def logits(model, manifest, images):
    name = logits_tensor(model)
    exposed = with_outputs(model, [name]).SerializeToString()
    with OnnxRuntimeSession(exposed, manifest, threads=1) as session:
        return session.outputs(images)[name].astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [Tuning.ANY, Tuning.GPU, Tuning.CPU])
@pytest.mark.parametrize("method", Method)
def test_a_dynamic_network_keeps_its_logits(exported, blocks, method, tuning):
    graph = exported(method, size=None, batch=None, tuning=Tuning.PLAIN)
    plain = read_model(graph.path)

    fast, steps = rewrite_model(plain, PASSES[tuning], SIZE)

    onnx.checker.check_model(fast, full_check=True)
    wanted = (
        DOES[method]
        if tuning is Tuning.CPU
        else DOES[method] & {"fold_input_scale", "fold_pooled_branches"}
    )
    assert {step.name for step in steps if step.places} - {"share_constants"} == wanted
    for size, count in ((SIZES[0], 3), (SIZES[1], 1), (SIZES[2], 2)):
        images = blocks(size, count)
        found, expected = (logits(model, graph.manifest, images) for model in (fast, plain))
        assert np.abs(found - expected).max() <= ERROR * np.ptp(expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", Method)
def test_a_static_network_keeps_its_logits(exported, blocks, method):
    graph = exported(method, tuning=Tuning.PLAIN)
    plain = read_model(graph.path)

    fast, _ = rewrite_model(plain, PASSES[Tuning.CPU], SIZE)

    images = blocks(SIZE)
    found, expected = (logits(model, graph.manifest, images) for model in (fast, plain))
    assert np.abs(found - expected).max() <= ERROR * np.ptp(expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method.PSPNET, Method.DEEPLABV3PLUS])
def test_half_precision_keeps_its_logits(exported, blocks, method):
    graph = exported(method, precision=Precision.FP16, tuning=Tuning.PLAIN)
    plain = read_model(graph.path)

    fast, _ = rewrite_model(plain, PASSES[Tuning.ANY], SIZE)

    images = blocks(SIZE)
    found, expected = (logits(model, graph.manifest, images) for model in (fast, plain))
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() <= HALF_ERROR * np.ptp(expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", Method)
def test_a_batch_gives_the_labels_of_its_images_bit_for_bit(exported, blocks, method):
    graph = exported(method, size=None, batch=None, tuning=Tuning.PLAIN)
    fast, _ = rewrite_model(read_model(graph.path), PASSES[Tuning.CPU], SIZE)
    images = blocks(SIZE, count=3)

    with OnnxRuntimeSession(fast.SerializeToString(), graph.manifest, threads=1) as session:
        together = session.run(images)
        apart = [session.run(images[k : k + 1]) for k in range(3)]

    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_a_graph_whose_shapes_contradict_each_other_is_refused(small, normal):
    node = helper.make_node("Add", ["x", "w"], ["y"])
    model = small.build([node], {"w": normal(1, 3, 8, 8)}, shape=(1, 3, 8, 8))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(normal(1, 3, 7, 7), "w"))

    with pytest.raises(SegdeployError, match="shapes contradict each other"):
        rewrite_model(model, PASSES[Tuning.CPU], SIZE)


def test_a_plain_graph_stays_as_it_was_trained(exported):
    graph = exported(Method.PSPNET, tuning=Tuning.PLAIN)
    plain = read_model(graph.path)

    same, steps = rewrite_model(plain, PASSES[Tuning.PLAIN], SIZE)

    assert (same, steps) == (plain, ())
    assert (graph.manifest.tuning, graph.manifest.rewrites) == (Tuning.PLAIN, ())


def test_a_graph_tells_what_it_went_through(exported):
    manifest = exported(Method.PSPNET).manifest

    assert manifest.tuning is Tuning.ANY
    assert set(manifest.rewrites) >= {"fold_input_scale", "fold_pooled_branches"}


def test_each_step_starts_where_the_last_one_ended(exported):
    plain = read_model(exported(Method.PSPNET, tuning=Tuning.PLAIN).path)

    _, steps = rewrite_model(plain, PASSES[Tuning.CPU], SIZE)

    assert [step.before for step in steps[1:]] == [step.after for step in steps[:-1]]
    folded = next(step for step in steps if step.name == "fold_pooled_branches")
    assert folded.after.macs < folded.before.macs


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_the_mask_is_left_to_the_host(exported, precision):
    graph = exported(Method.FCN, precision=precision)
    model = read_model(graph.path)

    cut, steps = prepare_for_cpu(model, graph.manifest.tuning, SIZE)

    (output,) = inputs_and_outputs(cut)[1]
    assert (output.name, output.dtype, output.shape) == ("logits", "float", (1, 7, 8, 12))
    assert steps[-1].places == 1
    assert not {"ArgMax", "Resize"} & {node.op_type for node in cut.graph.node}
    assert graph.manifest.mask is MaskPlace.GRAPH


def test_a_graph_of_logits_has_no_mask_to_leave(exported):
    graph = exported(Method.FCN, output=Output.LOGITS)

    _, steps = prepare_for_cpu(read_model(graph.path), Tuning.ANY, SIZE)

    assert (steps[-1].name, steps[-1].places) == ("leave_mask_to_host", 0)
