"""R(2+1)D on a ResNet of bottlenecks, as PyTorchVideo has it: time and space apart.

Paper:   Tran et al., A Closer Look at Spatiotemporal Convolutions, CVPR 2018, arXiv:1711.11248
Differs: the paper's blocks have no bottleneck, space before time, and more channels between the two
    (`--arch videoresnet` is that one)
Weights: those of PyTorchVideo (weights/r2plus1d.py)
Input:   clips (N, in_channels, T, H, W), normalized; any T, H and W
Output:  logits (N, num_classes)
"""

import torch
from torch import nn

from models import layers
from models.layers import Pair, Size
from models.resnet3d import NUM_BLOCKS, NUM_FEATURES, ConvBn3d

STRIDES = ((1, 2), (1, 2), (2, 2), (2, 2))  # of res2 to res5, in time and in space


class Bottleneck(nn.Module):
    """Residual block of 1x1x1, 3x1x1 and 1x3x3, and 1x1x1."""

    def __init__(self, in_channels: int, width: int, stride: Pair):
        super().__init__()
        out_channels, (t, s) = 4 * width, stride
        self.conv1 = ConvBn3d(in_channels, width, (1, 1, 1))
        self.time = ConvBn3d(width, width, (3, 1, 1), (t, 1, 1))
        self.space = ConvBn3d(width, width, (1, 3, 3), (1, s, s))
        self.conv3 = ConvBn3d(width, out_channels, (1, 1, 1))
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = ConvBn3d(in_channels, out_channels, (1, 1, 1), (t, s, s))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = layers.relu(self.conv1(x))
        y = layers.relu(self.space(layers.relu(self.time(y))))
        return layers.relu(self.conv3(y) + self.shortcut(x))


class R2Plus1D(nn.Module):
    """R(2+1)D of 50 layers.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics.
        head_window: frames, rows and columns of the windows whose means are averaged before the
            head, as in PyTorchVideo: all of the maps of 16 frames of 224 px.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        head_window: Size = (4, 7, 7),
    ):
        super().__init__()
        self.head_window = head_window
        self.features = layers.named_sequence(
            stem=ConvBn3d(in_channels, 64, (1, 7, 7), (1, 2, 2)), relu=nn.ReLU()
        )
        channels = 64
        # (N, 256, T, H/4, W/4), (N, 512, T, H/8, W/8), ... (N, 2048, T/4, H/32, W/32)
        for i, (number, stride) in enumerate(zip(NUM_BLOCKS[50], STRIDES, strict=True)):
            stage = nn.Sequential()
            for j in range(number):
                stage.append(Bottleneck(channels, 64 * 2**i, (1, 1) if j else stride))
                channels = 256 * 2**i
            self.features.add_module(f"res{i + 2}", stage)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        layers.init_weights(self)
        for m in self.modules():
            if isinstance(m, Bottleneck):  # which so passes its input on at first
                nn.init.zeros_(m.conv3.bn.weight)
        layers.set_batch_norm(self, eps=1e-5, momentum=bn_momentum)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 2048) before the head, averaged over the clip."""
        return layers.mean_over_windows(self.features(clip), self.head_window)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        # the head is linear: the mean of the logits of all windows is the logits of their mean
        return self.head(self.dropout(self.forward_features(clip)))
