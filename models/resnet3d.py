"""ResNet3D: ResNets inflated to 3-D, with non-local blocks (NL I3D); not inflated, it is C2D.

Paper:   Wang et al., Non-local Neural Networks, CVPR 2018, arXiv:1711.07971
Weights: those of the authors, of PyTorchVideo and of MMAction2 (WEIGHTS below), which differ in
    the strides of the stem, its pools and the head; and 2-D ones of ImageNet (see `inflate_2d`)
Input:   clips (N, in_channels, T, H, W), normalized; T >= 8, H and W >= 32
Output:  logits (N, num_classes)
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from config import Preprocessing, UserError
from models.layers import init_weights, mean_over_positions, mean_over_windows, set_batch_norm
from models.weights import Weights

NUM_FEATURES = 2048
NUM_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}  # res2 to res5
INFLATE = {"none": (1, 1), "3x1x1": (3, 1), "3x3x3": (1, 3)}  # frames under conv1 and conv2
INFLATED = ((1,), (1, 0), (1, 0), (0, 1))  # which blocks of res2 to res5, again and again
NON_LOCAL = {  # the blocks of res3 and of res4 that a non-local block follows
    (50, 5): ((1, 3), (1, 3, 5)),
    (50, 10): ((0, 1, 2, 3), (0, 1, 2, 3, 4, 5)),
    (101, 5): ((1, 3), (6, 13, 20)),  # every seventh, as in the authors' code
    (101, 10): ((0, 1, 2, 3), (2, 6, 10, 14, 18, 22)),  # GluonCV's; the paper does not say
    (152, 5): ((3, 7), (11, 23, 35)),  # nobody's: evenly spaced, the last block included
    (152, 10): ((1, 3, 5, 7), (5, 11, 17, 23, 29, 35)),
}
MODES = ("embedded_gaussian", "gaussian", "dot_product", "concatenation")
SUBSAMPLE = ("before", "after", "none")


def check(name: str, value: object, known: Collection) -> None:
    """Raises UserError unless `value` is one of `known`."""
    if value not in known:
        raise UserError(f"resnet3d: there is no {name} {value!r}; there are {[*known]}")


class ConvBn3d(nn.Sequential):
    """Convolution padded by half its kernel, and batch norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ):
        padding = tuple(k // 2 for k in kernel_size)
        conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm3d(out_channels)))


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1; `frames` are under the kernels of the first two."""

    def __init__(self, in_channels: int, width: int, stride: int, frames: tuple[int, int]):
        super().__init__()
        out_channels, strides = 4 * width, (1, stride, stride)
        self.conv1 = ConvBn3d(in_channels, width, (frames[0], 1, 1))
        self.conv2 = ConvBn3d(width, width, (frames[1], 3, 3), strides)
        self.conv3 = ConvBn3d(width, out_channels, (1, 1, 1))
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = ConvBn3d(in_channels, out_channels, (1, 1, 1), strides)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.conv1(x), inplace=True)
        y = F.relu(self.conv2(y), inplace=True)
        return F.relu(self.conv3(y).add_(self.shortcut(x)), inplace=True)


class NonLocal(nn.Module):
    """To each position i a sum over all positions j of the clip is added: of g(x_j) weighted by

    gaussian           softmax over j of x_i . x_j
    embedded_gaussian  softmax over j of theta(x_i) . phi(x_j)
    dot_product        theta(x_i) . phi(x_j) / (number of j)
    concatenation      ReLU(w . [theta(x_i), phi(x_j)]) / (number of j)

    Args:
        channels: of x; theta, phi and g have half of them.
        mode: one of the above.
        scale: divide the products of embedded_gaussian by the root of the channels of theta.
        subsample: the positions j are the maxima of 2x2 in space, of x ("before" phi and g, as the
            authors' code has it) or of phi(x) and g(x) ("after" them); or all ("none").
    """

    def __init__(self, channels: int, mode: str, scale: bool, subsample: str):
        super().__init__()
        inner = channels // 2
        self.mode, self.subsample = mode, subsample
        self.scale = inner**-0.5 if scale else 1.0
        self.theta, self.phi = nn.Identity(), nn.Identity()
        if mode != "gaussian":
            self.theta = nn.Conv3d(channels, inner, kernel_size=1)
            self.phi = nn.Conv3d(channels, inner, kernel_size=1)
        if mode == "concatenation":
            self.pair = nn.Linear(2 * inner, 1, bias=False)
        self.g = nn.Conv3d(channels, inner, kernel_size=1)
        self.out = ConvBn3d(inner, channels, (1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x_j = self.pool(x) if self.subsample == "before" else x
        theta, phi, g = self.theta(x), self.phi(x_j), self.g(x_j)
        if self.subsample == "after":
            phi, g = self.pool(phi), self.pool(g)
        # (N, C, T, H, W) -> (N, positions, C): free where channels come last
        theta, phi, g = (m.flatten(2).transpose(1, 2) for m in (theta, phi, g))
        y = self.weighted_sums(theta, phi, g)
        return x + self.out(y.transpose(1, 2).unflatten(2, x.shape[2:]))

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool3d(x, kernel_size=(1, 2, 2))

    def weighted_sums(
        self, theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor
    ) -> torch.Tensor:
        """(N, i, C), (N, j, C) and (N, j, D) -> (N, i, D)."""
        if self.mode == "dot_product":
            # no softmax, so the cheap product comes first: no matrix of all pairs
            return theta @ ((phi / phi.shape[1]).transpose(1, 2) @ g)
        if self.mode == "concatenation":
            of_theta, of_phi = self.pair.weight.chunk(2, dim=1)
            pairs = F.relu(F.linear(theta, of_theta) + F.linear(phi, of_phi).transpose(1, 2))
            return pairs / phi.shape[1] @ g
        # fused: under autocast the products keep float32 up to the softmax
        heads = (m.unsqueeze(1) for m in (theta, phi, g))
        return F.scaled_dot_product_attention(*heads, scale=self.scale).squeeze(1)


class ResNet3D(nn.Module):
    """ResNet of bottlenecks; the defaults are the I3D of SlowFast and PyTorchVideo.

    Args:
        num_classes: outputs of the head.
        in_channels: channels of the clip.
        dropout: probability of dropping a feature before the head, in training.
        bn_momentum: weight of the newest batch in the running statistics.
        depth: a key of NUM_BLOCKS.
        inflate: the kernel that spans three frames in the blocks of INFLATED: the first ("3x1x1")
            or the second ("3x3x3") of the block; conv1 then spans five. "none" is C2D, which sees
            time only in its pools.
        non_local: number of non-local blocks, 0, 5 or 10.
        non_local_mode: see NonLocal, as for the next two.
        non_local_scale: off in the paper's formula, on in the authors' code.
        non_local_subsample: one of SUBSAMPLE.
        conv1_stride: frames from one output of conv1 to the next.
        pool1_kernel: frames under the max-pool after conv1; it is 3x3 in space.
        pool1_stride: frames from one output of that pool to the next.
        pool1_padding: its padding in space, in pixels.
        pool2: whether a max-pool after res2 halves the number of frames.
        head_window: frames, rows and columns of the windows whose means are averaged before the
            head; None averages all positions. They are the same for clips of the size of the
            window only (8 frames of 224 px fill a window of (4, 7, 7)).
    """

    def __init__(
        self,
        num_classes: int = 400,
        in_channels: int = 3,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        depth: int = 50,
        inflate: str = "3x1x1",
        non_local: int = 0,
        non_local_mode: str = "embedded_gaussian",
        non_local_scale: bool = False,
        non_local_subsample: str = "before",
        conv1_stride: int = 1,
        pool1_kernel: int = 1,
        pool1_stride: int = 1,
        pool1_padding: int = 1,
        pool2: bool = True,
        head_window: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        check("depth", depth, NUM_BLOCKS)
        check("inflate", inflate, INFLATE)
        check("number of non-local blocks", non_local, (0, 5, 10))
        check("non_local_mode", non_local_mode, MODES)
        check("non_local_subsample", non_local_subsample, SUBSAMPLE)
        if non_local_scale and non_local_mode != "embedded_gaussian":
            raise UserError(f"resnet3d: non_local_mode {non_local_mode} has no non_local_scale")
        variant = (non_local_mode, non_local_scale, non_local_subsample)
        if not non_local and variant != ("embedded_gaussian", False, "before"):
            raise UserError("resnet3d: non_local_mode, scale and subsample need non_local 5 or 10")
        self.head_window = head_window
        conv1_kernel = (1 if inflate == "none" else 5, 7, 7)
        self.features = nn.Sequential(
            OrderedDict(
                stem=ConvBn3d(in_channels, 64, conv1_kernel, (conv1_stride, 2, 2)),
                relu=nn.ReLU(inplace=True),
                pool1=nn.MaxPool3d(
                    (pool1_kernel, 3, 3), (pool1_stride, 2, 2), (0, pool1_padding, pool1_padding)
                ),
            )
        )
        non_local_after = ((), *NON_LOCAL.get((depth, non_local), ((), ())), ())
        channels = 64
        for i, num_blocks in enumerate(NUM_BLOCKS[depth]):
            width = 64 * 2**i
            stage = nn.Sequential()
            for j in range(num_blocks):
                inflated = INFLATED[i][j % len(INFLATED[i])]
                stride = 2 if i > 0 and j == 0 else 1
                frames = INFLATE[inflate] if inflated else (1, 1)
                stage.add_module(f"{j}", Bottleneck(channels, width, stride, frames))
                channels = 4 * width
                if j in non_local_after[i]:
                    block = NonLocal(channels, non_local_mode, non_local_scale, non_local_subsample)
                    stage.add_module(f"non_local_{j}", block)
            # (N, 256, T, H/4, W/4), (N, 512, T/2, H/8, W/8), ... (N, 2048, T/2, H/32, W/32)
            self.features.add_module(f"res{i + 2}", stage)
            if i == 0 and pool2:
                self.features.add_module("pool2", nn.MaxPool3d((2, 1, 1)))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        init_weights(self)
        start_as_identity(self)
        set_batch_norm(self, eps=1e-5, momentum=bn_momentum)

    def forward_features(self, clip: torch.Tensor) -> torch.Tensor:
        """Features (N, 2048) before the head, averaged over the clip."""
        x = self.features(clip)
        if self.head_window is None:
            return mean_over_positions(x)
        return mean_over_windows(x, self.head_window)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        # the head is linear: the mean of the logits of all windows is the logits of their mean
        return self.head(self.dropout(self.forward_features(clip)))


def start_as_identity(model: nn.Module) -> None:
    """Each block passes its input on at first, since its last batch norm multiplies by zero.

    Source: the authors' code; the paper (sec. 4.1) says so of the non-local blocks.
    """
    for m in model.modules():
        if isinstance(m, Bottleneck):
            nn.init.zeros_(m.conv3.bn.weight)
        elif isinstance(m, NonLocal):
            nn.init.zeros_(m.out.bn.weight)
            for conv in m.children():
                if isinstance(conv, nn.Conv3d):
                    nn.init.normal_(conv.weight, std=0.01)  # the softmax starts nearly uniform


def inflate_2d(state_2d: dict, model: ResNet3D, how: str = "average") -> dict:
    """A state dict for `model` from that of torchvision's 2-D ResNet of the same depth.

    Args:
        state_2d: keys as in torchvision.
        model: its non-local blocks, which the 2-D network has not, keep their own values.
        how: a kernel for t frames is the 2-D one t times, divided by t ("average", the paper's),
            or once, with zeros around ("center"). A clip that stands still gives what the picture
            gives; with "average" the frames near the ends differ, where kernels reach beyond them.
    """
    check("inflation", how, ("average", "center"))
    ours = model.state_dict()
    state = {key: value for key, value in ours.items() if ".non_local_" in key}
    for key, value in convert_torchvision(state_2d).items():
        if value.dim() == 4 and key in ours:
            t = ours[key].shape[2]
            value = value.unsqueeze(2)
            if how == "average":
                value = value.repeat(1, 1, t, 1, 1) / t
            else:
                value = F.pad(value, (0, 0, 0, 0, t // 2, t // 2))
        state[key] = value
    return state


def convert_torchvision(state: dict) -> dict:
    """torchvision: `layer1.0.bn2.weight` -> `features.res2.0.conv2.bn.weight`, still 2-D."""
    converted = {}
    for key, value in state.items():
        key = re.sub(r"\bconv(\d)\.", r"conv\1.conv.", key)
        key = re.sub(r"\bbn(\d)\.", r"conv\1.bn.", key)
        key = key.replace("downsample.0.", "downsample.conv.")
        key = key.replace("downsample.1.", "downsample.bn.")
        converted[from_layers(key)] = value
    return converted


def from_layers(key: str) -> str:
    """`layer1.0.downsample.` -> `features.res2.0.shortcut.`, `conv1.` -> `features.stem.`."""
    key = re.sub(r"^conv1\.", "features.stem.", key)
    key = re.sub(r"^layer(\d)\.", lambda m: f"features.res{int(m[1]) + 1}.", key)
    return key.replace(".downsample.", ".shortcut.").replace("fc.", "head.")


def convert_mmaction2(state: dict) -> dict:
    """MMAction2: `backbone.layer2.1.non_local_block.phi.0.` -> `features.res3.non_local_1.phi.`."""
    converted = {}
    for key, value in state.items():
        key = from_layers(key.removeprefix("backbone.").replace("cls_head.fc_cls.", "fc."))
        key = re.sub(r"\.(\d+)\.non_local_block\.", r".non_local_\1.", key)
        key = re.sub(r"\.(theta|phi|g)(\.0)?\.conv\.", r".\1.", key)
        converted[key.replace(".conv_out.", ".out.")] = value
    return converted


def convert_pytorchvideo(state: dict) -> dict:
    """PyTorchVideo: `blocks.1.res_blocks.0.branch2.norm_a.bias` -> `...res2.0.conv1.bn.bias`."""
    converted = {}
    for key, value in state.items():
        key = re.sub(r"^blocks\.6\.proj\.", "head.", key)
        key = re.sub(r"^blocks\.0\.", "features.stem.", key)
        key = re.sub(r"^blocks\.1\.res_blocks\.", "features.res2.", key)  # blocks.2 is the pool
        key = re.sub(r"^blocks\.(\d)\.res_blocks\.", r"features.res\1.", key)
        key = re.sub(
            r"\.branch2\.(conv|norm)_([abc])\.",
            lambda m: f".conv{'abc'.index(m[2]) + 1}.{m[1]}.",
            key,
        )
        converted[key.replace(".branch1_", ".shortcut.").replace(".norm.", ".bn.")] = value
    return converted


CAFFE2_LAYERS = (  # theirs, as regular expressions, and ours
    (r"(res_)?conv1", "features.stem"),
    (r"res(\d)_(\d+)_branch1", r"features.res\1.\2.shortcut"),
    (r"res(\d)_(\d+)_branch2a", r"features.res\1.\2.conv1"),
    (r"res(\d)_(\d+)_branch2b", r"features.res\1.\2.conv2"),
    (r"res(\d)_(\d+)_branch2c", r"features.res\1.\2.conv3"),
    (r"nonlocal_conv(\d)_(\d+)_(theta|phi|g)", r"features.res\1.non_local_\2.\3"),
    (r"nonlocal_conv(\d)_(\d+)(_out)?", r"features.res\1.non_local_\2.out"),
    (r"pred", "head"),
)
CAFFE2_PARTS = {
    "w": "weight",
    "b": "bias",
    "s": "weight",
    "rm": "running_mean",
    "riv": "running_var",  # not the inverse, whatever the name says
}


def convert_caffe2(state: dict) -> dict:
    """video-nonlocal-net: `res3_1_branch2a_bn_rm` -> `features.res3.1.conv1.bn.running_mean`."""
    converted = {}
    for key, value in state.items():
        if key in ("lr", "model_iter") or key.endswith("_momentum"):
            continue
        name, _, part = key.rpartition("_")
        for theirs, ours in CAFFE2_LAYERS:
            if match := re.fullmatch(theirs, name.removesuffix("_bn")):
                layer = match.expand(ours)
                if name.endswith("_bn"):
                    layer += ".bn"
                elif not layer.endswith((".theta", ".phi", ".g", "head")):
                    layer += ".conv"
                key = f"{layer}.{CAFFE2_PARTS.get(part, part)}"
                break
        converted[key] = value.flatten(1) if key == "head.weight" else value
    for key in [key for key in converted if key.endswith(".out.conv.bias")]:
        mean = key.replace(".conv.bias", ".bn.running_mean")
        if mean in converted:  # batch norm takes away what a bias before it adds
            converted[mean] = converted[mean] - converted.pop(key)
    return converted


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers; whatever else a pickle names is refused.

    A pickle can call any function that it names, so one from elsewhere could do anything.
    """

    reconstruct = np.empty(0).__reduce__()[0]
    allowed = {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # of Python 3's bytes
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise UserError(f"it names {module}.{name}, which is no part of an array")
        return self.allowed[module, name]


def read_caffe2_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The arrays in a file of Caffe2, a pickle of Python 2, without running what it says."""
    try:
        with open(path, "rb") as file:
            content = ArrayUnpickler(file, encoding="latin1").load()
        blobs = content["blobs"].items()
        return {
            name: torch.from_numpy(value.astype(np.float32))
            for name, value in blobs
            if isinstance(value, np.ndarray)
        }
    except FileNotFoundError:
        raise UserError(f"no weight file {path}") from None
    except UserError as error:
        raise UserError(f"{path} is not safe to read: {error}") from None
    except Exception as error:  # a file that is no pickle can end in almost any
        raise UserError(f"{path} is no file of arrays ({type(error).__name__})") from None


PYTORCHVIDEO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"
MMACTION2 = "https://download.openmmlab.com/mmaction/v1.0/recognition/i3d/"
NLNET = "https://dl.fbaipublicfiles.com/video-nonlocal/"
GRAY = {"mean": (0.45,) * 3, "std": (0.225,) * 3}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
VIEWS = "Kinetics-400 val, 10 clips x 3 crops of 256"


def pytorchvideo(file: str, inflate: str, accuracy: str) -> Weights:
    """Networks for 8 frames, every eighth."""
    return Weights(
        url=PYTORCHVIDEO + file,
        convert=convert_pytorchvideo,
        arch_args={"inflate": inflate, "head_window": (4, 7, 7)},
        preprocessing=Preprocessing(clip_len=8, stride=8, **GRAY),
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
    short = "8x8" in file
    arch_args = {"inflate": "3x1x1" if file.startswith("i3d") else "none"}
    arch_args |= {"pool1_padding": 0, "head_window": (4, 7, 7)}
    if not short:
        arch_args |= {"conv1_stride": 2, "pool1_kernel": 2, "pool1_stride": 2}
    if "nonlocal" in file:
        arch_args |= {"non_local": 5, "non_local_scale": True}
    clip_len, stride = (8, 8) if short else (32, 2)
    return Weights(
        url=f"{NLNET}{file}_IN_pretrain_400k.pkl",
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
