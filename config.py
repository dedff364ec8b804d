"""Architectures, recipes and data sets as plain data, each number with its source or reason."""

from dataclasses import dataclass, field, replace


class UserError(ValueError):
    """Something that the user can mend, in one sentence: what is wrong, where, what to do."""


@dataclass(frozen=True, kw_only=True)
class Arch:
    """An architecture; its key in ARCHS is the name of its file in models/."""

    network: str  # the class in that file
    title: str


ARCHS = {
    "i3d": Arch(network="I3D", title="Inception-v1 inflated to 3-D (Carreira and Zisserman, 2017)"),
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Everything between a file and a network; it travels with weights and checkpoints."""

    clip_len: int  # frames the network sees
    stride: int = 1  # source frames from one of them to the next
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
    short_side: tuple[int, int] = (256, 256)  # the resized frame's, drawn from [low, high]
    crop_size: int = 224
    flip_prob: float = 0.5  # horizontal flips, where the data set allows them
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of pixels scaled to [0, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    # model
    dropout: float = 0.5
    bn_momentum: float = 0.1  # weight of the newest batch in the running statistics
    # optimization
    epochs: int
    batch_size: int
    optimizer: str = "sgd"
    lr: float  # for this batch size
    momentum: float = 0.9  # of SGD
    weight_decay: float = 1e-4
    schedule: str = "step"  # "step": lr / 10 at each of lr_steps; "cosine": to zero at the end
    lr_steps: tuple[int, ...] = ()  # epochs
    warmup_epochs: float = 0  # lr rises linearly from near zero
    # evaluation
    views: str = "10x1"  # clips x crops a video at the end of the run


I3D_SCRATCH = Recipe(
    clip_len=64,  # 64 consecutive frames at 25 fps, arXiv:1705.07750 sec. 2.4
    epochs=100,
    lr_steps=(40, 80),  # GluonCV's i3d_inceptionv1_kinetics400: 71.8 % top-1 with 64 clips a batch
    batch_size=64,
    lr=0.01,
)
RECIPES = {  # (architecture, data set, start) before (architecture, start)
    ("i3d", "scratch"): I3D_SCRATCH,
    # 50 epochs at 0.001, /10 after 20 and 40: GluonCV's fine-tuning of a Kinetics I3D on UCF101
    ("i3d", "kinetics"): replace(I3D_SCRATCH, epochs=50, lr_steps=(20, 40), lr=0.001),
    # found by measuring on two CPU cores: small crops for speed, and variety from random starts and
    # crops
    ("i3d", "demo", "scratch"): Recipe(
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
    ),
}


def find_recipe(arch: str, dataset: str, start: str) -> Recipe:
    """The recipe of a run that starts from `start`: "scratch" or "kinetics"."""
    return RECIPES.get((arch, dataset, start)) or RECIPES[arch, start]


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
