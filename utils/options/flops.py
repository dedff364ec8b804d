"""How much of a device's arithmetic a run uses."""

import copy
import re

import torch
from torch import nn

# dense multiply-adds x 2 a second by a word of the name, first match; NVIDIA's data sheets, without
# sparsity; fp32 is that of the plain cores
PEAKS = {
    "MIG": {},  # a part of a GPU, whose name is in front
    "B200": {"fp32": 75e12, "tf32": 1100e12, "bf16": 2250e12, "fp16": 2250e12},
    "H200 NVL": {"fp32": 60e12, "tf32": 418e12, "bf16": 835e12, "fp16": 835e12},
    "H200": {"fp32": 67e12, "tf32": 494e12, "bf16": 989e12, "fp16": 989e12},
    "H100 PCIe": {"fp32": 51e12, "tf32": 378e12, "bf16": 756e12, "fp16": 756e12},
    "H100 NVL": {"fp32": 60e12, "tf32": 418e12, "bf16": 835e12, "fp16": 835e12},
    "H100": {"fp32": 67e12, "tf32": 494e12, "bf16": 989e12, "fp16": 989e12},
    "A100": {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12, "fp16": 312e12},
    "A10": {"fp32": 31.2e12, "tf32": 62.5e12, "bf16": 125e12, "fp16": 125e12},
    "L40S": {"fp32": 91.6e12, "tf32": 183e12, "bf16": 362e12, "fp16": 362e12},
    "L4": {"fp32": 30.3e12, "tf32": 60e12, "bf16": 121e12, "fp16": 121e12},
    "V100-PCIE": {"fp32": 14e12, "fp16": 112e12},
    "V100": {"fp32": 15.7e12, "fp16": 125e12},
    "Tesla T4": {"fp32": 8.1e12, "fp16": 65e12},
}


def forward_flops(model: nn.Module, clip_shape: tuple[int, ...]) -> int:
    """Additions and multiplications of one forward pass, counted without computing.

    Args:
        clip_shape: (N, C, T, H, W).
    """
    from torch.utils.flop_counter import FlopCounterMode  # here, since it brings all of Triton

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(model).to("meta").eval()(torch.empty(clip_shape, device="meta"))
    return counter.get_total_flops()


def peak_flops(device: torch.device, precision: str) -> float | None:
    """The peak of a GPU in this precision; None where it is not known."""
    name = torch.cuda.get_device_name(device)
    found = next((peaks for part, peaks in PEAKS.items() if re.search(rf"\b{part}\b", name)), {})
    return found.get(precision)


def clips_per_s(
    model: nn.Module, clip_shape: tuple[int, ...], device: torch.device, precision: str
) -> float | None:
    """How many clips the device could train on at its peak; None where that is not known."""
    peak = peak_flops(device, precision)
    # the backward pass multiplies twice as much as the forward pass
    return peak and peak / (3 * forward_flops(model, clip_shape))
