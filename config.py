"""Architectures, recipes and data sets as plain data, each number with its source or reason."""

from dataclasses import dataclass, field, replace
from pathlib import Path

RUNS = Path("saved_model")  # folder of all runs, below the working folder


class UserError(ValueError):
    """Something that the user can mend, in one sentence: what is wrong, where, what to do."""


@dataclass(frozen=True, kw_only=True)
class Arch:
    """An architecture; its key in ARCHS is the name of its file in models/."""

    network: str  # the class in that file
    title: str
    # arguments of the class that are options of main.py, too: the values there are, or their type
    options: dict[str, tuple | type] = field(default_factory=dict)


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
            "modality": ("rgb", "rgbdiff"),  # flow: when the lists can name it
            "consensus": ("avg", "max", "topk", "rnn", "cnn"),
            "top_k": int,
            "partial_bn": (False, True),
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Everything between a file and a network; it travels with weights and checkpoints."""

    clip_len: int  # frames the network sees
    stride: int = 1  # source frames from one of them to the next
    snippet_len: int = 0  # 0: a clip is consecutive; else so many frames of each segment of a video
    short_side: int = 256  # of the resized frame
    crop_size: int = 224
    resize: str = "short_side"  # or "square": both sides, whatever the aspect ratio
    interpolation: str = "bilinear"
    antialias: bool = True
    channel_order: str = "RGB"  # or "BGR"
    value_range: tuple[float, float] = (0.0, 1.0)  # of black and white, before mean and std
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fps: float | None = None  # frames a second that the weights were trained with, if they care


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an architecture is trained; each field is also an option of main.py."""

    # clip, in frames and pixels
    clip_len: int  # frames the network sees
    stride: int = 1  # source frames from one of them to the next
    snippet_len: int = 0  # see Preprocessing
    short_side: tuple[int, int] = (256, 256)  # the resized frame's, drawn from [low, high]
    crop_size: int = 224
    flip_prob: float = 0.5  # horizontal flips, where the data set allows them
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of pixels scaled to [0, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
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
    views: str = "10x1"  # clips x crops a video at the end of the run
    expected: str = ""  # published accuracy with its protocol, printed at the start of a run


I3D_SCRATCH = Recipe(
    clip_len=64,  # 64 consecutive frames at 25 fps, arXiv:1705.07750 sec. 2.4
    epochs=100,
    lr_steps=(40, 80),  # GluonCV's i3d_inceptionv1_kinetics400: 71.8 % top-1 with 64 clips a batch
    batch_size=64,
    lr=0.01,
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
    ("i3d", "kinetics"): replace(I3D_SCRATCH, epochs=50, lr_steps=(20, 40), lr=0.001),
    # torchvision's S3D on Kinetics-400, 68.4 % clip top-1: lr 0.2 for 768 clips
    ("s3d", "scratch"): replace(
        I3D_SCRATCH, epochs=45, lr_steps=(20, 30, 40), warmup_epochs=10, lr=0.2 * 64 / 768
    ),
    # SlowFast's I3D 8x8 R50 on Kinetics-400, 73.5 % with 30 views
    ("resnet3d", "scratch"): Recipe(
        clip_len=8,
        stride=8,
        short_side=(256, 320),
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        epochs=196,
        batch_size=64,
        lr=0.1,
        schedule="cosine",
        warmup_epochs=34,
        views="10x3",
    ),
    ("tsn", "scratch"): Recipe(
        clip_len=3,
        snippet_len=1,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        dropout=0.8,
        epochs=80,
        lr_steps=(30, 60),
        batch_size=128,
        lr=0.01,
        weight_decay=5e-4,
        views="25x1",
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


def recipe_key(arch: str, dataset: str, start: str) -> tuple[str, ...]:
    """The key in RECIPES of a run that starts from `start`: "scratch", "imagenet" or "kinetics"."""
    keys = ((arch, dataset, start), (arch, start), (arch, "scratch"))
    return next(key for key in keys if key in RECIPES)


def find_recipe(arch: str, dataset: str, start: str) -> Recipe:
    return RECIPES[recipe_key(arch, dataset, start)]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What is known of a data set beyond its lists."""

    title: str
    flips: bool = True  # may frames be mirrored at all?
    # class names that a mirrored video changes to; a class that is not named keeps its name
    flip_swaps: dict[str, str] = field(default_factory=dict)


DATASETS = {
    "demo": DatasetSpec(
        title="eight synthetic motions in four time-reversed pairs",
        flip_swaps={
            "left": "right",
            "right": "left",
            "clockwise": "counter-clockwise",
            "counter-clockwise": "clockwise",
        },
    ),
}
