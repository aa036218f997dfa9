"""The two building blocks of every network, with the submodule names of mmcv."""

import torch
from torch import nn


def conv_bn_act(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation: mmcv's ConvModule, "same" padding."""
    block = nn.Sequential()
    padding = dilation * (kernel - 1) // 2
    block.add_module(
        "conv",
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False),
    )
    block.add_module("bn", nn.BatchNorm2d(out_channels))
    if activation is not None:
        block.add_module("activate", activation())
    return block


class DepthwiseSeparable(nn.Module):
    """3x3 depthwise then 1x1 pointwise, each with BatchNorm and ReLU, as mmcv names them."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = conv_bn_act(
            in_channels, in_channels, 3, dilation=dilation, groups=in_channels
        )
        self.pointwise_conv = conv_bn_act(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H, W)."""
        return self.pointwise_conv(self.depthwise_conv(x))
