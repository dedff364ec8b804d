"""S3D: I3D with each k x k x k convolution split into 1 x k x k (space) and k x 1 x 1 (time).

Paper:   Xie et al., Rethinking Spatiotemporal Feature Learning, ECCV 2018, arXiv:1712.04851
Weights: two public PyTorch releases, whose padding and head are the defaults here, and the spatial
    filters of I3D as a start (weights/s3d.py)
Input:   clips (N, in_channels, T, H, W), normalized; `least` says how short and small they may be
Output:  logits (N, num_classes)
"""

import torch
import torch.nn.functional as F
from torch import nn

from config import UserError
from models import i3d, layers
from models.layers import Pair, Size

BN_EPS = 1e-3


class FlatConv3d(nn.Conv3d):
    """Conv3d without bias for 1 x k x k, k x 1 x 1 and 1 x 1 x 1, computed by conv2d.

    In channels-last memory the reshaping is free. On CPUs 2-D kernels are faster: a little in many
    threads, up to twice in one, for which torch has few fast 3-D ones. And some CPUs get the
    bfloat16 gradient of the 3-D ones wrong. On a GPU k x 1 x 1 stays 3-D, which takes half the time
    of dilated images (H200, bfloat16).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.padding, tuple)  # torch takes names of paddings, too
        (kt, _, _), (st, *stride), (pt, *padding) = self.kernel_size, self.stride, self.padding
        frames, height = input.shape[2:4]
        if kt == 1:  # frames are images of a larger batch
            images = input.transpose(1, 2).flatten(0, 1)  # (N * T, C, H, W)
            y = F.conv2d(images, self.weight.squeeze(2), None, stride, padding)
            return y.unflatten(0, (-1, frames)).transpose(1, 2)
        if (
            st == 1 and not input.is_cuda
        ):  # frames below each other are one image; the next frame is H rows down
            image, weight = layers.below_each_other(input), self.weight.squeeze(4)
            y = F.conv2d(image, weight, padding=(pt * height, 0), dilation=(height, 1))
            return layers.apart(y, frames)
        return super().forward(input)


class ConvBnRelu3d(nn.Module):
    """Convolution, batch norm, ReLU; `padding` as in S3D."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size = (1, 1, 1),
        stride: Size = (1, 1, 1),
        padding: str = "symmetric",
    ):
        super().__init__()
        self.pads_itself = padding == "symmetric" or max(stride) == 1  # the two are then the same
        t, h, w = kernel_size
        pad = (t // 2, h // 2, w // 2) if self.pads_itself else (0, 0, 0)
        self.conv = FlatConv3d(in_channels, out_channels, kernel_size, stride, pad, bias=False)
        self.bn = layers.BatchNorm3d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.pads_itself:
            pads = i3d.same_pads(x, self.conv.kernel_size, self.conv.stride, as_if_even=False)
            x = i3d.pad(x, pads)
        return layers.relu(self.bn(self.conv(x)))


class SpaceTimeConv3d(nn.Sequential):
    """A k x k x k convolution as 1 x k x k then k x 1 x 1, each with batch norm and ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, k: int, s: int = 1, padding: str = "symmetric"
    ):
        super().__init__()
        self.space = ConvBnRelu3d(in_channels, out_channels, (1, k, k), (1, s, s), padding)
        self.time = ConvBnRelu3d(out_channels, out_channels, (k, 1, 1), (s, 1, 1), padding)


class Gate(nn.Module):
    """x * sigmoid(W * mean of x over time and space): the whole clip weighs every channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, channels, bias=False)
        # as in TF-slim: nearly 0, so that every gate starts half open
        nn.init.trunc_normal_(self.linear.weight, std=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.linear(layers.mean_over_positions(x)).sigmoid()
        return x * weights[:, :, None, None, None]


def gate(channels: int, gating: bool) -> nn.Module:
    return Gate(channels) if gating else nn.Identity()


def max_pool(kernel_size: Size, stride: Size, padding: str) -> nn.Module:
    if padding == "same":
        return i3d.SameMaxPool3d(kernel_size, stride)
    return nn.MaxPool3d(kernel_size, stride, tuple((k - 1) // 2 for k in kernel_size))


class Mixed(nn.Module):
    """Inception block: 1x1x1 | 1x1x1, 3x3x3 | 1x1x1, 3x3x3 | max-pool, 1x1x1, side by side."""

    def __init__(self, in_channels: int, b0: int, b1: Pair, b2: Pair, b3: int, gating: bool):
        super().__init__()
        self.branch0 = ConvBnRelu3d(in_channels, b0)
        self.branch1 = nn.Sequential(ConvBnRelu3d(in_channels, b1[0]), SpaceTimeConv3d(*b1, 3))
        self.branch2 = nn.Sequential(ConvBnRelu3d(in_channels, b2[0]), SpaceTimeConv3d(*b2, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), ConvBnRelu3d(in_channels, b3))
        self.gates = nn.ModuleList(gate(width, gating) for width in (b0, b1[1], b2[1], b3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)]
        return torch.cat([g(y) for g, y in zip(self.gates, branches, strict=True)], dim=1)


class S3D(nn.Module):
    """S3D, or S3D-G with `gating`.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics. 0.001 is what the
            releases trained Kinetics with; runs of a few hundred steps need 0.1.
        gating: weigh the channels after conv_2c and after every branch by the whole clip.
        padding: "symmetric", as both releases pad, or "same", as TensorFlow and I3D do: they differ
            where the stride is 2.
        whole_frame: the head averages whole frames, not windows of 7 x 7 positions; with crops of
            224 px that is the same.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.2,
        bn_momentum: float = 0.001,
        gating: bool = False,
        padding: str = "symmetric",
        whole_frame: bool = False,
    ):
        super().__init__()
        if padding not in ("symmetric", "same"):
            raise UserError(f"padding is '{padding}'; it can be 'symmetric' or 'same'")
        self.whole_frame = whole_frame
        self.least = (5, 17) if padding == "symmetric" else (1, 1)  # frames and pixels, for pool_5a
        self.features = layers.named_sequence(
            conv_1a=SpaceTimeConv3d(in_channels, 64, 7, 2, padding),  # (N, 64, T/2, H/2, W/2)
            pool_2a=max_pool((1, 3, 3), (1, 2, 2), padding),
            conv_2b=ConvBnRelu3d(64, 64),
            conv_2c=SpaceTimeConv3d(64, 192, 3),
            gate_2c=gate(192, gating),
            pool_3a=max_pool((1, 3, 3), (1, 2, 2), padding),
            mixed_3b=Mixed(192, 64, (96, 128), (16, 32), 32, gating),  # (N, 256, T/2, H/8, W/8)
            mixed_3c=Mixed(256, 128, (128, 192), (32, 96), 64, gating),
            pool_4a=max_pool((3, 3, 3), (2, 2, 2), padding),
            mixed_4b=Mixed(480, 192, (96, 208), (16, 48), 64, gating),  # (N, 512, T/4, H/16, ..)
            mixed_4c=Mixed(512, 160, (112, 224), (24, 64), 64, gating),
            mixed_4d=Mixed(512, 128, (128, 256), (24, 64), 64, gating),
            mixed_4e=Mixed(512, 112, (144, 288), (32, 64), 64, gating),
            mixed_4f=Mixed(528, 256, (160, 320), (32, 128), 128, gating),
            pool_5a=max_pool((2, 2, 2), (2, 2, 2), padding),
            mixed_5b=Mixed(832, 256, (160, 320), (32, 128), 128, gating),  # (N, 832, T/8, ..)
            mixed_5c=Mixed(832, 384, (192, 384), (48, 128), 128, gating),  # (N, 1024, T/8, ..)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(i3d.NUM_FEATURES, num_classes)
        # He, not TF-slim's 0.01 for kernels of every width: with batch norm the scale of a kernel
        # decides only how far one step turns it, which should not depend on its width
        layers.init_weights(self)
        layers.set_batch_norm(self, BN_EPS, bn_momentum)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 1024) before the head, averaged over the clip."""
        layers.refuse_small(clip, *self.least)
        # no copy where the clip is a view of frames of pixels, as the loaders have it; max-pools of
        # contiguous memory take ten times as long on a CPU
        x = self.features(clip.contiguous(memory_format=torch.channels_last_3d))
        window = (i3d.HEAD_WINDOW[0], *x.shape[3:]) if self.whole_frame else i3d.HEAD_WINDOW
        return layers.mean_over_windows(x, window)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.forward_features(clip)))
