"""I3D: Inception-v1 with every filter and pool extended by time.

Paper:   Carreira and Zisserman, Quo Vadis, Action Recognition?, CVPR 2017, arXiv:1705.07750
Weights: the public PyTorch ports of the authors' checkpoints (weights/i3d.py); padding, pooling
    and head follow them
Input:   clips (N, in_channels, T, H, W), normalized; T >= 8, H and W >= 32
Output:  logits (N, num_classes)
"""

import torch
import torch.nn.functional as F
from torch import nn

from models import layers
from models.layers import Branches, Pair, Size

NUM_FEATURES = 1024
HEAD_WINDOW = (2, 7, 7)  # steps, rows, columns: a frame of 224 px, two steps at a time


def same_pads(
    x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], as_if_even: bool
) -> list[tuple[int, int]]:
    """Zeros before and behind T, H and W of x for ceil(size / stride) outputs: TensorFlow's SAME.

    See I3D for `as_if_even`.
    """
    t, h, w = x.shape[2:]
    if as_if_even:
        h, w = stride[1], stride[2]  # any multiple of the stride
    dims = zip((t, h, w), kernel, stride, strict=True)
    totals = [max((-(-size // s) - 1) * s + k - size, 0) for size, k, s in dims]
    return [(total // 2, total - total // 2) for total in totals]


def pad(x: torch.Tensor, pads: list[tuple[int, int]]) -> torch.Tensor:
    """Zeros around (N, C, T, H, W): (before, behind) for T, H and W."""
    return F.pad(x, [n for before_behind in reversed(pads) for n in before_behind])


class ConvBnRelu3d(nn.Module):
    """Convolution padded as TensorFlow's SAME, batch norm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        as_if_even: bool = False,
    ):
        super().__init__()
        # with stride 1 both sides get the same padding, which the convolution adds without a copy
        padding = kernel_size // 2 if stride == 1 else 0
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = layers.BatchNorm3d(out_channels)
        self.as_if_even = as_if_even

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.conv.stride[0] > 1:
            x = pad(x, same_pads(x, self.conv.kernel_size, self.conv.stride, self.as_if_even))
        return layers.relu(self.bn(self.conv(x)))


class SameMaxPool3d(nn.Module):
    """Max-pool padded as TensorFlow's SAME.

    Inputs come from a ReLU, so a missing value and a zero are the same: the zeros before are
    torch's padding, those behind its ceil_mode, and nothing is copied.
    """

    def __init__(self, kernel_size: Size, stride: Size, as_if_even: bool = False):
        super().__init__()
        self.kernel_size, self.stride, self.as_if_even = kernel_size, stride, as_if_even

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads = same_pads(x, self.kernel_size, self.stride, self.as_if_even)
        if self.as_if_even:  # not always what ceil_mode would add
            x = pad(x, pads)
            return F.max_pool3d(x, self.kernel_size, self.stride, ceil_mode=True)
        before = [before for before, _ in pads]
        return F.max_pool3d(x, self.kernel_size, self.stride, before, ceil_mode=True)


class Mixed(Branches):
    """Inception block: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | max-pool, 1x1x1, side by side."""

    def __init__(self, in_channels: int, b0: int, b1: Pair, b2: Pair, b3: int):
        super().__init__()
        conv, pool = ConvBnRelu3d, SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.branch0 = conv(in_channels, b0, 1)
        self.branch1 = nn.Sequential(conv(in_channels, b1[0], 1), conv(*b1, 3))
        self.branch2 = nn.Sequential(conv(in_channels, b2[0], 1), conv(*b2, 3))
        self.branch3 = nn.Sequential(pool, conv(in_channels, b3, 1))


class I3D(nn.Module):
    """One stream of the two-stream network: RGB with 3 input channels, optical flow with 2.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics. 0.01 suits the schedules
            of Kinetics (the public PyTorch port trains with it); short runs need 0.1.
        as_if_even: pad rows and columns of odd counts like those of even ones, as hassony2's port
            does, and not as TensorFlow; the same at 224 px.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        bn_momentum: float = 0.01,
        as_if_even: bool = False,
    ):
        super().__init__()
        self.features = layers.named_sequence(
            conv_1a=ConvBnRelu3d(in_channels, 64, 7, 2, as_if_even),  # (N, 64, T/2, H/2, W/2)
            pool_2a=SameMaxPool3d((1, 3, 3), (1, 2, 2), as_if_even),
            conv_2b=ConvBnRelu3d(64, 64, 1),
            conv_2c=ConvBnRelu3d(64, 192, 3),
            pool_3a=SameMaxPool3d((1, 3, 3), (1, 2, 2), as_if_even),
            mixed_3b=Mixed(192, 64, (96, 128), (16, 32), 32),  # (N, 256, T/2, H/8, W/8)
            mixed_3c=Mixed(256, 128, (128, 192), (32, 96), 64),
            pool_4a=SameMaxPool3d((3, 3, 3), (2, 2, 2), as_if_even),
            mixed_4b=Mixed(480, 192, (96, 208), (16, 48), 64),  # (N, 512, T/4, H/16, W/16)
            mixed_4c=Mixed(512, 160, (112, 224), (24, 64), 64),
            mixed_4d=Mixed(512, 128, (128, 256), (24, 64), 64),
            mixed_4e=Mixed(512, 112, (144, 288), (32, 64), 64),
            mixed_4f=Mixed(528, 256, (160, 320), (32, 128), 128),
            pool_5a=SameMaxPool3d((2, 2, 2), (2, 2, 2), as_if_even),
            mixed_5b=Mixed(832, 256, (160, 320), (32, 128), 128),  # (N, 832, T/8, H/32, W/32)
            mixed_5c=Mixed(832, 384, (192, 384), (48, 128), 128),  # (N, 1024, T/8, H/32, W/32)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        layers.init_weights(self)
        layers.set_batch_norm(self, eps=1e-3, momentum=bn_momentum)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 1024) before the head, averaged over the clip."""
        return layers.mean_over_windows(self.features(clip), HEAD_WINDOW)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        # the head is linear: the mean of the logits of all steps is the logits of the mean feature
        return self.head(self.dropout(self.forward_features(clip)))
