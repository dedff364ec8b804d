"""TSN: a 2-D network on a few frames from all over the video, and the consensus of its scores.

With `shift` it is TSM, whose frames see their neighbours.

Paper:   Wang et al., Temporal Segment Networks, ECCV 2016, arXiv:1608.00859
    Lin et al., TSM: Temporal Shift Module, ICCV 2019, arXiv:1811.08383
Weights: MMAction2's and of TSM the authors' for Kinetics-400, or the backbone's for ImageNet, which
    is how the papers start (weights/tsn.py)
Input:   clips (N, C, T, H, W), normalized as the backbone's weights were, H and W as it takes them
    (backbones.py); T follows from the number of segments, which is free, but of TSM that of its
    training:
    rgb      C = 3, one frame a segment, T = segments
    flow     C = 10, T = segments: five consecutive fields as channels u1, v1, ..., u5, v5. TSN's
             are stored from 0 to 255 with no motion at 128: x - 128 for bninception, of [0, 1]
             (x - 0.5) / 0.226 for torchvision's networks
    rgbdiff  C = 3, T = 6 x segments: six consecutive frames of each, one segment after the other;
             the network takes the five differences, as 15 channels. A mean cancels in them
Output:  logits (N, num_classes)
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from config import UserError
from models.backbones import BACKBONES, build_backbone
from models.layers import init_weights, refuse_small

CHANNELS = {"rgb": 3, "flow": 10, "rgbdiff": 3}  # of a clip, by modality
DIFF_FRAMES = 6  # of a segment of rgbdiff
CONSENSUS = ("avg", "max", "topk", "rnn", "cnn")
GRU_FEATURES = 512


class ShiftedConv2d(nn.Conv2d):
    """A convolution of frames whose channels are shifted in time first, a part of them each way.

    Its keys are those of a plain one.
    """

    num_segments = 1  # of each clip in the batch, as TSN sets it

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(shift(input, self.num_segments))


def shift(x: torch.Tensor, num_segments: int) -> torch.Tensor:
    """An eighth of the channels comes from the next frame, one from the last; zeros at the ends.

    (N * segments, C, H, W) -> the same, in the same memory format.

    Source: the authors' temporal-shift-module (ops/temporal_shift.py).
    """
    clip = x.unflatten(0, (-1, num_segments)).transpose(1, 2)  # (N, C, T, H, W)
    eighth = x.shape[1] // 8
    later, earlier, rest = clip.split((eighth, eighth, x.shape[1] - 2 * eighth), dim=1)
    later = F.pad(later[:, :, 1:], (0, 0, 0, 0, 0, 1))
    earlier = F.pad(earlier[:, :, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat((later, earlier, rest), dim=1).transpose(1, 2).flatten(0, 1)


def shifted(resnet: nn.Module) -> nn.Module:
    """Shifts in the residual branch of every block; of 101 layers and more, of every second."""
    children = resnet.named_children()
    stages = [[*stage.children()] for name, stage in children if name.startswith("layer")]
    if not stages:
        known = ", ".join(name for name in BACKBONES if name.startswith("resnet"))
        raise UserError(f"shift needs the residual blocks of a ResNet; {known} have them")
    every = 2 if len(stages[2]) >= 23 else 1
    for block in (block for stage in stages for block in stage[::every]):
        conv = block.get_submodule("conv1")
        assert isinstance(conv, nn.Conv2d)
        shape = conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
        ours = ShiftedConv2d(*shape, bias=False)  # pyrefly: ignore[bad-argument-type]
        ours.weight = conv.weight
        block.set_submodule("conv1", ours)
    return resnet


class TSN(nn.Module):
    """One stream of a temporal segment network.

    The paper's consensus of the segments' logits is their average, "avg"; it also compares "max",
    of each class. "topk" is, for each class, the mean of its `top_k` highest. Two more have no
    published definition and see the order of the segments, of which they need two:
    "rnn": a GRU goes over the features of the segments, and its last state goes into the head.
    "cnn": mean over the segments of s + ReLU(c), where s are their logits and c the output of one
    convolution over them, three segments wide, zeros beyond the ends.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip; None: those of the modality, 3, 10 or 3.
        dropout: probability of dropping a feature before the head, in training. It replaces the
            backbone's own in that place.
        bn_momentum: weight of the newest batch in the running statistics.
        backbone: a key of backbones.BACKBONES.
        modality: "rgb", "flow" or "rgbdiff", see the head of this file.
        consensus: "avg", "max", "topk", "rnn" or "cnn".
        top_k: how many segments "topk" averages; None: 3.
        partial_bn: see `set_partial_bn`. For fine-tuning from ImageNet on a small set.
        shift: TSM: each block of the backbone, a ResNet, sees a quarter of its channels as they are
            in the segments before and after. It sees time, and another number of segments than in
            training would make it another network.
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int | None = None,
        dropout: float = 0.8,
        bn_momentum: float = 0.1,
        backbone: str = "resnet50",
        modality: str = "rgb",
        consensus: str = "avg",
        top_k: int | None = None,
        partial_bn: bool = False,
        shift: bool = False,
    ):
        super().__init__()
        if modality not in CHANNELS:
            raise UserError(f"unknown modality '{modality}'; there are {', '.join(CHANNELS)}")
        if consensus not in CONSENSUS:
            raise UserError(f"unknown consensus '{consensus}'; there are {', '.join(CONSENSUS)}")
        if top_k is not None and (consensus != "topk" or top_k < 1):
            raise UserError("top_k is a number of segments, at least 1, for the consensus topk")
        in_channels = in_channels or CHANNELS[modality]
        if modality == "flow" and in_channels % 2:
            raise UserError(f"flow comes in pairs u, v: in_channels cannot be {in_channels}")
        self.modality, self.consensus, self.top_k = modality, consensus, top_k or 3
        self.shift = shift

        # backbone
        self.backbone = shifted(build_backbone(backbone)) if shift else build_backbone(backbone)
        entry = BACKBONES[backbone]
        self.backbone.set_submodule(entry.classifier, nn.Identity())
        dropouts = [m for m in self.backbone.modules() if isinstance(m, nn.Dropout)]
        if dropouts:
            dropouts[-1].p = 0.0  # ours would come on top of it
        self.first_conv, self.least_side = entry.first_conv, entry.least_side
        conv = self.backbone.get_submodule(self.first_conv)
        assert isinstance(conv, nn.Conv2d)
        channels = in_channels * (DIFF_FRAMES - 1) if modality == "rgbdiff" else in_channels
        if channels != conv.in_channels:
            shape = (conv.out_channels, channels, *conv.kernel_size)
            conv.in_channels, conv.weight = channels, nn.Parameter(torch.empty(shape))
            conv.reset_parameters()  # draws as much as a new one: seeds keep their weights
            init_weights(conv)
        for norm in self.batch_norms():
            norm.momentum = bn_momentum

        # consensus and head
        num_features = entry.num_features
        if consensus == "rnn":
            self.gru = nn.GRU(num_features, GRU_FEATURES, batch_first=True)
            num_features = GRU_FEATURES
        elif consensus == "cnn":
            self.temporal_conv = nn.Conv1d(num_classes, num_classes, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.head.weight, std=0.001)
        nn.init.zeros_(self.head.bias)
        self.set_partial_bn(partial_bn)

    def images(self, clip: torch.Tensor) -> torch.Tensor:
        """What the backbone sees, (N * segments, C, H, W).

        Of a channels-last-3d clip, frames in the batch are a free view, and that view is
        channels-last.
        """
        frames = clip.transpose(1, 2)  # (N, T, C, H, W)
        if self.modality == "rgbdiff":
            if clip.shape[2] % DIFF_FRAMES:
                raise UserError(
                    f"rgbdiff takes {DIFF_FRAMES} frames a segment, and the clip has "
                    f"{clip.shape[2]}, which is no multiple"
                )
            frames = frames.unflatten(1, (-1, DIFF_FRAMES)).diff(dim=2).flatten(2, 3)
        return frames.flatten(0, 1)

    def segment_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features of the backbone, (N, segments, dim)."""
        refuse_small(clip, 1, self.least_side)
        num_segments = clip.shape[2] // (DIFF_FRAMES if self.modality == "rgbdiff" else 1)
        for module in self.backbone.modules():
            if isinstance(module, ShiftedConv2d):
                module.num_segments = num_segments
        return self.backbone(self.images(clip)).unflatten(0, (clip.shape[0], -1))

    def segment_logits(self, clip: torch.Tensor) -> torch.Tensor:
        """Logits before the consensus, (N, segments, num_classes); "rnn": after each segment."""
        features = self.segment_features(clip)
        if self.consensus == "rnn":
            features = self.gru(features)[0]
        return self.head(self.dropout(features))

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, dim) of the backbone, averaged over the segments."""
        return self.segment_features(clip).mean(dim=1)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.aggregate(self.segment_logits(clip))

    def aggregate(self, logits: torch.Tensor) -> torch.Tensor:
        """The consensus: (N, segments, num_classes) -> (N, num_classes)."""
        num_segments = logits.shape[1]
        needed = {"rnn": 2, "cnn": 2, "topk": self.top_k}.get(self.consensus, 1)
        if num_segments < needed:
            raise UserError(
                f"the consensus {self.consensus} needs at least {needed} segments, and the clip "
                f"has {num_segments}"
            )
        if self.consensus == "max":
            return logits.amax(dim=1)
        if self.consensus == "topk":
            return logits.topk(self.top_k, dim=1).values.mean(dim=1)
        if self.consensus == "rnn":
            return logits[:, -1]
        if self.consensus == "cnn":
            logits = logits + F.relu(self.temporal_conv(logits.transpose(1, 2))).transpose(1, 2)
        return logits.mean(dim=1)

    def batch_norms(self) -> list[_BatchNorm]:
        """Those of the backbone, also as --sync-bn replaces them."""
        return [m for m in self.backbone.modules() if isinstance(m, _BatchNorm)]

    def set_partial_bn(self, enabled: bool) -> None:
        """Freezes all batch norms but the first, statistics, weights and biases, or frees them.

        The first one has to follow the input, which is no longer ImageNet's; the others would only
        overfit a small set: arXiv:1608.00859 sec. 3.2. Call it before `parameter_groups`.
        """
        self.partial_bn = enabled
        for norm in self.batch_norms()[1:]:
            norm.requires_grad_(not enabled)
        self.train(self.training)

    def train(self, mode: bool = True) -> "TSN":
        """As in torch, but batch norms that partial_bn froze stay in evaluation."""
        super().train(mode)
        if self.partial_bn:
            for norm in self.batch_norms()[1:]:
                norm.eval()
        return self

    def parameter_groups(self) -> list[dict]:
        """The trainable parameters, for an optimizer that multiplies its settings.

        Returns:
            Dicts of `name`, `params`, `lr_mult` and `decay_mult`; none is empty.

        Source: get_optim_policies of the authors' tsn-pytorch, and of temporal-shift-module, where
        the head, which is new, learns five times as fast.
        """
        flow = self.modality == "flow"
        policies = {  # lr_mult, decay_mult
            "first_conv_weight": (5 if flow else 1, 1),
            "first_conv_bias": (10 if flow else 2, 0),
            "weight": (1, 1),
            "bias": (2, 0),
            "batch_norm": (1, 0),
            "head_weight": (5, 1),
            "head_bias": (10, 0),
        }
        params = {name: [] for name in policies}
        first_conv = self.backbone.get_submodule(self.first_conv)
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                kind = "bias" if name.startswith("bias") else "weight"  # the GRU has bias_ih_l0
                if isinstance(module, _BatchNorm):
                    kind = "batch_norm"
                elif module is first_conv:
                    kind = f"first_conv_{kind}"
                elif module is self.head and self.shift:
                    kind = f"head_{kind}"
                if parameter.requires_grad:
                    params[kind].append(parameter)
        return [
            {"name": name, "params": params[name], "lr_mult": lr_mult, "decay_mult": decay_mult}
            for name, (lr_mult, decay_mult) in policies.items()
            if params[name]
        ]
