"""Faults of ONNX graphs: called with a model and seeded dice, they change the model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from segdeploy.artifacts import Graph
from segdeploy.graph import read_model, save_graph
from segdeploy.repairs import scores_tensor
from segdeploy.scale_doctor import activation_scales
from segdeploy.spec import Normalization

HEAD = "segmentor.decode_head"
Dice = np.random.Generator
Change = Callable[[ModelProto, Dice], object]


def constant(model: ModelProto, ending: str):
    return next(t for t in model.graph.initializer if t.name.endswith(ending))


def change_constant(model: ModelProto, ending: str, change: Callable[[np.ndarray], np.ndarray]):
    tensor = constant(model, ending)
    before = numpy_helper.to_array(tensor)
    after = np.ascontiguousarray(change(before), before.dtype)
    tensor.CopyFrom(numpy_helper.from_array(after.reshape(before.shape), tensor.name))


def resizes(model: ModelProto) -> list:
    return [node for node in model.graph.node if node.op_type == "Resize"]


def resize_as(node, **attributes: object) -> None:
    for name, value in attributes.items():
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])


def see(model: ModelProto, *nodes, **constants: list[int]) -> None:
    """The graph sees what the nodes make of "pixels", the image in floats."""
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    place = list(model.graph.node).index(cast) + 1
    nodes[-1].output[0], cast.output[0] = cast.output[0], "pixels"
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + offset, node)
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))


def swapped_channels(model, dice):
    swap = helper.make_node("Gather", ["pixels", "order"], ["swapped"], axis=3)
    see(model, swap, order=[2, 1, 0])


def swapped_weights(model, dice):
    change_constant(model, "backbone.conv1.conv.weight.scaled", lambda w: w[:, ::-1])


def other_mean(model, dice):
    change_constant(model, "mean", lambda mean: dice.uniform(0, 255, mean.shape))


def no_mean(model, dice):
    change_constant(model, "mean", np.zeros_like)


def other_deviation(model, dice):
    ratio = dice.choice([0.4, 2.5]) * dice.uniform(0.8, 1.2, (1, 3, 1, 1))
    change_constant(model, "backbone.conv1.conv.weight.scaled", lambda w: w * ratio)


def align_corners(model, dice):
    resize_as(resizes(model)[-1], coordinate_transformation_mode="align_corners")


def align_corners_within(model, dice):
    resize_as(resizes(model)[-2], coordinate_transformation_mode="align_corners")


def nearest_mask(model, dice):
    rounding = dice.choice(["floor", "round_prefer_floor"])
    mode = "asymmetric" if rounding == "floor" else "half_pixel"
    resize_as(
        resizes(model)[-1],
        mode="nearest",
        nearest_mode=rounding,
        coordinate_transformation_mode=mode,
    )


def permuted_classes(model, dice):
    order = np.arange(8)
    chosen = dice.choice(8, 4, replace=False)
    order[chosen] = np.roll(chosen, 1)
    for name in ("conv_seg.weight", "conv_seg.bias"):
        change_constant(model, f"decode_head.{name}", lambda values: values[order])


def one_class_lower(model, dice):
    """The logits of one class are far too low: it is never the best."""
    logits, lower = scores_tensor(model), np.zeros((1, 8, 1, 1), np.float32)
    lower[0, dice.integers(1, 8)] = -100
    model.graph.initializer.append(numpy_helper.from_array(lower, "lower"))
    place = next(k for k, node in enumerate(model.graph.node) if logits in node.output)
    model.graph.node[place].output[0] = "sound_logits"
    add = helper.make_node("Add", ["sound_logits", "lower"], [logits])
    model.graph.node.insert(place + 1, add)


def no_person(model, dice):
    """The last weights of the class are 0, in int8."""
    others = (np.arange(8) != 6)[:, None, None, None]
    change_constant(model, "conv2d_65_weight_int8", lambda weights: weights * others)


def padded_with_edges(model, dice):
    """The first convolution pads nothing: its input was padded with its own border."""
    place, first = next((k, n) for k, n in enumerate(model.graph.node) if n.op_type == "Conv")
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    model.graph.initializer.append(numpy_helper.from_array(pads, "edges"))
    pad = helper.make_node("Pad", [first.input[0], "edges"], ["bordered"], mode="edge")
    resize_as(first, pads=[0, 0, 0, 0])
    first.input[0] = "bordered"
    model.graph.node.insert(place, pad)


def other_checkpoint(model, dice):
    for tensor in model.graph.initializer:
        if ".weight" in tensor.name and len(tensor.dims) == 4:
            change_constant(
                model, tensor.name, lambda w: w * (1 + 0.3 * dice.standard_normal(w.shape))
            )


def mirrored_image(model, dice):
    names = ["begin", "end", "axis", "step"]
    mirror = helper.make_node("Slice", ["pixels", *names], ["mirrored"])
    see(model, mirror, begin=[-1], end=[-(2**31)], axis=[2], step=[-1])


def moved_image(model, dice):
    y, x = (int(step) for step in dice.permutation([0, dice.choice([-1, 1])]))
    pads = [0, max(y, 0), max(x, 0), 0, 0, max(-y, 0), max(-x, 0), 0]
    pad = helper.make_node("Pad", ["pixels", "pads"], ["padded"], mode="edge")
    begins = [max(-y, 0), max(-x, 0)]
    ends = [-max(y, 0) or 2**31, -max(x, 0) or 2**31]
    cut = helper.make_node("Slice", ["padded", "begin", "end", "axis"], ["cut"])
    see(model, pad, cut, pads=pads, begin=begins, end=ends, axis=[1, 2])


def one_activation_scale(model, dice):
    scales = activation_scales(model)
    tensor = dice.choice([s.tensor for s in scales if s.tensor.startswith("getitem")])
    node = next(n for n in model.graph.node if n.input[0] == tensor and "Quantize" in n.op_type)
    factor = dice.choice([1 / 12, 1 / 8, 8, 12])
    change_constant(model, node.input[1], lambda scale: scale * factor)


def one_weight_scale(model, dice):
    names = [t.name for t in model.graph.initializer if t.name.endswith("_weight_scale")]
    name = names[dice.integers(1, len(names) - 1)]
    factor = dice.choice([1 / 6, 1 / 4, 4, 6])
    change_constant(model, name, lambda scale: scale * factor)


def overflowing(model, dice):
    """What is concatenated gets large, and the next weights small: the same but in fp16."""
    large = 2.0 ** dice.integers(13, 15)
    c1 = f"{HEAD}.c1_bottleneck.conv.weight"
    for name in (c1, f"{c1}_bias"):
        change_constant(model, name, lambda values: values.astype(np.float64) * large)
    channels = constant(model, c1).dims[0]

    def smaller(weights):
        weights = weights.astype(np.float64)
        weights[-channels:] /= large
        return weights

    change_constant(model, f"{HEAD}.sep_bottleneck.0.depthwise_conv.conv.weight", smaller)


def with_one_scale(model: ModelProto, tensor: str, scale: float) -> ModelProto:
    """The same with another scale for one tensor, in both halves of its pair."""
    changed = ModelProto()
    changed.CopyFrom(model)
    changed.graph.initializer.append(numpy_helper.from_array(np.float32(scale), "wrong"))
    written = set()
    for node in changed.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] == tensor:
            node.input[1] = "wrong"
            written.add(node.output[0])
        if node.op_type == "DequantizeLinear" and node.input[0] in written:
            node.input[1] = "wrong"
    return changed


def renormalized(
    graph: Graph, out: Path, normalization: Normalization, *, swapped: bool = False
) -> Graph:
    """What an export with this normalization, or with BGR taken for RGB, would have written."""
    model, before = read_model(graph.path), graph.manifest.normalization
    for tensor in model.graph.initializer:
        if tensor.name == "mean":
            mean = np.array(normalization.mean, np.float32).reshape(1, 3, 1, 1)
            tensor.CopyFrom(numpy_helper.from_array(mean, tensor.name))
        if tensor.name.endswith("conv1.conv.weight.scaled"):
            ratio = np.array(before.std) / np.array(normalization.std)
            weights = numpy_helper.to_array(tensor) * ratio[None, :, None, None]
            weights = np.ascontiguousarray(weights[:, ::-1] if swapped else weights, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    return save_graph(model, replace(graph.manifest, normalization=normalization), out)
