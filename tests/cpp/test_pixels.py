"""C++ labels every pixel as Python does."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from c_library import image_view, labels_view

import segdeploy
from segdeploy.artifacts import Store
from segdeploy.datasets.scenes import draw_scene
from segdeploy.images import overlay, write_png
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.source import resolve_source
from segdeploy.spec import CPU, Method, Output, Precision, Runtime, Size

pytestmark = pytest.mark.xdist_group("cpp")
SIZE, DEMO = Size(64, 96), Size(128, 256)
THREADS = 8


def of_python(path, images):
    with segdeploy.open(path) as engine, engine.session() as session:
        return session.run(images)


def assert_equal_in_threads(library, path, images):
    """Label each image alone, in as many threads, each with a session that is used again."""
    expected = [of_python(path, image[None])[0] for image in images]
    with library.open(path) as engine:

        def label(index):
            with engine.session() as session:
                return [session.run(images[index % len(images)][None])[0] for _ in range(3)]

        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(label, range(THREADS)))
    assert len(np.unique(expected)) > 2
    for index, maps in enumerate(found):
        assert all(np.array_equal(labels, expected[index % len(images)]) for labels in maps)


@pytest.mark.parametrize("kind", ["graph", "engine"])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
@pytest.mark.parametrize("method", Method)
def test_every_pixel_is_equal(method, precision, kind, library, artifacts, blocks):
    path = artifacts(method, precision)[kind].path
    images = np.concatenate([blocks(SIZE, seed=seed) for seed in range(4)])

    assert_equal_in_threads(library, path, images)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Callable[[Precision], Path]:
    """Engines of the bundled model; int8 by two scenes, which is enough to compare pixels."""
    options = export_options(size=DEMO, batch=1, precision=Precision.FP32, output=Output.LABELS)
    store, scenes = Store(tmp_path_factory.mktemp("demo")), tmp_path_factory.mktemp("scenes")
    for seed in range(2):
        write_png(scenes / f"{seed}.png", draw_scene(seed, DEMO)[0])

    def make(precision: Precision) -> Path:
        calibration = str(scenes) if precision is Precision.INT8 else None
        request = EngineRequest(
            precision=precision,
            runtime=Runtime.ONNXRUNTIME,
            calibration=calibration,
            store=store,
        )
        return make_artifact(resolve_source("demo", None, store), options, request, CPU).path

    return make


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_every_pixel_of_the_demo_is_equal(precision, demo, library):
    images = np.stack([draw_scene(seed, DEMO)[0] for seed in (10, 11)])

    assert_equal_in_threads(library, demo(precision), images)


@pytest.fixture(scope="module", params=["graph", "engine"])
def dynamic(request, exported, tmp_path_factory):
    """Takes any size and batch; DeepLabV3+ has its logits at stride 4."""
    graph = exported(Method.DEEPLABV3PLUS, size=None, batch=None)
    if request.param == "graph":
        return graph.path
    out = tmp_path_factory.mktemp("dynamic") / "any.ort"
    return build_engine(graph, Runtime.ONNXRUNTIME, out).plan.path


def test_sizes_and_batches_come_in_any_order(dynamic, library, blocks):
    batches = [blocks(Size(*size), count) for *size, count in
               ((64, 96, 2), (65, 97, 1), (64, 96, 1), (33, 130, 3), (64, 96, 2))]  # fmt: skip

    with library.open(dynamic) as engine, engine.session() as session:
        found = [session.run(batch) for batch in batches]

    for labels, batch in zip(found, batches, strict=True):
        assert np.array_equal(labels, of_python(dynamic, batch))


def test_logits_are_equal_to_the_last_bit(exported, library, blocks):
    graph = exported(Method.FCN, output=Output.LOGITS)
    images = blocks(SIZE)
    expected = of_python(graph.path, images)

    with library.open(graph.path) as engine, engine.session() as session:
        found = session.run_logits(images, expected.shape)

    assert np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["graph", "engine"])
def test_enqueue_works_in_place(kind, library, artifacts, blocks):
    path = artifacts(Method.FCN, Precision.FP32)[kind].path
    images = blocks(SIZE)
    labels = np.full(images.shape[:3], 77, np.uint8)

    with library.open(path) as engine, engine.session() as session:
        session.enqueue(images, labels)

    assert np.array_equal(labels, of_python(path, images))


@pytest.mark.parametrize("kind", ["graph", "engine"])
def test_views_of_every_form_give_the_same_labels(kind, library, artifacts, blocks):
    path = artifacts(Method.FCN, Precision.FP32)[kind].path
    image = blocks(SIZE)[0]
    expected = of_python(path, image[None])[0]
    bgra = np.dstack([image[..., ::-1], np.zeros_like(image[..., 0])])
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, :96] = image
    turned = np.ascontiguousarray(image[::-1])[::-1]
    into = np.full((64, 100), -1, np.int32)

    with library.open(path) as engine, engine.session() as session:
        for view in (image_view(bgra, is_bgr=True), image_view(wide[:, :96]), image_view(turned)):
            into.fill(-1)
            session.run_views([view], [labels_view(into[:, :96])])

            assert np.array_equal(into[:, :96], expected)
            assert (into[:, 96:] == -1).all()


# With other opacities OpenCV fuses a product and a sum, where the processor can: 1 of 255 apart.
@pytest.mark.parametrize(("opacity", "apart"), [(0, 0), (0.5, 0), (1, 0), (0.3, 1)])
def test_an_overlay_is_painted_as_in_python(opacity, apart, library, engine, blocks):
    image = blocks(SIZE)[0]
    labels = np.random.default_rng(0).integers(0, 9, SIZE).astype(np.uint8)  # 7 classes
    classes = engine.manifest.classes

    with library.open(engine.path) as opened:
        painted = opened.overlay(image, labels, opacity)

    expected = overlay(image, labels, classes, opacity)
    assert np.abs(painted.astype(int) - expected).max() <= apart


def test_timings_add_up(library, engine, blocks):
    image = blocks(SIZE)[0]
    labels = np.zeros(SIZE, np.uint8)

    with library.open(engine.path) as opened, opened.session() as session:
        timing = session.run_views([image_view(image)], [labels_view(labels)])

    assert timing.network_ms > timing.labels_ms > 0
    assert timing.copy_in_ms > 0
