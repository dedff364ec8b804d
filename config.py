"""What every room knows: errors and whole files; recipes, architectures and data sets as data.

Each number of a recipe has its source or reason beside it.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

RUNS = Path("saved_model")  # folder of all runs, below the working folder
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
# UCF101: v_Biking_g01_c02 is a clip of the first group of Biking, of one recording; numbers start
# anew in each class
UCF_NAME = re.compile(r"(?:v_(?P<class_name>\w+))?_(?P<number>g\d+)_c\d+", re.IGNORECASE)


class UserError(ValueError):
    """Something that the user can mend, in one sentence: what is wrong, where, what to do."""


def group_of(path: str, regex: re.Pattern[str] | None = None) -> str | None:
    """The group of videos that one belongs to by its path, such as the clips of one recording.

    It is what `regex` finds, in its first parentheses if there are any; without a regex it is the
    class and number in a name of UCF101: "biking g01".
    """
    match = (regex or UCF_NAME).search(path)
    if match is None:
        return None
    if regex is not None:
        return match[1 if regex.groups else 0] or None
    # archives differ in the case: HandStandPushups, HandstandPushups
    return f"{match['class_name']} {match['number']}".lower() if match["class_name"] else None


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a name to write to in place of `path`, which becomes what was written, or stays.

    A reader finds the old file or the new one at any moment, even if the machine stops. Of several
    entered in an ExitStack, none is replaced before all are written.
    """
    path = Path(path)
    # one name, so that what a kill leaves is overwritten; short enough where that of `path` is not
    temporary = path.with_name(f".{path.name[:60]}.partial")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Arch:
    """An architecture; its key in ARCHS is the name of its file in models/."""

    network: str  # the class in that file
    title: str
    # arguments of the class that are options of main.py, too: the values there are, or their type
    options: dict[str, tuple | type] = field(default_factory=dict)
    # what it can see, and the arguments of the class for it
    modalities: dict[str, dict] = field(
        default_factory=lambda: {"rgb": {}, "flow": {"in_channels": 2}}
    )
    cross_modality: bool = False  # can weights of RGB start other modalities?


ARCHS = {
    "i3d": Arch(network="I3D", title="Inception-v1 inflated to 3-D (Carreira and Zisserman, 2017)"),
    "s3d": Arch(
        network="S3D",
        title="I3D with space and time apart (Xie et al., 2018)",
        options={"gating": (False, True)},
    ),
    "resnet3d": Arch(
        network="ResNet3D",
        title="3-D ResNet with non-local blocks (Wang et al., 2018)",
        options={
            "depth": (50, 101, 152),
            "inflate": ("none", "3x1x1", "3x3x3"),
            "non_local": (0, 5, 10),
            "non_local_mode": ("embedded_gaussian", "gaussian", "dot_product", "concatenation"),
            "non_local_scale": (False, True),
        },
    ),
    "tsn": Arch(
        network="TSN",
        title="2-D network on segments of a video (Wang et al., 2016)",
        options={
            "backbone": str,
            "consensus": ("avg", "max", "topk", "rnn", "cnn"),
            "top_k": int,
            "partial_bn": (False, True),
        },
        modalities={name: {"modality": name} for name in ("rgb", "flow", "rgbdiff")},
        cross_modality=True,
    ),
}


RESIZES = ("short_side", "square")  # square: both sides, whatever the aspect ratio
CROPS = ("random", "resized", "corners")  # how training crops, see Recipe.crop
AVERAGES = ("scores", "logits")  # after the softmax, or before it


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Everything between a file and a network; it travels with weights and checkpoints."""

    clip_len: int  # frames the network sees
    stride: int = 1  # source frames from one of them to the next
    snippet_len: int = 0  # 0: a clip is consecutive; else so many frames of each segment of a video
    target_fps: float | None = None  # `stride` counts frames at this rate; None: at the video's own
    modality: str = (
        "rgb"  # "flow": fields u, v of 0 to 255; "rgbdiff": RGB, for the network to subtract
    )
    short_side: int = 256  # of the resized frame
    crop_size: int = 224
    resize: str = "short_side"  # one of RESIZES
    interpolation: str = "bilinear"
    antialias: bool = True
    channel_order: str = "RGB"  # or "BGR"
    value_range: tuple[float, float] = (0.0, 1.0)  # of black and white, before mean and std
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fps: float | None = None  # frames a second that the weights were trained with, if they care

    def of_flow(self) -> "Preprocessing":
        """What a network expects that starts from these weights, of RGB, and sees flow.

        Source: the authors' tsn-pytorch: 128 for pixels of 0 to 255, else 0.5 with the mean
        deviation of the three colors.
        """
        fields = 2 * self.snippet_len
        mean = 128.0 if self.value_range == (0.0, 255.0) else 0.5
        std = round(sum(self.std) / len(self.std), 3)
        return replace(
            self, modality="flow", channel_order="RGB", mean=(mean,) * fields, std=(std,) * fields
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an architecture is trained; each field is also an option of main.py."""

    # clip, in frames and pixels
    clip_len: int  # frames the network sees
    stride: int = 1  # source frames from one of them to the next
    snippet_len: int = 0  # see Preprocessing
    target_fps: float | None = None  # see Preprocessing
    modality: str = "rgb"  # a key of Arch.modalities
    resize: str = "short_side"  # see Preprocessing
    short_side: tuple[int, int] = (256, 256)  # the resized frame's, drawn from [low, high]
    crop_size: int = 224
    # augmentation; evaluation always resizes to short_side and crops
    # "random": anywhere on the resized frame; "resized": any window, resized to crop_size;
    # "corners": a window at one of 13 fixed places, resized
    crop: str = "random"
    crop_area: tuple[float, float] = (0.08, 1.0)  # "resized": share of the frame
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # "resized": width / height
    crop_scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)  # "corners": of the short side
    flip_prob: float = 0.5  # horizontal flips, where the data set allows them
    # the most that brightness, contrast and saturation (shares) and hue (of a turn) change
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixels scaled to [0, 1]
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    # model
    arch_args: dict = field(default_factory=dict)  # of the network, see Arch.options
    dropout: float = 0.5
    bn_momentum: float = 0.1  # weight of the newest batch in the running statistics
    # optimization
    epochs: int
    batch_size: int
    optimizer: str = "sgd"
    lr: float  # for this batch size
    momentum: float = 0.9  # of SGD
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_norm: bool = True  # False: no weight decay on the scale and shift of batch norm
    clip_grad: float = 0  # longest gradient (L2 norm over all parameters); 0: any
    schedule: str = "step"  # see utils/schedule.py
    lr_steps: tuple[int, ...] = ()  # epochs after which "step" divides lr by 10
    plateau_patience: int = 5  # epochs without a better validation loss before "plateau" does
    warmup_epochs: float = 0  # lr rises linearly from near zero
    ema: float = 0  # decay a step of the averaged weights that are evaluated; 0: none
    # regularization
    label_smoothing: float = 0
    mixup: float = 0  # alpha of its beta distribution; 0: none
    freeze: str | None = None  # stages up to this one keep the weights they start with
    freeze_bn: bool = False  # batch norm keeps its statistics, scale and shift
    precise_bn: int = 0  # batches that measure batch norm anew before each evaluation
    # evaluation
    views: str = "10x1"  # clips x crops a video at the end of the run; "all": the whole video
    average: str = "scores"  # what is averaged over the views, one of AVERAGES
    full_crop: bool = False  # are those crops as large as the short side, or of crop_size?
    expected: str = ""  # published accuracy with its protocol, printed at the start of a run


# short side 256, a random 224 px crop, one flip a video: arXiv:1705.07750 sec. 2.5
I3D_SCRATCH = Recipe(
    clip_len=64,  # 64 consecutive frames at 25 fps, arXiv:1705.07750 sec. 2.4
    epochs=100,
    lr_steps=(40, 80),  # GluonCV's i3d_inceptionv1_kinetics400: 71.8 % top-1 with 64 clips a batch
    batch_size=64,
    lr=0.01,
)
# GluonCV's i3d_resnet50_v1_ucf101 and _hmdb51; the I3D paper adapts its own and prints no numbers
I3D_UCF101 = replace(I3D_SCRATCH, epochs=50, lr_steps=(20, 40), lr=0.001, clip_grad=40)
I3D_HMDB51 = replace(I3D_SCRATCH, epochs=35, lr_steps=(15, 25), lr=0.01, clip_grad=40)
# SlowFast's I3D 8x8 R50 on Kinetics-400
RESNET_SCRATCH = Recipe(
    clip_len=8,
    stride=8,
    short_side=(256, 320),  # arXiv:1711.07971 sec. 4.1
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    epochs=196,
    batch_size=64,
    lr=0.1,
    decay_norm=False,  # its BN.WEIGHT_DECAY is 0
    precise_bn=200,
    schedule="cosine",
    warmup_epochs=34,
    views="10x3",
)
# arXiv:1711.07971 sec. 4.1 and video-nonlocal-net: 150k, 150k and 100k steps of 64 clips, which are
# 104 epochs of 246k videos; 32 of 64 consecutive frames
RESNET_IMAGENET = replace(
    RESNET_SCRATCH,
    clip_len=32,
    stride=2,
    epochs=104,
    lr=0.01,
    nesterov=True,
    schedule="step",
    lr_steps=(39, 78),
    warmup_epochs=0,
)
# GluonCV's numbers for the same network, see I3D_UCF101
RESNET_UCF101 = replace(
    RESNET_IMAGENET, epochs=50, lr_steps=(20, 40), lr=0.001, clip_grad=40, nesterov=False
)
RESNET_HMDB51 = replace(RESNET_UCF101, epochs=35, lr_steps=(15, 25), lr=0.01)
# the authors' tsn-pytorch on UCF101: corner crops of four scales, 25 segments x 10 crops
TSN_SCRATCH = Recipe(
    clip_len=3,
    snippet_len=1,
    crop="corners",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    dropout=0.8,
    epochs=80,
    lr_steps=(30, 60),
    batch_size=128,
    lr=0.01,
    weight_decay=5e-4,
    views="25x10",
)
# MMAction's configurations of the authors' BNInception; their Caffe solvers say 1e-3 and 40, too
TSN_IMAGENET = replace(TSN_SCRATCH, lr=0.001, clip_grad=40, arch_args={"partial_bn": True})
# torchvision's S3D on Kinetics-400: lr 0.2 for 768 clips; frames are made square, as in the paper
S3D_SCRATCH = replace(
    I3D_SCRATCH,
    resize="square",
    epochs=45,
    lr_steps=(20, 30, 40),
    warmup_epochs=10,
    lr=0.2 * 64 / 768,
)
# found by measuring on two CPU cores: small crops for speed, variety from random starts and crops
DEMO = Recipe(
    clip_len=8,
    stride=2,
    short_side=(64, 64),
    crop_size=40,
    dropout=0.2,
    epochs=9,
    batch_size=32,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=1e-2,
    schedule="cosine",
    warmup_epochs=1,
    views="3x1",
)
RECIPES = {  # (architecture, data set, start) before (architecture, start)
    ("i3d", "scratch"): I3D_SCRATCH,
    # 50 epochs at 0.001, /10 after 20 and 40: GluonCV's fine-tuning of a Kinetics I3D on UCF101
    ("i3d", "kinetics"): I3D_UCF101,
    ("i3d", "kinetics400", "scratch"): replace(
        I3D_SCRATCH,
        expected="68.4 % (RGB, test set, whole video, 1 center crop; arXiv:1705.07750 Table 3)",
    ),
    ("i3d", "kinetics400", "imagenet"): replace(  # GluonCV's i3d_inceptionv1_kinetics400
        I3D_SCRATCH,
        clip_len=32,
        stride=2,
        expected="71.8 % (RGB, validation set; GluonCV with this recipe)",
    ),
    ("i3d", "kinetics200", "scratch"): replace(
        I3D_SCRATCH, expected="78.4 % (RGB; arXiv:1712.04851, as others quote it)"
    ),
    ("i3d", "ucf101", "scratch"): replace(
        I3D_SCRATCH, expected="50 to 60 % (RGB; what an author of I3D expects, no measurement)"
    ),
    ("i3d", "ucf101", "imagenet"): replace(
        I3D_UCF101, expected="84.5 % (RGB, split 1, whole video; arXiv:1705.07750 Table 2)"
    ),
    ("i3d", "ucf101", "kinetics"): replace(
        I3D_UCF101,
        expected="95.6 % (RGB, mean of 3 splits, whole video; arXiv:1705.07750 Table 5)",
    ),
    ("i3d", "hmdb51", "imagenet"): replace(
        I3D_HMDB51, expected="49.8 % (RGB, split 1, whole video; arXiv:1705.07750 Table 2)"
    ),
    ("i3d", "hmdb51", "kinetics"): replace(
        I3D_HMDB51,
        expected="74.8 % (RGB, mean of 3 splits, whole video; arXiv:1705.07750 Table 5)",
    ),
    ("s3d", "scratch"): S3D_SCRATCH,
    ("s3d", "kinetics400", "scratch"): replace(
        S3D_SCRATCH,
        expected="68.4 % (validation set, one clip of 128 frames at 15 fps; torchvision)",
    ),
    ("s3d", "kinetics200", "scratch"): replace(
        S3D_SCRATCH,
        expected="78.9 % (RGB; arXiv:1712.04851, as others quote it)",
    ),
    # no schedule of S3D on a smaller set is known: that of I3D
    ("s3d", "kinetics"): I3D_UCF101,
    ("s3d", "ucf101", "kinetics"): replace(
        I3D_UCF101, expected="96.8 % (S3D-G, RGB, mean of 3 splits; a survey's table)"
    ),
    ("s3d", "hmdb51", "kinetics"): replace(
        I3D_HMDB51, expected="75.9 % (S3D-G, RGB, mean of 3 splits; a survey's table)"
    ),
    ("resnet3d", "scratch"): RESNET_SCRATCH,
    ("resnet3d", "kinetics400", "scratch"): replace(
        RESNET_SCRATCH,
        expected="73.5 %, 74.0 % with 5 non-local blocks (ResNet-50, validation set, 10 clips x "
        "3 crops; SlowFast's model zoo)",
    ),
    ("resnet3d", "imagenet"): RESNET_IMAGENET,
    ("resnet3d", "kinetics400", "imagenet"): replace(
        RESNET_IMAGENET,
        expected="73.3 %, 74.9 % with 5 non-local blocks (ResNet-50, validation set, 10 clips, "
        "fully convolutional; arXiv:1711.07971 Table 2f)",
    ),
    ("resnet3d", "kinetics"): RESNET_UCF101,
    ("resnet3d", "ucf101", "imagenet"): replace(
        RESNET_UCF101, expected="83.9 % (ResNet-50, split 1; GluonCV with this recipe)"
    ),
    ("resnet3d", "ucf101", "kinetics"): replace(
        RESNET_UCF101, expected="95.4 % (ResNet-50, split 1; GluonCV with this recipe)"
    ),
    ("resnet3d", "hmdb51", "imagenet"): replace(
        RESNET_HMDB51, expected="48.5 % (ResNet-50, split 1; GluonCV with this recipe)"
    ),
    ("resnet3d", "hmdb51", "kinetics"): replace(
        RESNET_HMDB51, expected="70.9 % (ResNet-50, split 1; GluonCV with this recipe)"
    ),
    ("tsn", "scratch"): TSN_SCRATCH,
    ("tsn", "imagenet"): TSN_IMAGENET,
    ("tsn", "kinetics"): TSN_IMAGENET,  # nothing published: the rate of fine-tuning at least
    # MMAction2's R50: lr 0.01 for 256 clips, batch norm trained
    ("tsn", "kinetics400", "imagenet"): replace(
        TSN_SCRATCH,
        epochs=100,
        lr_steps=(40, 80),
        batch_size=256,
        dropout=0.4,
        weight_decay=1e-4,
        clip_grad=40,
        expected="72.8 % (ResNet-50, RGB, validation set, 25 segments x 10 crops; MMAction2)",
    ),
    ("tsn", "ucf101", "imagenet"): replace(
        TSN_IMAGENET,
        expected="85.7 % (BNInception, RGB, split 1, 25 segments x 10 crops; arXiv:1608.00859)",
    ),
    ("tsn", "hmdb51", "imagenet"): replace(
        TSN_IMAGENET, expected="55.2 % (ResNet-50, RGB, split 1; GluonCV, with another recipe)"
    ),
    ("i3d", "demo", "scratch"): DEMO,
    # twice the layers in a row, twice the batch norms: it needs longer until it sees motion
    ("s3d", "demo", "scratch"): replace(DEMO, epochs=30),
    ("resnet3d", "demo", "scratch"): DEMO,
    # the middle of eight segments of three frames each: all that a network without time can use
    ("tsn", "demo", "scratch"): replace(
        DEMO, stride=1, snippet_len=1, arch_args={"backbone": "resnet18"}, views="1x1"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a paper evaluates; all but the source are fields of Recipe."""

    views: str
    average: str = "scores"
    full_crop: bool = False
    source: str


PROTOCOLS = {
    "i3d": Protocol(
        views="allx1",
        average="logits",
        source="arXiv:1705.07750 sec. 2.5 and the authors' code: the whole video, 250 frames at 25 "
        "a second, is one clip of which the network averages the logits in time; center crop",
    ),
    "s3d": Protocol(
        views="allx1", average="logits", source="arXiv:1712.04851: as I3D, all frames, center crop"
    ),
    "nonlocal": Protocol(
        views="10x3",
        full_crop=True,
        source="arXiv:1711.07971 sec. 4.1: 10 clips at short side 256, softmax averaged; the whole "
        "frame as three crops of 256 x 256, as in the authors' code",
    ),
    "tsn": Protocol(
        views="25x10",
        average="logits",
        source="arXiv:1608.00859 and the authors' tsn-pytorch: 25 segments, four corners and the "
        "center, mirrored, too",
    ),
    "clip": Protocol(views="1x1", source="one center clip, as validation between epochs"),
}


# what another modality than RGB changes in a recipe; (architecture, modality) before modality
MODALITIES = {
    "flow": {"snippet_len": 0, "mean": (0.5,) * 2, "std": (0.5,) * 2},  # [-1, 1], as I3D's
    # tsn-pytorch's: five fields a segment, fewer scales, and 0.226 is the mean of ImageNet's std
    ("tsn", "flow"): {
        "clip_len": 15,
        "snippet_len": 5,
        "crop_scales": (1.0, 0.875, 0.75),
        "mean": (0.5,) * 10,
        "std": (0.226,) * 10,
        "dropout": 0.7,
    },
    # seven segments of six frames, which have five differences
    ("tsn", "rgbdiff"): {"clip_len": 42, "snippet_len": 6, "crop_scales": (1.0, 0.875, 0.75)},
}


def recipe_key(arch: str, dataset: str, start: str) -> tuple[str, ...]:
    """The key in RECIPES of a run that starts from `start`: "scratch", "imagenet" or "kinetics"."""
    keys = ((arch, dataset, start), (arch, start), (arch, "scratch"))
    return next(key for key in keys if key in RECIPES)


def find_recipe(arch: str, dataset: str, start: str, modality: str = "rgb") -> Recipe:
    """The recipe of `recipe_key`; what it expects is known for RGB alone."""
    recipe = RECIPES[recipe_key(arch, dataset, start)]
    if modality == "rgb":
        return recipe
    changes = MODALITIES.get((arch, modality)) or MODALITIES[modality]
    return replace(recipe, modality=modality, expected="", **changes)


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What is known of a data set beyond its lists."""

    title: str
    num_classes: int | None = None
    # videos of each official list; of a public set, whose lists are trainlist01.json and so on
    list_sizes: dict[str, int] = field(default_factory=dict)
    flips: bool = True  # may frames be mirrored at all?
    # class names that a mirrored video changes to; a class that is not named keeps its name
    flip_swaps: dict[str, str] = field(default_factory=dict)


# none of the classes of the public sets tells left from right, and published results mirror all
DATASETS = {
    "ucf101": DatasetSpec(
        title="101 human actions from YouTube (Soomro et al., 2012)",
        num_classes=101,
        list_sizes={
            "trainlist01": 9537,
            "testlist01": 3783,
            "trainlist02": 9586,
            "testlist02": 3734,
            "trainlist03": 9624,
            "testlist03": 3696,
        },
    ),
    "hmdb51": DatasetSpec(
        title="51 human motions from films and YouTube (Kuehne et al., 2011)",
        num_classes=51,
        list_sizes={  # 70 and 30 of each class
            f"{side}list{split:02d}": size
            for split in (1, 2, 3)
            for side, size in (("train", 3570), ("test", 1530))
        },
    ),
    "kinetics400": DatasetSpec(
        title="400 human actions from YouTube (Kay et al., 2017)",
        num_classes=400,
        # lines of the official CSV files; nobody has all of the videos any more
        list_sizes={"trainlist01": 246534, "testlist01": 19906},
    ),
    "kinetics200": DatasetSpec(
        title="Mini-Kinetics, a fixed part of Kinetics-400 (Xie et al., 2018)",
        num_classes=200,
        list_sizes={"trainlist01": 80000, "testlist01": 5000},  # 400 and 25 of each class
    ),
    "demo": DatasetSpec(
        title="eight synthetic motions in four time-reversed pairs",
        num_classes=8,
        flip_swaps={
            "left": "right",
            "right": "left",
            "clockwise": "counter-clockwise",
            "counter-clockwise": "clockwise",
        },
    ),
}
