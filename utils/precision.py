"""Which precision a run computes in: bfloat16 where it is fast and, on a CPU, right."""

import copy
import hashlib
import json
import logging
import os
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

# relative error of a gradient: bfloat16 keeps 8 bits, so 4e-3 is usual, and a fault is 1 or inf
TOLERANCE = 2e-2
log = logging.getLogger("video")


def choose_precision(
    requested: str, device: torch.device, model: nn.Module, clip_shape: tuple[int, ...]
) -> str:
    """ "fp32" or "bf16" for a run.

    Args:
        requested: "auto", "fp32" or "bf16".
        model: the network, still on the CPU.
        clip_shape: (N, C, T, H, W) of a training batch.
    """
    if requested == "fp32":
        return "fp32"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        log.info("precision: float32, because this GPU does not compute in bfloat16")
        return "fp32"
    if requested == "auto" and not cpu_has_bf16():
        return "fp32"  # bfloat16 would be emulated, several times slower
    wrong = wrong_layers(model, clip_shape)
    if wrong:
        log.info(
            f"precision: float32, because bfloat16 gives wrong gradients on this CPU in "
            f"{len(wrong)} "
            f"convolution shapes of this network, {wrong[0]} the first"
        )
        return "fp32"
    return "bf16"


def cpu_has_bf16() -> bool:
    """Does this CPU have instructions for bfloat16 (AVX-512 BF16 or AMX)?"""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def wrong_layers(model: nn.Module, clip_shape: tuple[int, ...]) -> list[str]:
    """The convolution shapes of `model` whose bfloat16 gradients disagree with float32 on this CPU.

    Some CPUs give wrong weight gradients for a few Conv3d shapes while the neighboring shapes are
    right, so the network's own shapes are tried, and the answer is kept in the user's cache folder.
    """
    convs = convolution_shapes(model, clip_shape)
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "video_classification_pytorch"
    )
    machine = (platform.machine(), _cpu_name(), torch.__version__, torch.get_num_threads())
    path = cache / f"bf16_{hashlib.sha256(repr((machine, convs)).encode()).hexdigest()[:16]}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        pass
    log.info(
        f"precision: comparing bfloat16 with float32 on {len(convs)} convolution shapes, once on "
        f"this machine"
    )
    wrong = [
        f"input {shape}, kernel {weight}"
        for shape, weight, *how in convs
        if not _agrees(shape, weight, *how)
    ]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wrong))
    except OSError as error:
        log.info(
            f"precision: the comparison will be repeated, {path} cannot be written "
            f"({error.strerror})"
        )
    return wrong


def convolution_shapes(model: nn.Module, clip_shape: tuple[int, ...]) -> list[tuple]:
    """Distinct (input shape, weight shape, stride, padding) of all Conv3d, without computing."""
    shapes = []
    model = copy.deepcopy(model).to("meta")
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.register_forward_pre_hook(
                lambda m, args: shapes.append(
                    (tuple(args[0].shape), tuple(m.weight.shape), m.stride, m.padding)
                )
            )
    model(torch.empty(clip_shape, device="meta"))
    return list(dict.fromkeys(shapes))


def _agrees(shape: tuple, weight_shape: tuple, stride: tuple, padding: tuple) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).bfloat16().to(memory_format=torch.channels_last_3d)
    weight = (0.05 * torch.randn(weight_shape, generator=generator)).bfloat16()
    expected = _gradients(x.float(), weight.float(), stride, padding)
    found = _gradients(x, weight, stride, padding)
    return all(
        ((f - e).norm() < TOLERANCE * e.norm()).item() for f, e in zip(found, expected, strict=True)
    )


def _gradients(
    x: torch.Tensor, weight: torch.Tensor, stride: tuple, padding: tuple
) -> list[torch.Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = F.conv3d(x, weight, stride=stride, padding=padding)
    # a gradient of ones would hide sums that cancel; this one is exact in bfloat16
    (
        out * torch.linspace(-1, 1, out.shape[1], dtype=out.dtype).view(1, -1, 1, 1, 1)
    ).sum().backward()
    return [x.grad.float(), weight.grad.float()]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), ""
    )
