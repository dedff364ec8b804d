"""Recipes of --recipe small, for all architectures: a few hundred videos, no GPU."""

from dataclasses import replace
from typing import Any

from config import Recipe, Views
from utils.recipes import LITTLE_DATA
from utils.recipes.tsn import DIFF_SMALL, FLOW_SMALL

# for a few hundred videos on any machine: frames spread over the whole video, none of which a crop
# loses much of; found by measuring on UT-Interaction (90 training videos), where twice the epochs
# were worth 6 to 9 points
SMALL = Recipe(
    clip_len=16,
    snippet_len=1,
    resize="square",
    short_side=(108, 108),
    crop_size=96,
    epochs=80,
    batch_size=16,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    schedule="cosine",
    warmup_epochs=2,
    label_smoothing=0.1,
    mixup=0.2,
    views=Views(1, 1),
)
# what has seen videos needs smaller steps, and its batch norm is better than that of a small batch
SMALL_KINETICS = replace(SMALL, epochs=20, lr=1e-4, freeze_bn=True)
SMALL_IMAGENET = replace(SMALL, lr=3e-4)
# networks for pictures learn as much in fewer epochs, of half the frames, and TSN of smaller ones
TSN_SMALL: dict[str, Any] = {
    "clip_len": 8,
    "short_side": (90, 90),
    "crop_size": 80,
    "arch_args": {"backbone": "resnet18"},
}
TSN_SMALL_IMAGENET = TSN_SMALL | {"arch_args": {"backbone": "resnet18", "partial_bn": True}}
TSM_SMALL: dict[str, Any] = {"clip_len": 8, "arch_args": {"backbone": "resnet18", "shift": True}}
RECIPES = {
    ("any", LITTLE_DATA, "scratch"): SMALL,
    ("any", LITTLE_DATA, "imagenet"): SMALL_IMAGENET,
    ("any", LITTLE_DATA, "kinetics"): SMALL_KINETICS,
    ("tsn", LITTLE_DATA, "scratch"): replace(SMALL, epochs=60, **TSN_SMALL),
    ("tsn", LITTLE_DATA, "imagenet"): replace(SMALL_IMAGENET, epochs=60, **TSN_SMALL_IMAGENET),
    ("tsn", LITTLE_DATA, "kinetics"): replace(SMALL_KINETICS, **TSN_SMALL),
    ("tsm", LITTLE_DATA, "scratch"): replace(SMALL, epochs=60, **TSM_SMALL),
    ("tsm", LITTLE_DATA, "imagenet"): replace(SMALL_IMAGENET, epochs=60, **TSM_SMALL),
    ("tsm", LITTLE_DATA, "kinetics"): replace(SMALL_KINETICS, **TSM_SMALL),
}
MODALITIES: dict[tuple[str, ...], dict[str, Any]] = {
    # single fields, spread as the frames are; of TSN as many segments as of frames
    ("any", LITTLE_DATA, "flow"): {"mean": (0.5,) * 2, "std": (0.5,) * 2},
    ("tsn", LITTLE_DATA, "flow"): FLOW_SMALL,
    ("tsn", LITTLE_DATA, "rgbdiff"): DIFF_SMALL,
    ("tsm", LITTLE_DATA, "flow"): FLOW_SMALL,
    ("tsm", LITTLE_DATA, "rgbdiff"): DIFF_SMALL,
}
