"""What `segdeploy inspect --lint` demands of a quantized graph."""

from dataclasses import dataclass
from enum import StrEnum

RULES: dict[str, str] = {
    "quantized": "A quantized graph has Q/DQ pairs: without them it computes in floats.",
    "opset": "Half-precision scales need opset 19: older operators take float32 alone.",
    "subgraph": "All nodes stand in the main graph: If, Loop and functions are not looked into.",
    "pair": "What Q writes DQ alone reads, with equal scale and zero point, or nothing fuses; "
    "ONNX Runtime may clip, join and move the integers in between.",
    "floating": "Pooling, Resize, ArgMax, Softmax and MatMul have no pair of their own: they are "
    "small or last, so that integers gain nothing and cost accuracy. What a convolution returns in "
    "integers they may read.",
    "scale": "Scales are constants from 2^-40 to 2^20: others come of a broken calibration.",
    "activations": "Activations have one scale a tensor, and int8 with zero point 0 for TensorRT, "
    "which refuses all else, or int8 or uint8 for ONNX Runtime.",
    "one-pair": "A tensor has one scale: with two, its readers see different values.",
    "duplicate": "A tensor has one pair for all its readers: a second one is work done twice.",
    "fusion": "No pair parts a convolution from its activation or normalization: they fuse only "
    "as neighbours.",
    "output": "What is behind the last convolution is floating: logits of 256 values tie.",
    "sides": "A convolution reads integers as data and as weights, or as neither: with one of them "
    "floating it computes in floats and only loses accuracy. Data that an integer convolution "
    "reads too may be shared.",
    "depthwise": "Convolutions with groups stay floating for TensorRT-RTX, which pads their int8 "
    "weights fourfold.",
    "weights": "Weights are int8, symmetric, without -128, with one scale an output channel: "
    "kernels ask for it, and one scale for all costs accuracy.",
    "bias": "TensorRT takes no quantized bias; ONNX Runtime wants int32 at the scale of data times "
    "weights, since it convolves in floats beside a floating one.",
    "residual": "An Add of two computed tensors reads pairs on both sides or neither: no kernel "
    "adds integers to floats.",
    "concatenation": "Inputs and quantized output of a Concat have one scale and zero point, so "
    "that it copies integers, or no input has a pair.",
}


class LintTarget(StrEnum):
    """What shall run the graph."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Breach:
    """A rule, the node that breaks it (its name, else its first output), and how."""

    rule: str
    node: str
    found: str
    wanted: str
