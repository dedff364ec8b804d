"""R(2+1)D of PyTorchVideo: its size and its strides; its logits are in test_references.py."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.r2plus1d import R2Plus1D


def test_the_network_has_the_published_size_and_cost():
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model, seen = R2Plus1D().eval(), []
        for name, stage in model.features.named_children():
            stage.register_forward_hook(lambda *call, name=name: seen.append(call[-1].shape[1:]))
        assert model(torch.empty(1, 3, 16, 224, 224)).shape == (1, 400)
    assert seen[1:] == [
        (64, 16, 112, 112),
        (256, 16, 56, 56),
        (512, 16, 28, 28),
        (1024, 8, 14, 14),
        (2048, 4, 7, 7),
    ]
    assert sum(p.numel() for p in model.parameters()) == 28_107_600
    assert counter.get_total_flops() / 2e9 == pytest.approx(57.53, abs=0.01)
    kernels = {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv3d)}
    assert kernels == {(1, 7, 7), (1, 1, 1), (3, 1, 1), (1, 3, 3)}
