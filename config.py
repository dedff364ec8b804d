"""What every room knows: errors and whole files; recipes, architectures and data sets as data.

Each number of a recipe has its source or reason beside it.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar

RUNS = Path("saved_model")  # folder of all runs, below the working folder
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
# UCF101: v_Biking_g01_c02 is a clip of the first group of Biking, of one recording; numbers start
# anew in each class
UCF_NAME = re.compile(r"(?:v_(?P<class_name>\w+))?_(?P<number>g\d+)_c\d+", re.IGNORECASE)
LOW_HIGH = ("LOW", "HIGH")
T = TypeVar("T")


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


def option(default=MISSING, help: str = "", **facts):
    """A field of a dataclass that is an option of the command line, too: all that is known of it.

    Args:
        default: MISSING where every recipe has its own.
        help: for --help, which adds the default itself.
        **facts: as far as they do not follow from the annotation: `low` and `high`, limits of a
            number, both allowed; `choices`; `metavar`; `nargs`; `resumed`, what a run that goes on
            does: it keeps the value of the run before unless another is typed (the default),
            cannot have another one ("fixed"), or has its own ("own").
    """
    return field(default=default, metadata={"help": help, **facts})


def part(kind: type[T], values: object) -> T:
    """The dataclass `kind` with those attributes of `values` that it has fields for."""
    return kind(**{f.name: getattr(values, f.name) for f in fields(kind)})


@dataclass(frozen=True)
class Views:
    """Clips and crops of a video in evaluation, written "10x3", or "allx1" for a whole video."""

    clips: int | None  # None: the whole video is one clip
    crops: int

    def __str__(self) -> str:
        return f"{self.clips or 'all'}x{self.crops}"

    @classmethod
    def parse(cls, text: str) -> "Views":
        """CLIPSxCROPS, or CLIPS alone, where CLIPS may be "all".

        Raises:
            ValueError: it is neither, in a sentence.
        """
        clips, _, crops = text.partition("x")
        some = clips.isdecimal() and int(clips) > 0
        if not (some or clips == "all") or (crops or "1") not in ("1", "3", "10"):
            raise ValueError(
                f"'{text}' is not CLIPSxCROPS with 1, 3 or 10 crops, such as 10x3, or all"
            )
        return cls(int(clips) if some else None, int(crops or 1))


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


RESIZES = ("short_side", "square")
CROPS = ("random", "resized", "corners")
AVERAGES = ("scores", "logits")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Which frames of a video a network sees."""

    modality: str = option(
        "rgb", "flow: lists with a 'flow_path'; rgbdiff: of tsn", choices=("rgb", "flow", "rgbdiff")
    )
    clip_len: int = option(help="frames the network sees", low=1, metavar="N")
    stride: int = option(1, "source frames between two of them", low=1, metavar="N")
    target_fps: float | None = option(
        None,
        "--stride counts frames at this rate, whatever that of a video (its own)",
        low=0.1,
        metavar="FPS",
    )
    snippet_len: int = option(
        0, "frames of each segment of the video; 0: consecutive clips", low=0, metavar="N"
    )
    resize: str = option("short_side", "square: whatever the aspect ratio", choices=RESIZES)
    crop_size: int = option(224, "what the network sees of a frame", low=1, metavar="PX")


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Clip):
    """Everything between a file and a network; it travels with weights and checkpoints."""

    short_side: int = 256  # of the resized frame
    interpolation: str = "bilinear"
    antialias: bool = True
    channel_order: str = "RGB"  # or "BGR"
    value_range: tuple[float, float] = (0.0, 1.0)  # of black and white, before mean and std
    mean: tuple[float, ...]  # one a channel; of flow fields u, v of 0 to 255
    std: tuple[float, ...]
    fps: float | None = None  # frames a second that the weights were trained with, if they care

    def for_flow(self) -> "Preprocessing":
        """What a network expects that starts from these weights, of RGB, and sees flow.

        Source: the authors' tsn-pytorch: 128 for pixels of 0 to 255, else 0.5 with the mean
        deviation of the three colors.
        """
        channels = 2 * self.snippet_len
        mean = 128.0 if self.value_range == (0.0, 255.0) else 0.5
        std = round(sum(self.std) / len(self.std), 3)
        return replace(
            self,
            modality="flow",
            channel_order="RGB",
            mean=(mean,) * channels,
            std=(std,) * channels,
        )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How clips of training vary; evaluation always resizes to the lowest short side and crops."""

    short_side: tuple[int, int] = option(
        (256, 256),
        "frames are resized to it; two: a range; with other --crop than random in evaluation only",
        low=1,
        nargs="+",
        metavar="PX",
    )
    crop: str = option(
        "random",
        "in training: at any place of the resized frame; any window, resized; one at 13 fixed "
        "places, resized",
        choices=CROPS,
    )
    crop_area: tuple[float, float] = option(
        (0.08, 1.0), "--crop resized: share of the frame", low=0.01, high=1, metavar=LOW_HIGH
    )
    crop_ratio: tuple[float, float] = option(
        (3 / 4, 4 / 3), "--crop resized: width / height", low=0.1, high=10, metavar=LOW_HIGH
    )
    crop_scales: tuple[float, ...] = option(
        (1.0, 0.875, 0.75, 0.66),
        "--crop corners: sides of the window as shares of the short side, in order",
        low=0.01,
        high=1,
        metavar="S",
    )
    flip_prob: float = option(
        0.5, "horizontal flips, where the data set allows them", low=0, high=1, metavar="P"
    )
    color_jitter: tuple[float, float, float, float] = option(
        (0.0, 0.0, 0.0, 0.0),
        "the most that each changes; hue in turns of the color wheel, 0.5 at most",
        low=0,
        high=1,
        metavar=("BRIGHTNESS", "CONTRAST", "SATURATION", "HUE"),
    )


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network, beside the arguments of its class."""

    dropout: float = option(0.5, low=0, high=1, metavar="P")
    bn_momentum: float = option(0.1, "weight of the newest batch in batch norm", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """Steps of the optimizer, and their sizes."""

    epochs: int = option(low=1, metavar="N")
    batch_size: int = option(
        help="clips a step, over all devices", low=1, metavar="N", resumed="fixed"
    )
    optimizer: str = option("sgd", choices=("sgd", "adamw"), resumed="fixed")
    lr: float = option(
        help="learning rate for the batch size in use; the recipe's is scaled to it", low=0
    )
    momentum: float = option(0.9, "of SGD", low=0, high=1)
    nesterov: bool = option(False, "of SGD")
    weight_decay: float = option(1e-4, low=0)
    decay_norm: bool = option(True, "weight decay on batch norm, too")
    clip_grad: float = option(0, "longest gradient; 0: any", low=0, metavar="NORM")
    schedule: str = option("step", choices=("step", "cosine", "plateau"))
    lr_steps: tuple[int, ...] = option(
        (), "a tenth of lr after each", low=1, nargs="*", metavar="EPOCH"
    )
    plateau_patience: int = option(
        5,
        "without a better validation loss before a tenth of lr",
        low=1,
        metavar="EPOCHS",
    )
    warmup_epochs: float = option(0, "lr rises linearly from near zero", low=0, metavar="N")


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """What keeps a network from learning its training videos by heart."""

    ema: float = option(
        0,
        "evaluate weights averaged over the steps, such as 0.999; 0: the last weights",
        low=0,
        high=1,
        metavar="DECAY",
    )
    label_smoothing: float = option(0, low=0, high=1, metavar="P")
    mixup: float = option(0, "blend pairs of clips; 0: none", low=0, metavar="ALPHA")
    freeze: str | None = option(
        None, "train only what follows this stage of the network", metavar="STAGE"
    )
    freeze_bn: bool = option(False, "batch norm stays as it starts")
    precise_bn: int = option(
        0, "measure batch norm anew on so many before each evaluation", low=0, metavar="BATCHES"
    )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated at the end."""

    views: Views = option(
        Views(10, 1),
        "of each video: 1, 3 or 10 crops; all: the whole video as one clip",
        metavar="CLIPSxCROPS",
    )
    average: str = option("scores", "of the views; scores: after softmax", choices=AVERAGES)
    full_crop: bool = option(False, "crops as large as the short side, not of --crop-size")


@dataclass(frozen=True, kw_only=True)
class Recipe(Clip, Augmentation, Network, Optimization, Regularization, Evaluation):
    """How an architecture is trained; all but these fields are options of main.py."""

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixels scaled to [0, 1]
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    arch_args: dict = field(default_factory=dict)  # of the network, see Arch.options
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
    views=Views(10, 3),
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
    views=Views(25, 10),
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
    views=Views(3, 1),
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
        DEMO, stride=1, snippet_len=1, arch_args={"backbone": "resnet18"}, views=Views(1, 1)
    ),
}


@dataclass(frozen=True, kw_only=True)
class Protocol(Evaluation):
    """How a paper evaluates."""

    source: str


PROTOCOLS = {
    "i3d": Protocol(
        views=Views(None, 1),
        average="logits",
        source="arXiv:1705.07750 sec. 2.5 and the authors' code: the whole video, 250 frames at 25 "
        "a second, is one clip of which the network averages the logits in time; center crop",
    ),
    "s3d": Protocol(
        views=Views(None, 1),
        average="logits",
        source="arXiv:1712.04851: as I3D, all frames, center crop",
    ),
    "nonlocal": Protocol(
        views=Views(10, 3),
        full_crop=True,
        source="arXiv:1711.07971 sec. 4.1: 10 clips at short side 256, softmax averaged; the whole "
        "frame as three crops of 256 x 256, as in the authors' code",
    ),
    "tsn": Protocol(
        views=Views(25, 10),
        average="logits",
        source="arXiv:1608.00859 and the authors' tsn-pytorch: 25 segments, four corners and the "
        "center, mirrored, too",
    ),
    "clip": Protocol(views=Views(1, 1), source="one center clip, as validation between epochs"),
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
