"""asyncio over a batcher: everybody gets his own labels, one bad file costs nobody else's."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segdeploy
from segdeploy.artifacts import Graph
from segdeploy.batching import BatchOptions
from segdeploy.errors import SegdeployError
from segdeploy.images import write_png
from segdeploy.spec import ClassSet, Images, Method, Output, Size


@pytest.fixture
def paths(blocks: Callable[..., Images], tmp_path: Path) -> list[Path]:
    """Six images of three sizes."""
    found = [tmp_path / f"{k}.png" for k in range(6)]
    for k, path in enumerate(found):
        write_png(path, blocks(Size(64 + k % 3 * 20, 96), seed=k)[0])
    return found


def test_labels_are_those_of_a_direct_run(
    load: Callable[..., Any],
    engine_path: Path,
    direct: Callable[..., Any],
    blocks: Callable[..., Images],
    paths: list[Path],
) -> None:
    options = BatchOptions(size=4, wait_ms=50, limit=2)  # fewer than the images

    with segdeploy.open(engine_path) as engine:
        found = asyncio.run(load("asynchronous").segment_all(engine, paths, options))

    for k, labels in enumerate(found):
        np.testing.assert_array_equal(labels, direct(blocks(Size(64 + k % 3 * 20, 96), seed=k)[0]))


def test_a_bad_file_is_named_and_the_others_are_printed(
    start: Callable[..., Any], engine_path: Path, paths: list[Path], tmp_path: Path
) -> None:
    ended = start("asynchronous", engine_path, paths[0], tmp_path / "gone.png", paths[1])

    lines = ended.out.splitlines()
    assert ended.code == f"error: {tmp_path / 'gone.png'}: no such file"
    assert [line.partition(": ")[0] for line in lines] == [str(paths[0]), str(paths[1])]
    assert all("class " in line for line in lines)


def test_the_largest_classes_come_first(load: Callable[..., Any]) -> None:
    labels = np.array([[2, 2, 2, 0, 0, 1, 3, 2, 2, 2]], np.uint8)

    text = load("asynchronous").describe(labels, ClassSet.numbered(7))

    assert text == "class 2 60%, class 0 20%, class 3 10%"


def test_an_engine_of_logits_is_refused(
    load: Callable[..., Any], exported: Callable[..., Graph], paths: list[Path]
) -> None:
    graph = exported(Method.FCN, output=Output.LOGITS)

    with (
        segdeploy.open(graph.path) as engine,
        pytest.raises(SegdeployError, match="the engine returns logits; wanted labels"),
    ):
        asyncio.run(load("asynchronous").segment_all(engine, paths, BatchOptions(size=1)))
