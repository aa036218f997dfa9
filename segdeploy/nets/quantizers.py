"""What quantization-aware training learned: each convolution as it was rounded."""

import numpy as np
import torch

from segdeploy.errors import SegdeployError
from segdeploy.nets.checkpoint import Checkpoint, build_network
from segdeploy.spec import ModelSpec
from segdeploy.trained import STEPS, TrainedConvolution

SMALLEST_RANGE = 1e-6  # of a channel whose weights are all zero


def trained_convolutions(spec: ModelSpec, checkpoint: Checkpoint) -> tuple[TrainedConvolution, ...]:
    """The convolutions whose weights and input both had a quantizer, their BatchNorm folded in.

    Training rounds the weights of a convolution before BatchNorm scales its result: the integers
    stay, and the scale of each output channel takes BatchNorm's factor; a negative one turns signs.

    Raises:
        SegdeployError: a range belongs to no convolution, or has another number of channels.
    """
    network, _ = build_network(spec, checkpoint)
    modules = {name.rpartition(".")[0] for name in checkpoint.ranges}
    found = []
    for name in sorted(modules):
        try:
            layer = network.get_submodule(name)
        except AttributeError:
            layer = None
        if not isinstance(layer, torch.nn.Conv2d):
            raise SegdeployError(
                f"{checkpoint.name}: has ranges of `{name}`, which is no convolution of {spec.name}"
            )
        pair = [checkpoint.ranges.get(f"{name}.{kind}") for kind in ("weight", "input")]
        if pair[0] is None or pair[1] is None:  # one of the two was left floating
            continue
        limits, magnitude = pair[0].reshape(-1), pair[1]
        if limits.numel() not in (1, layer.out_channels) or magnitude.numel() != 1:
            raise SegdeployError(
                f"{checkpoint.name}: the ranges of `{name}` have {limits.numel()} and "
                f"{magnitude.numel()} values; wanted {layer.out_channels} or 1, and 1",
                hint="weights have one range, or one for each output channel; inputs have one",
            )
        found.append(_rounded(network, name, layer, limits, float(magnitude)))
    if checkpoint.ranges and not found:
        raise SegdeployError(
            f"{checkpoint.name}: no convolution has a range of its weights and of its input"
        )
    return tuple(found)


def _rounded(
    network: torch.nn.Module,
    name: str,
    layer: torch.nn.Conv2d,
    limits: torch.Tensor,
    magnitude: float,
) -> TrainedConvolution:
    weights = layer.weight.detach().numpy()
    ranges = np.maximum(limits.numpy(), np.float32(SMALLEST_RANGE))
    ranges = np.broadcast_to(ranges, len(weights))
    codes = np.rint(weights * (np.float32(STEPS) / ranges)[:, None, None, None])  # in float32, too
    integers = codes.clip(-STEPS, STEPS)
    factor = _batch_norm_factor(network, name, len(weights))
    return TrainedConvolution(
        weight=f"segmentor.{name}.weight",
        integers=(integers * np.sign(factor)[:, None, None, None]).astype(np.int8),
        scale=ranges.astype(np.float64) / STEPS * np.abs(factor),
        input_scale=max(magnitude, SMALLEST_RANGE) / STEPS,
    )


def _batch_norm_factor(
    network: torch.nn.Module, name: str, channels: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What the BatchNorm beside a convolution multiplies each channel by; ones if there is none."""
    block = network.get_submodule(name.rpartition(".")[0])
    norm = getattr(block, "bn", None)
    if not isinstance(norm, torch.nn.BatchNorm2d):
        return np.ones(channels)
    variance = norm.get_buffer("running_var").double()
    gain = norm.get_parameter("weight").detach().double()
    factor: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = (
        gain / (variance + norm.eps).sqrt()
    ).numpy()
    return factor
