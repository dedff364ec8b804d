"""Blocks that two or more networks share."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from config import refuse

Pair = tuple[int, int]
Size = tuple[int, int, int]  # frames, rows, columns


class Branches(nn.Module):
    """Modules that see the same input side by side; their outputs are joined as channels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def below_each_other(x: torch.Tensor) -> torch.Tensor:
    """Frames as one image, (N, C, T, H, W) -> (N, C, T * H, W): a free view in both formats.

    By way of channels last: of a single clip `flatten` would give a stride that the formats do not
    have, and convolutions would copy it.
    """
    return x.movedim(1, -1).flatten(1, 2).movedim(-1, 1)


def apart(image: torch.Tensor, frames: int) -> torch.Tensor:
    """The inverse of `below_each_other`."""
    return image.movedim(1, -1).unflatten(1, (frames, -1)).movedim(-1, 1)


class BatchNorm3d(nn.BatchNorm3d):
    """Batch norm of (N, C, T, H, W), computed as that of images (N, C, T * H, W).

    The same to the bit, and the reshaping is free. But torch has fast channels-last kernels for
    images alone: of bfloat16, a backward pass takes an eighth of the time on a CPU, and forward and
    backward half of it on an H200 (small maps; large ones 0.8).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(input)  # nothing to gain, and exporters know the plain one
        return apart(super().forward(below_each_other(input)), input.shape[2])

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Five dimensions or four."""


def relu(x: torch.Tensor) -> torch.Tensor:
    """In place where no gradient is wanted: of a view, as the one above, autograd would copy it."""
    return F.relu(x, inplace=not torch.is_grad_enabled())


def refuse_small(clip: torch.Tensor, frames: int, side: int) -> None:
    """Raises UserError if a clip (N, C, T, H, W) is shorter or smaller, so that pools run dry."""
    _, _, num_frames, *sides = clip.shape
    least = f"{frames} frame{'s' * (frames > 1)} and {side} px"
    refuse(
        num_frames < frames or min(sides) < side,
        f"this network takes clips of at least {least}, and this one has {num_frames} of "
        f"{min(sides)} px: take a larger --clip-len or --crop-size",
    )


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
