"""ResNet3D: ResNets inflated to 3-D, with non-local blocks (NL I3D); not inflated, it is C2D.

Inflated in its last stages alone, it is the slow pathway of SlowFast (Slow-only).

Paper:   Wang et al., Non-local Neural Networks, CVPR 2018, arXiv:1711.07971
    Feichtenhofer et al., SlowFast Networks, ICCV 2019, arXiv:1812.03982 (Slow-only)
Weights: those of the authors, of PyTorchVideo and of MMAction2, which differ in the strides of the
    stem, its pools and the head; and 2-D ones of ImageNet to inflate (weights/resnet3d.py)
Input:   clips (N, in_channels, T, H, W), normalized; `least` says how short and small they may be
Output:  logits (N, num_classes)
"""

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from config import UserError
from models import layers
from models.layers import Size

NUM_FEATURES = 2048
NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # res2 to res5
# frames under conv1 and conv2
INFLATE = {"none": (1, 1), "3x1x1": (3, 1), "3x3x3": (1, 3), "slow": (3, 1)}
INFLATED = ((1,), (1, 0), (1, 0), (0, 1))  # which blocks of res2 to res5, again and again
SLOW = ((0,), (0,), (1,), (1,))  # of Slow-only
NON_LOCAL = {  # the blocks of res3 and of res4 that a non-local block follows
    (50, 5): ((1, 3), (1, 3, 5)),
    (50, 10): ((0, 1, 2, 3), (0, 1, 2, 3, 4, 5)),
    (101, 5): ((1, 3), (6, 13, 20)),  # every seventh, as in the authors' code
    (101, 10): ((0, 1, 2, 3), (2, 6, 10, 14, 18, 22)),  # GluonCV's; the paper does not say
    (152, 5): ((3, 7), (11, 23, 35)),  # nobody's: evenly spaced, the last block included
    (152, 10): ((1, 3, 5, 7), (5, 11, 17, 23, 29, 35)),
}
MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
SUBSAMPLE = ("before", "after", "none")


def check(name: str, value: object, known: Collection) -> None:
    """Raises UserError unless `value` is one of `known`."""
    if value not in known:
        raise UserError(f"resnet3d: there is no {name} {value!r}; there are {[*known]}")


class ConvBn3d(nn.Sequential):
    """Convolution padded by half its kernel, and batch norm."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = (1, 1, 1)
    ):
        super().__init__()
        t, h, w = kernel_size
        padding = (t // 2, h // 2, w // 2)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = layers.BatchNorm3d(out_channels)


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1; `frames` are under the kernels of the first two."""

    def __init__(self, in_channels: int, width: int, stride: int, frames: tuple[int, int]):
        super().__init__()
        out_channels, strides = 4 * width, (1, stride, stride)
        self.conv1 = ConvBn3d(in_channels, width, (frames[0], 1, 1))
        self.conv2 = ConvBn3d(width, width, (frames[1], 3, 3), strides)
        self.conv3 = ConvBn3d(width, out_channels, (1, 1, 1))
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = ConvBn3d(in_channels, out_channels, (1, 1, 1), strides)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = layers.relu(self.conv1(x))
        y = layers.relu(self.conv2(y))
        return layers.relu(self.conv3(y) + self.shortcut(x))


class NonLocal(nn.Module):
    """To each position i a sum over all positions j of the clip is added: of g(x_j) weighted by

    gaussian           softmax over j of x_i . x_j
    embedded_gaussian  softmax over j of theta(x_i) . phi(x_j)
    dot_product        theta(x_i) . phi(x_j) / (number of j)
    concatenation      ReLU(w . [theta(x_i), phi(x_j)]) / (number of j)

    Args:
        channels: of x; theta, phi and g have half of them.
        mode: one of the above.
        scale: divide the products of embedded_gaussian by the root of the channels of theta.
        subsample: the positions j are the maxima of 2x2 in space, of x ("before" phi and g, as the
            authors' code has it) or of phi(x) and g(x) ("after" them); or all ("none").
    """

    def __init__(self, channels: int, mode: str, scale: bool, subsample: str):
        super().__init__()
        inner = channels // 2
        self.mode, self.subsample = mode, subsample
        self.scale = inner**-0.5 if scale else 1.0
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.theta, self.phi = nn.Identity(), nn.Identity()
        if mode != "gaussian":
            self.theta = nn.Conv3d(channels, inner, kernel_size=1)
            self.phi = nn.Conv3d(channels, inner, kernel_size=1)
        if mode == "concatenation":
            self.pair = nn.Linear(2 * inner, 1, bias=False)
        self.g = nn.Conv3d(channels, inner, kernel_size=1)
        self.out = ConvBn3d(inner, channels, (1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_j = self.pool(x) if self.subsample == "before" else x
        theta, phi, g = self.theta(x), self.phi(x_j), self.g(x_j)
        if self.subsample == "after":
            phi, g = self.pool(phi), self.pool(g)
        # (N, C, T, H, W) -> (N, positions, C): free where channels come last
        theta, phi, g = (m.flatten(2).transpose(1, 2) for m in (theta, phi, g))
        y = self.weighted_sums(theta, phi, g).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.out(y)

    def weighted_sums(
        self, theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor
    ) -> torch.Tensor:
        """(N, i, C), (N, j, C) and (N, j, D) -> (N, i, D)."""
        if self.mode == "dot_product":
            # no softmax, so the cheap product comes first: no matrix of all pairs
            return theta @ ((phi / phi.shape[1]).transpose(1, 2) @ g)
        if self.mode == "concatenation":
            # w . [theta, phi] is one half of w for theta and the other for phi, added for all pairs
            w_theta, w_phi = self.pair.weight.chunk(2, dim=1)
            pairs = F.relu(F.linear(theta, w_theta) + F.linear(phi, w_phi).transpose(1, 2))
            return pairs / phi.shape[1] @ g
        # fused: under autocast the products keep float32 up to the softmax
        theta, phi, g = theta.unsqueeze(1), phi.unsqueeze(1), g.unsqueeze(1)
        return F.scaled_dot_product_attention(theta, phi, g, scale=self.scale).squeeze(1)


class ResNet3D(nn.Module):
    """ResNet of bottlenecks; the defaults are the I3D of SlowFast and PyTorchVideo.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics.
        depth: a key of NUM_BLOCKS.
        inflate: the kernel that spans three frames in the blocks of INFLATED: the first ("3x1x1")
            or the second ("3x3x3") of the block; conv1 then spans five. "none" is C2D, which sees
            time only in its pools. "slow" is Slow-only: the first kernel in all blocks of res4 and
            res5, and neither conv1 nor a pool over time before them.
        non_local: number of non-local blocks, 0, 5 or 10.
        non_local_mode: see NonLocal, as for the next two.
        non_local_scale: off in the paper's formula, on in the authors' code.
        non_local_subsample: one of SUBSAMPLE.
        conv1_stride: frames from one output of conv1 to the next.
        pool1_kernel: frames under the max-pool after conv1; it is 3x3 in space.
        pool1_stride: frames from one output of that pool to the next.
        pool1_padding: its padding in space, in pixels.
        pool2: whether a max-pool after res2 halves the number of frames.
        head_window: frames, rows and columns of the windows whose means are averaged before the
            head; None averages all positions. They are the same for clips of the size of the
            window only (8 frames of 224 px fill a window of (4, 7, 7)).
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        depth: int = 50,
        inflate: str = "3x1x1",
        non_local: int = 0,
        non_local_mode: str = "embedded_gaussian",
        non_local_scale: bool = False,
        non_local_subsample: str = "before",
        conv1_stride: int = 1,
        pool1_kernel: int = 1,
        pool1_stride: int = 1,
        pool1_padding: int = 1,
        pool2: bool = True,
        head_window: Size | None = None,
    ):
        super().__init__()
        check("depth", depth, NUM_BLOCKS)
        check("inflate", inflate, INFLATE)
        check("number of non-local blocks", non_local, (0, 5, 10))
        check("non_local_mode", non_local_mode, MODES)
        check("non_local_subsample", non_local_subsample, SUBSAMPLE)
        if non_local_scale and non_local_mode != "embedded_gaussian":
            raise UserError(f"resnet3d: non_local_mode {non_local_mode} has no non_local_scale")
        variant = (non_local_mode, non_local_scale, non_local_subsample)
        if not non_local and variant != ("embedded_gaussian", False, "before"):
            raise UserError("resnet3d: non_local_mode, scale and subsample need non_local 5 or 10")
        self.head_window = head_window
        conv1_kernel = (5 if inflate in ("3x1x1", "3x3x3") else 1, 7, 7)
        padding = (0, pool1_padding, pool1_padding)
        self.features = layers.named_sequence(
            stem=ConvBn3d(in_channels, 64, conv1_kernel, (conv1_stride, 2, 2)),
            relu=nn.ReLU(inplace=True),
            pool1=nn.MaxPool3d((pool1_kernel, 3, 3), (pool1_stride, 2, 2), padding),
        )
        non_local_after = ((), *NON_LOCAL.get((depth, non_local), ((), ())), ())
        channels = 64
        for i, num_blocks in enumerate(NUM_BLOCKS[depth]):
            width, inflated = 64 * 2**i, (SLOW if inflate == "slow" else INFLATED)[i]
            stage = nn.Sequential()
            for j in range(num_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                frames = INFLATE[inflate] if inflated[j % len(inflated)] else (1, 1)
                stage.add_module(f"{j}", Bottleneck(channels, width, stride, frames))
                channels = 4 * width
                if j in non_local_after[i]:
                    stage.add_module(f"non_local_{j}", NonLocal(channels, *variant))
            # (N, 256, T, H/4, W/4), (N, 512, T/2, H/8, W/8), ... (N, 2048, T/2, H/32, W/32)
            self.features.add_module(f"res{i + 2}", stage)
            if i == 0 and pool2 and inflate != "slow":
                self.features.add_module("pool2", nn.MaxPool3d((2, 1, 1)))
        self.least = least_clip(self.features, conv1_stride)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        layers.init_weights(self)
        start_as_identity(self)
        layers.set_batch_norm(self, eps=1e-5, momentum=bn_momentum)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 2048) before the head, averaged over the clip."""
        layers.refuse_small(clip, *self.least)
        x = self.features(clip)
        if self.head_window is None:
            return layers.mean_over_positions(x)
        return layers.mean_over_windows(x, self.head_window)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        # the head is linear: the mean of the logits of all windows is the logits of their mean
        return self.head(self.dropout(self.forward_features(clip)))


def least_clip(features: nn.Module, conv1_stride: int) -> tuple[int, int]:
    """Frames and pixels of which the pools leave something."""
    pool1: Any = features.get_submodule("pool1")
    frames, side = pool1.kernel_size[0], 1 if pool1.padding[1] else 5
    if hasattr(features, "pool2"):  # takes two frames of pool1
        frames += pool1.stride[0]
    # half of the size that is left in res4, a sixteenth
    halved = any(isinstance(m, NonLocal) and m.subsample != "none" for m in features.modules())
    return (frames - 1) * conv1_stride + 1, side + 16 * halved


def start_as_identity(model: nn.Module) -> None:
    """Each block passes its input on at first, since its last batch norm multiplies by zero.

    Source: the authors' code; the paper (sec. 4.1) says so of the non-local blocks.
    """
    for m in model.modules():
        if isinstance(m, Bottleneck):
            nn.init.zeros_(m.conv3.bn.weight)
        elif isinstance(m, NonLocal):
            nn.init.zeros_(m.out.bn.weight)
            for conv in m.children():
                if isinstance(conv, nn.Conv3d):
                    nn.init.normal_(conv.weight, std=0.01)  # the softmax starts nearly uniform
