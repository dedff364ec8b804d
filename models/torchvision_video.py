"""torchvision's video networks: its own modules between this project's clips and head.

Papers:  R3D, MC3, R(2+1)D: Tran et al., CVPR 2018, arXiv:1711.11248
         MViT: Fan et al., ICCV 2021, arXiv:2104.11227; v2: Li et al., CVPR 2022, arXiv:2112.01526
         Video Swin: Liu et al., CVPR 2022, arXiv:2106.13230
Weights: torchvision's, for Kinetics-400 (weights/torchvision_video.py)
Input:   clips (N, in_channels, T, H, W), normalized; any T, H and W
Output:  logits (N, num_classes), to the bit those of torchvision
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import get_model
from torchvision.models.video import mvit
from torchvision.ops import StochasticDepth

from config import ARCHS, UserError, refuse
from models import layers


class TorchvisionVideo(nn.Module):
    """What the networks below share: `backbone` is torchvision's, with the head taken out of it.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics of batch norm.
        variant: torchvision's name of the network; None: the first one that config.ARCHS has.
    """

    arch: str  # a key of config.ARCHS
    first_conv: str  # of the module of torchvision, as is the next
    classifier: str

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.0,
        bn_momentum: float = 0.1,
        variant: str | None = None,
    ):
        super().__init__()
        variants = ARCHS[self.arch].options["variant"]
        assert isinstance(variants, tuple)
        if variant not in (None, *variants):
            raise UserError(f"{self.arch} has no variant '{variant}', but {', '.join(variants)}")
        self.variant = variant or variants[0]
        self.backbone = get_model(self.variant, weights=None, num_classes=num_classes)
        classifier = self.backbone.get_submodule(self.classifier)
        self.backbone.set_submodule(self.classifier, nn.Identity())
        if in_channels != 3:
            self.take_channels(in_channels)
        layers.set_batch_norm(self, eps=1e-5, momentum=bn_momentum)
        self.dropout = nn.Dropout(dropout)
        # MViT's has a dropout of its own before the layer
        self.head = classifier[-1] if isinstance(classifier, nn.Sequential) else classifier

    def take_channels(self, in_channels: int) -> None:
        """Makes the first convolution a new one, for clips of other channels than RGB."""
        conv = self.backbone.get_submodule(self.first_conv)
        assert isinstance(conv, nn.Conv3d)
        conv.in_channels = in_channels
        conv.weight = nn.Parameter(torch.empty(conv.out_channels, in_channels, *conv.kernel_size))
        layers.init_weights(conv)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, dim) before the head: 512, 768, or of Swin3D-B 1024."""
        return self.backbone(clip)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.forward_features(clip)))


class VideoResNet(TorchvisionVideo):
    """3-D ResNets of 18 layers: R3D (3x3x3 everywhere), MC3 (3x3x3, then 1x3x3), R(2+1)D."""

    arch, first_conv, classifier = "videoresnet", "stem.0", "fc"


class Transformer(TorchvisionVideo):
    """A network of layer norms, whose residual branches are left out at random in training.

    Args:
        drop_path: how often the last block's are, of each clip; it rises from 0 at the first
            block. None: torchvision's, 0.2 for MViT and 0.1 for Swin.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.0,
        bn_momentum: float = 0.1,
        variant: str | None = None,
        drop_path: float | None = None,
    ):
        wrong = drop_path is not None and not 0 <= drop_path <= 1
        refuse(wrong, f"--drop-path {drop_path} is no probability: give one between 0 and 1")
        super().__init__(num_classes, in_channels, dropout, bn_momentum, variant)
        if drop_path is not None:
            paths = [m for m in self.modules() if isinstance(m, StochasticDepth)]
            last = paths[-1].p
            for path in paths:
                path.p *= drop_path / last

    def parameter_groups(self) -> list[dict]:
        """The trainable parameters, for an optimizer that multiplies its settings.

        No weight decay on what is a vector, biases and norms, nor on tables of positions: as
        PySlowFast trains MViT (ZERO_WD_1D_PARAM), and Video Swin's configurations all but biases.
        """
        free, decayed = [], []
        for name, parameter in self.named_parameters():
            is_free = parameter.dim() == 1 or "position_bias_table" in name
            (free if is_free else decayed).append(parameter)
        return [
            {"params": decayed, "lr_mult": 1, "decay_mult": 1},
            {"params": free, "lr_mult": 1, "decay_mult": 0},
        ]


class MViT(Transformer):
    """Multiscale Vision Transformers: attention whose maps get smaller and wider by the stage.

    torchvision's take 16 frames of 224 px, and here any clip. What accuracy its weights have at
    other sizes was not measured.
    """

    arch, first_conv, classifier = "mvit", "conv_proj", "head"

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 768) of the class token.

        torchvision's own forward but for the size of the clip, which that reads from the module:
        threads that share it may have clips of several sizes.
        """
        assert isinstance(self.backbone, mvit.MViT)
        maps = self.backbone.conv_proj(clip)
        sizes = tuple(maps.shape[2:])
        self.num_frames = sizes[0]  # for `as_maps`
        tokens = self.with_positions(maps.flatten(2).mT, sizes)
        for block in self.backbone.blocks:  # v2's interpolate their tables of distances
            tokens, sizes = block(tokens, sizes)
        return self.backbone.norm(tokens)[:, 0]

    def with_positions(self, tokens: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        """The class token before them, (N, 1 + T * H * W, C); of v1, all know their places."""
        positions = self.backbone.get_submodule("pos_encoding")
        assert isinstance(positions, mvit.PositionalEncoding)
        token = positions.class_token.expand(tokens.shape[0], 1, -1)
        tokens = torch.cat((token, tokens), dim=1)
        time, space, place = positions.temporal_pos, positions.spatial_pos, positions.class_pos
        if time is None or space is None or place is None:
            return tokens
        side, (frames, *image) = math.isqrt(len(space)), sizes
        time, space = resampled(time, [-1], [frames]), resampled(space, [side, side], image)
        places = (time[:, None] + space).flatten(0, 1)
        return tokens + torch.cat((place[None], places))

    def map_stages(self) -> list[nn.Module]:
        """Where tokens are places of maps and the class token still has to see them."""
        assert isinstance(self.backbone, mvit.MViT)
        return [block.get_submodule("norm1") for block in self.backbone.blocks]

    def as_maps(self, tokens: torch.Tensor) -> torch.Tensor:
        """Of a square clip, (N, 1 + T * S * S, C) -> (N, C, T, S, S), without the class token."""
        side = math.isqrt((tokens.shape[1] - 1) // self.num_frames)
        return tokens[:, 1:].mT.unflatten(2, (self.num_frames, side, side))


def resampled(table: torch.Tensor, old: list[int], new: list[int]) -> torch.Tensor:
    """A table (places, dim) of a grid of `old` sides, interpolated to `new` ones."""
    grid = table.T.unflatten(1, old)[None]
    mode = "linear" if len(new) == 1 else "bilinear"
    return F.interpolate(grid, new, mode=mode)[0].flatten(1).T


class Swin3D(Transformer):
    """Video Swin: attention in windows of 8 x 7 x 7 patches, shifted in every second block."""

    arch, first_conv, classifier = "swin3d", "patch_embed.proj", "head"

    def as_maps(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, H, W, C), as its stages pass it on -> (N, C, T, H, W)."""
        return tokens.movedim(-1, 1)
