"""The public weights of ResNet3D: three releases, and 2-D networks to inflate."""

from config import Preprocessing
from models.layers import Size
from models.resnet3d import ResNet3D
from models.weights import State, Weights, rename_keys
from models.weights.caffe2 import ENDINGS, read_caffe2_pickle

# of all releases on layers of torchvision's names: `layer1.0.downsample.` -> `res2.0.shortcut.`
LAYERS = {
    r"^conv1\.": "features.stem.",
    r"^layer1\.": "features.res2.",
    r"^layer2\.": "features.res3.",
    r"^layer3\.": "features.res4.",
    r"^layer4\.": "features.res5.",
    r"\.downsample\.": ".shortcut.",
    r"^fc\.": "head.",
}


def inflate_2d(state_2d: State, model: ResNet3D) -> State:
    """torchvision's 2-D ResNet, inflated as the paper does: kernels repeated over time, divided.

    A clip that stands still gives what the picture gives, but near its ends, where kernels reach
    beyond them. The non-local blocks of `model`, which the 2-D network has not, keep their values.
    """
    ours = model.state_dict()
    state = {key: value for key, value in ours.items() if ".non_local_" in key}
    for key, value in convert_torchvision(state_2d).items():
        if value.dim() == 4 and key in ours:
            t = ours[key].shape[2]
            value = value.unsqueeze(2).repeat(1, 1, t, 1, 1) / t
        state[key] = value
    return state


def convert_torchvision(state: State) -> State:
    """torchvision: `layer1.0.bn2.weight` -> `features.res2.0.conv2.bn.weight`, still 2-D."""
    rules = {
        r"\bconv(\d)\.": r"conv\1.conv.",
        r"\bbn(\d)\.": r"conv\1.bn.",
        r"downsample\.0\.": "downsample.conv.",
        r"downsample\.1\.": "downsample.bn.",
    }
    return rename_keys(state, rules | LAYERS)


def convert_mmaction2(state: State) -> State:
    """MMAction2: `backbone.layer2.1.non_local_block.phi.0.` -> `features.res3.non_local_1.phi.`."""
    rules = {
        r"^backbone\.": "",
        r"^cls_head\.fc_cls\.": "fc.",
        r"\.(\d+)\.non_local_block\.": r".non_local_\1.",
        r"\.(theta|phi|g)(\.0)?\.conv\.": r".\1.",
        r"\.conv_out\.": ".out.",
    }
    return rename_keys(state, rules | LAYERS)


def convert_pytorchvideo(state: State) -> State:
    """PyTorchVideo: `blocks.1.res_blocks.0.branch2.norm_a.bias` -> `...res2.0.conv1.bn.bias`."""
    # blocks.2 is the pool, which Slow-only has not
    stages = range(1, 5) if "blocks.5.proj.weight" in state else (1, 3, 4, 5)
    rules = {
        rf"^blocks\.{block}\.res_blocks\.": f"features.res{stage}."
        for stage, block in enumerate(stages, 2)
    } | {
        r"^blocks\.\d\.proj\.": "head.",
        r"^blocks\.0\.": "features.stem.",
        r"\.branch2\.(conv|norm)_a\.": r".conv1.\1.",
        r"\.branch2\.(conv|norm)_b\.": r".conv2.\1.",
        r"\.branch2\.(conv|norm)_c\.": r".conv3.\1.",
        r"\.branch1_": ".shortcut.",
        r"\.norm\.": ".bn.",
    }
    return rename_keys(state, rules)


def convert_caffe2(state: State) -> State:
    """video-nonlocal-net: `res3_1_branch2a_bn_rm` -> `features.res3.1.conv1.bn.running_mean`."""
    rules = {
        r"^(res_)?conv1_": "features.stem.",
        r"^res(\d)_(\d+)_branch1_": r"features.res\1.\2.shortcut.",
        r"^res(\d)_(\d+)_branch2a_": r"features.res\1.\2.conv1.",
        r"^res(\d)_(\d+)_branch2b_": r"features.res\1.\2.conv2.",
        r"^res(\d)_(\d+)_branch2c_": r"features.res\1.\2.conv3.",
        r"^nonlocal_conv(\d)_(\d+)_(theta|phi|g)_": r"features.res\1.non_local_\2.\3.",
        r"^nonlocal_conv(\d)_(\d+)_(out_)?": r"features.res\1.non_local_\2.out.",
        r"^pred_": "head.",
        r"\.(stem|shortcut|conv\d|out)\.([wb])$": r".\1.conv.\2",
    }
    converted = rename_keys(state, rules | ENDINGS)
    for key in [key for key in converted if key.endswith(".out.conv.bias")]:
        mean = key.replace(".conv.bias", ".bn.running_mean")
        if mean in converted:  # batch norm takes away what a bias before it adds
            converted[mean] = converted[mean] - converted.pop(key)
    return converted


MMACTION2 = "https://download.openmmlab.com/mmaction/v1.0/recognition/i3d/"
GRAY = {"mean": (0.45,) * 3, "std": (0.225,) * 3}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VIEWS = "Kinetics-400 val, 10 clips x 3 crops of 256"


def pytorchvideo(
    file: str, inflate: str, accuracy: str, clip_len: int = 8, window: Size = (4, 7, 7)
) -> Weights:
    """Networks for frames of 64, at 30 a second: SlowFast's code trained them."""
    return Weights(
        url=f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/{file}",
        convert=convert_pytorchvideo,
        arch_args={"inflate": inflate, "head_window": window},
        preprocessing=Preprocessing(clip_len=clip_len, stride=64 // clip_len, fps=30, **GRAY),
        license="Apache-2.0",
        source="https://github.com/facebookresearch/pytorchvideo",
        accuracy=f"{accuracy} ({VIEWS}; trained from scratch)",
    )


def mmaction2(variant: str, sha256: str, accuracy: str, mode: str | None = None) -> Weights:
    """Networks for 32 frames, every other, with strides in the stem."""
    folder = f"i3d_imagenet-pretrained-{variant}_8xb8-32x2x1-100e_kinetics400-rgb"
    arch_args = {"conv1_stride": 2, "pool1_stride": 2}
    if mode:
        arch_args |= {"non_local": 5, "non_local_mode": mode, "non_local_subsample": "after"}
    return Weights(
        url=f"{MMACTION2}{folder}/{folder}_20220812-{sha256}.pth",
        sha256=sha256,
        convert=convert_mmaction2,
        arch_args=arch_args,
        preprocessing=Preprocessing(
            clip_len=32,
            stride=2,
            value_range=(0.0, 255.0),
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
        ),
        license="Apache-2.0",
        source="https://github.com/open-mmlab/mmaction2",
        accuracy=f"{accuracy} ({VIEWS})",
    )


def nlnet(file: str, accuracy: str) -> Weights:
    """The authors' networks, for 8 frames or, with strides in the stem, for 32."""
    clip_len, stride = (8, 8) if "8x8" in file else (32, 2)
    arch_args = {"inflate": "3x1x1" if file.startswith("i3d") else "none"}
    arch_args |= {"pool1_padding": 0, "head_window": (4, 7, 7)}
    if clip_len == 32:
        arch_args |= {"conv1_stride": 2, "pool1_kernel": 2, "pool1_stride": 2}
    if "nonlocal" in file:
        arch_args |= {"non_local": 5, "non_local_scale": True}
    return Weights(
        url=f"https://dl.fbaipublicfiles.com/video-nonlocal/{file}_IN_pretrain_400k.pkl",
        read=read_caffe2_pickle,
        convert=convert_caffe2,
        arch_args=arch_args,
        preprocessing=Preprocessing(clip_len=clip_len, stride=stride, **GRAY),
        license="CC-BY-NC-4.0",
        source="https://github.com/facebookresearch/video-nonlocal-net",
        accuracy=f"{accuracy} ({VIEWS}; softmax averaged over the windows of the head, too)",
    )


def imagenet(depth: int, sha256: str, accuracy: str) -> Weights:
    """A 2-D network to inflate; its head is that of 1000 pictures."""
    return Weights(
        url=f"https://download.pytorch.org/models/resnet{depth}-{sha256}.pth",
        sha256=sha256,
        convert=dict,
        adapt=inflate_2d,
        arch_args={"depth": depth},
        classes="imagenet",
        preprocessing=Preprocessing(clip_len=8, stride=8, **IMAGENET),
        license="BSD-3-Clause",
        source="https://github.com/pytorch/vision",
        accuracy=f"{accuracy} (ImageNet val, the 2-D network on one crop of 224)",
    )


WEIGHTS = {  # accuracies are top-1 / top-5
    "resnet3d_c2d50_pytorchvideo": pytorchvideo("C2D_8x8_R50.pyth", "none", "71.46 / 89.68"),
    "resnet3d_i3d50_pytorchvideo": pytorchvideo("I3D_8x8_R50.pyth", "3x1x1", "73.27 / 90.70"),
    "slow_r50_pytorchvideo": pytorchvideo(
        "SLOW_8x8_R50.pyth", "slow", "74.58 / 91.63", window=(8, 7, 7)
    ),
    "slow_r50_4x16_pytorchvideo": pytorchvideo(
        "SLOW_4x16_R50.pyth", "slow", "72.40 / 90.18", clip_len=4
    ),
    "resnet3d_i3d50_mmaction2": mmaction2("r50", "e213c223", "73.47 / 91.27"),
    "resnet3d_i3d50_nl_dot_product_mmaction2": mmaction2(
        "r50-nl-dot-product", "8e1f2148", "74.80 / 92.07", "dot_product"
    ),
    "resnet3d_i3d50_nl_embedded_gaussian_mmaction2": mmaction2(
        "r50-nl-embedded-gaussian", "afd8f562", "74.73 / 91.80", "embedded_gaussian"
    ),
    "resnet3d_i3d50_nl_gaussian_mmaction2": mmaction2(
        "r50-nl-gaussian", "0c5cbf5a", "73.97 / 91.33", "gaussian"
    ),
    "resnet3d_c2d50_nlnet": nlnet("c2d_baseline_8x8", "71.9 / 90.0"),
    "resnet3d_c2d50_nl5_nlnet": nlnet("c2d_nonlocal_8x8", "74.4 / 91.4"),
    "resnet3d_i3d50_nlnet": nlnet("i3d_baseline_8x8", "73.4 / 90.9"),
    "resnet3d_i3d50_nl5_nlnet": nlnet("i3d_nonlocal_8x8", "74.7 / 91.6"),
    "resnet3d_c2d50_32x2_nlnet": nlnet("c2d_baseline_32x2", "72.0 / 90.0"),
    "resnet3d_c2d50_nl5_32x2_nlnet": nlnet("c2d_nonlocal_32x2", "73.9 / 91.0"),
    "resnet3d_i3d50_32x2_nlnet": nlnet("i3d_baseline_32x2", "73.6 / 90.8"),
    "resnet3d_i3d50_nl5_32x2_nlnet": nlnet("i3d_nonlocal_32x2", "74.9 / 91.6"),
    "imagenet": imagenet(50, "0676ba61", "76.13 / 92.86"),
    "imagenet101": imagenet(101, "63fe2227", "77.37 / 93.55"),
    "imagenet152": imagenet(152, "394f9c45", "78.31 / 94.05"),
}
