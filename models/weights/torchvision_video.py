"""The public weights of torchvision's video networks, as its own tables of them say."""

import re
from typing import Any

from torchvision.models import get_model_weights

from config import ARCHS, Preprocessing
from models.weights import State, Weights

ARCHITECTURES = [arch for arch, entry in ARCHS.items() if entry.file == "torchvision_video"]


def convert(state: State) -> State:
    """torchvision's keys -> ours: the head apart, all else below `backbone`."""
    return {
        re.sub(r"^backbone\.(?:fc|head|head\.1)\.(\w+)$", r"head.\1", f"backbone.{key}"): value
        for key, value in state.items()
    }


def preprocessing(theirs: Any) -> Preprocessing:
    """Of an entry of torchvision's; the frames and their rate are in words there."""
    transform = theirs.transforms()
    (crop_size,) = set(transform.crop_size)
    short_side, *width = transform.resize_size  # height and width, or the short side
    return Preprocessing(
        clip_len=int(said(theirs, "clip_len")),
        fps=said(theirs, "frame_rate"),
        crop_size=crop_size,
        short_side=short_side,
        resize="4:3" if width == [round(short_side * 4 / 3)] else "short_side",
        antialias=False,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def said(theirs: Any, name: str) -> float:
    """A number that the description of an entry has: `frame_rate=7.5`."""
    return float(re.findall(rf"`{name}=([\d.]+)`", theirs.meta["_docs"])[0])


def weights_of(arch: str, variant: str) -> dict[str, Weights]:
    """All that torchvision has for a network; its first ones have no more than its name."""
    return {
        f"{variant}{kind(theirs)}_torchvision": Weights(
            url=theirs.url,
            sha256=theirs.url.rsplit("-", 1)[1].removesuffix(".pth"),
            convert=convert,
            arch=arch,
            arch_args={"variant": variant},
            preprocessing=preprocessing(theirs),
            license="BSD-3-Clause",
            source="https://github.com/pytorch/vision",
            accuracy="{acc@1:.2f} / {acc@5:.2f} ".format(**theirs.meta["_metrics"]["Kinetics-400"])
            + f"(Kinetics-400 validation, {said(theirs, 'clips_per_video'):.0f} clips x 1 center "
            f"crop of {said(theirs, 'clip_len'):.0f} frames at {said(theirs, 'frame_rate'):g} fps)",
        )
        for theirs in get_model_weights(variant)
    }


def kind(theirs: Any) -> str:
    """`_imagenet22k` of KINETICS400_IMAGENET22K_V1, which started from those, and of others ""."""
    return theirs.name.lower().removeprefix("kinetics400").removesuffix("_v1")


WEIGHTS = {
    name: entry
    for arch in ARCHITECTURES
    for variant in ARCHS[arch].options["variant"]
    for name, entry in weights_of(arch, variant).items()
}
