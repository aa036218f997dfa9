"""Faults injected by seed into calibration sets and graphs are named; sound ones are left alone."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from faulty_graphs import renormalized, with_one_scale

from segdeploy.artifacts import Graph, Store
from segdeploy.complaints import Fault, Severity
from segdeploy.datasets import Dataset, open_dataset
from segdeploy.errors import SegdeployError
from segdeploy.export import ExportOptions
from segdeploy.graph import read_model, save_graph
from segdeploy.images import write_png
from segdeploy.pipeline.calibration import CalibrationImages, open_calibration
from segdeploy.pipeline.diagnosis import (
    diagnose_calibration,
    diagnose_scales,
    examined_statistics,
    inspect_scales,
    label_maps,
)
from segdeploy.pipeline.graphs import QuantizeRequest, export_model, quantize_graph
from segdeploy.pipeline.source import resolve_source
from segdeploy.recipes import MODELS, CalibrationSet
from segdeploy.scale_doctor import activation_scales
from segdeploy.spec import Method, Normalization, Runtime, Size

pytestmark = pytest.mark.xdist_group("diagnosis")  # one worker exports the demo model for all

SEEDS, NAMED = range(10), 9  # so many of them at least
COUNT = 16
DATA = Path("data")  # of the drawn scenes, which need none
PERSON = 6
Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Graph:
    """The bundled model."""
    source = resolve_source("demo", None, Store(DATA))
    out = tmp_path_factory.mktemp("demo") / "fp32.onnx"
    return export_model(source, ExportOptions(size=Size(256, 512)), out, verify=False).graph


@pytest.fixture(scope="module")
def scenes() -> Dataset:
    """The first 120 training scenes, drawn once."""
    dataset = open_dataset("demo", DATA, "train")

    class Kept:
        name, classes, ids = dataset.name, dataset.classes, dataset.ids[:120]
        load = staticmethod(cache(dataset.load))

    return Kept


def draw(dataset: Dataset, seed: int, change: Change = lambda image: image) -> CalibrationImages:
    """So many images; a draw in which every class appears, which is asked for by its labels."""
    dice = np.random.default_rng(seed)
    while True:
        chosen = dice.choice(len(dataset.ids), COUNT, replace=False)
        maps = np.stack([dataset.load(int(k)).labels for k in chosen])
        if set(range(len(dataset.classes))) <= set(np.unique(maps).tolist()):
            return calibration_of(dataset, chosen, change)


def calibration_of(
    dataset: Dataset, chosen: np.ndarray, change: Change = lambda image: image
) -> CalibrationImages:
    return CalibrationImages(
        recipe=CalibrationSet("drawn", dataset.name, "train", "mse"),
        split=f"{dataset.name}/train",
        ids=tuple(dataset.ids[k] for k in chosen),
        content="",
        load=lambda: (np.ascontiguousarray(change(dataset.load(int(k)).image)) for k in chosen),
    )


def subjects(graph: Graph, calibration: CalibrationImages) -> list[Fault]:
    """What is complained about, where the network is not asked for the classes."""
    labels = iter([np.arange(len(graph.manifest.classes), dtype=np.uint8)[None]])
    return [found.subject for found in diagnose_calibration(graph, calibration, labels=labels)]


def swap(image: np.ndarray) -> np.ndarray:
    return image[..., ::-1]


def wrong_normalization(seed: int) -> Normalization:
    """A mean left out, or one that is off by 60 and more of 255 in some colour."""
    dice, usual = np.random.default_rng(seed), np.array(Normalization().mean)
    if seed % 2:
        return Normalization(mean=(0, 0, 0))
    while True:
        mean = dice.uniform(0, 255, 3)
        if np.abs(mean - usual).max() > 60:
            return Normalization(mean=tuple(mean.tolist()))


def test_the_manifest_tells_what_batch_norm_saw(graph):
    from segdeploy.nets.checkpoint import read_checkpoint

    state = read_checkpoint(MODELS / "demo.pth").state
    first = graph.manifest.batch_norms[0]

    assert first.weight == "segmentor.backbone.conv1.conv.weight"
    beta = state["backbone.conv1.bn.bias"].numpy()
    gamma = state["backbone.conv1.bn.weight"].abs().numpy()
    np.testing.assert_allclose(first.means, beta, rtol=1e-5)
    np.testing.assert_allclose(first.deviations, gamma, rtol=1e-2)
    assert len(graph.manifest.batch_norms) == 4


@pytest.mark.slow
def test_sound_draws_are_left_alone(graph, scenes):
    for seed in SEEDS:
        calibration = draw(scenes, seed)
        indices = [scenes.ids.index(name) for name in calibration.ids]
        labels = (scenes.load(index).labels for index in indices)

        assert diagnose_calibration(graph, calibration, labels=labels) == ()


def test_a_sound_draw_is_left_alone_by_what_the_network_sees(graph, scenes):
    assert diagnose_calibration(graph, draw(scenes, 0)) == ()


@pytest.mark.slow
def test_swapped_colours_are_named(graph, scenes, tmp_path):
    colors = graph.manifest.normalization
    backwards = Normalization(mean=colors.mean[::-1], std=colors.std[::-1])
    other = renormalized(graph, tmp_path / "bgr.onnx", backwards, swapped=True)

    found = [
        subjects(other, draw(scenes, seed))
        if seed % 2
        else subjects(graph, draw(scenes, seed, swap))
        for seed in SEEDS
    ]

    assert found.count([Fault.COLOUR_ORDER]) >= NAMED


def test_images_of_the_other_colour_order_are_refused(graph, scenes):
    (found,) = diagnose_calibration(graph, draw(scenes, 0, swap))

    assert (found.severity, found.subject) == (Severity.REFUSE, Fault.COLOUR_ORDER)


@pytest.mark.slow
def test_a_wrong_mean_of_the_graph_is_named(graph, scenes, tmp_path):
    found = [
        subjects(
            renormalized(graph, tmp_path / "mean.onnx", wrong_normalization(seed)),
            draw(scenes, seed),
        )
        for seed in SEEDS
    ]

    assert found.count([Fault.MEAN]) >= NAMED


@pytest.mark.slow
def test_images_that_are_far_too_bright_or_dark_are_named(graph, scenes):
    def found(seed: int) -> list[Fault]:
        dice = np.random.default_rng(seed)
        step = dice.choice([-1, 1]) * dice.uniform(60, 100)
        change = lambda image: np.clip(image + step, 0, 255).astype(np.uint8)  # noqa: E731
        return subjects(graph, draw(scenes, seed, change))

    assert [found(seed) for seed in SEEDS].count([Fault.MEAN]) >= NAMED


@pytest.mark.slow
def test_a_wrong_scale_of_the_pixels_is_named(graph, scenes, tmp_path):
    usual = Normalization()
    wrong = (
        replace(usual, std=(1.0, 1.0, 1.0)),
        Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),  # meant for 0..1
        replace(usual, std=(127.5, 127.5, 127.5)),  # to -1..1
        replace(usual, std=tuple(255 * value for value in usual.std)),  # divided twice
    )

    found = [
        subjects(renormalized(graph, tmp_path / "std.onnx", wrong[seed % 4]), draw(scenes, seed))
        for seed in SEEDS
    ]

    assert found.count([Fault.GAIN]) >= NAMED


def test_a_refused_normalization_names_the_one_that_fits(graph, scenes, tmp_path):
    unscaled = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

    found = diagnose_calibration(
        renormalized(graph, tmp_path / "std.onnx", unscaled), draw(scenes, 1)
    )

    assert found[0].severity is Severity.REFUSE
    assert "with mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225)" in found[0].sentence


@pytest.mark.slow
def test_a_class_that_is_missing_is_named(graph, scenes):
    maps = [scenes.load(k).labels for k in range(len(scenes.ids))]
    without = np.array([k for k, labels in enumerate(maps) if PERSON not in labels])

    for seed in SEEDS:
        chosen = np.random.default_rng(seed).choice(without, 10, replace=False)
        labels = [maps[k] for k in chosen]
        found = diagnose_calibration(graph, calibration_of(scenes, chosen), labels=labels)

        named = [c.sentence for c in found if c.subject is Fault.CLASS]
        assert len(named) == 1
        assert "person" in named[0]


def test_noise_is_refused_before_the_network_is_asked(graph, scenes):
    dice = np.random.default_rng(0)
    calibration = draw(scenes, 0, lambda image: dice.integers(0, 256, image.shape, np.uint8))

    (found,) = diagnose_calibration(graph, calibration)

    assert (found.severity, found.subject) == (Severity.REFUSE, Fault.NOISE)
    assert calibration.ids[0] in found.sentence


def test_a_network_of_random_weights_is_not_asked(exported, tmp_path, blocks):
    for k in range(8):
        write_png(tmp_path / "frames" / f"{k}.png", blocks(Size(64, 96), seed=k)[0])

    found = diagnose_calibration(
        exported(Method.FCN), open_calibration(str(tmp_path / "frames"), DATA)
    )

    assert exported(Method.FCN).manifest.batch_norms == ()
    assert found == ()


def test_images_that_will_be_scored_are_refused(graph, scenes):
    validation = open_dataset("demo", DATA, "val")
    calibration = replace(draw(scenes, 0), ids=validation.ids[:COUNT], split="folder:mine")
    of_val = replace(calibration, split="demo/val")

    refused = diagnose_calibration(graph, calibration, labels=[], scored=(validation, "val"))
    warned = diagnose_calibration(graph, of_val, labels=[])

    assert (refused[0].severity, refused[0].subject) == (Severity.REFUSE, Fault.SCORED)
    assert (warned[0].severity, warned[0].subject) == (Severity.WARN, Fault.SCORED)


def test_label_maps_are_those_of_the_images(graph, tmp_path, blocks):
    calibration = open_calibration("speed-only", DATA)
    write_png(tmp_path / "frames" / "0.png", blocks(Size(64, 96))[0])

    found = list(label_maps(calibration, DATA, graph.manifest.classes))

    train = open_dataset("demo", DATA, "train")
    first = train.load(train.ids.index(calibration.ids[0]))
    assert np.array_equal(found[0], first.labels)
    assert len(found) == len(calibration.ids)
    folder = open_calibration(str(tmp_path / "frames"), DATA)
    assert label_maps(folder, DATA, graph.manifest.classes) is None


@pytest.fixture(scope="module", params=[Runtime.ONNXRUNTIME, Runtime.TENSORRT])
def int8(request, graph, scenes, tmp_path_factory) -> Graph:
    folder = tmp_path_factory.mktemp("int8")
    wanted = QuantizeRequest(
        calibration=draw(scenes, 100), runtime=request.param, store=Store(folder)
    )
    return quantize_graph(graph, wanted, folder / "int8.onnx")


@pytest.mark.slow
def test_sound_scales_are_left_alone(int8, graph, scenes):
    for seed in range(3):
        assert diagnose_scales(int8, graph, draw(scenes, seed)) == ()


@pytest.mark.slow
def test_one_wrong_scale_is_named(int8, graph, scenes, tmp_path):
    model = read_model(int8.path)
    scales = activation_scales(model)
    named = 0
    for seed in SEEDS:
        dice = np.random.default_rng(seed)
        scale = scales[dice.integers(len(scales))]
        factor = 2 ** (dice.choice([-1, 1]) * dice.uniform(2.5, 6))  # 6 to 64 times
        wrong = with_one_scale(model, scale.tensor, scale.scale * factor)

        found = diagnose_scales(
            save_graph(wrong, int8.manifest, tmp_path / "wrong.onnx"), graph, draw(scenes, seed)
        )

        named += len(found) == 1 and f"tensor {scale.tensor}:" in found[0].sentence

    assert named >= NAMED


@pytest.mark.slow
def test_files_are_shown_the_set_that_belongs_to_their_data(int8, graph, tmp_path):
    model = read_model(int8.path)
    scale = activation_scales(model)[3]
    wrong = with_one_scale(model, scale.tensor, scale.scale / 32)
    path = save_graph(wrong, int8.manifest, tmp_path / "wrong.onnx").path

    assert inspect_scales(int8.path, graph.path, None, DATA) == ()
    (found,) = inspect_scales(path, graph.path, None, DATA)

    assert f"tensor {scale.tensor}:" in found.sentence


def test_ours_alone_does_not_tell_what_its_scales_stand_for(int8, graph):
    with pytest.raises(SegdeployError, match="stand for activations") as caught:
        inspect_scales(int8.path, None, None, DATA)
    assert "--floating" in caught.value.hint

    with pytest.raises(SegdeployError, match="is fp32, and has no scales"):
        inspect_scales(graph.path, None, None, DATA)


def test_images_are_examined_before_they_are_counted(graph, scenes, tmp_path):
    noise = draw(scenes, 0, lambda image: np.random.default_rng(0).integers(0, 256, image.shape))
    plain = draw(scenes, 0)
    store = Store(tmp_path)

    with pytest.raises(SegdeployError, match=r"calibration: .*noise"):
        examined_statistics(graph, noise, DATA, store)
    assert not list(tmp_path.rglob("*.npz"))

    statistics, warnings = examined_statistics(graph, plain, DATA, store)

    assert (statistics.images, warnings) == (COUNT, ())


def test_statistics_that_are_there_are_taken_without_another_look(graph, scenes, tmp_path):
    few = replace(draw(scenes, 0), ids=draw(scenes, 0).ids[:2])
    few = replace(few, load=lambda: islice(draw(scenes, 0).load(), 2))

    first, warnings = examined_statistics(graph, few, DATA, Store(tmp_path))
    again, nothing = examined_statistics(graph, few, DATA, Store(tmp_path))

    assert "2 images" in warnings[0]
    assert nothing == ()
    assert first.key == again.key


@pytest.fixture(scope="module")
def trained_graph(tmp_path_factory) -> Graph:
    """DeepLabV3+ trained on CamVid, and official in all else."""
    weights = Path(os.environ["SEGDEPLOY_DATA"]) / "camvid" / "deeplabv3plus_m-v2-d8_camvid.pth"
    if not weights.is_file():
        pytest.skip("the data has no trained weights")
    source = resolve_source("deeplabv3plus", str(weights), Store(DATA))
    out = tmp_path_factory.mktemp("camvid") / "fp32.onnx"
    return export_model(source, ExportOptions(size=Size(360, 480)), out, verify=False).graph


@pytest.mark.data
@pytest.mark.slow
def test_faults_are_named_on_real_frames_too(trained_graph, tmp_path):
    frames = open_dataset("camvid", Path(os.environ["SEGDEPLOY_DATA"]), "train")
    unscaled = Normalization(std=(1.0, 1.0, 1.0))

    found = {
        "sound": subjects(trained_graph, draw(frames, 0)),
        "swapped": subjects(trained_graph, draw(frames, 1, swap)),
        "mean": subjects(
            renormalized(trained_graph, tmp_path / "mean.onnx", wrong_normalization(2)),
            draw(frames, 2),
        ),
        "gain": subjects(
            renormalized(trained_graph, tmp_path / "std.onnx", unscaled), draw(frames, 3)
        ),
    }

    assert found == {
        "sound": [],
        "swapped": [Fault.COLOUR_ORDER],
        "mean": [Fault.MEAN],
        "gain": [Fault.GAIN],
    }
