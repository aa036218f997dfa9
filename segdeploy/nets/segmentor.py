"""Backbone and head as one network, and the same with pixels in and labels out."""

import torch
from torch import nn
from torch.nn import functional

from segdeploy.nets.heads import HEADS, Head
from segdeploy.nets.mobilenet_v2 import MobileNetV2, stage_channels
from segdeploy.spec import Method, Normalization, Output


class Segmentor(nn.Module):
    """(N, 3, H, W) normalized RGB -> logits (N, classes, H / stride, W / stride)."""

    def __init__(
        self, method: Method, classes: int, *, width: float = 1.0, head_channels: int = 512
    ) -> None:
        super().__init__()
        self.backbone = MobileNetV2(width)
        self.decode_head: Head = HEADS[method](stage_channels(width), head_channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raw logits at the head's stride."""
        logits: torch.Tensor = self.decode_head(self.backbone(x))
        return logits


class PixelsIn(nn.Module):
    """A segmentor that takes what a camera gives and, by default, returns a label map.

    (N, H, W, 3) uint8 RGB -> labels (N, H, W) uint8, or logits (N, classes, h, w) float32.
    Convolutions run in the segmentor's own dtype; normalization and returned logits are float32.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, segmentor: Segmentor, normalization: Normalization, output: Output) -> None:
        super().__init__()
        self.segmentor = segmentor
        self.output = output
        self.register_buffer("mean", torch.tensor(normalization.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(normalization.std).view(1, 3, 1, 1))
        self.dtype = segmentor.decode_head.conv_seg.weight.dtype

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """Normalize and run: (N, classes, h, w) in the segmentor's dtype."""
        # Cast before transpose: TensorRT's parser refuses to transpose uint8.
        x = image.float().permute(0, 3, 1, 2).contiguous()
        x = (x - self.mean) / self.std
        logits: torch.Tensor = self.segmentor(x.to(self.dtype))
        return logits

    def labels(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Resize the logits to height and width, then take the best class: (N, H, W) uint8."""
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        # By way of float: TensorRT makes uint8 of floating types only (NvInferRuntimeBase.h).
        return logits.argmax(dim=1).to(self.dtype).to(torch.uint8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Labels, or float32 logits if those are asked for."""
        logits = self.logits(image)
        if self.output is Output.LOGITS:
            return logits.float()
        return self.labels(logits, (image.shape[1], image.shape[2]))
