"""Recipes of torchvision's networks: R(2+1)D-18 and its like, MViT and Swin3D."""

from dataclasses import replace
from typing import Any

from config import Recipe, Views

# torchvision's references/video_classification: lr 0.01 x 64 for 64 x 24 clips of 16 frames at 15
# fps, every second one of most videos; 45 epochs of 5 clips a video, of which 10 warm up
VIDEORESNET_SCRATCH = Recipe(
    clip_len=16,
    stride=2,
    resize="4:3",
    short_side=(128, 128),
    crop_size=112,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
    dropout=0,
    epochs=225,
    batch_size=64,
    lr=0.64 / 24,
    lr_steps=(100, 150, 200),
    warmup_epochs=50,
    views=Views(5, 1),
)
# the authors' VMZ, R(2+1)D-34: 8 times 100,000 clips of UCF101, which are 84 epochs, and 40,000 of
# HMDB51, 90 epochs; the rate falls after every quarter
VMZ = replace(VIDEORESNET_SCRATCH, batch_size=32, warmup_epochs=0, weight_decay=5e-3)
VIDEORESNET_UCF101 = replace(VMZ, epochs=84, lr=1e-4, lr_steps=(21, 42, 63))
VIDEORESNET_HMDB51 = replace(VMZ, epochs=90, lr=2e-4, lr_steps=(22, 45, 67))
# PySlowFast's MVITv2_S_16x4 on Kinetics-400, lr 1e-4 for each 16 videos, which are 32 clips; of its
# four operations each is done half of the times, and their magnitude is 7 of 10
MVIT_SCRATCH = Recipe(
    clip_len=16,
    stride=4,
    crop="resized",
    augment="randaugment",
    rand_augment=(2, 21),
    erasing=0.25,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    epochs=200,
    batch_size=64,
    repeats=2,
    optimizer="adamw",
    lr=2e-4,
    weight_decay=0.05,
    clip_grad=1,
    schedule="cosine",
    warmup_epochs=30,
    label_smoothing=0.1,
    mixup=0.8,
    cutmix=1,
    views=Views(5, 1),
)
# PySlowFast's MVITv2_S_16x4 on Something-Something, from Kinetics-400: lr 0.0025 for 16 clips
MVIT_SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 1e-4, "clip_grad": 0}
MVIT_SSV2 = replace(
    MVIT_SCRATCH, epochs=100, warmup_epochs=3, repeats=1, arch_args={"drop_path": 0.4}, **MVIT_SGD
)
# VideoMAE's on UCF101, lr 2.5e-4 for 128 videos of two clips, from another transformer without
# labels: start from it, since nothing is published of these networks on a small set
ON_LITTLE: dict[str, Any] = {"epochs": 100, "warmup_epochs": 5, "lr": 6.25e-5, "layer_decay": 0.7}
MVIT_KINETICS = replace(MVIT_SCRATCH, clip_grad=0, **ON_LITTLE)
# nothing published, as the authors start from ImageNet: MViT's steps on Swin's clips
SWIN_SCRATCH = replace(
    MVIT_SCRATCH,
    clip_len=32,
    stride=2,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    views=Views(12, 1),
)
# Video Swin's on Something-Something, from Kinetics-400, but for one rate: there the head has 3e-4
# and all else 3e-5
SWIN_SSV2 = replace(SWIN_SCRATCH, epochs=60, lr=1e-4, clip_grad=0, warmup_epochs=2.5, mixup=0)
SWIN_SSV2 = replace(SWIN_SSV2, cutmix=0, rand_augment=(4, 7), repeats=1)
SWIN_KINETICS = replace(SWIN_SCRATCH, clip_grad=0, **ON_LITTLE)
RECIPES = {
    ("videoresnet", "scratch"): VIDEORESNET_SCRATCH,
    ("videoresnet", "kinetics400", "scratch"): VIDEORESNET_SCRATCH,
    ("videoresnet", "kinetics"): VIDEORESNET_UCF101,
    ("videoresnet", "hmdb51", "kinetics"): VIDEORESNET_HMDB51,
    ("mvit", "scratch"): MVIT_SCRATCH,
    ("mvit", "kinetics"): MVIT_KINETICS,
    ("mvit", "ssv2", "kinetics"): MVIT_SSV2,
    ("swin3d", "scratch"): SWIN_SCRATCH,
    ("swin3d", "kinetics"): SWIN_KINETICS,
    ("swin3d", "ssv2", "kinetics"): SWIN_SSV2,
}
EXPECTED = {
    ("videoresnet", "kinetics400", "scratch"): "67.5 % (R(2+1)D-18, validation set, 5 clips x 1 "
    "center crop of 16 frames at 15 fps; torchvision)",
}
