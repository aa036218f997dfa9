"""Backbone and head as one network, and the same with pixels in and labels out."""

import torch
from torch import nn
from torch.nn import functional

from segdeploy.nets.heads import HEADS
from segdeploy.nets.mobilenet_v2 import MobileNetV2, stage_channels
from segdeploy.spec import Method, Normalization, Output


class Segmentor(nn.Module):
    """(N, 3, H, W) normalized RGB -> logits (N, classes, H / stride, W / stride)."""

    def __init__(
        self, method: Method, classes: int, *, width: float = 1.0, head_channels: int = 512
    ) -> None:
        super().__init__()
        self.backbone = MobileNetV2(width)
        self.decode_head = HEADS[method](stage_channels(width), head_channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raw logits at the head's stride."""
        return self.decode_head(self.backbone(x))


class PixelsIn(nn.Module):
    """A segmentor that takes what a camera gives and, by default, returns a label map.

    (N, H, W, 3) uint8 RGB -> labels (N, H, W) uint8, or logits (N, classes, h, w) float32. Convolutions
    run in the segmentor's own dtype; normalization and the returned logits are float32.
    """

    def __init__(self, segmentor: Segmentor, normalization: Normalization, output: Output) -> None:
        super().__init__()
        self.segmentor = segmentor
        self.output = output
        self.register_buffer("mean", torch.tensor(normalization.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(normalization.std).view(1, 3, 1, 1))
        self.dtype = segmentor.decode_head.conv_seg.weight.dtype

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalize, run, and make the mask unless logits are asked for."""
        # Cast before transpose: TensorRT's parser refuses to transpose uint8.
        x = image.float().permute(0, 3, 1, 2).contiguous()
        x = (x - self.mean) / self.std
        logits = self.segmentor(x.to(self.dtype))
        if self.output is Output.LOGITS:
            return logits.float()
        size = image.shape[1:3]
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        # By way of float: TensorRT converts to uint8 from floating types only (NvInferRuntimeBase.h).
        return logits.argmax(dim=1).to(self.dtype).to(torch.uint8)
