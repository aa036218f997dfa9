"""The four decode heads, with the parameter names of MMSegmentation's checkpoints."""

import torch
from torch import nn
from torch.nn import functional

from segdeploy.nets.layers import DepthwiseSeparable, conv_bn_act
from segdeploy.nets.pooling import AdaptivePool
from segdeploy.spec import Method

POOL_BINS = (1, 2, 3, 6)  # PSPNet's pyramid
DILATIONS = (12, 24, 36)  # ASPP at output stride 8
LOW_LEVEL_CHANNELS = 48  # DeepLabV3+'s c1_channels

Features = tuple[torch.Tensor, ...]


def resize_to(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, align_corners=False, to the height and width of `like`."""
    size = like.shape[2:]
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class FCNHead(nn.Module):
    """Two 3x3 convolutions, concatenated with their input, one more 3x3."""

    def __init__(self, features: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__()
        deep = features[-1]
        self.convs = nn.Sequential(
            conv_bn_act(deep, channels, 3), conv_bn_act(channels, channels, 3)
        )
        self.conv_cat = conv_bn_act(deep + channels, channels, 3)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, features: Features) -> torch.Tensor:
        """Logits (N, classes, H / 8, W / 8)."""
        x = features[-1]
        return self.conv_seg(self.conv_cat(torch.cat([x, self.convs(x)], dim=1)))


class PSPHead(nn.Module):
    """Pyramid pooling at 1, 2, 3 and 6 bins, then a 3x3 bottleneck over all of it."""

    def __init__(self, features: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__()
        deep = features[-1]
        self.psp_modules = nn.ModuleList(
            nn.Sequential(AdaptivePool(bins), conv_bn_act(deep, channels, 1)) for bins in POOL_BINS
        )
        self.bottleneck = conv_bn_act(deep + len(POOL_BINS) * channels, channels, 3)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def forward(self, features: Features) -> torch.Tensor:
        """Logits (N, classes, H / 8, W / 8)."""
        x = features[-1]
        pyramid = [x, *(resize_to(branch(x), x) for branch in self.psp_modules)]
        return self.conv_seg(self.bottleneck(torch.cat(pyramid, dim=1)))


class ASPPHead(nn.Module):
    """DeepLabV3: image pooling, 1x1, and three dilated 3x3 convolutions, then a 3x3 bottleneck."""

    def __init__(self, features: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__()
        deep = features[-1]
        self.image_pool = nn.Sequential(AdaptivePool(1), conv_bn_act(deep, channels, 1))
        self.aspp_modules = nn.ModuleList([conv_bn_act(deep, channels, 1)])
        self.aspp_modules.extend(self.dilated(deep, channels, dilation) for dilation in DILATIONS)
        self.bottleneck = conv_bn_act((len(DILATIONS) + 2) * channels, channels, 3)
        self.conv_seg = nn.Conv2d(channels, classes, 1)

    def dilated(self, in_channels: int, channels: int, dilation: int) -> nn.Module:
        """One atrous branch."""
        return conv_bn_act(in_channels, channels, 3, dilation=dilation)

    def aspp(self, x: torch.Tensor) -> torch.Tensor:
        """(N, deep, h, w) -> (N, channels, h, w); the pooled branch comes first."""
        branches = [resize_to(self.image_pool(x), x), *(branch(x) for branch in self.aspp_modules)]
        return self.bottleneck(torch.cat(branches, dim=1))

    def forward(self, features: Features) -> torch.Tensor:
        """Logits (N, classes, H / 8, W / 8)."""
        return self.conv_seg(self.aspp(features[-1]))


class DepthwiseSeparableASPPHead(ASPPHead):
    """DeepLabV3+: separable atrous branches, and a decoder at stride 4."""

    def __init__(self, features: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__(features, channels, classes)
        self.c1_bottleneck = conv_bn_act(features[0], LOW_LEVEL_CHANNELS, 1)
        self.sep_bottleneck = nn.Sequential(
            DepthwiseSeparable(channels + LOW_LEVEL_CHANNELS, channels),
            DepthwiseSeparable(channels, channels),
        )

    def dilated(self, in_channels: int, channels: int, dilation: int) -> nn.Module:
        """One atrous branch, separable."""
        return DepthwiseSeparable(in_channels, channels, dilation)

    def forward(self, features: Features) -> torch.Tensor:
        """Logits (N, classes, H / 4, W / 4)."""
        low_level = self.c1_bottleneck(features[0])
        x = resize_to(self.aspp(features[-1]), low_level)
        return self.conv_seg(self.sep_bottleneck(torch.cat([x, low_level], dim=1)))


Head = FCNHead | PSPHead | ASPPHead
HEADS: dict[Method, type[Head]] = {
    Method.FCN: FCNHead,
    Method.PSPNET: PSPHead,
    Method.DEEPLABV3: ASPPHead,
    Method.DEEPLABV3PLUS: DepthwiseSeparableASPPHead,
}
