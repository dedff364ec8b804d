"""X3D: a small network, grown from a 2-D one in frames, pixels, width and depth, one at a time.

Paper:   Feichtenhofer, X3D: Expanding Architectures for Efficient Video Recognition, CVPR 2020,
    arXiv:2004.04730
Weights: those of PyTorchVideo, and of PySlowFast, which has one batch norm more (weights/x3d.py)
Input:   clips (N, in_channels, T, H, W), normalized; any T, H and W
Output:  logits (N, num_classes)
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from config import UserError
from models import layers
from models.layers import Size
from models.resnet3d import ConvBn3d

NUM_FEATURES = 2048
WIDTHS = (24, 48, 96, 192)  # of res2 to res5
NUM_BLOCKS = (1, 2, 5, 3)  # of them, times the depth
VARIANTS: dict[str, tuple[float, Size]] = {  # depth; the last maps of a clip of training
    "x3d_xs": (2.2, (4, 5, 5)),
    "x3d_s": (2.2, (13, 5, 5)),
    "x3d_m": (2.2, (16, 7, 7)),
    "x3d_l": (5.0, (16, 10, 10)),
}


def frames_of(x: torch.Tensor) -> torch.Tensor:
    """(N, C, T, H, W) -> (N * T, C, H, W): free where channels come last."""
    return x.movedim(1, -1).flatten(0, 1).movedim(-1, 1)


def over_time(x: torch.Tensor) -> torch.Tensor:
    """(N, C, T, H, W) -> (N, C, T, H * W), images whose rows are frames; free as well."""
    return x.movedim(1, -1).flatten(2, 3).movedim(-1, 1)


class DepthwiseConv3d(nn.Conv3d):
    """A convolution of each channel by itself, computed as 2-D ones where torch is slow in 3-D.

    On a CPU, over time alone, that takes a sixteenth of the time. With 3x3x3, whose gradients take
    15 times as long as the sums in 3-D, a step takes 0.3 to 0.5 of it: benchmarks/depthwise.py.

    Args:
        channels: in and out.
        kernel_size: (T, 1, 1), over time alone, or (3, H, W).
        stride: in space.
    """

    def __init__(self, channels: int, kernel_size: Size, stride: int = 1):
        t, h, w = kernel_size
        strides, padding = (1, stride, stride), (t // 2, h // 2, w // 2)
        super().__init__(
            channels, channels, kernel_size, strides, padding, groups=channels, bias=False
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.kernel_size[1:] == (1, 1):
            weight, padding = self.weight[..., 0], self.padding[:2]
            y = F.conv2d(over_time(input), weight, None, 1, padding, 1, self.groups)
            return y.unflatten(3, input.shape[3:])
        if not torch.is_grad_enabled():
            return super().forward(input)
        # what each frame adds to the next one, to itself and to the one before: (N, T, H, W, C)
        frames = frames_of(input)
        to_next, to_same, to_last = (
            F.conv2d(frames, w, None, self.stride[1:], self.padding[1:], 1, self.groups)
            .unflatten(0, (-1, input.shape[2]))
            .movedim(2, -1)
            for w in self.weight.unbind(2)
        )
        to_next = F.pad(to_next[:, :-1], (0, 0) * 3 + (1, 0))
        to_last = F.pad(to_last[:, 1:], (0, 0) * 3 + (0, 1))
        return (to_same + to_next + to_last).movedim(-1, 1)


class SqueezeExcitation(nn.Module):
    """Each channel is multiplied by what the means of all channels over the clip say of it."""

    def __init__(self, channels: int):
        super().__init__()
        # a sixteenth, as a multiple of 8 that is no less than nine tenths of that
        wanted = channels / 16
        inner = max(8, int(wanted + 4) // 8 * 8)
        inner += 8 * (inner < 0.9 * wanted)
        self.reduce = nn.Linear(channels, inner)
        self.expand = nn.Linear(inner, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squeezed = layers.relu(self.reduce(layers.mean_over_positions(x)))
        return x * self.expand(squeezed).sigmoid()[:, :, None, None, None]


class Block(nn.Module):
    """Residual block of 1x1x1, depthwise 3x3x3 and 1x1x1 that is widest in the middle."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, squeeze: bool, shortcut_norm: bool
    ):
        super().__init__()
        inner = int(2.25 * out_channels)
        self.conv1 = ConvBn3d(in_channels, inner, (1, 1, 1))
        self.conv2 = layers.named_sequence(
            conv=DepthwiseConv3d(inner, (3, 3, 3), stride), bn=layers.BatchNorm3d(inner)
        )
        self.squeeze = SqueezeExcitation(inner) if squeeze else nn.Identity()
        self.conv3 = ConvBn3d(inner, out_channels, (1, 1, 1))
        self.shortcut = nn.Identity()
        if stride > 1:
            self.shortcut = ConvBn3d(in_channels, out_channels, (1, 1, 1), (1, stride, stride))
            if in_channels == out_channels and not shortcut_norm:
                self.shortcut.set_submodule("bn", nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = layers.relu(self.conv1(x))
        y = F.silu(self.squeeze(self.conv2(y)), inplace=not torch.is_grad_enabled())
        return layers.relu(self.conv3(y) + self.shortcut(x))


class WindowMeans(nn.Module):
    """Average pool with stride 1, its window cut to the maps."""

    def __init__(self, window: Size):
        super().__init__()
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t, h, w = map(min, x.shape[2:], self.window)
        # of images, since the gradient of avg_pool3d is contiguous
        x = F.avg_pool2d(frames_of(x), (h, w), 1).unflatten(0, (-1, x.shape[2])).transpose(1, 2)
        return F.avg_pool2d(over_time(x), (t, 1), 1).unflatten(3, x.shape[3:])


class X3D(nn.Module):
    """X3D; XS, S and M differ in their clips alone.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics.
        variant: a key of VARIANTS.
        shortcut_norm: whether batch norm follows the convolution on the first shortcut, as in
            PySlowFast; PyTorchVideo has it where the number of channels changes alone.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        variant: str = "x3d_m",
        shortcut_norm: bool = False,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"x3d has no variant '{variant}', but {', '.join(VARIANTS)}")
        self.variant = variant
        depth, window = VARIANTS[variant]
        channels = WIDTHS[0]
        self.features = layers.named_sequence(
            stem=layers.named_sequence(
                space=nn.Conv3d(in_channels, channels, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
                time=DepthwiseConv3d(channels, (5, 1, 1)),
                bn=layers.BatchNorm3d(channels),
                relu=nn.ReLU(),
            )
        )
        # (N, 24, T, H/4, W/4), (N, 48, T, H/8, W/8), (N, 96, T, H/16, W/16), (N, 192, T, H/32, ...)
        for i, (width, number) in enumerate(zip(WIDTHS, NUM_BLOCKS, strict=True), 2):
            stage = nn.Sequential()
            for j in range(math.ceil(depth * number)):
                stride, squeeze = 1 if j else 2, j % 2 == 0
                stage.append(Block(channels, width, stride, squeeze, shortcut_norm))
                channels = width
            self.features.add_module(f"res{i}", stage)
        inner = int(2.25 * channels)
        self.features.add_module("conv5", ConvBn3d(channels, inner, (1, 1, 1)))
        self.features.add_module("relu5", nn.ReLU())
        self.features.add_module("pool5", WindowMeans(window))
        self.features.add_module("conv6", nn.Conv3d(inner, NUM_FEATURES, 1, bias=False))
        self.features.add_module("relu6", nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        self.start()
        layers.set_batch_norm(self, eps=1e-5, momentum=bn_momentum)

    def start(self) -> None:
        """Weights before training, as in PySlowFast; each block passes its input on at first."""
        for m in self.modules():
            if isinstance(m, nn.Conv3d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, Block):
                nn.init.zeros_(m.conv3.bn.weight)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 2048) before the head, averaged over the windows of the clip.

        No earlier: between the means of a window and its features is a ReLU.
        """
        return layers.mean_over_positions(self.features(clip))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        # the head is linear: the mean of the logits of all windows is the logits of their mean
        return self.head(self.dropout(self.forward_features(clip)))
