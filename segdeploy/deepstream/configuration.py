"""The words of Gst-nvinfer: its configuration, the class names, and how to run it.

Keys are those of DeepStream 9.1 (Gst-nvinfer's page and source); most are older.
"""

from dataclasses import dataclass
from enum import StrEnum

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.spec import MAX_BATCH, Size
from segdeploy.version import __version__

CONFIGURATION, NETWORK, CLASSES, GUIDE = "config_infer.txt", "model.onnx", "labels.txt", "README.md"
PARSER, MAKEFILE = "segdeploy_deepstream.cpp", "Makefile"  # as cpp/deepstream names them
LIBRARY, FUNCTION = "libsegdeploy_deepstream.so", "SegdeployParseLabels"


class NvinferOutput(StrEnum):
    """What the network returns to nvinfer: class ids, or a plane of probabilities per class."""

    LABELS = "labels"
    PROBABILITIES = "probabilities"


@dataclass(frozen=True, kw_only=True)
class NvinferOptions:
    """How nvinfer shall run a network."""

    output: NvinferOutput = NvinferOutput.LABELS
    batch: int = 1  # images at a time, at most
    gpu: int = 0  # as CUDA counts

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= MAX_BATCH:
            raise SegdeployError(f"batch {self.batch}; wanted 1 to {MAX_BATCH}")
        if self.gpu < 0:
            raise SegdeployError(f"GPU {self.gpu}; wanted 0 or more")


def engine_name(options: NvinferOptions) -> str:
    """Where nvinfer itself writes the engine that it builds of `NETWORK`, in network-mode 0."""
    return f"{NETWORK}_b{options.batch}_gpu{options.gpu}_fp32.engine"


def nvinfer_configuration(
    manifest: Manifest, size: Size, options: NvinferOptions, graph_sha256: str
) -> str:
    """The file that nvinfer's property config-file-path names."""
    lines = [
        f"# Made by segdeploy {__version__} of the graph with sha256 {graph_sha256},",
        f"# model {manifest.model} in {manifest.precision}. Written after the documents and the",
        "# source of DeepStream 9.1; it has not run in DeepStream yet.",
        "[property]",
        f"gpu-id={options.gpu}",
        "gie-unique-id=1",
        "process-mode=1",
        "# Segmentation: a class map is attached to every frame.",
        "network-type=2",
        f"onnx-file={NETWORK}",
        "# Built of the graph on the first run, which takes minutes, and read on later ones. That",
        "# nvinfer calls it fp32 is network-mode, see below.",
        f"model-engine-file={engine_name(options)}",
        "# The graph says what is computed in which precision, so network-mode adds nothing to it.",
        "strongly-typed=1",
        "network-mode=0",
        f"batch-size={options.batch}",
        "interval=0",
        "# Planes of RGB, 0..255 in float32: the graph subtracts the mean and divides itself.",
        f"infer-dims=3;{size.height};{size.width}",
        "network-input-order=0",
        "model-color-format=0",
        "net-scale-factor=1.0",
        "# Frames of another size are stretched to it, bilinearly.",
        "maintain-aspect-ratio=0",
        "scaling-filter=1",
        f"num-detected-classes={len(manifest.classes)}",
        f"labelfile-path={CLASSES}",
        f"output-blob-names={options.output}",
        "# 1 attaches what the network returns to the frame as well, as it is.",
        "output-tensor-meta=0",
        *_parser_lines(options.output),
    ]
    return "\n".join(lines) + "\n"


def _parser_lines(output: NvinferOutput) -> list[str]:
    if output is NvinferOutput.LABELS:
        return [
            "# nvinfer's own parser reads probabilities alone; make compiles this one.",
            f"custom-lib-path={LIBRARY}",
            f"parse-segmentation-func-name={FUNCTION}",
        ]
    return [
        "# Classes first; the best class counts, however unsure. With 0.5, a pixel whose best",
        "# class is less probable has none: -1.",
        "segmentation-output-order=0",
        "segmentation-threshold=0.0",
    ]


def class_lines(manifest: Manifest) -> str:
    """One class a line.

    Raises:
        SegdeployError: a name would be read as two, or as none.
    """
    for name in manifest.classes.names:
        if not name or not name.isprintable() or ";" in name:
            raise SegdeployError(
                f"class {name!r:.60} cannot stand in {CLASSES}; wanted printable names without ;",
                hint="rename the class in the model's TOML and export it again",
            )
    return "\n".join(manifest.classes.names) + "\n"


def guide(manifest: Manifest, size: Size, options: NvinferOptions) -> str:
    """How to run it, for whoever finds the folder."""
    on = f" gpu-id={options.gpu}" if options.gpu else ""
    shape = f"batch-size=1 width={size.width} height={size.height}{on}"
    build = PARSER_BUILD if options.output is NvinferOutput.LABELS else ""
    batch = "" if manifest.batch else TRTEXEC_SHAPES.format(batch=options.batch, size=size)
    return GUIDE_TEXT.format(
        model=manifest.model,
        precision=manifest.precision,
        size=size,
        output=options.output,
        build=build,
        shape=shape,
        on=on,
        engine=engine_name(options),
        shapes=batch,
    )


PARSER_BUILD = """
Compile the parser, in DeepStream's development container or wherever its headers, CUDA's and
TensorRT's are:

    make
"""
TRTEXEC_SHAPES = (
    " \\\n        --minShapes=image:1x3x{size} --optShapes=image:{batch}x3x{size}"
    " --maxShapes=image:{batch}x3x{size}"
)
GUIDE_TEXT = """# {model}, {precision}, {size}, for Gst-nvinfer

Written by `segdeploy export-deepstream` after the documents and the source of DeepStream 9.1. It
has not run in DeepStream yet. The network takes planes of RGB in float32 and returns `{output}`.
{build}
Label a video, and paint the classes over it, in colours of nvsegvisual's own:

    gst-launch-1.0 -e nvstreammux name=mux {shape} ! \\
        nvinfer config-file-path=config_infer.txt ! \\
        nvsegvisual {shape} original-background=1 alpha=0.5 ! \\
        nvvideoconvert{on} ! nvv4l2h264enc{on} ! h264parse ! mp4mux ! \\
        filesink location=painted.mp4 \\
        nvurisrcbin uri=file:///path/to/video.mp4{on} ! mux.sink_0

In deepstream-app, name `config_infer.txt` as `config-file` of `[primary-gie]`. In an application of
your own, read the `NvDsInferSegmentationMeta` of each frame: its `class_map` has class ids, which
count the lines of `labels.txt` from 0, and -1 where there is none.

The first run builds an engine of `model.onnx` and keeps it as
`{engine}`, which TensorRT 10 or later can. A DeepStream that does not know
`strongly-typed` says so (`Unknown or legacy key`). There, build the engine of an fp16 or int8 graph
with the trtexec of the same container:

    trtexec --onnx=model.onnx --stronglyTyped --saveEngine={engine}{shapes}
"""
