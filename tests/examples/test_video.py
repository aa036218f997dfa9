"""A video in, a video out: the same frames in the same order, or one line that says why not."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import segdeploy
from segdeploy.artifacts import Graph
from segdeploy.images import overlay
from segdeploy.spec import ClassSet, Image, Images, Method, Output, Size

EXAMPLES = Path(__file__).parents[2] / "examples"
FPS = 12.5
# Mean distance of a frame to what mp4v makes of it: 6.2 to 6.6 of 255; to another frame 43 or more.
LOSS = 10


def write(path: Path, images: Images, codec: str = "mp4v") -> Path:
    height, width = images.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), FPS, (width, height))
    for image in images:
        writer.write(image[..., ::-1].copy())
    writer.release()
    return path


def read(path: Path) -> tuple[list[Image], float]:
    video, frames = cv2.VideoCapture(str(path)), []
    while (found := video.read())[0]:
        frames.append(np.asarray(found[1][..., ::-1]))
    return frames, video.get(cv2.CAP_PROP_FPS)


@pytest.fixture
def drive(blocks: Callable[..., Images], tmp_path: Path) -> Path:
    """Seven frames of 80x120, each another."""
    return write(tmp_path / "drive.mp4", blocks(Size(80, 120), count=7))


def test_each_frame_is_painted_in_its_place(
    start: Callable[..., Any],
    engine_path: Path,
    direct: Callable[..., Any],
    drive: Path,
    tmp_path: Path,
) -> None:
    ended = start("video", engine_path, drive, tmp_path / "out.mp4")

    frames, _ = read(drive)
    expected = [overlay(frame, direct(frame), ClassSet.numbered(7)) for frame in frames]
    found, fps = read(tmp_path / "out.mp4")
    distances = np.array([[np.abs(a.astype(int) - b).mean() for b in expected] for a in found])
    assert ended == (0, f"{tmp_path / 'out.mp4'}: 7 frames\n", "")
    assert fps == FPS
    assert distances.shape == (7, 7)
    assert distances.argmin(axis=1).tolist() == list(range(7))
    assert distances.diagonal().max() < LOSS, distances.round(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive.mp4", "out.mp4"]


def test_a_session_that_reads_ahead_does_not_mix_frames(
    load: Callable[..., Any], engine_path: Path, blocks: Callable[..., Images]
) -> None:
    frames = list(blocks(Size(64, 96), count=4))

    with segdeploy.open(engine_path) as engine, engine.session() as session:

        def read_ahead(batches: Iterable[Images]) -> Iterator[Any]:
            return session.map(list(batches))

        ahead = SimpleNamespace(manifest=session.manifest, map=read_ahead)
        expected = list(load("video").paint_frames(session, iter(frames)))
        found = list(load("video").paint_frames(ahead, iter(frames)))

    np.testing.assert_array_equal(found, expected)
    assert len(found) == 4


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_what_is_no_video_is_refused(
    start: Callable[..., Any], engine_path: Path, tmp_path: Path, content: bytes | None
) -> None:
    video = tmp_path / "bad.mp4"
    if content is not None:
        video.write_bytes(content)

    ended = start("video", engine_path, video, tmp_path / "out.mp4")

    assert ended.code == f"error: {video}: no such file, or not a video that OpenCV reads"
    assert not (tmp_path / "out.mp4").exists()


def test_what_is_no_video_takes_one_line(engine_path: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    program = [sys.executable, str(EXAMPLES / "video.py")]  # OpenCV reads its log level once

    ended = subprocess.run(
        [*program, engine_path, "bad.mp4", "out.mp4"], capture_output=True, text=True, cwd=tmp_path
    )

    assert ended.returncode == 1
    assert ended.stderr == "error: bad.mp4: no such file, or not a video that OpenCV reads\n"


def test_half_a_video_is_painted_with_a_warning(
    start: Callable[..., Any], engine_path: Path, blocks: Callable[..., Images], tmp_path: Path
) -> None:
    whole = write(tmp_path / "whole.avi", blocks(Size(64, 96), count=8), "MJPG").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])

    ended = start("video", engine_path, tmp_path / "half.avi", tmp_path / "out.mp4")

    assert ended.code == 0
    assert ended.err.endswith(f"warning: {tmp_path / 'half.avi'}: announces 8 frames\n")
    assert 0 < len(read(tmp_path / "out.mp4")[0]) < 8


def test_an_error_in_the_middle_leaves_nothing_and_keeps_what_was(
    load: Callable[..., Any], blocks: Callable[..., Images], tmp_path: Path
) -> None:
    (tmp_path / "out.mp4").write_bytes(b"of before")

    def frames() -> Any:
        yield from blocks(Size(64, 96), count=3)
        raise RuntimeError("the engine did not run")

    with pytest.raises(RuntimeError, match="did not run"):
        load("video").write_video(tmp_path / "out.mp4", frames(), FPS)

    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"of before"


@pytest.mark.parametrize(
    ("out", "problem"),
    [
        ("drive.mp4", "wanted another file than the video, named .mp4"),
        ("out.avi", "wanted another file than the video, named .mp4"),
        ("nowhere/out.mp4", "cannot be written"),
    ],
)
def test_a_place_that_will_not_do_is_refused(
    start: Callable[..., Any], engine_path: Path, drive: Path, out: str, problem: str
) -> None:
    before = drive.read_bytes()

    ended = start("video", engine_path, drive, drive.parent / out)

    assert ended.code == f"error: {drive.parent / out}: {problem}"
    assert drive.read_bytes() == before


def test_an_engine_of_logits_is_refused(
    start: Callable[..., Any], exported: Callable[..., Graph], drive: Path, tmp_path: Path
) -> None:
    graph = exported(Method.FCN, output=Output.LOGITS).path

    ended = start("video", graph, drive, tmp_path / "out.mp4")

    assert str(ended.code).startswith(f"error: {graph}: returns logits; wanted labels\nhint: ")
