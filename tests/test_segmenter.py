"""The short ways in, used as a service would use them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import segdeploy
from segdeploy.artifacts import Graph, Store
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.images import write_png
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.segment import Opening
from segdeploy.segmenter import Segmenter
from segdeploy.spec import Device, Images, Method, Runtime, Size

SIZE = Size(64, 96)


@pytest.fixture(scope="module")
def plan(exported: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine and, beside it, the graph that it was built of."""
    graph = exported(Method.FCN)
    folder = tmp_path_factory.mktemp("engine")
    copied = folder / "fp32.onnx"
    copied.write_bytes(graph.path.read_bytes())
    return build_engine(
        Graph(copied, graph.manifest), Runtime.ONNXRUNTIME, folder / "fp32.onnxruntime.ort"
    ).plan.path


def test_an_image_and_its_file_give_the_same_labels(
    plan: Path, blocks: Callable[..., Images], tmp_path: Path
) -> None:
    (image,) = blocks(Size(100, 140))
    write_png(tmp_path / "street.png", image)

    with Segmenter.open(plan) as segmenter:
        labels = segmenter.segment(image)
        of_file = segmenter.segment(tmp_path / "street.png")
        painted = segmenter.paint(image, labels)

    assert labels.shape == (100, 140)
    assert labels.dtype == np.uint8
    assert labels.max() < len(segmenter.classes)
    assert (segmenter.manifest.model, segmenter.device) == ("narrow-fcn", "cpu")
    np.testing.assert_array_equal(of_file, labels)
    assert painted.shape == image.shape


def test_threads_share_a_segmenter(plan: Path, blocks: Callable[..., Images]) -> None:
    images = list(blocks(SIZE, count=8))

    with Segmenter.open(plan, sessions=2) as segmenter, ThreadPoolExecutor(4) as threads:
        expected = [segmenter.segment(image) for image in images]
        found = list(threads.map(segmenter.segment, images))

    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), None])
def test_what_is_no_image_is_refused(plan: Path, image: np.ndarray | None) -> None:
    with (
        Segmenter.open(plan) as segmenter,
        pytest.raises(SegdeployError, match=r"an image is .*; wanted a file, or an array"),
    ):
        segmenter.segment(image)


def test_a_segmenter_that_was_closed_says_so(plan: Path, blocks: Callable[..., Images]) -> None:
    segmenter = Segmenter.open(plan)
    segmenter.close()

    with pytest.raises(SegdeployError, match="is closed"):
        segmenter.segment(blocks(SIZE)[0])


def test_open_takes_a_file_and_a_device(plan: Path, blocks: Callable[..., Images]) -> None:
    with segdeploy.open(plan, device="cpu") as engine, engine.session() as session:
        assert session.run(blocks(SIZE)).shape == (1, *SIZE)
        assert engine.device == "cpu"


def test_open_never_falls_back_to_another_device(plan: Path) -> None:
    with pytest.raises(SegdeployError, match="is optimized for the CPU, asked for cuda:0"):
        segdeploy.open(plan, device="cuda")
    with pytest.raises(SegdeployError, match="asked ONNX Runtime for CUDAExecutionProvider"):
        segdeploy.open(plan.with_name("fp32.onnx"), device="cuda:0")


def test_a_model_in_pytorch_has_the_same_interface(
    blocks: Callable[..., Images], tmp_path: Path
) -> None:
    opening = Opening(runtime=Runtime.PYTORCH, store=Store(tmp_path), device=Device("cpu"))
    (image,) = blocks(SIZE)

    with Segmenter.open("demo", opening) as segmenter:
        assert segmenter.segment(image).shape == SIZE


def damage(plan: Path, folder: Path) -> Path:
    """A copy of the engine and what lies beside it, with one bit flipped."""
    for file in plan.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    copied = folder / plan.name
    data = bytearray(copied.read_bytes())
    data[len(data) // 2] ^= 1
    copied.write_bytes(data)
    return copied


def test_rebuild_makes_a_damaged_engine_good_again(
    plan: Path, blocks: Callable[..., Images], tmp_path: Path
) -> None:
    images = blocks(SIZE)
    copied = damage(plan, tmp_path)
    with segdeploy.open(plan) as engine:
        expected = engine.session().run(images)

    with pytest.raises(MisfitError, match="sha256 is"):
        segdeploy.open(copied)
    with segdeploy.open(copied, rebuild=True) as engine:
        found = engine.session().run(images)

    np.testing.assert_array_equal(found, expected)
    segdeploy.open(copied).close()  # it stays good


def test_rebuild_without_the_graph_says_what_is_missing(plan: Path, tmp_path: Path) -> None:
    copied = damage(plan, tmp_path)
    (tmp_path / "fp32.onnx").write_bytes(b"another graph")

    with pytest.raises(SegdeployError, match=r"the graph it was built of .* is not beside it"):
        segdeploy.open(copied, rebuild=True)
