"""Recipes of X3D, in each of its sizes (Feichtenhofer, 2020)."""

from dataclasses import replace
from typing import Any

from utils.recipes.resnet3d import RESNET_SCRATCH, RESNET_UCF101

# PySlowFast's X3D_M on Kinetics-400, and what its other sizes have in another way
X3D_STEPS: dict[str, Any] = {"epochs": 300, "warmup_epochs": 35, "weight_decay": 5e-5}
X3D_CLIPS: dict[str, Any] = {"clip_len": 16, "stride": 5, "arch_args": {"variant": "x3d_m"}}
X3D_SCRATCH = replace(RESNET_SCRATCH, batch_size=128, nesterov=True, **X3D_STEPS, **X3D_CLIPS)
X3D_SIZES: dict[str, dict[str, Any]] = {
    "x3d_xs": {"clip_len": 4, "stride": 12, "short_side": (182, 228), "crop_size": 160},
    "x3d_s": {"clip_len": 13, "stride": 6, "short_side": (182, 228), "crop_size": 160},
    "x3d_l": {"short_side": (356, 446), "crop_size": 312, "epochs": 256}
    | {"batch_size": 64, "lr": 0.05},
}
RECIPES = {
    ("x3d", "scratch"): X3D_SCRATCH,
    ("x3d", "kinetics400", "scratch"): X3D_SCRATCH,
    **{
        (name, "scratch"): replace(X3D_SCRATCH, **size, arch_args={"variant": name})
        for name, size in X3D_SIZES.items()
    },
    ("x3d", "kinetics"): replace(RESNET_UCF101, **X3D_CLIPS),  # nothing published on a small set
}
EXPECTED = {
    ("x3d", "kinetics400", "scratch"): "76.2 % (X3D-M, validation set, 10 clips x 3 crops; "
    "PySlowFast's model zoo)",
}
