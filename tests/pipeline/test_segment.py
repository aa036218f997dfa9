"""Images of any size through artifacts of any kind, resized where that is right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segdeploy.errors import SegdeployError
from segdeploy.images import colorize, read_image, read_labels, resize, resize_labels, write_png
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.segment import (
    Opening,
    find_images,
    is_artifact,
    open_named,
    protocol_scale,
    read_artifact,
    segment,
    segment_files,
    segment_input,
)
from segdeploy.runtime import open_session
from segdeploy.runtime.pytorch import PyTorchSession
from segdeploy.spec import ClassSet, Method, Output, Runtime, Size

SIZE = Size(64, 96)
protocol_scale.__test__ = False  # a function of the package, not a test


@pytest.fixture(scope="module")
def labels_graph(exported):
    return exported(Method.FCN)


@pytest.fixture
def labels_session(labels_graph):
    with open_session(labels_graph) as session:
        yield session


@pytest.fixture
def logits_session(narrow_source):
    source = narrow_source(Method.FCN)
    with PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS) as session:
        yield session


def test_a_static_artifact_segments_an_image_of_another_size(labels_session, blocks):
    image = blocks(Size(101, 75))[0]

    labels = segment(labels_session, image)

    small = labels_session.run(resize(image, SIZE)[None])[0]
    assert labels.shape == (101, 75)
    assert np.array_equal(labels, resize_labels(small, Size(101, 75)))


def test_an_image_of_the_right_size_is_left_as_it_is(labels_session, blocks):
    images = blocks(SIZE)

    assert np.array_equal(segment(labels_session, images[0]), labels_session.run(images)[0])


def test_a_labels_artifact_refuses_an_image_that_the_test_resized(labels_session, blocks):
    with pytest.raises(SegdeployError, match="resized from 128x192 to 64x96") as caught:
        segment_input(labels_session, blocks(SIZE)[0], Size(128, 192))

    assert "--output logits" in caught.value.hint


def test_logits_are_resized_to_the_original_size(logits_session, blocks):
    labels = segment_input(logits_session, blocks(SIZE)[0], Size(128, 192))

    assert (labels.dtype, labels.shape) == (np.uint8, (128, 192))


@pytest.mark.slow
def test_a_static_logits_artifact_segments_an_image_of_another_size(exported, blocks):
    with open_session(exported(Method.FCN, output=Output.LOGITS, batch=2)) as session:
        image = blocks(Size(100, 150))[0]

        labels = segment(session, image)

        expected = segment_input(session, resize(image, SIZE), Size(100, 150))
    assert np.array_equal(labels, expected)


def test_an_image_of_a_data_set_is_resized_as_its_protocol_says(logits_session, blocks):
    logits_session.manifest = replace(logits_session.manifest, dataset="ade20k")
    seen = []
    run = logits_session.run
    logits_session.run = lambda images: seen.append(images.shape) or run(images)

    labels = segment(logits_session, blocks(Size(50, 80))[0])

    assert seen == [(1, 512, 819, 3)]  # short side 512
    assert labels.shape == (50, 80)


def test_each_image_of_a_batch_artifact_is_the_same(labels_session, blocks):
    seen = []
    labels_session.manifest = replace(labels_session.manifest, batch=3)
    run = labels_session.run
    labels_session.run = lambda images: seen.append(images) or run(images[:1])

    segment(labels_session, blocks(SIZE)[0])

    assert seen[0].shape == (3, *SIZE, 3)
    assert np.array_equal(seen[0][0], seen[0][2])


@pytest.mark.parametrize(
    ("dataset", "scale"),
    [("cityscapes", (2048, 1024)), ("ade20k", (2048, 512)), ("demo", None), (None, None)],
)
def test_the_scale_is_that_of_the_test_protocol(dataset, scale):
    assert protocol_scale(dataset) == scale


def test_an_artifact_is_told_by_its_suffix():
    assert all(map(is_artifact, ["a.onnx", "b/c.ort", "d.plan"]))
    assert not any(map(is_artifact, ["demo", "own.toml", "x.pth"]))


def test_graphs_and_engines_are_read_alike(labels_graph, tmp_path):
    plan = build_engine(labels_graph, Runtime.ONNXRUNTIME, tmp_path / "a.ort").plan

    assert read_artifact(labels_graph.path) == labels_graph
    assert read_artifact(plan.path) == plan


def test_another_file_is_no_artifact(tmp_path):
    with pytest.raises(SegdeployError, match=r"a\.pth: is not an artifact"):
        read_artifact(tmp_path / "a.pth")


def open_it(name: Path, runtime: Runtime | None = None):
    return open_named(str(name), Opening(runtime=runtime))


def test_an_artifact_is_run_by_its_own_runtime(labels_graph):
    with open_it(labels_graph.path) as session:
        assert session.manifest == labels_graph.manifest

    with pytest.raises(SegdeployError, match="is run by onnxruntime, asked for pytorch"):
        open_it(labels_graph.path, Runtime.PYTORCH)


def test_files_and_folders_of_images_are_found_in_order(tmp_path, blocks):
    for name in ("b.png", "a.jpg", "c.PNG"):
        write_png(tmp_path / "folder" / name, blocks(Size(8, 8))[0])
    (tmp_path / "folder" / "notes.txt").write_text("")
    single = tmp_path / "single.png"

    found = find_images([single, tmp_path / "folder"])

    assert [path.name for path in found] == ["single.png", "a.jpg", "b.png", "c.PNG"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(SegdeployError, match="holds no image"):
        find_images([tmp_path])


def test_label_maps_are_written_at_the_size_of_each_image(labels_session, tmp_path, blocks):
    for size in (SIZE, Size(40, 31)):
        write_png(tmp_path / f"{size}.png", blocks(size)[0])
    files = find_images([tmp_path])

    written = segment_files(labels_session, files, tmp_path / "out", overlay=True)

    assert sorted(path.name for path in written) == [
        "40x31-overlay.png",
        "40x31.png",
        "64x96-overlay.png",
        "64x96.png",
    ]
    for size in (SIZE, Size(40, 31)):
        image = read_image(tmp_path / f"{size}.png")
        labels = read_labels(tmp_path / "out" / f"{size}.png")
        painted = read_image(tmp_path / "out" / f"{size}-overlay.png").astype(int)
        mean = (image.astype(int) + colorize(labels, ClassSet.numbered(7))) / 2
        assert np.array_equal(labels, segment(labels_session, image))
        assert np.abs(painted - mean).max() <= 1


def test_two_images_of_one_name_are_refused_before_any_is_written(labels_session, tmp_path, blocks):
    files = [tmp_path / "a" / "same.png", tmp_path / "b" / "same.jpg"]
    for path in files:
        write_png(path, blocks(SIZE)[0])

    with pytest.raises(SegdeployError, match=r"same\.png: two of the images"):
        segment_files(labels_session, files, tmp_path / "out", overlay=False)

    assert not (tmp_path / "out").exists()


def test_an_overlay_never_takes_the_name_of_a_label_map(labels_session, tmp_path, blocks):
    files = [tmp_path / "in" / "a.png", tmp_path / "in" / "a-overlay.png"]
    for path in files:
        write_png(path, blocks(SIZE)[0])

    with pytest.raises(SegdeployError, match=r"a-overlay\.png: two of the images"):
        segment_files(labels_session, files, tmp_path / "out", overlay=True)


def test_an_image_is_never_written_over(labels_session, tmp_path, blocks):
    write_png(tmp_path / "street.png", blocks(SIZE)[0])

    with pytest.raises(SegdeployError, match=r"street\.png: is an image to segment"):
        segment_files(labels_session, [tmp_path / "street.png"], tmp_path, overlay=False)

    assert np.array_equal(read_image(tmp_path / "street.png"), blocks(SIZE)[0])
