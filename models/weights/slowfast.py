"""The public weights of SlowFast: PyTorchVideo's and PySlowFast's own, of Kinetics-400.

None of ImageNet: no 2-D network is as thin as the fast pathway, and the authors start without.
"""

from dataclasses import replace
from pathlib import Path

from config import Preprocessing
from models.weights import State, Weights, rename_keys
from models.weights.caffe2 import ENDINGS, read_caffe2_pickle
from models.weights.files import check_form, is_safetensors, read_state
from models.weights.resnet3d import GRAY, VIEWS

# how files of torch.save begin: a zip, or before torch 1.6 a number in a pickle
TORCH = b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PATHWAYS = {r"\bpathway0\b": "slow", r"\bpathway1\b": "fast"}


def convert_pytorchvideo(state: State) -> State:
    """`blocks.1.multipathway_blocks.1.res_blocks.0.branch2.norm_a.bias` ->
    `features.res2.0.fast.conv1.bn.bias`."""
    rules = {
        r"^blocks\.6\.proj\.": "head.",
        r"^blocks\.0\.multipathway_blocks\.(\d)\.": r"features.stem.pathway\1.conv1.",
        r"\.multipathway_blocks\.(\d)\.res_blocks\.(\d+)\.": r".\2.pathway\1.",
        r"\.multipathway_fusion\.": ".fusion.",
        r"\.conv_fast_to_slow\.": ".conv.",
        r"\.branch2\.(conv|norm)_a\.": r".conv1.\1.",
        r"\.branch2\.(conv|norm)_b\.": r".conv2.\1.",
        r"\.branch2\.(conv|norm)_c\.": r".conv3.\1.",
        r"\.branch1_": ".shortcut.",
        r"\.norm\.": ".bn.",
    }
    for i in range(5):  # what is behind a stage there is before the next one here
        rules[rf"^blocks\.{i}\.fusion\."] = f"features.res{i + 2}.0.lateral."
        rules[rf"^blocks\.{i}\."] = f"features.res{i + 1}."
    return rename_keys(state, rules | PATHWAYS)


def convert_pyslowfast(state: State) -> State:
    """`s2.pathway1_res0.branch2.a_bn.bias` -> `features.res2.0.fast.conv1.bn.bias`; or Caffe2's."""
    if "pred_w" in state:
        return convert_caffe2(state)
    rules = {
        r"^head\.projection\.": "head.",
        r"^s1\.(pathway\d)_stem\.": r"features.stem.\1.conv1.",
        r"^s(\d)\.(pathway\d)_res(\d+)\.": r"features.res\1.\3.\2.",
        r"_fuse\.conv_f2s\.": "_fuse.conv.",
        r"\.(branch1|a|b|c)_bn\.": r".\1.bn.",
        r"\.(branch1|a|b|c)\.(?!bn\.)": r".\1.conv.",
        r"\.branch2\.a\.": ".conv1.",
        r"\.branch2\.b\.": ".conv2.",
        r"\.branch2\.c\.": ".conv3.",
        r"\.branch1\.": ".shortcut.",
    }
    lateral = {rf"^s{i}_fuse\.": f"features.res{i + 1}.0.lateral." for i in range(1, 5)}
    return rename_keys(state, rules | lateral | PATHWAYS)


def convert_caffe2(state: State) -> State:
    """`t_res2_0_branch2a_bn_b` -> `features.res2.0.fast.conv1.bn.bias`."""
    rules = {r"^t_pool1_subsample_": "features.res2.0.lateral."}
    for i in range(2, 5):
        rules[rf"^t_res{i}_\d+_branch2c_bn_subsample_"] = f"features.res{i + 1}.0.lateral."
    for prefix, pathway in ("t_", "fast"), ("", "slow"):
        rules[rf"^{prefix}(res_)?conv1_"] = f"features.stem.{pathway}.conv1."
        rules[rf"^{prefix}res(\d)_(\d+)_"] = rf"features.res\1.\2.{pathway}."
    rules |= {
        r"^pred_": "head.",
        r"\.branch2a_": ".conv1.",
        r"\.branch2b_": ".conv2.",
        r"\.branch2c_": ".conv3.",
        r"\.branch1_": ".shortcut.",
        r"\.(conv\d|shortcut|lateral)\.w$": r".\1.conv.w",
    }
    return rename_keys(state, rules | ENDINGS)


def read_pyslowfast(path: Path) -> State:
    """A `.pkl` of Caffe2, or what torch.save wrote, as into some files of that name."""
    beginning = check_form(path)
    by_torch = beginning.startswith(TORCH) or is_safetensors(beginning)
    return (read_state if by_torch else read_caffe2_pickle)(path)


def pytorchvideo(variant: str, file: str, accuracy: str, clip_len: int = 32) -> Weights:
    """Networks for every second frame, at 30 a second."""
    return Weights(
        url=f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/SLOWFAST_{file}.pyth",
        convert=convert_pytorchvideo,
        arch_args={"variant": variant},
        preprocessing=Preprocessing(clip_len=clip_len, stride=2, fps=30, **GRAY),
        license="Apache-2.0",
        source="https://github.com/facebookresearch/pytorchvideo",
        accuracy=f"{accuracy} ({VIEWS}; trained from scratch)",
    )


def pyslowfast(variant: str, file: str, accuracy: str) -> Weights:
    """The authors' networks, which differ in their keys and numbers."""
    return replace(
        pytorchvideo(variant, file, accuracy),
        url=f"https://dl.fbaipublicfiles.com/pyslowfast/model_zoo/kinetics400/SLOWFAST_{file}.pkl",
        read=read_pyslowfast,
        convert=convert_pyslowfast,
        source="https://github.com/facebookresearch/SlowFast",
    )


WEIGHTS = {  # accuracies are top-1 / top-5
    "slowfast_r50_8x8_pytorchvideo": pytorchvideo("slowfast_r50_8x8", "8x8_R50", "76.94 / 92.69"),
    "slowfast_r50_4x16_pytorchvideo": pytorchvideo(
        "slowfast_r50_4x16", "4x16_R50", "75.34 / 91.89"
    ),
    "slowfast_r101_8x8_pytorchvideo": pytorchvideo(
        "slowfast_r101_8x8", "8x8_R101", "77.90 / 93.27"
    ),
    "slowfast_r101_16x8_pytorchvideo": pytorchvideo(
        "slowfast_r101_16x8", "16x8_R101_50_50", "78.70 / 93.61", clip_len=64
    ),
    "slowfast_r50_8x8_pyslowfast": pyslowfast("slowfast_r50_8x8", "8x8_R50", "77.0 / 92.6"),
    "slowfast_r50_4x16_pyslowfast": pyslowfast("slowfast_r50_4x16", "4x16_R50", "75.6 / 92.0"),
}
