"""The command `export-deepstream`: a folder for DeepStream's Gst-nvinfer."""

from pathlib import Path
from typing import Annotated

import typer

from segdeploy.cli import printing
from segdeploy.cli.options import Json, parse_size
from segdeploy.deepstream.configuration import NvinferOptions, NvinferOutput
from segdeploy.spec import MAX_BATCH


def export_deepstream(
    artifact: Annotated[Path, typer.Argument(help="A .onnx file, or a .plan beside its .onnx.")],
    out: Annotated[Path, typer.Option("-o", help="The folder to write, new or empty.")],
    output: Annotated[
        NvinferOutput, typer.Option(help="A label map, or a plane of probabilities per class.")
    ] = NvinferOutput.LABELS,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Of a graph that takes any image size.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=MAX_BATCH, help="Frames at a time, at most.")
    ] = 1,
    gpu: Annotated[int, typer.Option(min=0, help="The GPU that runs it.")] = 0,
    json: Json = False,
) -> None:
    """Write what DeepStream needs: a graph that it can feed, nvinfer's configuration, a parser."""
    from segdeploy.pipeline.deepstream import export_deepstream as export

    options = NvinferOptions(output=output, batch=batch_size, gpu=gpu)
    written = [
        str(path) for path in export(artifact, out, options, parse_size(size) if size else None)
    ]
    printing.show_json(written) if json else print("\n".join(written))
