"""Activations made easy to round: the same network, its channels stretched and moved into int8.

Weights have a scale for every output channel, activations one for a whole tensor. So what differs
from channel to channel is moved from the activations into the weights:

- A convolution can return any multiple of a channel at no cost: its row has a scale of its own.
- A depthwise convolution divides by it at no cost either. A dense one mixes channels whose weights
  then differ more; how far to go is decided by the sum of both errors.
- Where single pixels are read (1x1), zero can lie anywhere, for no padding is added: the result of
  a ReLU moves down to -128, and takes all 256 steps of int8 instead of 128. Saturation does what
  the ReLU did, which is left out.
- The residual stream has neither activation nor padding: each channel moves to its middle.

Every step is exact but for one: a channel of a ReLU6 that never reaches 6 is stretched as if it
saturated where its own best threshold is, and so it does from there on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from segdeploy.histograms import ChannelHistogram, Floats
from segdeploy.placement import Placement
from segdeploy.quantize.network import Network
from segdeploy.quantize.rounding import round_weights
from segdeploy.thresholds import (
    INT8_STEPS,
    UINT8_STEPS,
    channel_errors,
    channel_thresholds,
    threshold,
)

POWERS = (0, 0.25, 0.5, 0.75, 1)  # of the full stretch, tried
MOST_STRETCH = 2.0**12  # of a channel that hardly ever is above zero
MOST_STRETCH_IN_HALF = 2.0**6
MOST_STRETCH_OF_STREAM = 16  # whose channels many layers read
NARROWEST = 2.0**-10  # half of a channel's range
RELU6 = 6.0
LOWEST = -128  # of int8


@dataclass(frozen=True)
class Activation:
    """How a tensor lies in integers: value = step * (integer - zero point)."""

    step: float
    mean: Floats  # (C,), of the values that are rounded
    from_zero: bool = False  # uint8 from 0 on instead of int8 around 0


@dataclass(frozen=True)
class Method:
    """How ranges are read off histograms."""

    name: str
    percentile: float


def read_activations(
    names: Iterable[str],
    placement: Placement,
    histograms: Mapping[str, ChannelHistogram],
    method: Method,
    *,
    full_range: bool,
) -> dict[str, Activation]:
    """A step for each of these tensors, as the graph was trained."""
    found = {}
    for name in names:
        seen = histograms[placement.joined.get(name, name)]
        from_zero = full_range and not seen.is_signed
        steps = UINT8_STEPS if from_zero else INT8_STEPS
        bound = threshold(seen, method.name, method.percentile)
        found[name] = Activation(bound / steps, histograms[name].mean(), from_zero)
    return found


def condition(
    network: Network,
    placement: Placement,
    histograms: Mapping[str, ChannelHistogram],
    method: Method,
    *,
    full_range: bool,
) -> dict[str, Activation]:
    """Stretch and move what can be; change the network's weights to match.

    Returns:
        A step for each of the tensors of `placement.pairs` as it is then.
    """
    found: dict[str, Activation] = {}
    for node in network.convolutions:
        name = network.activated(node.output[0])
        if name == node.output[0] or name not in placement.pairs - placement.joined.keys():
            continue
        readers = network.readers.get(name, [])
        if _all_integer(network, name, readers, placement):
            found[name] = _stretch_activated(
                network, node, histograms[name], readers, full_range=full_range
            )
    for stream in _streams(network, placement):
        found |= _centre_stream(network, stream, histograms, method)
    rest = placement.pairs - found.keys()
    return found | read_activations(rest, placement, histograms, method, full_range=full_range)


def _all_integer(
    network: Network, name: str, readers: list[NodeProto], placement: Placement
) -> bool:
    """Whether nobody but convolutions that read the pair would notice a change."""
    reading = [node for node in readers if node.input[0] == name]
    return (
        name not in network.returned
        and len(reading) == len(readers) > 0
        and {node.output[0] for node in reading} <= placement.convolutions
    )


def _stretch_activated(
    network: Network,
    node: NodeProto,
    seen: ChannelHistogram,
    readers: list[NodeProto],
    *,
    full_range: bool,
) -> Activation:
    activation = network.readers[node.output[0]][0]
    moves = all(network.is_pointwise(reader) for reader in readers)
    steps = UINT8_STEPS if moves or full_range else INT8_STEPS
    bounds = channel_thresholds(seen, steps)
    is_relu6 = activation.op_type == "Clip"
    top = RELU6 if is_relu6 else float(bounds.max())
    dense = [reader for reader in readers if not network.is_depthwise(reader)]
    gains, moment = _gains(network, readers), seen.second_moment()
    step, most = network.representable(top / steps), _most_stretch(network)
    best, least = np.ones(len(bounds)), np.inf
    for power in POWERS if dense else (1,):
        stretch = np.minimum((top / bounds) ** power, most)
        stretch = np.maximum(stretch, 1)
        error = float(gains @ channel_errors(seen, step / stretch, steps))
        error += sum(_weight_error(network, reader, stretch, moment) for reader in dense)
        if error < least:
            best, least = stretch, error
    offset = (-LOWEST * step if moves else 0.0) / best
    network.scale_result(node, best, offset)
    for reader in readers:
        network.scale_input(reader, best, offset)
    if moves:
        network.drop(activation)  # integers saturate where it clipped
    else:
        activation.op_type = "Relu"  # the upper end saturates, too
        del activation.input[1:]
    mean = (seen.mean() - offset) * best
    return Activation(step, mean, from_zero=full_range and not moves)


def _most_stretch(network: Network) -> float:
    """Weights become as much smaller, and half precision holds no small scales."""
    return MOST_STRETCH_IN_HALF if network.dtype == np.float16 else MOST_STRETCH


def _gains(network: Network, readers: Iterable[NodeProto]) -> Floats:
    """How much of each channel's error comes out of those who read it, (C,)."""
    total: Floats = np.zeros(1)
    for reader in readers:
        squares = network.weights[reader.output[0]] ** 2
        axes = (1, 2, 3) if network.is_depthwise(reader) else (0, 2, 3)
        total = total + squares.sum(axis=axes)
    return total


def _weight_error(network: Network, reader: NodeProto, stretch: Floats, moment: Floats) -> float:
    """What rounding a dense convolution's weights costs once its input is stretched."""
    weights = network.weights[reader.output[0]] / stretch[None, :, None, None]
    integers, scale = round_weights(weights)
    lost = integers * scale[:, None, None, None] - weights
    return float((lost**2).sum(axis=(0, 2, 3)) @ (stretch**2 * moment))


def _streams(network: Network, placement: Placement) -> list[list[str]]:
    """Results of convolutions without activation that residual Adds tie together, in order."""
    linear = [
        name
        for node in network.graph.node
        for name in node.output[:1]
        if name in placement.pairs
        and node.op_type in ("Conv", "Add")
        and network.activated(name) == name
        and name not in placement.joined
    ]
    parent = {name: name for name in linear}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for name in linear:
        if network.makers[name].op_type == "Add":
            for addend in network.makers[name].input:
                parent[root(addend)] = root(name)
    found: dict[str, list[str]] = {}
    for name in linear:
        found.setdefault(root(name), []).append(name)
    return [stream for stream in found.values() if _may_move(network, stream, placement)]


def _may_move(network: Network, stream: list[str], placement: Placement) -> bool:
    """Whether single pixels are read of it, in integers and by nobody else."""
    tied = {name for name in stream if network.makers[name].op_type == "Add"}
    for name in stream:
        if network.makers[name].op_type == "Conv" and name not in network.weights:
            return False
        for reader in network.readers.get(name, []):
            is_sum = reader.output[0] in tied
            is_read = reader.output[0] in placement.convolutions and network.is_pointwise(reader)
            if not (is_sum or is_read):
                return False
    return not network.returned & {*stream}


def _centre_stream(
    network: Network,
    stream: list[str],
    histograms: Mapping[str, ChannelHistogram],
    method: Method,
) -> dict[str, Activation]:
    """Move each channel to the middle of its range, and stretch the narrow ones together."""
    middles: dict[str, Floats] = {}
    for name in stream:
        seen, maker = histograms[name], network.makers[name]
        if maker.op_type == "Conv":
            middles[name] = (seen.low.astype(np.float64) + seen.high) / 2
        else:
            middles[name] = sum((middles[addend] for addend in maker.input), np.zeros(1))
    halves = {}
    for name in stream:
        seen = histograms[name]
        half = np.maximum(seen.high - middles[name], middles[name] - seen.low)
        halves[name] = np.maximum(half, NARROWEST)
    widest = np.max([half / half.max() for half in halves.values()], axis=0)
    best, least = np.ones(len(widest)), np.inf
    for power in POWERS:
        stretch = np.minimum((1 / widest) ** power, MOST_STRETCH_OF_STREAM)
        error = 0.0
        for name in stream:
            step = float((stretch * halves[name]).max()) / INT8_STEPS
            moment = histograms[name].second_moment() + middles[name] ** 2
            for reader in _convolutions_of(network, name):
                error += float(_gains(network, [reader]) @ (step / stretch) ** 2) / 12
                error += _weight_error(network, reader, stretch, moment)
        if error < least:
            best, least = stretch, error
    found = {}
    for name in stream:
        seen, middle = histograms[name], middles[name]
        if network.makers[name].op_type == "Conv":
            network.scale_result(network.makers[name], best, middle)
        for reader in _convolutions_of(network, name):
            network.scale_input(reader, best, middle)
        bound = threshold(seen.moved(best, middle), method.name, method.percentile)
        found[name] = Activation(bound / INT8_STEPS, (seen.mean() - middle) * best)
    return found


def _convolutions_of(network: Network, name: str) -> list[NodeProto]:
    return [node for node in network.readers.get(name, []) if node.output[0] in network.weights]
