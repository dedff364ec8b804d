"""SlowFast: a pathway that sees few frames, and beside it a thin one that sees all of them.

Paper:   Feichtenhofer et al., SlowFast Networks, ICCV 2019, arXiv:1812.03982
Weights: those of PySlowFast and of PyTorchVideo, for Kinetics-400 (weights/slowfast.py)
Input:   clips (N, in_channels, T, H, W), normalized; any T, H and W: the frames of the fast
    pathway, of which the slow one takes some
Output:  logits (N, num_classes)
"""

from operator import index
from typing import NamedTuple

import torch
from torch import nn

from config import UserError
from models import layers
from models.resnet3d import NUM_BLOCKS, Bottleneck, ConvBn3d, start_as_identity

NUM_FEATURES = 2048 + 256  # of the slow pathway and of the fast one
WINDOW = (7, 7)  # rows and columns that the head averages; all of them in a clip of 224 px
Maps = tuple[torch.Tensor, torch.Tensor]  # slow and fast, (N, C, T, H, W) each


class Variant(NamedTuple):
    depth: int  # a key of NUM_BLOCKS
    alpha: int  # frames of the fast pathway to one of the slow pathway
    lateral: int  # frames under the kernels of the lateral connections
    num_res4: int  # blocks of res4 that see time, the first ones


VARIANTS = {  # frames of the slow pathway x the stride between them
    "slowfast_r50_8x8": Variant(depth=50, alpha=4, lateral=7, num_res4=6),
    "slowfast_r50_4x16": Variant(depth=50, alpha=8, lateral=5, num_res4=6),
    "slowfast_r101_8x8": Variant(depth=101, alpha=4, lateral=5, num_res4=23),
    "slowfast_r101_16x8": Variant(depth=101, alpha=4, lateral=5, num_res4=6),
}


class TwoPathways(nn.Module):
    """A layer of each pathway: (slow, fast) -> (slow, fast).

    Args:
        lateral: strided in time, makes maps of the fast pathway fit those of the slow one, which
            they are joined to first.
    """

    def __init__(self, slow: nn.Module, fast: nn.Module, lateral: nn.Module | None = None):
        super().__init__()
        self.lateral, self.slow, self.fast = lateral, slow, fast

    def forward(self, maps: Maps) -> Maps:
        slow, fast = maps
        if self.lateral is not None:
            slow = torch.cat([slow, layers.relu(self.lateral(fast))], dim=1)
        return self.slow(slow), self.fast(fast)


class SlowFast(nn.Module):
    """ResNets of bottlenecks side by side.

    The slow one sees time in res4 and res5 alone; the fast one everywhere, with an eighth of the
    channels. Neither has a stride in time.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics.
        variant: a key of VARIANTS.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        variant: str = "slowfast_r50_8x8",
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"slowfast has no variant '{variant}', but {', '.join(VARIANTS)}")
        self.variant = variant
        depth, self.alpha, lateral_frames, num_res4 = VARIANTS[variant]
        slow, fast = 64, 8  # channels
        stem = TwoPathways(stem_of(in_channels, slow, 1), stem_of(in_channels, fast, 5))
        self.features = layers.named_sequence(stem=stem)
        for i, num_blocks in enumerate(NUM_BLOCKS[depth]):
            stage, stride = nn.Sequential(), 1 if i == 0 else 2
            kernel = lateral_frames, 1, 1
            lateral = ConvBn3d(fast, 2 * fast, kernel, (self.alpha, 1, 1))
            slow += 2 * fast
            for j in range(num_blocks):
                frames = 1 if i == 2 and j >= num_res4 else 3
                blocks = (
                    Bottleneck(slow, 64 * 2**i, stride, (frames if i >= 2 else 1, 1)),
                    Bottleneck(fast, 8 * 2**i, stride, (frames, 1)),
                )
                stage.append(TwoPathways(*blocks, lateral if j == 0 else None))
                slow, fast, stride = 256 * 2**i, 32 * 2**i, 1
            # (N, 256, T/alpha, H/4, W/4) and (N, 32, T, H/4, W/4), ... 2048 and 256, H/32, W/32
            self.features.add_module(f"res{i + 2}", stage)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        start_as_authors(self)
        layers.set_batch_norm(self, eps=1e-5, momentum=bn_momentum)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 2304) before the head, the slow ones first, averaged over the clip."""
        # index: compiled for clips of any length, it would be a symbol
        frames = slow_frames(index(clip.shape[2]), self.alpha).to(clip.device)
        # along the second dimension, of the third one the copy would not have channels last
        slow = clip.movedim(1, -1)[:, frames].movedim(-1, 1)
        maps = self.features((slow, clip))
        return torch.cat([layers.mean_over_windows(x, (x.shape[2], *WINDOW)) for x in maps], dim=1)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        # the head is linear: the mean of the logits of all windows is the logits of their mean
        return self.head(self.dropout(self.forward_features(clip)))

    def map_stages(self) -> list[nn.Module]:
        """Whose maps --heatmap takes: of res5, for frames of 224 px, those of the slow pathway,
        which are most of what the head sees; before it those of the fast one, which go into both.

        On the demo set 1.1 to 1.9 times as much of the heat lies on what moves as in slow maps.
        """
        pathways = [
            [m for m in stage.modules() if isinstance(m, TwoPathways)][-1]
            for stage in self.features
        ]
        return [*(m.fast for m in pathways[:-1]), pathways[-1].slow]


@torch.compiler.assume_constant_result  # compiled, float32 would be rounded in another way
def slow_frames(num_frames: int, alpha: int) -> torch.Tensor:
    """Which frames of a clip the slow pathway takes: spread evenly, first and last among them.

    In float32, as the authors' code: where exact numbers fall on a frame it may take the one
    before. Theirs takes T // alpha, which fits the lateral connections only if nothing is left.
    """
    return torch.linspace(0, num_frames - 1, -(-num_frames // alpha), device="cpu").long()


def stem_of(in_channels: int, out_channels: int, frames: int) -> nn.Sequential:
    """The layers of a pathway before res2; `frames` are under the first kernel."""
    return layers.named_sequence(
        conv1=ConvBn3d(in_channels, out_channels, (frames, 7, 7), (1, 2, 2)),
        relu=nn.ReLU(inplace=True),
        pool1=nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    )


def start_as_authors(model: SlowFast) -> None:
    """He initialization by the outputs, a nearly uniform head, and blocks that pass on their input.

    Source: the authors' code.
    """
    for m in model.modules():
        if isinstance(m, nn.Conv3d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(model.head.weight, std=0.01)
    nn.init.zeros_(model.head.bias)
    start_as_identity(model)
