"""Some devices compute wrong gradients in half precision: the network's own layers are tried."""

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

from config import plural
from utils.options.gpu_precision import allow_tf32
from utils.report.machine import cpu_name

# relative error of a gradient: bfloat16 keeps 8 bits, so 4e-3 is usual, and a fault is 1 or inf
TOLERANCE = 2e-2
log = logging.getLogger("video")


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def where_right(
    precision: str, model: nn.Module, clip_shape: tuple[int, ...], device: torch.device
) -> str:
    """The precision if the device computes right gradients in it, else "fp32"; see wrong_layers."""
    dtype = DTYPES[precision]
    wrong = wrong_layers(model, clip_shape, device, dtype)
    if not wrong:
        return precision
    log.info(
        f"precision: float32, because {name_of(dtype)} gives wrong gradients on this "
        f"{'GPU' if device.type == 'cuda' else 'CPU'} in "
        f"{plural(len(wrong), 'convolution shape of this network')}, {wrong[0]} the first"
    )
    return "fp32"


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def wrong_layers(
    model: nn.Module,
    clip_shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
) -> list[str]:
    """The convolution shapes of `model` whose gradients in `dtype` disagree with float32 there.

    Some CPUs give wrong weight gradients for a few Conv3d shapes while the neighboring shapes are
    right, and so do some releases of cuDNN (pytorch/pytorch#163539). So the network's own shapes
    are tried, and the answer is kept in the user's cache folder.

    Args:
        model: on the CPU.
        clip_shape: (N, C, T, H, W) of a training batch.
    """
    if device.type == "cuda":  # a few clips, since float32 needs more memory than training has
        clip_shape = (min(clip_shape[0], 2), *clip_shape[1:])
    convs = convolution_shapes(model, clip_shape)
    facts = (*_versions(device), torch.__version__), convs
    kind = name_of(dtype)
    name = f"{kind}_{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = caches / "video_classification_pytorch" / name
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        pass
    if device.type == "cuda":
        allow_tf32(False)  # float32 is what it is compared with
    log.info(
        f"precision: comparing {kind} with float32 on {plural(len(convs), 'convolution shape')}, "
        "once on this machine"
    )
    wrong = [
        f"{conv[0]} of {conv[1]} with {conv[2]}"
        for conv in convs
        if not _agrees(*conv, device=device, dtype=dtype)
    ]
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


def _agrees(
    function: str,
    shape: tuple,
    weight_shape: tuple,
    *how,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
) -> bool:
    generator = torch.Generator(device).manual_seed(0)
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x, weight = (
        torch.randn(size, generator=generator, device=device) for size in (shape, weight_shape)
    )
    x = x.to(dtype).contiguous(memory_format=memory_format)
    weight = (0.05 * weight).to(dtype)
    expected = _gradients(function, x.float(), weight.float(), *how)
    found = _gradients(function, x, weight, *how)
    return all(
        ((f - e).norm() < TOLERANCE * e.norm()).item() for f, e in zip(found, expected, strict=True)
    )


def _gradients(function: str, x: torch.Tensor, weight: torch.Tensor, *how) -> list[torch.Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = getattr(F, function)(x, weight, None, *how)
    # a gradient of ones would hide sums that cancel; this one is exact in bfloat16
    ramp = torch.linspace(-1, 1, out.shape[1], dtype=out.dtype, device=out.device)
    loss = (out * ramp.view(1, -1, *[1] * (out.dim() - 2))).sum()
    return [gradient.float() for gradient in torch.autograd.grad(loss, (x, weight))]


def _versions(device: torch.device) -> tuple:
    """What computes convolutions there."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device), torch.backends.cudnn.version()
    return platform.machine(), cpu_name(), torch.get_num_threads()
