"""Recipes of R(2+1)D with bottlenecks (Tran et al., 2018)."""

from dataclasses import replace

from utils.recipes.resnet3d import RESNET_SCRATCH, RESNET_UCF101

RECIPES = {
    # PyTorchVideo's, and on a small set, of which nothing is published, the steps of ResNet3D
    ("r2plus1d", "scratch"): replace(RESNET_SCRATCH, clip_len=16, stride=4),
    ("r2plus1d", "kinetics"): replace(RESNET_UCF101, clip_len=16, stride=4),
}
