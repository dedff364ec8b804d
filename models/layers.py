"""Blocks that two or more networks share."""

import torch
from torch import nn


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind one dimension for ceil(size / stride) outputs: TensorFlow's SAME."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def set_batch_norm(module: nn.Module, eps: float, momentum: float) -> None:
    """Sets epsilon and momentum, torch's weight of the newest batch, of all batch norms inside."""
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eps, m.momentum = eps, momentum


def init_weights(module: nn.Module) -> None:
    """He initialization of all convolutions; batch norms start as the identity by themselves."""
    for m in module.modules():
        if isinstance(m, nn.Conv3d):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def average_windows(x: torch.Tensor, window: tuple[int, int, int]) -> torch.Tensor:
    """Average pool with stride 1; windows larger than x are cut to it."""
    cut = [min(w, size) for w, size in zip(window, x.shape[2:], strict=True)]
    return nn.functional.avg_pool3d(x, cut, stride=1)


def mean_over_windows(x: torch.Tensor, window: tuple[int, int, int]) -> torch.Tensor:
    """The mean of the averages of all windows, as above: (N, C, T, H, W) -> (N, C).

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


def squeeze_kernel(value: torch.Tensor) -> torch.Tensor:
    """The weight of a 1 x 1 x 1 convolution as that of a linear layer; a bias as it is."""
    return value.flatten(1) if value.dim() > 1 else value
