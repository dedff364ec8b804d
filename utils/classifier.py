"""What stands between a batch of uint8 clips and a network: layout, normalization, precision."""

from collections.abc import Sequence

import torch
from torch import nn

from config import Preprocessing


class Normalize(nn.Module):
    """uint8 (N, T, H, W, C) -> float (N, C, T, H, W): to `value_range`, then (x - mean) / std.

    The permutation is a free view, and that view is channels-last-3d already.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        value_range: tuple[float, float] = (0.0, 1.0),
        channel_order: str = "RGB",
        channels_last: bool = True,
    ):
        super().__init__()
        low, high = value_range
        shape = (1, len(mean), 1, 1, 1)
        # of pixels from 0 to 255, so that one subtraction and one multiplication do all
        shift = (torch.tensor(mean) - low) * 255 / (high - low)
        scale = (high - low) / 255 / torch.tensor(std)
        self.register_buffer("shift", shift.view(shape), persistent=False)
        self.register_buffer("scale", scale.view(shape), persistent=False)
        self.bgr = channel_order == "BGR"
        self.channels_last = channels_last

    @classmethod
    def matching(cls, pixels: Preprocessing, channels_last: bool = True) -> "Normalize":
        """As the weights with this preprocessing were trained."""
        values = pixels.mean, pixels.std, pixels.value_range, pixels.channel_order
        return cls(*values, channels_last)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        if self.bgr:
            clips = clips.flip(-1)
        x = clips.permute(0, 4, 1, 2, 3)
        x = (x - self.shift) * self.scale
        return x if self.channels_last else x.contiguous()


def to_channels_last(module: nn.Module) -> nn.Module:
    """Lays out the kernels of a module for channels-last inputs, those of 2-D networks, too."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return module


class ClipClassifier(nn.Module):
    """Normalization and a network in one precision: uint8 (N, T, H, W, C) -> logits (N, classes).

    Autocast is entered here, inside the module that DataParallel wraps, because its threads do not
    inherit it.
    """

    AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

    def __init__(self, model: nn.Module, normalize: Normalize, precision: str = "fp32"):
        super().__init__()
        self.normalize = normalize
        self.model = to_channels_last(model) if normalize.channels_last else model
        self.precision = precision

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        x = self.normalize(clips)
        dtype = self.AUTOCAST.get(self.precision)
        with torch.autocast(clips.device.type, dtype, enabled=dtype is not None):
            return self.model(x).float()
