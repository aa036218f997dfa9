"""MobileNetV2 with output stride 8, as MMSegmentation builds it for all its models."""

import torch
from torch import nn

from segdeploy.nets.layers import conv_bn_act

# (expansion, channels, blocks, stride of the first block, dilation of the first block only):
# mmseg/models/backbones/mobilenet_v2.py with strides (1,2,2,1,1,1,1), dilations (1,1,1,2,2,4,4).
STAGES = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 1),
    (6, 64, 4, 1, 2),
    (6, 96, 3, 1, 2),
    (6, 160, 3, 1, 4),
    (6, 320, 1, 1, 4),
)
OUT_STAGES = (1, 2, 4, 6)  # strides 4, 8, 8, 8


def scaled_channels(channels: int, width: float) -> int:
    """`channels * width` to a multiple of 8, never below 90 % of it: mmseg's make_divisible."""
    value = channels * width
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def stage_channels(width: float) -> tuple[int, ...]:
    """Channels of the four feature maps that the backbone returns."""
    return tuple(scaled_channels(STAGES[index][1], width) for index in OUT_STAGES)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; residual where shapes allow it."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, dilation: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        blocks = []
        if expansion != 1:
            blocks.append(conv_bn_act(in_channels, hidden, 1, activation=nn.ReLU6))
        blocks += [
            conv_bn_act(
                hidden,
                hidden,
                3,
                stride=stride,
                dilation=dilation,
                groups=hidden,
                activation=nn.ReLU6,
            ),
            conv_bn_act(hidden, out_channels, 1, activation=None),
        ]
        self.conv = nn.Sequential(*blocks)
        self.is_residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in, H, W) -> (N, out, H / stride, W / stride)."""
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    """(N, 3, H, W) normalized RGB -> four feature maps at strides 4, 8, 8 and 8."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels = scaled_channels(32, width)
        self.conv1 = conv_bn_act(3, channels, 3, stride=2, activation=nn.ReLU6)
        self.stage_names = []
        for number, (expansion, base, blocks, stride, dilation) in enumerate(STAGES, start=1):
            out_channels = scaled_channels(base, width)
            stage = nn.Sequential()
            for block in range(blocks):
                first = block == 0
                stage.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        stride=stride if first else 1,
                        dilation=dilation if first else 1,
                        expansion=expansion,
                    )
                )
                channels = out_channels
            self.add_module(f"layer{number}", stage)
            self.stage_names.append(f"layer{number}")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs of stages 2, 3, 5 and 7."""
        x = self.conv1(x)
        features = []
        for index, name in enumerate(self.stage_names):
            x = self.get_submodule(name)(x)
            if index in OUT_STAGES:
                features.append(x)
        return tuple(features)
