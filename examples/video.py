"""A video file to a video with the classes laid over it: same frames, same order, same fps.

    pip install 'segdeploy[default]'
    python examples/video.py artifacts/demo/int8.onnxruntime.ort drive.mp4 painted.mp4
    python examples/video.py artifacts/demo/int8.tensorrt.plan drive.mp4 painted.mp4 --device cuda:0

An odd height or width loses its last pixels, which mp4v cannot hold. Sound is left out.
On a GPU `session.map` copies one frame while another is computed. It returns what the engine
returns, so this wants an engine of labels.
"""

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import segdeploy
from segdeploy.errors import SegdeployError
from segdeploy.images import overlay, resize, resize_labels
from segdeploy.runtime import Session
from segdeploy.spec import Image, Images, Output, Size

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: the errors below name the file


def read_frames(video: cv2.VideoCapture) -> Iterator[Image]:
    """Each frame as RGB, which the engine takes; OpenCV gives BGR."""
    while True:
        found, frame_bgr = video.read()
        if not found:
            return
        yield np.asarray(cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB))


def paint_frames(session: Session, frames: Iterator[Image]) -> Iterator[Image]:
    """Each frame with its classes over it."""
    manifest = session.manifest
    waiting: deque[Image] = deque()  # map reads a little ahead

    def batches() -> Iterator[Images]:
        for frame in frames:
            waiting.append(frame)
            image = resize(frame, manifest.size or Size(*frame.shape[:2]))
            yield np.repeat(image[None], manifest.batch or 1, axis=0)  # fills a fixed batch

    for labels in session.map(batches()):
        frame = waiting.popleft()
        yield overlay(frame, resize_labels(labels[0], Size(*frame.shape[:2])), manifest.classes)


def write_video(path: Path, frames: Iterator[Image], fps: float) -> int:
    """Write an .mp4, whole or not at all; the number of its frames."""
    temporary = path.with_name(f".{path.stem}.part.mp4")
    writer, count = cv2.VideoWriter(), 0
    try:
        for count, frame in enumerate(frames, 1):
            if count == 1:
                codec, size = cv2.VideoWriter.fourcc(*"mp4v"), frame.shape[1::-1]
                if not writer.open(str(temporary), codec, fps, size):
                    raise SegdeployError(f"{path}: cannot be written")
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
        written = int(cv2.VideoCapture(str(temporary)).get(cv2.CAP_PROP_FRAME_COUNT))
        if written != count:  # a writer says nothing of a full disk
            raise SegdeployError(f"{path}: {written} of {count} frames could be written")
        if count:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def main() -> None:
    """Read the command line, open both files, paint."""
    parser = argparse.ArgumentParser(description="Paint the classes of a video.")
    parser.add_argument("artifact", help="a .onnx, .ort or .plan file that returns labels")
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path, help="the .mp4 to write")
    parser.add_argument("--device", help="cpu or cuda:N (default: the artifact's)")
    args = parser.parse_args()

    if args.out.suffix != ".mp4" or args.out.resolve() == args.video.resolve():
        raise SegdeployError(f"{args.out}: wanted another file than the video, named .mp4")
    video = cv2.VideoCapture(str(args.video))
    fps, announced = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if not video.isOpened() or not fps > 0:
        raise SegdeployError(f"{args.video}: no such file, or not a video that OpenCV reads")
    with segdeploy.open(args.artifact, args.device) as engine, engine.session() as session:
        if engine.manifest.output is not Output.LABELS:
            raise SegdeployError(
                f"{args.artifact}: returns {engine.manifest.output}; wanted labels",
                hint="segdeploy export --output labels",
            )
        count = write_video(args.out, paint_frames(session, read_frames(video)), fps)
    if count == 0:
        raise SegdeployError(f"{args.video}: has no frame that can be decoded")
    print(f"{args.out}: {count} frames")
    if count < announced:
        print(f"warning: {args.video}: announces {announced} frames", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except SegdeployError as error:  # a user can put it right: two lines say how
        sys.exit(error.to_lines())
