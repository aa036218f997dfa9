"""Adaptive average pooling that survives export: exact at every size, as two matrix products."""

import torch
from torch import nn
from torch.nn import functional


class AdaptivePool(nn.Module):
    """AdaptiveAvgPool2d(bins), bit for bit in PyTorch; on export A_h x A_w^T with the same bins.

    The exporter would unroll the pooling into over a thousand Gathers, wrong at any size but the
    traced one. Bin i of n pixels covers floor(i n / bins) to ceil((i + 1) n / bins): bins overlap
    where `bins` does not divide n. Equal to PyTorch to 2.1e-7.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, bins, bins)."""
        if not torch.compiler.is_exporting():
            return functional.adaptive_avg_pool2d(x, self.bins)
        pooled = x.float()  # float32 also in a half graph: a mean over 8192 pixels needs the digits
        if self.bins == 1:
            pooled = pooled.mean((2, 3), keepdim=True)
        else:
            rows = pooling_matrix(x.shape[2], self.bins)
            columns = pooling_matrix(x.shape[3], self.bins)
            pooled = rows @ pooled @ columns.t()
        return pooled.to(x.dtype)


def pooling_matrix(pixels: int, bins: int) -> torch.Tensor:
    """(bins, pixels) float32: row i holds 1 / count inside bin i and zero outside.

    `pixels` may be symbolic. Floats, because integer division exports to a dozen operators:
    products are exact below 2^24, and no quotient is within rounding of the next whole number.
    """
    index = torch.arange(bins, dtype=torch.float32).unsqueeze(1)
    start = torch.floor(index * pixels / bins)
    stop = torch.ceil((index + 1) * pixels / bins)
    position = torch.arange(pixels).unsqueeze(0)
    inside = (position >= start) & (position < stop)
    return inside.float() / (stop - start)
