"""Some CPUs compute wrong gradients in bfloat16: those of the network's own layers are tried."""

import copy
import hashlib
import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from utils.report.machine import cpu_name

# relative error of a gradient: bfloat16 keeps 8 bits, so 4e-3 is usual, and a fault is 1 or inf
TOLERANCE = 2e-2
log = logging.getLogger("video")


def wrong_layers(model: nn.Module, clip_shape: tuple[int, ...]) -> list[str]:
    """The convolution shapes of `model` whose bfloat16 gradients disagree with float32 on this CPU.

    Some CPUs give wrong weight gradients for a few Conv3d shapes while the neighboring shapes are
    right, so the network's own shapes are tried, and the answer is kept in the user's cache folder.
    """
    convs = convolution_shapes(model, clip_shape)
    machine = (platform.machine(), cpu_name(), torch.__version__, torch.get_num_threads())
    name = f"bf16_{hashlib.sha256(repr((machine, convs)).encode()).hexdigest()[:16]}.json"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = caches / "video_classification_pytorch" / name
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        pass
    log.info(
        f"precision: comparing bfloat16 with float32 on {len(convs)} convolution shapes, once on "
        f"this machine"
    )
    wrong = [f"{conv[0]} of {conv[1]} with {conv[2]}" for conv in convs if not _agrees(*conv)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wrong))
    except OSError as error:
        log.info(
            f"precision: the comparison will be repeated, {path} cannot be written "
            f"({error.strerror})"
        )
    return wrong


def convolution_shapes(model: nn.Module, clip_shape: tuple[int, ...]) -> list[tuple]:
    """Distinct (function, input shape, weight shape, stride ...) called, without computing."""
    calls = _Calls()
    with calls:
        copy.deepcopy(model).to("meta")(torch.empty(clip_shape, device="meta"))
    return list(dict.fromkeys(calls.found))


class _Calls(TorchFunctionMode):
    """Records convolutions as they are called: a Conv3d module may well call conv2d."""

    NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

    def __init__(self):
        super().__init__()
        self.found: list[tuple] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.conv2d, torch.conv3d):
            call: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
            call |= dict(zip(self.NAMES, args, strict=False)) | kwargs
            how = (call[name] for name in self.NAMES[3:])
            how = (value if isinstance(value, int) else tuple(value) for value in how)
            shapes = tuple(call["input"].shape), tuple(call["weight"].shape)
            self.found.append((func.__name__, *shapes, *how))
        return func(*args, **kwargs)


def _agrees(function: str, shape: tuple, weight_shape: tuple, *how) -> bool:
    generator = torch.Generator().manual_seed(0)
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x = torch.randn(shape, generator=generator).bfloat16().contiguous(memory_format=memory_format)
    weight = (0.05 * torch.randn(weight_shape, generator=generator)).bfloat16()
    expected = _gradients(function, x.float(), weight.float(), *how)
    found = _gradients(function, x, weight, *how)
    return all(
        ((f - e).norm() < TOLERANCE * e.norm()).item() for f, e in zip(found, expected, strict=True)
    )


def _gradients(function: str, x: torch.Tensor, weight: torch.Tensor, *how) -> list[torch.Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = getattr(F, function)(x, weight, None, *how)
    # a gradient of ones would hide sums that cancel; this one is exact in bfloat16
    ramp = torch.linspace(-1, 1, out.shape[1], dtype=out.dtype)
    loss = (out * ramp.view(1, -1, *[1] * (out.dim() - 2))).sum()
    return [gradient.float() for gradient in torch.autograd.grad(loss, (x, weight))]
