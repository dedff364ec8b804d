"""What every room knows: architectures and data sets as data; last, files and terminals."""

import argparse
import contextlib
import errno
import io
import itertools
import logging
import math
import os
import re
import reprlib
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import (
    MISSING,
    Field,
    dataclass,
    field,
    fields,
    is_dataclass,
    make_dataclass,
    replace,
)
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import UnionType
from typing import (
    IO,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

USES = ("predict", "extract_features", "export")  # what a trained network is good for
# exit statuses: after Ctrl-C, as shells have it, and after the signals that a scheduler or a closed
# terminal sends, EX_TEMPFAIL of sysexits.h; Windows does not have all
INTERRUPTED, PREEMPTED = 130, 75
STATUS: dict[int, int] = {signal.SIGINT: INTERRUPTED} | {
    getattr(signal, name): PREEMPTED
    for name in ("SIGTERM", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
}
RUNS = Path("saved_model")  # folder of all runs, below the working folder
# UCF101: v_Biking_g01_c02 is a clip of the first group of Biking, of one recording; numbers start
# anew in each class
UCF_NAME = re.compile(r"(?:v_(?P<class_name>\w+))?_(?P<number>g\d+)_c\d+", re.IGNORECASE)
LOW_HIGH = ("LOW", "HIGH")
LOCKED = 1 << 30  # the byte that Windows locks, which nobody may read then; far behind the words
MARK = os.urandom(4).hex()  # of this process, in the names of what it has not finished
_numbers = itertools.count()
log = logging.getLogger("video")


class Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


D = TypeVar("D", bound=Dataclass)


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


def refuse(wrong: object, sentence: str) -> None:
    """Raises UserError with that sentence if something is wrong."""
    if wrong:
        raise UserError(sentence)


def option(default: Any = MISSING, help: str = "", **facts: Any) -> Any:
    """A field of a dataclass that is an option of the command line, too: all that is known of it.

    Args:
        default: MISSING where every recipe has its own.
        help: for --help, which adds the default itself.
        **facts: what the annotation does not say: `low` and `high`, limits of a number, both
            allowed, and `off`, a number beside them; what argparse calls `choices`, `metavar`,
            `nargs`, `const`; `resumed`, what
            a run that goes on does: it keeps the value unless another is typed (the default),
            cannot have another ("fixed"), or has its own ("own"); `only_with`, options of which one
            must be typed, too; `not_with`, one that must not be on; `also_with`, the USES that it
            goes with;
            `action`, does it ask for something else than training?
    """
    return field(default=default, metadata={"help": help, **facts})


used = partial(option, also_with=USES)  # also of what is done with a trained network
own = partial(option, resumed="own")  # a run that goes on does not inherit it
fixed = partial(option, resumed="fixed")  # nor can it have another one
share = partial(option, low=0, high=1)


def plural(count: int, unit: str) -> str:
    """`3 frames`, `2 other files`, or of `field of flow`, `3 fields of flow`."""
    noun, of, rest = unit.partition(" of ")
    return f"{count} {noun}{'' if count == 1 else 'es' if noun[-1] == 's' else 's'}{of}{rest}"


def flag(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


def add_options(parser: argparse.ArgumentParser, kind: type[Dataclass]) -> None:
    """Adds the options among the fields of `kind`: a group under its name and docstring.

    What is not typed is not in the namespace; `in_form` makes the rest what the fields are.
    """
    recipe = {f.name for f in fields(Recipe)}
    options = [f for f in fields(kind) if "help" in f.metadata]
    about = f"{kind.__doc__}{' Defaults are those of the recipe.' * (options[0].name in recipe)}"
    group = parser.add_argument_group(kind.__name__.lower(), about)
    for f in options:
        syntax, help = _syntax(f.type, f.metadata), f.metadata["help"]
        said = f.default in (None, (), MISSING) or syntax.get("action") == "store_true"
        if f.name not in recipe and not said:
            values = f.default if isinstance(f.default, tuple) else (f.default,)
            help += f" (default: {' '.join(map(str, values))})"
        group.add_argument(flag(f.name), help=help, default=argparse.SUPPRESS, **syntax)


def _syntax(annotation: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What argparse is told of an option."""
    kind, *others = get_args(annotation) or (annotation,)  # tuple[int, ...], int | None; or int
    if kind is bool:  # what a resumed run keeps can be taken back
        once = facts.get("resumed") == "own"
        return {"action": "store_true" if once else argparse.BooleanOptionalAction}
    low, high, off = facts.get("low", -math.inf), facts.get("high", math.inf), facts.get("off")
    words = [word for other in others for word in get_args(other)]  # int | Literal["auto"]

    def parse(text: str) -> Any:
        try:
            value = text if text in words else getattr(kind, "parse", kind)(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if isinstance(value, int | float) and not low <= value <= high and value != off:
            limits = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"{text} must be {limits}")
        return value

    parse.__name__ = kind.__name__  # argparse names it where `kind` itself fails
    syntax: dict[str, Any] = {"type": parse}
    if kind is int and "choices" not in facts:
        syntax["metavar"] = "N"
    if get_origin(annotation) is tuple:
        syntax["nargs"] = "+" if ... in others else 1 + len(others)
    return syntax | {n: facts[n] for n in ("choices", "metavar", "nargs", "const") if n in facts}


def in_form(kind: type[Dataclass], values: dict[str, Any]) -> dict[str, Any]:
    """Values by name, from argparse or a JSON file, in the form that the fields of `kind` have."""
    formed = dict(values)
    for f in fields(kind):
        value = values.get(f.name)
        if isinstance(value, list):
            both = len(value) == 1 and ... not in get_args(f.type)  # of a range, one is both
            formed[f.name] = tuple(value * 2 if both else value)
        elif f.type is Views and isinstance(value, str):
            formed[f.name] = Views.parse(value)
    return formed


def part(kind: type[D], values: object) -> D:
    """The dataclass `kind` with those attributes of `values` that it has fields for."""
    return kind(**{f.name: getattr(values, f.name) for f in fields(kind)})


@dataclass(frozen=True)
class Views:
    """Clips and crops of a video in evaluation, written "10x3", or "allx1" for a whole video."""

    clips: int | None  # None: the whole video is one clip
    crops: int

    def __str__(self) -> str:
        return f"{self.clips or 'all'}x{self.crops}"

    def of_video(self, clip: "Preprocessing") -> tuple[int, tuple[int, int, int, int]]:
        """Views that are read of a video at once, and the shape (C, T, S, S) of each."""
        clips = self.clips or 1
        if clip.snippet_len:  # all segments may be one view
            clips, num_segments = clip.segments_of_views(clips)
            clip = replace(clip, clip_len=num_segments * clip.snippet_len)
        return clips * self.crops, clip.network_input()

    @classmethod
    def parse(cls, text: str) -> "Views":
        """CLIPSxCROPS, or CLIPS alone, where CLIPS may be "all"; else raises UserError."""
        match = re.fullmatch(r"(all|0*[1-9]\d*)(?:x(1|3|10)?)?", text, re.ASCII)
        if match is None:
            raise UserError(
                f"'{text}' is not CLIPSxCROPS with 1, 3 or 10 crops, such as 10x3, or all"
            )
        return cls(None if match[1] == "all" else int(match[1]), int(match[2] or 1))


@dataclass(frozen=True, kw_only=True)
class Arch:
    """An architecture; its key in ARCHS is the name of its file in models/, unless `file` is."""

    network: str  # the class in that file
    file: str | None = None
    # arguments of the class that are options, too: the values there are, or their type
    options: dict[str, tuple[Any, ...] | type] = field(default_factory=dict)
    # what it can see, and the arguments of the class for it
    modalities: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"rgb": {}, "flow": {"in_channels": 2}}
    )
    cross_modality: bool = False  # can weights of RGB start other modalities?


SLOWFAST = "slowfast_r50_8x8", "slowfast_r50_4x16", "slowfast_r101_8x8", "slowfast_r101_16x8"


def torchvision_video(network: str, *variants: str, **options: type) -> Arch:
    return Arch(network=network, file="torchvision_video", options={"variant": variants, **options})


ARCHS = {
    # Inception-v1 inflated to 3-D (Carreira and Zisserman, 2017)
    "i3d": Arch(network="I3D"),
    # I3D with space and time apart (Xie et al., 2018)
    "s3d": Arch(network="S3D", options={"gating": bool}),
    # 3-D ResNet with non-local blocks (Wang et al., 2018)
    "resnet3d": Arch(
        network="ResNet3D",
        options={
            "depth": (50, 101, 152),
            "inflate": ("none", "3x1x1", "3x3x3", "slow"),
            "non_local": (0, 5, 10),
            "non_local_mode": ("embedded_gaussian", "gaussian", "dot_product", "concatenation"),
            "non_local_scale": bool,
        },
    ),
    # two 3-D ResNets, one of few frames and a thin one of all (Feichtenhofer et al., 2019)
    "slowfast": Arch(network="SlowFast", options={"variant": SLOWFAST}),
    # 2-D network on segments of a video (Wang et al., 2016)
    "tsn": Arch(
        network="TSN",
        options={
            "backbone": str,
            "consensus": ("avg", "max", "topk", "rnn", "cnn"),
            "top_k": int,
            "partial_bn": bool,
            "shift": bool,
        },
        modalities={name: {"modality": name} for name in ("rgb", "flow", "rgbdiff")},
        cross_modality=True,
    ),
    # ResNet of bottlenecks with space and time apart (Tran et al., 2018)
    "r2plus1d": Arch(network="R2Plus1D"),
    # small, with depthwise convolutions (Feichtenhofer, 2020)
    "x3d": Arch(network="X3D", options={"variant": ("x3d_xs", "x3d_s", "x3d_m", "x3d_l")}),
    # 3-D ResNets of 18 layers (Tran et al., 2018)
    "videoresnet": torchvision_video("VideoResNet", "r2plus1d_18", "r3d_18", "mc3_18"),
    # attention that pools (Fan et al., 2021; Li et al., 2022)
    "mvit": torchvision_video("MViT", "mvit_v2_s", "mvit_v1_b", drop_path=float),
    # attention in windows (Liu et al., 2022)
    "swin3d": torchvision_video("Swin3D", "swin3d_t", "swin3d_s", "swin3d_b", drop_path=float),
}


def architecture() -> type[Dataclass]:
    """The arguments of the networks in ARCHS, as one more group of options."""
    options: list[tuple[str, Any, Any]] = []
    for name in dict.fromkeys(name for entry in ARCHS.values() for name in entry.options):
        known = {arch: e.options[name] for arch, e in ARCHS.items() if name in e.options}
        values = [v for vs in known.values() if isinstance(vs, tuple) for v in vs]
        kind = type(values[0]) if values else next(iter(known.values()))
        facts = {"choices": tuple(dict.fromkeys(values))} if values else {}
        options.append((name, kind, option(None, f"of {', '.join(known)}", **facts)))
    about = {"__doc__": "Arguments of the network, whose class has the defaults."}
    return make_dataclass("Architecture", options, namespace=about)


def typed_arch_args(arch: str, typed: dict[str, Any]) -> dict[str, Any]:
    """The typed arguments of the network; raises UserError if one belongs to another."""
    known = ARCHS[arch].options
    for other, entry in ARCHS.items():
        for name in entry.options.keys() & typed.keys() - known.keys():
            raise UserError(f"{flag(name)} is an option of {other}, not of {arch}")
    arch_args = {name: typed[name] for name in known if name in typed}
    for name, value in arch_args.items():
        among = known[name]
        if isinstance(among, tuple) and value not in among:
            choices = ", ".join(map(str, among))
            raise UserError(f"{flag(name)} {value} is not for {arch}, but {choices}")
    return arch_args


RESIZES = ("short_side", "square", "4:3")
CROPS = ("random", "resized", "corners")
AUGMENTS = ("none", "randaugment", "trivialaugment")
AVERAGES = ("scores", "logits")
WEIGHTINGS = ("none", "balanced")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Which frames of a video a network sees."""

    modality: str = option(
        "rgb", "flow: lists with a 'flow_path'; rgbdiff: of tsn", choices=("rgb", "flow", "rgbdiff")
    )
    clip_len: int = used(help="frames the network sees", low=1)
    stride: int = used(1, "source frames between two of them", low=1)
    target_fps: float | None = used(
        None,
        "--stride counts frames at this rate, whatever that of a video; 0: at its own, even with "
        "public weights, which else are fed at the rate that they were trained at",
        low=0.1,
        off=0,
        metavar="FPS",
    )
    snippet_len: int = option(0, "frames of each segment of the video; 0: consecutive clips", low=0)
    resize: str = used(
        "short_side", "square, 4:3: to it, whatever the aspect ratio", choices=RESIZES
    )
    crop_size: int = used(224, "what the network sees of a frame", low=1, metavar="PX")

    def needs_rates(self) -> bool:
        """Must the rate of every video be known?"""
        return bool(self.target_fps)

    def segments_of_views(self, num_clips: int) -> tuple[int, int]:
        """Of a network of segments: how many clips of how many; 1 means as many as in training."""
        num_segments = self.clip_len // self.snippet_len
        return 1, num_segments if num_clips == 1 else num_clips

    def network_input(self) -> tuple[int, int, int, int]:
        """The shape (C, T, S, S) of a clip on its way into the network."""
        channels, frames = 2 if self.modality == "flow" else 3, self.clip_len
        if self.modality == "flow" and self.snippet_len:  # the fields of a segment are channels
            channels, frames = channels * self.snippet_len, frames // self.snippet_len
        return channels, frames, self.crop_size, self.crop_size


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Clip):
    """Everything between a file and a network; it travels with weights and checkpoints."""

    short_side: int = field(default=256, metadata={"low": 1})  # of the resized frame
    interpolation: Literal["bilinear"] = "bilinear"
    antialias: bool = True
    channel_order: Literal["RGB", "BGR"] = "RGB"
    value_range: tuple[float, float] = (0.0, 1.0)  # of black and white, before mean and std
    mean: tuple[float, ...]  # one a channel; of flow fields u, v of 0 to 255
    std: tuple[float, ...]
    # frames a second of the public weights that these are or come from; None: of no importance
    fps: float | None = None
    # of a network that would be another one with more of them: several clips are evaluated instead
    fixed_segments: bool = False

    def segments_of_views(self, num_clips: int) -> tuple[int, int]:
        clips, num_segments = super().segments_of_views(1 if self.fixed_segments else num_clips)
        return num_clips if self.fixed_segments else clips, num_segments

    def in_files(self) -> dict[str, Any]:
        """As what was computed with it notes it; nothing of before there were fixed segments."""
        return {n: v for n, v in vars(self).items() if n != "fixed_segments" or v}

    def needs_rates(self) -> bool:
        """Not where it is by default that a clip has the rate of the weights."""
        return super().needs_rates() and self.target_fps != self.fps


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How clips of training vary; evaluation always resizes to the lowest short side and crops."""

    short_side: tuple[int, int] = used(
        (256, 256),
        "frames are resized to it; two: a range; with other --crop than random in evaluation only",
        low=1,
        nargs="+",
        metavar="PX",
    )
    crop: str = option(
        "random",
        "in training: at any place of the resized frame (random), any window, resized (resized), "
        "or one at 13 fixed places, resized (corners)",
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
    flip_prob: float = share(0.5, "horizontal flips, where the data set allows them", metavar="P")
    color_jitter: tuple[float, float, float, float] = share(
        (0.0, 0.0, 0.0, 0.0),
        "the most that each changes; hue in turns of the color wheel, 0.5 at most",
        metavar=("BRIGHTNESS", "CONTRAST", "SATURATION", "HUE"),
    )
    augment: str = option("none", "vary colors and places of a clip", choices=AUGMENTS)
    rand_augment: tuple[int, int] = option(
        (2, 9), "--augment randaugment: operations, magnitude", low=1, high=30, metavar=("N", "M")
    )
    erasing: float = share(0, "of the clips get a rectangle of noise", metavar="P")

    @property
    def changes_pixels(self) -> bool:
        return any(self.color_jitter) or self.augment != "none" or self.erasing > 0


def check_augmentation(clip: Clip, augmentation: Augmentation) -> None:
    """Raises UserError for a combination that no single option can see."""
    low, *_, high = sides = augmentation.short_side
    size, jitter = clip.crop_size, augmentation.color_jitter
    apart = clip.snippet_len and clip.clip_len % clip.snippet_len
    refuse(apart, "--clip-len must be a multiple of --snippet-len: frames of all segments")
    no_range = len(sides) > 2 or low > high
    refuse(no_range, "--short-side takes one number, or the lowest and the highest of a range")
    refuse(size > low, f"--crop-size {size} is more than the short side of {low}")
    for name in ("crop_area", "crop_ratio"):
        low, high = getattr(augmentation, name)
        refuse(low > high, f"{flag(name)} takes the lowest, then the highest")
    on_flow = augmentation.changes_pixels and clip.modality == "flow"
    refuse(on_flow, "--color-jitter, --augment and --erasing are for RGB frames, not for flow")
    refuse(jitter[3] > 0.5, "--color-jitter: the hue changes by half a turn, 0.5, at most")


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network, beside the arguments of its class."""

    dropout: float = share(0.5, "of the features before the head", metavar="P")
    bn_momentum: float = share(0.1, "weight of the newest batch in batch norm")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """Steps of the optimizer, and their sizes."""

    epochs: int = option(help="times that each training video is seen", low=1)
    batch_size: int = fixed(help="clips a step, over all devices", low=1, also_with=USES[:2])
    repeats: int = fixed(1, "clips of each video in an epoch, all of them in one batch", low=1)
    optimizer: str = fixed("sgd", "what makes steps of gradients", choices=("sgd", "adamw"))
    lr: float = option(help="learning rate at this batch size; a recipe's is scaled to it", low=0)
    momentum: float = share(0.9, "of SGD")
    nesterov: bool = option(False, "Nesterov's form of momentum, for SGD")
    weight_decay: float = option(1e-4, "pull of each weight towards zero", low=0)
    decay_norm: bool = option(True, "weight decay on batch norm, too")
    clip_grad: float = option(0, "longest gradient allowed; 0: any length", low=0, metavar="NORM")
    schedule: str = option(
        "step", "how lr falls after the warm-up", choices=("step", "cosine", "plateau")
    )
    lr_steps: tuple[int, ...] = option(
        (), "lr falls to a tenth after each of these epochs", low=1, nargs="*", metavar="EPOCH"
    )
    plateau_patience: int = option(
        5, "without a better validation loss before lr falls to a tenth", low=1, metavar="EPOCHS"
    )
    patience: int = option(
        0,
        "end after so many without a better top-1 of the validation; 0: never",
        low=0,
        metavar="EPOCHS",
    )
    warmup_epochs: float = option(
        0, "lr rises linearly from near zero in so many", low=0, metavar="N"
    )
    layer_decay: float = option(
        1,
        "lr times it for each layer below the head; 1: one for all",
        low=0.01,
        high=1,
        metavar="G",
    )


@dataclass(frozen=True, kw_only=True)
class Regularization:
    """What keeps a network from learning its training videos by heart."""

    ema: float = share(
        0,
        "evaluate weights averaged over the steps, such as 0.999; 0: the last weights",
        metavar="DECAY",
    )
    class_weights: str = option(
        "none", "balanced: each class counts alike, however many videos it has", choices=WEIGHTINGS
    )
    label_smoothing: float = share(0, "share of each label that goes to all classes", metavar="P")
    mixup: float = option(0, "blend pairs of clips; 0: none", low=0, metavar="ALPHA")
    cutmix: float = option(0, "or paste a part of one into the other", low=0, metavar="ALPHA")
    freeze: str | None = option(
        None, "train only what follows this stage of the network", metavar="STAGE"
    )
    freeze_bn: bool = option(False, "batch norm stays as it starts")
    precise_bn: int = option(
        0, "measure batch norm anew on so many before each evaluation", low=0, metavar="BATCHES"
    )


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated at the end, and how a trained network is used from then on."""

    views: Views = option(
        Views(10, 1),
        "of each video: 1, 3 or 10 crops; all: the whole video as one clip",
        metavar="CLIPSxCROPS",
        also_with=USES,
    )
    average: str = used(
        "scores", "of the views; scores: after softmax", choices=AVERAGES, also_with=USES[::2]
    )
    full_crop: bool = used(False, "crops as large as the short side, not of --crop-size")

    def plain(self) -> dict[str, Any]:
        """For a file; `in_form` takes it back."""
        return vars(self) | {"views": str(self.views)}

    def seen_of(self, clip: Preprocessing) -> Preprocessing:
        """What a view shows."""
        return replace(clip, crop_size=clip.short_side) if self.full_crop else clip


@dataclass(frozen=True, kw_only=True)
class Recipe(Clip, Augmentation, Network, Optimization, Regularization, Evaluation):
    """How an architecture is trained; all but these fields are options of main.py."""

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixels scaled to [0, 1]
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    arch_args: dict[str, Any] = field(default_factory=dict)  # of the network, see Arch.options
    expected: str = ""  # published accuracy with its protocol, printed at the start of a run


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What computes, and how."""

    device: str = own(
        "auto", "auto (a GPU if there is one), cpu, cuda, cuda:N or mps", also_with=USES
    )
    precision: str = option(
        "auto",
        "auto: bf16 where it is fast and right",
        choices=("auto", "fp32", "tf32", "bf16", "fp16"),
        also_with=USES[:2],  # what is exported is float32
    )
    micro_batch: int | Literal["auto"] | None = option(  # None: auto, of an earlier version
        "auto",
        "clips in the memory of a process at once, whose gradients add up to those of the batch; "
        "auto: the whole batch, or as many as fit",
        low=1,
    )
    checkpoint_activations: bool = option(
        False, "compute activations twice instead of keeping them: less memory, a third more time"
    )
    sync_bn: bool = option(
        False,
        "batch norm over the clips of all processes that torchrun starts; GPUs only",
        not_with="checkpoint_activations",
    )
    compile: bool = option(False, "compile the network first", not_with="checkpoint_activations")
    channels_last: bool = option(True, "keep clips and weights in the channels-last memory format")
    seed: int = fixed(0, "of everything random", low=0)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How videos are read."""

    workers: int = own(
        None,
        "loader processes, of each process (default: one a core, 8 at most)",
        low=0,
        also_with=USES,
    )
    on_bad_frame: str = option(
        "stop",
        "a frame that cannot be decoded ends the run (stop), is replaced by the nearest one that "
        "can be, or its video is left out",
        choices=("stop", "nearest", "skip"),
    )
    max_bad_share: float = share(
        0.01,
        "of the videos; with more bad ones the run ends in spite of --on-bad-frame",
        metavar="SHARE",
    )


def default_workers() -> int:
    """One a core, 8 at most, for each process that torchrun starts on this machine."""
    cores = num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(min(cores, 8), 1)


def num_cores() -> int:
    """Those that this process may use, or where the system does not say, all."""
    known = hasattr(os, "sched_getaffinity")  # on Linux
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """They are saved after each epoch, and when a run is stopped."""

    checkpoint_minutes: float = option(
        30.0, "save inside an epoch when the last one is so old; 0: never", low=0, metavar="M"
    )
    checkpoint_steps: int = option(0, "save after every so many steps, too; 0: no", low=0)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Where the numbers of a run are drawn, beside the files in its folder."""

    log_every: int = option(10, "steps between two points", low=1, metavar="STEPS")
    visdom_server: str = own("127.0.0.1", "host; one is started if none listens", metavar="HOST")
    visdom_port: int = own(8097, "port of that server", low=1, high=65535, metavar="PORT")
    visdom_env: str | None = option(
        None, "name of the page (default: the name of the run)", metavar="NAME"
    )
    no_visdom: bool = own(False, "curves go to the run folder only")
    logger: tuple[str, ...] = option(
        ("visdom",), "where the numbers go, too", choices=("visdom", "tensorboard")
    )


def is_checkpoint(pretrained: str | None) -> bool:
    """Does --pretrained name a checkpoint, and no public weights?"""
    return pretrained is not None and ("/" in pretrained or pretrained.endswith(".pth"))


def start_of(pretrained: str | None) -> str:
    """What the name of the weights says of where a run starts; recipes are looked up by it."""
    if pretrained is None:
        return "scratch"
    if is_checkpoint(pretrained):
        return "checkpoint"
    return "imagenet" if pretrained.startswith("imagenet") else "kinetics"


PROTOCOLS = {  # how papers evaluate
    # arXiv:1705.07750 sec. 2.5 and the authors' code: the whole video, 250 frames at 25 a second,
    # is one clip of which the network averages the logits in time; center crop
    "i3d": Evaluation(views=Views(None, 1), average="logits"),
    # arXiv:1712.04851: as I3D, all frames, center crop
    "s3d": Evaluation(views=Views(None, 1), average="logits"),
    # arXiv:1711.07971 sec. 4.1: 10 clips at short side 256, softmax averaged; the whole frame as
    # three crops of 256 x 256, as in the authors' code
    "nonlocal": Evaluation(views=Views(10, 3), full_crop=True),
    "slowfast": Evaluation(views=Views(10, 3), full_crop=True),  # arXiv:1812.03982 sec. 4, the same
    "x3d": Evaluation(views=Views(10, 3), full_crop=True),  # the same, in PySlowFast
    # arXiv:1608.00859 and the authors' tsn-pytorch: 25 segments, four corners and the center,
    # mirrored, too
    "tsn": Evaluation(views=Views(25, 10), average="logits"),
    # as torchvision measured its weights: softmax averaged over clips, center crop
    "videoresnet": Evaluation(views=Views(5, 1)),
    "mvit": Evaluation(views=Views(5, 1)),
    "swin3d": Evaluation(views=Views(12, 1)),
    # the authors' temporal-shift-module: eight segments; or dense, ten times eight of 64 frames
    "tsm": Evaluation(views=Views(1, 10), average="logits"),
    "tsm_dense": Evaluation(views=Views(10, 3), average="logits", full_crop=True),
    "clip": Evaluation(views=Views(1, 1)),  # one center clip, as validation between epochs
}


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What is known of a data set beyond its lists."""

    title: str
    num_classes: int | None = None
    # videos in the official training and test list of each split, of a public set
    split_sizes: tuple[tuple[int, int], ...] = ()
    flips: bool = True  # may frames be mirrored at all?
    # class names that a mirrored video changes to; a class that is not named keeps its name
    flip_swaps: dict[str, str] = field(default_factory=dict)

    @property
    def list_sizes(self) -> dict[str, int]:
        """Videos of each official list by name: trainlist01 and so on."""
        return {
            f"{side}list{split:02d}": size
            for split, sizes in enumerate(self.split_sizes, 1)
            for side, size in zip(("train", "test"), sizes, strict=True)
        }


def both_ways(*pairs: str) -> dict[str, str]:
    """The flip_swaps of pairs of classes "a|b", in both directions."""
    both = [pair.split("|") for pair in pairs]
    return {name: other for a, b in both for name, other in ((a, b), (b, a))}


# of sets without flip_swaps no class tells left from right, and published results mirror all
DATASETS = {
    "ucf101": DatasetSpec(
        title="101 human actions from YouTube (Soomro et al., 2012)",
        num_classes=101,
        split_sizes=((9537, 3783), (9586, 3734), (9624, 3696)),
    ),
    "hmdb51": DatasetSpec(
        title="51 human motions from films and YouTube (Kuehne et al., 2011)",
        num_classes=51,
        split_sizes=((3570, 1530),) * 3,  # 70 and 30 of each class
    ),
    "kinetics400": DatasetSpec(
        title="400 human actions from YouTube (Kay et al., 2017)",
        num_classes=400,
        # lines of the official CSV files; nobody has all of the videos any more
        split_sizes=((246534, 19906),),
    ),
    "kinetics200": DatasetSpec(
        title="Mini-Kinetics, a fixed part of Kinetics-400 (Xie et al., 2018)",
        num_classes=200,
        split_sizes=((80000, 5000),),  # 400 and 25 of each class
    ),
    "kinetics600": DatasetSpec(title="600 human actions from YouTube (Carreira et al., 2018)"),
    "kinetics700": DatasetSpec(title="700 human actions from YouTube (Carreira et al., 2019)"),
    "ssv2": DatasetSpec(
        title="174 actions with objects, Something-Something V2 (Goyal et al., 2017)",
        num_classes=174,
        flip_swaps=both_ways(
            "Pulling something from left to right|Pulling something from right to left",
            "Pushing something from left to right|Pushing something from right to left",
            "Turning the camera left while filming something|"
            "Turning the camera right while filming something",
        ),
    ),
    "jester": DatasetSpec(
        title="27 hand gestures (Materzynska et al., 2019)",
        num_classes=27,
        flip_swaps=both_ways(
            "Sliding Two Fingers Left|Sliding Two Fingers Right",
            "Swiping Left|Swiping Right",
            "Turning Hand Clockwise|Turning Hand Counterclockwise",
        ),
    ),
    "moments": DatasetSpec(title="events of three seconds, Moments in Time (Monfort et al., 2019)"),
    "demo": DatasetSpec(
        title="eight synthetic motions in four time-reversed pairs",
        num_classes=8,
        flip_swaps=both_ways("left|right", "clockwise|counter-clockwise"),
    ),
}


# Files and terminals: what all rooms do alike.


def open_regular(path: str | os.PathLike, flags: int = os.O_RDONLY) -> int:
    """An `opener` for open(): what is no file may never answer, or never end.

    Raises:
        OSError: it is a folder, pipe, socket or device, or it cannot be opened.
    """
    # does not wait for who writes to a pipe; Windows has no such files, and would translate bytes
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        what = "this is no file, but a folder, pipe, socket or device"
        raise OSError(errno.EINVAL, what, os.fspath(path))
    return file


class Terminal(io.FileIO):
    """A descriptor that takes everything: what cannot be written is lost, and ends nothing.

    The terminal may be closed, `head` may have seen enough, the disk behind a file may be full.
    """

    refusal = ""  # of any terminal, why something was lost

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            Terminal.refusal = error.strerror or str(error)
            return len(data)


def as_command(signals: Iterable[int] = ()) -> None:
    """From here on no terminal ends this program, and Ctrl-C ends it without a traceback.

    For the first lines of a command: Ctrl-C may come while its modules are imported.

    Args:
        signals: that end it with their STATUS, too, until something else is made of them.
    """
    # one of several processes may wait for the others where no handler is called
    for signum in () if "RANK" in os.environ else signals:
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, lambda signum, _: sys.exit(STATUS[signum]))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)  # None where it was closed before the start
        if stream is not getattr(sys, f"__{name}__"):
            continue  # such as a notebook's
        if sys.platform == "win32":  # whose terminal is no file
            if stream:
                stream.reconfigure(errors="backslashreplace")
            continue
        number = stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY)
        os.set_blocking(number, True)  # a shell or ssh may have left it otherwise
        raw = Terminal(number, "w", closefd=False)
        form = {"encoding": stream.encoding if stream else "utf-8", "line_buffering": True}
        # a name that the terminal's letters cannot write is no error either
        file = io.TextIOWrapper(io.BufferedWriter(raw), errors="backslashreplace", **form)
        setattr(sys, name, file)
    sys.excepthook = _end


def _end(kind, error, trace) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a name to write to in place of `path`, which becomes what was written, or stays.

    A reader finds the old file or the new one at any moment, even if the machine stops. Of several
    entered in an ExitStack, none is replaced before all are written.

    Raises:
        UserError: there is a folder of that name.
    """
    path = Path(path)
    refuse(path.is_dir(), f"{path} is a folder; name a file")
    temporary = unfinished(path)
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows syncs no file that is open for reading
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def try_folder(folder: Path, option: str, num_bytes: int = 1_000_000) -> None:
    """Before the work whose results go there: can so much be written? Leaves nothing.

    Raises:
        UserError: it cannot; `option` chooses another place.
    """
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    refuse(there.is_file(), f"{there} is a file, and no folder; choose another {option}")
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(num_bytes))
            file.flush()
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}), and the results go there; make room, "
            f"or choose another {option}"
        ) from None


def unfinished(path: Path) -> Path:
    """A hidden name for `path` until it is complete, another one each time.

    No other process has it, nor does another thread.
    """
    return beside(path, f"{MARK}-{os.getpid()}-{next(_numbers)}.partial")


def beside(path: Path, ending: str) -> Path:
    """The hidden name that begins as that of `path`, short enough where that is the longest."""
    name = path.name
    if len(name) > 50:  # characters, of up to four bytes; 255 bytes are the most
        name = f"{name[:40]}.{zlib.crc32(os.fsencode(name)):08x}"
    return path.parent / f".{name}.{ending}"


def remove_unfinished(folders: Iterable[Path], mark: str) -> None:
    """Removes what a process that has ended, of that MARK, was writing in these folders."""
    for path in (path for folder in folders for path in folder.glob(f".*.{mark}-*.partial")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def owned(path: str | os.PathLike, wait: float = 0, inside: bool = False) -> Iterator[str]:
    """Inside, no other process that asks as well writes to `path`, a file or folder.

    It holds a lock on a hidden file, which the system takes from a process that has ended, however
    that was. What such a one left unfinished in `path` and beside it is removed; it yields the MARK
    of that process, or "". Of a disk without locks it says so, and that is all.

    Args:
        wait: for so many seconds for another owner to end.
        inside: the hidden file is in the folder, which is made, and not beside it.

    Raises:
        UserError: another process has it for longer than that, or a file is where its folder goes.
    """
    real = Path(os.path.realpath(path))
    lock = real / ".lock" if inside else beside(real, "lock")
    refuse(lock.parent.is_file(), f"{lock.parent} is a file; name a folder")
    with contextlib.ExitStack() as stack:
        before = ""
        try:
            if not lock.parent.exists():
                stack.callback(_remove_if_empty, lock.parent)
                lock.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(_locked(lock, path, wait))
            stack.callback(_remove, lock)  # while it is ours: before it is closed
            before = _owner(file)[1]
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n{MARK}".encode())
        except OSError as error:
            reason = error.strerror or error
            log.warning(f"{lock} cannot be locked ({reason}): let nothing else write to {path} now")
        remove_unfinished({real, real.parent}, before)
        yield before


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _remove(lock: Path) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):  # on Windows, an open file stays
        lock.unlink()


def _owner(file: IO[bytes]) -> tuple[str, str]:
    """Who locked it last, in words, and the MARK of that process, or ""."""
    file.seek(0)
    who, _, mark = file.read(1000).decode("utf-8", "replace").partition("\n")
    return who or "another process", mark if re.fullmatch("[0-9a-f]{8}", mark) else ""


def _locked(lock: Path, path: str | os.PathLike, wait: float) -> IO[bytes]:
    """The open file `lock`, locked; see `owned`."""
    deadline, told = time.monotonic() + wait, False
    while True:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(lock, "a+b", buffering=0))
            if try_lock(file):
                with contextlib.suppress(FileNotFoundError):  # its owner has removed it meanwhile
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                        stack.pop_all()
                        return file
                continue
            owner = _owner(file)[0]
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{path} is in use by {owner}; wait until that ends, or choose another name"
                )
            if not told:
                log.warning(f"waiting for {owner}, which writes to {path}")
            told = True
            time.sleep(0.2)


def try_lock(file: IO) -> bool:
    """Locks a file that is open for writing, until it is closed, unless another process has it."""
    try:
        try:
            # unlike flock's, these locks do not pass to the processes that load data, which may
            # live on for some seconds after this one was killed
            from fcntl import LOCK_EX, LOCK_NB, lockf
        except ImportError:  # on Windows
            import msvcrt

            file.seek(LOCKED)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyrefly: ignore[missing-attribute]
        else:
            lockf(file, LOCK_EX | LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


class Parser(argparse.ArgumentParser):
    """Whose errors name the option that was meant, or say how to write a path with a dash first."""

    def parse_known_args(self, args=None, namespace=None):
        self.typed = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str):
        unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", message)
        if unknown and (near := get_close_matches(unknown[1], self._option_string_actions, 1, 0.8)):
            message += f"; did you mean {near[0]}?"
        for word in self.typed:
            one_dash = re.match(r"-(?!-|h$|[\d.e+-]*$)", word)  # options have two; no number
            if one_dash or (word.startswith("-") and os.path.lexists(word)):
                message += f"; if {word} is a file or folder, write ./{word}"
                break
        super().error(message)


def misfit(where: str, value: Any, form: Any, facts: Mapping[str, Any] | None = None) -> str:
    """Which part of something that was read from a file is not of its form, and why; or "".

    Args:
        where: what it is called.
        form: an annotation; a dict has what the fields of a dataclass say, and nothing else.
        facts: limits and choices of the numbers and words in it, see `option`.
    """
    facts, kind, inner = facts or {}, get_origin(form) or form, get_args(form)
    wrong = f"{where} is {reprlib.repr(value)}"
    if kind is Annotated:
        return misfit(where, value, inner[0], inner[1])
    if kind in (Union, UnionType):
        problems = [misfit(where, value, one, facts) for one in inner]
        return "" if "" in problems else problems[0]
    if kind in (Literal, Any):
        return "" if kind is Any or value in inner else wrong
    if is_dataclass(kind) and isinstance(value, dict):
        known = {f.name: f for f in fields(kind)}
        needed = {f.name for f in known.values() if f.default is f.default_factory is MISSING}
        if strange := [*(value.keys() - known.keys()), *(f"no {n}" for n in needed - value.keys())]:
            return f"{where} has {strange[0]}"
        return first_misfit(
            (f"{where}.{n}", v, known[n].type, known[n].metadata) for n, v in value.items()
        )
    if not isinstance(value, int | float if kind is float else kind):
        return wrong
    if isinstance(value, bool) and kind is not bool:  # True is an int to isinstance
        return wrong
    if isinstance(value, dict) and inner:
        keys = ((f"a key of {where}", key, inner[0], facts) for key in value)
        parts = ((f"{where}.{key}", one, inner[1], facts) for key, one in value.items())
        return first_misfit(keys) or first_misfit(parts)
    if isinstance(value, list | tuple) and inner:
        forms = inner if kind is tuple and ... not in inner else inner[:1] * len(value)
        if len(forms) != len(value):
            return wrong
        return first_misfit((f"{where}.{i}", one, forms[i], facts) for i, one in enumerate(value))
    return "" if allowed(value, kind, facts) else wrong


def allowed(value: object, kind: type, facts: Mapping[str, Any]) -> bool:
    """Is a number finite and within its limits, is a word among the choices?"""
    if "choices" in facts and value not in facts["choices"]:
        return False
    if isinstance(value, int | float):
        # an int of Python takes any number of digits; what is nan is not between anything
        most = sys.float_info.max if kind is float else sys.maxsize
        low, high = facts.get("low", -most), facts.get("high", most)
        return low <= value <= high and -most <= value <= most
    return not (isinstance(value, str) and "\0" in value)


def first_misfit(parts: Iterable[tuple]) -> str:
    """Of several, each with the arguments of `misfit`."""
    return next((problem for one in parts if (problem := misfit(*one))), "")
