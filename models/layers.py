"""Blocks that two or more networks share."""

from collections import OrderedDict

import torch
from torch import nn

Pair = tuple[int, int]
Size = tuple[int, int, int]  # frames, rows, columns


class Branches(nn.Module):
    """Modules that see the same input side by side; their outputs are joined as channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def named_sequence(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


def set_batch_norm(module: nn.Module, eps: float, momentum: float) -> None:
    """Sets epsilon and momentum, torch's weight of the newest batch, of all batch norms inside."""
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eps, m.momentum = eps, momentum


def init_weights(module: nn.Module) -> None:
    """He initialization of all convolutions; batch norms start as the identity by themselves."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def mean_over_windows(x: torch.Tensor, window: Size) -> torch.Tensor:
    """The mean of an average pool with stride 1, its window cut to x: (N, C, T, H, W) -> (N, C).

    Not the mean over all positions: those in the middle lie in more windows, and count as often.
    """
    t, h, w = (windows_over(*dim, x.device) for dim in zip(x.shape[2:], window, strict=True))
    counts = t[:, None, None] * h[:, None] * w
    # like `mean_over_positions`; the gradient of avg_pool3d is contiguous, too
    return (x.movedim(1, -1) * counts[..., None]).sum(dim=(1, 2, 3)) / counts.sum()


def windows_over(size: int, window: int, device: torch.device) -> torch.Tensor:
    """How many windows with stride 1 cover each of `size` positions."""
    window = min(window, size)
    behind = torch.arange(1, size + 1, device=device)
    return torch.minimum(behind, behind.flip(0)).clamp(max=min(window, size - window + 1))


def mean_over_positions(x: torch.Tensor) -> torch.Tensor:
    """(N, C, ...) -> (N, C).

    With the channels moved last: the gradient of a mean is laid out as its dimensions come, and a
    contiguous one would slow down the convolutions before it, or be copied.
    """
    return x.movedim(1, -1).mean(dim=tuple(range(1, x.dim() - 1)))
