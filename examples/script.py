"""The short way in: an image to its label map, and to a picture of it.

    pip install 'segdeploy[default]'
    python examples/script.py demo street.png --out masks
    python examples/script.py artifacts/demo/int8.tensorrt.plan street.png --device cuda:0

Writes street-labels.png, the class id of each pixel, and street-overlay.png.
"""

import argparse
import sys
from pathlib import Path

from segdeploy.errors import SegdeployError
from segdeploy.images import read_image, write_png
from segdeploy.pipeline.segment import Opening
from segdeploy.segmenter import Segmenter
from segdeploy.spec import Device


def main() -> None:
    """Read the command line, segment, write."""
    parser = argparse.ArgumentParser(description="Segment an image.")
    parser.add_argument("artifact", help="a .onnx, .ort or .plan file, or a model")
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=Path(), help="a folder (default: this one)")
    parser.add_argument("--device", type=Device, help="cpu or cuda:N (default: the artifact's)")
    args = parser.parse_args()

    with Segmenter.open(args.artifact, Opening(device=args.device)) as segmenter:
        image = read_image(args.image)  # (H, W, 3) uint8, RGB
        labels = segmenter.segment(image)  # (H, W) uint8, class ids
        painted = segmenter.paint(image, labels)
    write_png(args.out / f"{args.image.stem}-labels.png", labels)
    write_png(args.out / f"{args.image.stem}-overlay.png", painted)


if __name__ == "__main__":
    try:
        main()
    except SegdeployError as error:  # a user can put it right: two lines say how
        sys.exit(error.to_lines())
