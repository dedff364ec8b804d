"""The public weights of S3D: two releases of its own, and starts from the filters of I3D."""

from dataclasses import replace

import torch

from config import Preprocessing
from models.s3d import BN_EPS
from models.weights import State, Weights, i3d, rename_keys

# as both releases number them; gates have no number
LAYERS = (
    *("conv_1a", "pool_2a", "conv_2b", "conv_2c", "pool_3a", "mixed_3b", "mixed_3c", "pool_4a"),
    *("mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f", "pool_5a"),
    *("mixed_5b", "mixed_5c"),
)


def convert_kylemin(state: State) -> State:
    """kylemin: `base.5.branch1.1.bn_s.bias` -> `features.mixed_3b.branch1.1.space.bn.bias`."""
    rules = {rf"^base\.{i}\.": f"features.{name}." for i, name in enumerate(LAYERS)} | {
        r"^fc\.0\.": "head.",
        r"\.branch0\.0\.": ".branch0.",
        r"\.(conv|bn)_s\.": r".space.\1.",
        r"\.(conv|bn)_t\.": r".time.\1.",
    }
    return rename_keys(state, rules)


def convert_torchvision(state: State) -> State:
    """torchvision: `features.5.branch1.1.0.1.bias`, (space, time) and (conv, bn) as numbers."""
    rules = {rf"^features\.{i}\.": f"features.{name}." for i, name in enumerate(LAYERS)} | {
        r"^classifier\.1\.": "head.",
        r"(conv_\w+|branch[12]\.1)\.0(\.[01]\.\w+)$": r"\1.space\2",
        r"(conv_\w+|branch[12]\.1)\.1(\.[01]\.\w+)$": r"\1.time\2",
        r"\.0(\.\w+)$": r".conv\1",
        r"\.1(\.\w+)$": r".bn\1",
    }
    return rename_keys(state, rules)


def from_i3d(state: State) -> State:
    """I3D's own names and filters -> S3D that computes on a still clip what I3D computes.

    Kernels are summed over time; the temporal ones that follow pass every frame on. With I3D's
    padding ("same") the two agree wherever I3D sees no padding in time.
    """
    converted = {key: value for key, value in state.items() if key.startswith("head.")}
    for key in [key for key in state if key.endswith(".conv.weight")]:
        layer, kernel = key.removesuffix(".conv.weight"), state[key]
        width, _, length = kernel.shape[:3]
        space = layer if length == 1 else f"{layer}.space"
        converted[f"{space}.conv.weight"] = kernel.sum(dim=2, keepdim=True)
        norm = [name for name in state if name.startswith(f"{layer}.bn.")]
        converted |= {name.replace(layer, space): state[name] for name in norm}
        if length > 1:
            identity = torch.zeros(width, width, length, 1, 1)
            identity[:, :, length // 2, 0, 0] = torch.eye(width)
            converted[f"{layer}.time.conv.weight"] = identity
            time_norm = identity_norm(state[f"{layer}.bn.weight"], state[f"{layer}.bn.bias"])
            converted |= {f"{layer}.time.bn.{name}": value for name, value in time_norm.items()}
    return converted


def identity_norm(scale: torch.Tensor, shift: torch.Tensor) -> State:
    """A batch norm that changes nothing, behind another one with `scale` and `shift` and a ReLU.

    Its statistics are those of a normal distribution cut at zero, so that the first batches of
    training, normalized by their own, come out nearly unchanged, too.
    """
    scale, shift = scale.double().abs().clamp(min=1e-6), shift.double()
    normal = torch.distributions.Normal(0.0, 1.0)
    density = normal.log_prob(shift / scale).exp()
    positive = normal.cdf(shift / scale)  # the fraction that the ReLU passes
    mean = scale * density + shift * positive
    square = (scale**2 + shift**2) * positive + scale * shift * density
    variance = (square - mean**2).clamp(min=0)
    return {
        "weight": (variance + BN_EPS).sqrt().float(),
        "bias": mean.float(),
        "running_mean": mean.float(),
        "running_var": variance.float(),
    }


def start_from(entry: Weights) -> Weights:
    """From I3D's weights, those of its spatial filters; the temporal ones are left behind."""

    def convert(state: State) -> State:
        return from_i3d(entry.convert(state))

    unmoved = replace(entry.preprocessing, fps=None)  # filters of pictures know no rate
    return replace(entry, convert=convert, arch_args={"padding": "same"}, preprocessing=unmoved)


WEIGHTS = {
    "s3d_kylemin": Weights(
        # what follows # is for us: the name of the file
        url="https://drive.google.com/uc?export=download&id=1IysdsJI7UuWazoxFyYvrbO97Lz_EP5H-"
        "#/S3D_kinetics400.pt",
        convert=convert_kylemin,
        arch_args={"whole_frame": True},
        preprocessing=Preprocessing(clip_len=64, fps=25, mean=(0.5,) * 3, std=(0.5,) * 3),
        license="MIT",
        source="https://github.com/kylemin/S3D",
        accuracy="72.08 / 90.35 claimed, protocol not stated; torchvision's authors measured "
        "67.3 / 87.6 (Kinetics-400 val, top-1 / top-5)",
    ),
    "s3d_torchvision": Weights(
        url="https://download.pytorch.org/models/s3d-d76dad2f.pth",
        sha256="d76dad2f",
        convert=convert_torchvision,
        preprocessing=Preprocessing(
            clip_len=64,
            resize="square",
            antialias=False,
            mean=(0.43216, 0.394666, 0.37645),
            std=(0.22803, 0.22145, 0.216989),
            fps=15,
        ),
        license="BSD-3-Clause",
        source="https://docs.pytorch.org/vision/stable/models/generated/"
        "torchvision.models.video.s3d.html",
        accuracy="68.368 / 88.050 (Kinetics-400 val, top-1 / top-5 of single clips, 128 frames at "
        "15 fps, center crop)",
    ),
    "i3d_spatial": replace(
        start_from(i3d.WEIGHTS["i3d_rgb_piergiaj"]),
        accuracy="none yet: a start for training, which sees no motion before it",
    ),
    "imagenet": start_from(i3d.WEIGHTS["imagenet"]),
}
