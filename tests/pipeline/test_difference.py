"""Faults injected by seed into sound graphs are named, each as what it is; sound ones are not."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from faulty_graphs import (
    Change,
    align_corners,
    align_corners_within,
    change_constant,
    mirrored_image,
    moved_image,
    nearest_mask,
    no_mean,
    no_person,
    one_activation_scale,
    one_class_lower,
    one_weight_scale,
    other_checkpoint,
    other_deviation,
    other_mean,
    overflowing,
    padded_with_edges,
    permuted_classes,
    swapped_channels,
    swapped_weights,
)

from segdeploy.artifacts import EnginePlan, Graph, Store, sha256_of
from segdeploy.causes import Attempt, Cause, Fact
from segdeploy.errors import SegdeployError
from segdeploy.export import ExportOptions
from segdeploy.graph import read_model, save_graph
from segdeploy.images import write_png
from segdeploy.pipeline.calibration import open_calibration
from segdeploy.pipeline.difference import Compared, DifferenceRequest, compare_artifacts
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.graphs import QuantizeRequest, export_model, quantize_graph
from segdeploy.pipeline.source import resolve_source
from segdeploy.spec import Precision, Runtime, Size

pytestmark = pytest.mark.xdist_group("difference")  # one worker exports the demo model for all

DATA = Path("data")  # of the drawn scenes, which need none
IMAGES, CALIBRATED = 2, 4
SMALL = Size(128, 256)  # half of a drawn scene
SEED = 1  # of a mean
MEAN_ERROR = 1.0  # of 255: what int8 weights leave; measured 0.1 to 0.7


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("difference")


@pytest.fixture(scope="module")
def sound(folder) -> Graph:
    """The bundled model, for images of any size."""
    source = resolve_source("demo", None, Store(folder))
    return export_model(source, ExportOptions(size=None), folder / "fp32.onnx", verify=False).graph


@pytest.fixture(scope="module")
def half(folder) -> Graph:
    """The same in fp16."""
    source = resolve_source("demo", None, Store(folder))
    options = ExportOptions(size=None, precision=Precision.FP16)
    return export_model(source, options, folder / "fp16.onnx", verify=False).graph


@pytest.fixture(scope="module")
def quantize(folder) -> Callable[..., Graph]:
    """The int8 form of a graph for a runtime, calibrated on a few images."""
    drawn = open_calibration("demo-64", DATA)
    few = replace(drawn, ids=drawn.ids[:CALIBRATED], load=lambda: islice(drawn.load(), CALIBRATED))

    def make(graph: Graph, name: str, runtime: Runtime = Runtime.ONNXRUNTIME) -> Graph:
        request = QuantizeRequest(calibration=few, runtime=runtime, store=Store(folder))
        return quantize_graph(graph, request, folder / f"{name}.onnx")

    return make


@pytest.fixture(scope="module")
def int8(quantize, sound) -> Graph:
    """The bundled model in int8."""
    return quantize(sound, "int8")


@pytest.fixture
def compare(tmp_path) -> Callable[..., Compared]:
    def run(reference: Path, other: Path | str, **fields) -> Compared:
        request = DifferenceRequest(
            reference=str(reference),
            other=str(other),
            **{"limit": IMAGES, "store": Store(tmp_path), **fields},
        )
        return compare_artifacts(request)

    return run


@pytest.fixture
def broken(tmp_path) -> Callable[..., Path]:
    """Called with a graph and a fault: the file of a graph that has it."""

    def make(graph: Graph, change: Change, seed: int = 0, **manifest) -> Path:
        model = read_model(graph.path)
        change(model, np.random.default_rng(seed))
        return save_graph(model, replace(graph.manifest, **manifest), tmp_path / "broken.onnx").path

    return make


FLOATING = [
    (swapped_channels, Cause.CHANNELS),
    (swapped_weights, Cause.CHANNELS),
    (no_mean, Cause.MEAN),
    (other_mean, Cause.MEAN),
    (other_deviation, Cause.MEAN),
    (align_corners, Cause.ALIGN_CORNERS),
    (align_corners_within, Cause.ALIGN_CORNERS),
    (nearest_mask, Cause.NEAREST),
    (permuted_classes, Cause.CLASSES),
    (one_class_lower, Cause.BIAS),
    (other_checkpoint, Cause.CHECKPOINT),
    (mirrored_image, Cause.FLIPPED),
    (moved_image, Cause.SHIFT),
]


@pytest.mark.parametrize(
    ("fault", "cause"), FLOATING, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_in_a_floating_graph_is_named(compare, broken, sound, fault, cause):
    found = compare(sound.path, broken(sound, fault)).difference

    assert isinstance(found.likely, Attempt)
    assert found.likely.cause is cause
    assert found.likely.after > 0.999
    assert found.sentence.startswith(f"{cause[0]}" if "_" in cause else cause[0].upper())


@pytest.mark.parametrize(("fault", "seed"), [(one_activation_scale, 2), (one_weight_scale, 7)])
def test_one_scale_of_an_int8_graph_is_named(compare, broken, sound, int8, fault, seed):
    scale = changed_constant(int8, fault, seed)

    found = compare(sound.path, broken(int8, fault, seed)).difference

    assert isinstance(found.likely, Attempt)
    assert found.likely.cause is Cause.SCALE
    assert found.likely.what.startswith(f"{scale} at ")
    assert found.departs is not None


def changed_constant(graph: Graph, fault: Change, seed: int) -> str:
    before, after = read_model(graph.path), read_model(graph.path)
    fault(after, np.random.default_rng(seed))
    pairs = zip(before.graph.initializer, after.graph.initializer, strict=True)
    (changed,) = [one.name for one, other in pairs if one != other]
    return changed


def test_a_fault_is_named_through_the_noise_of_int8(compare, broken, quantize, sound):
    faulty = Graph(broken(sound, no_mean), replace(sound.manifest, request="no mean"))

    found = compare(sound.path, quantize(faulty, "no-mean").path).difference

    assert isinstance(found.likely, Attempt)
    assert found.likely.cause is Cause.MEAN
    assert "no mean subtracted" in found.sentence


@pytest.mark.parametrize("runtime", [Runtime.ONNXRUNTIME, Runtime.TENSORRT])
def test_any_mean_is_read_off_the_first_layer_of_int8(compare, broken, quantize, sound, runtime):
    mean = np.random.default_rng(SEED).uniform(0, 255, 3)
    faulty = Graph(broken(sound, other_mean, SEED), replace(sound.manifest, request="other mean"))

    found = compare(sound.path, quantize(faulty, f"mean-{runtime}", runtime).path).difference

    assert found.likely.cause is Cause.MEAN
    shown = found.likely.what.removeprefix("mean (").partition(")")[0]
    assert [float(value) for value in shown.split(", ")] == pytest.approx(mean, abs=MEAN_ERROR)


def test_the_mean_of_an_engine_is_read_off_the_graph_beside_it(
    compare, broken, quantize, tmp_path, sound
):
    faulty = Graph(broken(sound, other_mean, SEED), replace(sound.manifest, request="other mean"))
    made = quantize(faulty, "mean-of-engine")
    beside = tmp_path / "mean.onnx"
    beside.write_bytes(made.path.read_bytes())
    graph = Graph(beside, made.manifest)
    plan = build_engine(graph, Runtime.ONNXRUNTIME, tmp_path / "mean.ort").plan

    found = compare(sound.path, plan.path).difference
    beside.unlink()
    alone = compare(sound.path, plan.path).difference

    assert found.likely.cause is Cause.MEAN
    assert alone.likely is None
    assert (
        "wrong mean or deviation that is not usual: mean.ort has no graph beside it; "
        "put the graph beside it"
    ) in alone.untried


def test_a_first_layer_that_pads_nothing_is_told(compare, broken, sound, int8):
    found = compare(sound.path, broken(int8, padded_with_edges)).difference

    assert any("the first layer of broken.onnx shows no padding" in text for text in found.untried)


@pytest.mark.parametrize(("seed", "name"), [(5, "car"), (7, "pole")])
def test_a_class_that_int8_never_predicts_is_named(compare, broken, sound, int8, seed, name):
    found = compare(sound.path, broken(int8, one_class_lower, seed)).difference

    assert found.likely.cause is Cause.BIAS
    assert found.likely.what.startswith(f"the logits of {name} raised by ")


def test_a_lost_class_that_no_cause_explains_is_told_although_most_pixels_agree(
    compare, broken, sound, int8
):
    found = compare(sound.path, broken(int8, no_person)).difference

    assert found.agreement > 0.99
    assert found.likely is None
    assert found.sentence.startswith("Unexplained: ")
    assert ", person has an IoU of 0.0 with the labels of fp32.onnx, " in found.sentence


def test_an_overflow_in_fp16_is_named_although_this_processor_computes_in_fp32(
    compare, broken, sound, half
):
    found = compare(sound.path, broken(half, overflowing)).difference

    assert isinstance(found.likely, Fact)
    assert found.likely.cause is Cause.OVERFLOW
    assert "decode_head.c1_bottleneck" in found.sentence
    assert found.departs.not_finite > 0


def test_another_size_is_named(compare, broken, sound):
    small = broken(sound, lambda model, dice: None, size=SMALL)

    found = compare(sound.path, small).difference

    assert found.likely.cause is Cause.SIZE
    assert found.likely.after > 0.9999
    assert f"with the reference at {SMALL} too" in found.sentence


def test_sound_graphs_are_left_alone(compare, sound, half, int8):
    same, fp16, integer = (
        compare(sound.path, graph.path).difference for graph in (sound, half, int8)
    )

    assert same.sentence.startswith("No difference: ")
    assert same.attempts == ()  # nothing was to be explained
    for found in (fp16, integer):
        assert found.likely is None
        assert found.departs is None
        assert found.sentence.startswith("Nothing is wrong: ")
    assert min(layer.sqnr_db for layer in fp16.layers) > 45  # measured: 50.8
    assert min(layer.sqnr_db for layer in integer.layers) > 20  # measured: 22.2


def test_an_int8_graph_for_tensorrt_is_run_with_wider_scales(compare, quantize, half):
    graph = quantize(half, "tensorrt", Runtime.TENSORRT)

    found = compare(half.path, graph.path).difference

    assert found.sentence.startswith("Nothing is wrong: ")
    assert any("no int8 with fp16 scales" in note for note in found.notes)


def test_what_no_cause_explains_is_called_unexplained(compare, broken, sound):
    def noisy_activation(model, dice):
        """Every ReLU6 of the backbone ends at 2: no cause that is tried."""
        change_constant(model, "max_val_cast", lambda limit: np.full_like(limit, 2))

    found = compare(sound.path, broken(sound, noisy_activation)).difference

    assert found.likely is None
    assert found.sentence.startswith("Unexplained: ")
    assert "The first layer that departs is backbone.layer1.0.conv.0" in found.sentence


def test_an_engine_has_the_layers_of_the_graph_beside_it(compare, tmp_path, sound, int8):
    graph = tmp_path / "int8.onnx"
    graph.write_bytes(int8.path.read_bytes())
    plan = build_engine(
        Graph(graph, int8.manifest), Runtime.ONNXRUNTIME, tmp_path / "int8.ort"
    ).plan

    compared = compare(sound.path, plan.path)

    found = compared.difference
    assert found.sentence.startswith("Nothing is wrong: fp32.onnx and int8.ort agree on 99.")
    assert len(found.layers) > 60
    assert found.logits_sqnr_db > 30  # measured: 33.6
    assert found.before.miou > 70 > abs(found.after.miou - found.before.miou)
    assert [kept.id for kept in compared.worst] == [
        match.id for match in sorted(found.images, key=lambda match: match.agreement)
    ]
    graph.unlink()
    alone = compare(int8.path, plan.path).difference
    assert alone.layers == ()
    assert any("no graph beside it" in note for note in alone.notes)


def test_an_engine_that_differs_from_its_graph_is_named(compare, broken, tmp_path, sound):
    wrong = Graph(broken(sound, other_checkpoint), sound.manifest)
    plan = build_engine(wrong, Runtime.ONNXRUNTIME, tmp_path / "engine.ort").plan
    (tmp_path / "graph.onnx").write_bytes(sound.path.read_bytes())
    EnginePlan(
        plan.path, replace(plan.manifest, source_sha256=sha256_of(sound.path))
    ).save_manifest()

    found = compare(sound.path, plan.path).difference

    assert found.likely.cause is Cause.BUILD


def test_an_engine_of_another_checkpoint_is_told_by_its_manifest(compare, broken, tmp_path, sound):
    other = {"checkpoint": "other.pth", "checkpoint_sha256": "ab" * 32}
    path = broken(sound, other_checkpoint, **other)
    graph = Graph(path, replace(sound.manifest, **other))
    plan = build_engine(graph, Runtime.ONNXRUNTIME, tmp_path / "engine.ort").plan
    path.unlink()

    found = compare(sound.path, plan.path).difference

    assert isinstance(found.likely, Fact)
    assert found.likely.cause is Cause.CHECKPOINT
    assert "other.pth (abababababab)" in found.sentence


def test_a_graph_of_another_tool_is_compared(compare, tmp_path, sound):
    model = read_model(sound.path)
    del model.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())

    found = compare(sound.path, tmp_path / "foreign.onnx").difference

    assert found.agreement == 1
    assert len(found.layers) > 60
    with pytest.raises(SegdeployError, match="neither does the other file"):
        compare(tmp_path / "foreign.onnx", tmp_path / "foreign.onnx")


def test_images_without_annotations_will_do(compare, broken, tmp_path, sound, blocks):
    for k, image in enumerate(blocks(SMALL, count=3)):
        write_png(tmp_path / "images" / f"{k}.png", image)

    found = compare(
        sound.path, broken(sound, permuted_classes), dataset=str(tmp_path / "images")
    ).difference

    assert [match.id for match in found.images] == ["0", "1"]
    assert found.before is None
    assert found.between.miou < 100
    assert found.likely.cause is Cause.CLASSES


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"limit": 0}, "wanted at least 1"),
        ({"dataset": "cityscapes"}, "cityscapes"),
        ({"checkpoint": "demo.pth"}, "goes with a model"),
    ],
)
def test_what_cannot_be_compared_is_refused(compare, sound, fields, problem):
    with pytest.raises(SegdeployError, match=problem):
        compare(sound.path, sound.path, **fields)


def test_a_model_is_not_compared_with_itself(compare):
    with pytest.raises(SegdeployError, match="with itself"):
        compare("demo", "demo")
