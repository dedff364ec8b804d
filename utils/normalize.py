"""What stands between a batch of uint8 clips and a network: layout, normalization, precision."""

import torch
from torch import nn


class Normalize(nn.Module):
    """uint8 (N, T, H, W, C) -> float (N, C, T, H, W), (x / 255 - mean) / std.

    The permutation is a free view, and that view is channels-last-3d already.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], channels_last: bool = True):
        super().__init__()
        shape = (1, len(mean), 1, 1, 1)
        self.register_buffer("shift", torch.tensor(mean).view(shape) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(std).view(shape) * 255), persistent=False)
        self.channels_last = channels_last

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        x = clips.permute(0, 4, 1, 2, 3)
        x = (x - self.shift) * self.scale
        return x if self.channels_last else x.contiguous()


class ClipClassifier(nn.Module):
    """Normalization and a network in one precision: uint8 (N, T, H, W, C) -> logits (N, classes).

    Autocast is entered here, inside the module that DataParallel wraps, because its threads do not
    inherit it.
    """

    def __init__(self, model: nn.Module, normalize: Normalize, precision: str = "fp32"):
        super().__init__()
        self.normalize = normalize
        self.model = (
            model.to(memory_format=torch.channels_last_3d) if normalize.channels_last else model
        )
        self.precision = precision

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        x = self.normalize(clips)
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model(x).float()
