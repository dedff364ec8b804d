"""The public weights of X3D: PyTorchVideo's, and those of PySlowFast, which are its author's."""

from config import Preprocessing
from models.weights import State, Weights, rename_keys
from models.weights.resnet3d import GRAY, convert_pytorchvideo

CLIPS = {  # frames of a clip, every so many, short side, crop
    "xs": (4, 12, 182, 160),
    "s": (13, 6, 182, 160),
    "m": (16, 5, 256, 224),
    "l": (16, 5, 356, 312),
}


def convert_blocks(state: State) -> State:
    """PyTorchVideo: what is not as in its ResNets.

    The names of the stem are misleading: `conv_t` is the convolution over space.
    """
    rules = {
        r"\.stem\.conv\.conv_t\.": ".stem.space.",
        r"\.stem\.conv\.conv_xy\.": ".stem.time.",
        r"\.bn\.0\.": ".bn.",
        r"\.conv2\.bn\.1\.block\.0\.": ".squeeze.reduce.",
        r"\.conv2\.bn\.1\.block\.2\.": ".squeeze.expand.",
        r"^blocks\.5\.pool\.pre_conv\.": "features.conv5.conv.",
        r"^blocks\.5\.pool\.pre_norm\.": "features.conv5.bn.",
        r"^blocks\.5\.pool\.post_conv\.": "features.conv6.",
    }
    return linear_squeeze(rename_keys(convert_pytorchvideo(state), rules))


def convert_pathway(state: State) -> State:
    """PySlowFast: `s2.pathway0_res0.branch2.a_bn.bias` -> `features.res2.0.conv1.bn.bias`."""
    rules = {
        r"^s1\.pathway0_stem\.conv_xy\.": "features.stem.space.",
        r"^s1\.pathway0_stem\.conv\.": "features.stem.time.",
        r"^s1\.pathway0_stem\.": "features.stem.",
        r"^s(\d)\.pathway0_res(\d+)\.": r"features.res\1.\2.",
        r"\.branch2\.se\.fc1\.": ".squeeze.reduce.",
        r"\.branch2\.se\.fc2\.": ".squeeze.expand.",
        r"\.branch1": ".shortcut",
        r"\.branch2\.a": ".conv1",
        r"\.branch2\.b": ".conv2",
        r"\.branch2\.c": ".conv3",
        r"^head\.conv_5": "features.conv5",
        r"\.(conv\d|shortcut)\.": r".\1.conv.",
        r"\.(conv\d|shortcut)_bn\.": r".\1.bn.",
        r"^head\.lin_5\.": "features.conv6.",
        r"^head\.projection\.": "head.",
    }
    return linear_squeeze(rename_keys(state, rules))


def linear_squeeze(state: State) -> State:
    """Convolutions of a single position become the linear layers that they are."""
    return {
        key: value.flatten(1) if ".squeeze." in key and value.dim() > 1 else value
        for key, value in state.items()
    }


def x3d(size: str, file: str, accuracy: str, slowfast: bool = False) -> Weights:
    clip_len, stride, short_side, crop_size = CLIPS[size]
    return Weights(
        url=f"https://dl.fbaipublicfiles.com/{file}",
        convert=convert_pathway if slowfast else convert_blocks,
        arch_args={"variant": f"x3d_{size}", "shortcut_norm": slowfast},
        preprocessing=Preprocessing(
            clip_len=clip_len,
            stride=stride,
            fps=30,
            short_side=short_side,
            crop_size=crop_size,
            **GRAY,
        ),
        license="Apache-2.0",
        source=f"https://github.com/facebookresearch/{'SlowFast' if slowfast else 'pytorchvideo'}",
        accuracy=f"{accuracy} (Kinetics-400 val, 10 clips x 3 crops of {short_side})",
    )


def pytorchvideo(size: str, accuracy: str) -> Weights:
    return x3d(size, f"pytorchvideo/model_zoo/kinetics/X3D_{size.upper()}.pyth", accuracy)


def pyslowfast(size: str, accuracy: str) -> Weights:
    return x3d(size, f"pyslowfast/x3d_models/x3d_{size}.pyth", accuracy, slowfast=True)


WEIGHTS = {  # accuracies are top-1 / top-5
    "x3d_xs_pytorchvideo": pytorchvideo("xs", "69.12 / 88.63"),
    "x3d_s_pytorchvideo": pytorchvideo("s", "73.33 / 91.27"),
    "x3d_m_pytorchvideo": pytorchvideo("m", "75.94 / 92.72"),
    "x3d_l_pytorchvideo": pytorchvideo("l", "77.44 / 93.31"),
    # trained separately; top-1 alone
    "x3d_xs_pyslowfast": pyslowfast("xs", "69.5"),
    "x3d_s_pyslowfast": pyslowfast("s", "73.5"),
    "x3d_m_pyslowfast": pyslowfast("m", "76.2"),
    "x3d_l_pyslowfast": pyslowfast("l", "77.5"),
}
