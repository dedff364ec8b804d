"""Recipes of TSN (Wang et al., 2016), and of TSM (Lin et al., 2019), which is a shifted TSN."""

from dataclasses import replace
from typing import Any

from config import Recipe, Views

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
# MMAction2's R50: lr 0.01 for 256 clips, batch norm trained
TSN_KINETICS = replace(
    TSN_SCRATCH,
    epochs=100,
    lr_steps=(40, 80),
    batch_size=256,
    dropout=0.4,
    weight_decay=1e-4,
    clip_grad=40,
)
# the authors' temporal-shift-module on Kinetics-400; all batch norms are trained
TSM_IMAGENET = replace(
    TSN_SCRATCH,
    clip_len=8,
    dropout=0.5,
    epochs=50,
    lr_steps=(20, 40),
    lr=0.02,
    weight_decay=1e-4,
    clip_grad=20,
    arch_args={"shift": True},
    views=Views(1, 10),
    average="logits",
)
# theirs on UCF101, from Kinetics
TSM_UCF101 = replace(
    TSM_IMAGENET,
    dropout=0.8,
    epochs=25,
    lr_steps=(10, 20),
    batch_size=64,
    lr=0.001,
    weight_decay=5e-4,
    arch_args={"shift": True, "partial_bn": True},
)
FLOW_SMALL = {"clip_len": 40, "snippet_len": 5, "mean": (0.5,) * 10, "std": (0.226,) * 10}
DIFF_SMALL = {"clip_len": 48, "snippet_len": 6}
RECIPES = {
    ("tsn", "scratch"): TSN_SCRATCH,
    ("tsn", "imagenet"): TSN_IMAGENET,
    ("tsn", "kinetics"): TSN_IMAGENET,  # nothing published: the rate of fine-tuning at least
    ("tsn", "kinetics400", "imagenet"): TSN_KINETICS,
    ("tsn", "ucf101", "imagenet"): TSN_IMAGENET,
    ("tsn", "hmdb51", "imagenet"): TSN_IMAGENET,
    ("tsm", "scratch"): TSM_IMAGENET,  # nothing published
    ("tsm", "imagenet"): TSM_IMAGENET,
    ("tsm", "kinetics"): TSM_UCF101,
    ("tsm", "kinetics400", "imagenet"): TSM_IMAGENET,
    ("tsm", "ucf101", "kinetics"): TSM_UCF101,
}
EXPECTED = {
    ("tsm", "kinetics400", "imagenet"): "71.2 %, 72.8 % with 10 crops (ResNet-50, RGB, validation "
    "set, 8 segments; the authors' temporal-shift-module)",
    (
        "tsm",
        "ucf101",
        "kinetics",
    ): "95.9 % (ResNet-50, RGB, split 1, 8 segments, 2 clips; an author of TSM)",
    ("tsn", "kinetics400", "imagenet"): "72.8 % (ResNet-50, RGB, validation set, 25 segments x 10 "
    "crops; MMAction2)",
    ("tsn", "ucf101", "imagenet"): "85.7 % (BNInception, RGB, split 1, 25 segments x 10 crops; "
    "arXiv:1608.00859)",
    ("tsn", "hmdb51", "imagenet"): "55.2 % (ResNet-50, RGB, split 1; GluonCV, with another recipe)",
}
MODALITIES: dict[tuple[str, ...], dict[str, Any]] = {
    # tsn-pytorch's: five fields a segment, fewer scales, and 0.226 is the mean of ImageNet's std
    ("tsn", "flow"): {
        "clip_len": 15,
        "snippet_len": 5,
        "crop_scales": (1.0, 0.875, 0.75),
        "mean": (0.5,) * 10,
        "std": (0.226,) * 10,
        "dropout": 0.7,
    },
    ("tsm", "flow"): FLOW_SMALL,
    ("tsm", "rgbdiff"): DIFF_SMALL,
    # seven segments of six frames, which have five differences
    ("tsn", "rgbdiff"): {"clip_len": 42, "snippet_len": 6, "crop_scales": (1.0, 0.875, 0.75)},
}
