"""2-D networks for TSN: torchvision's, and Inception with batch norm, on which TSN was published.

Paper:   Ioffe and Szegedy, Batch Normalization, ICML 2015, arXiv:1502.03167 (BNInception)
Weights: ImageNet (weights/backbones.py); torchvision's first ones, and a PyTorch port of the Caffe
    BNInception of TSN's authors, which has biases in its convolutions and pools with ceil_mode
Input:   images (N, 3, H, W), normalized as the weights were trained; how small H and W may be
    stands in BACKBONES
Output:  logits (N, num_classes)
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import get_model

from config import UserError
from models.layers import Branches, Pair, init_weights, mean_over_positions, named_sequence
from models.weights import find, load


class ConvBnRelu2d(nn.Sequential):
    """Convolution with a bias, batch norm, ReLU; odd kernels keep the size, but for the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)


class HalvingMaxPool(nn.Module):
    """3x3 max-pool to the size that a 3x3 convolution with stride 2 has beside it.

    Even sizes as in the public network: no padding before, ceil_mode behind. Odd ones, which it
    cannot take, are padded as the convolution pads them.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padding = (x.shape[2] % 2, x.shape[3] % 2)
        return F.max_pool2d(x, 3, stride=2, padding=padding, ceil_mode=True)


class Mixed(Branches):
    """Inception block: 1x1 | 1x1, 3x3 | 1x1, 3x3, 3x3 | pool, 1x1, side by side."""

    def __init__(
        self, in_channels: int, b0: int, b1: Pair, b2: Pair, b3: int, max_pool: bool = False
    ):
        super().__init__()
        conv, pool = ConvBnRelu2d, nn.MaxPool2d if max_pool else nn.AvgPool2d
        self.branch0 = conv(in_channels, b0, 1)
        self.branch1 = nn.Sequential(conv(in_channels, b1[0], 1), conv(*b1, 3))
        self.branch2 = nn.Sequential(
            conv(in_channels, b2[0], 1), conv(*b2, 3), conv(b2[1], b2[1], 3)
        )
        self.branch3 = nn.Sequential(pool(3, stride=1, padding=1), conv(in_channels, b3, 1))


class MixedHalf(Branches):
    """Inception block to half the size: 1x1, 3x3 | 1x1, 3x3, 3x3 | max-pool, side by side."""

    def __init__(self, in_channels: int, b1: Pair, b2: Pair):
        super().__init__()
        conv = ConvBnRelu2d
        self.branch1 = nn.Sequential(conv(in_channels, b1[0], 1), conv(*b1, 3, stride=2))
        self.branch2 = nn.Sequential(
            conv(in_channels, b2[0], 1), conv(*b2, 3), conv(b2[1], b2[1], 3, stride=2)
        )
        self.branch3 = HalvingMaxPool()


class BNInception(nn.Module):
    """Inception-v2: Inception-v1 with batch norm and two 3x3 in place of the 5x5."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.features = named_sequence(
            conv_1=ConvBnRelu2d(3, 64, 7, stride=2),  # (N, 64, H/2, W/2)
            pool_1=nn.MaxPool2d(3, stride=2, ceil_mode=True),
            conv_2_reduce=ConvBnRelu2d(64, 64, 1),
            conv_2=ConvBnRelu2d(64, 192, 3),
            pool_2=nn.MaxPool2d(3, stride=2, ceil_mode=True),
            mixed_3a=Mixed(192, 64, (64, 64), (64, 96), 32),  # (N, 256, H/8, W/8)
            mixed_3b=Mixed(256, 64, (64, 96), (64, 96), 64),
            mixed_3c=MixedHalf(320, (128, 160), (64, 96)),
            mixed_4a=Mixed(576, 224, (64, 96), (96, 128), 128),  # (N, 576, H/16, W/16)
            mixed_4b=Mixed(576, 192, (96, 128), (96, 128), 128),
            mixed_4c=Mixed(576, 160, (128, 160), (128, 160), 128),
            mixed_4d=Mixed(608, 96, (128, 192), (160, 192), 128),
            mixed_4e=MixedHalf(608, (128, 192), (192, 256)),
            mixed_5a=Mixed(1056, 352, (192, 320), (160, 224), 128),  # (N, 1024, H/32, W/32)
            mixed_5b=Mixed(1024, 352, (192, 320), (192, 224), 128, max_pool=True),
        )
        self.head = nn.Linear(1024, num_classes)
        init_weights(self)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(mean_over_positions(self.features(image)))


@dataclass(frozen=True)
class Backbone:
    """What TSN needs to know of a 2-D network."""

    num_features: int  # inputs of the classifier
    classifier: str = "fc"  # the last layer
    first_conv: str = "conv1"
    least_side: int = 1  # of an image, in pixels
    build_args: dict = field(default_factory=dict)  # of torchvision's function


NO_AUX = {"aux_logits": False, "init_weights": True}
VGG = Backbone(4096, classifier="classifier.6", first_conv="features.0", least_side=32)
BACKBONES = {
    "resnet18": Backbone(512),
    "resnet34": Backbone(512),
    "resnet50": Backbone(2048),
    "resnet101": Backbone(2048),
    "resnet152": Backbone(2048),
    "vgg16": VGG,
    "vgg16_bn": VGG,
    "vgg19": VGG,
    "vgg19_bn": VGG,
    "inception_v3": Backbone(
        2048, first_conv="Conv2d_1a_3x3.conv", build_args=NO_AUX, least_side=75
    ),
    "googlenet": Backbone(1024, first_conv="conv1.conv", build_args=NO_AUX, least_side=15),
    "bninception": Backbone(
        1024, classifier="head", first_conv="features.conv_1.conv", least_side=7
    ),
}


def build_backbone(
    name: str, num_classes: int = 1000, weights: str | None = None, weights_file: str | None = None
) -> nn.Module:
    """A 2-D network without auxiliary classifiers: images (N, 3, H, W) -> logits (N, num_classes).

    Args:
        name: a key of BACKBONES.
        num_classes: outputs of the classifier.
        weights: a name of models.weights.backbones.WEIGHTS, or None to start from scratch.
        weights_file: where the file of `weights` is, instead of pretrained/.
    """
    if name not in BACKBONES:
        raise UserError(f"unknown backbone '{name}'; there are {', '.join(BACKBONES)}")
    entry = find(weights, "backbones") if weights else None
    if entry and entry.arch_args["name"] != name:
        raise UserError(f"the weights {weights} are of {entry.arch_args['name']}, not of {name}")
    if name == "bninception":
        network = BNInception(num_classes)
    else:
        build_args = BACKBONES[name].build_args
        network = get_model(name, weights=None, num_classes=num_classes, **build_args)
    if entry:
        load(network, entry, weights_file)
    return network
