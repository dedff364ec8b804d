"""Recipes of 3-D ResNets with non-local blocks (Wang et al., 2018)."""

from dataclasses import replace

from config import Recipe, Views

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
# GluonCV's numbers for the same network, see I3D_UCF101 in i3d.py
RESNET_UCF101 = replace(
    RESNET_IMAGENET, epochs=50, lr_steps=(20, 40), lr=0.001, clip_grad=40, nesterov=False
)
RESNET_HMDB51 = replace(RESNET_UCF101, epochs=35, lr_steps=(15, 25), lr=0.01)
RECIPES = {
    ("resnet3d", "scratch"): RESNET_SCRATCH,
    ("resnet3d", "kinetics400", "scratch"): RESNET_SCRATCH,
    ("resnet3d", "imagenet"): RESNET_IMAGENET,
    ("resnet3d", "kinetics400", "imagenet"): RESNET_IMAGENET,
    ("resnet3d", "kinetics"): RESNET_UCF101,
    ("resnet3d", "ucf101", "imagenet"): RESNET_UCF101,
    ("resnet3d", "ucf101", "kinetics"): RESNET_UCF101,
    ("resnet3d", "hmdb51", "imagenet"): RESNET_HMDB51,
    ("resnet3d", "hmdb51", "kinetics"): RESNET_HMDB51,
}
EXPECTED = {
    ("resnet3d", "kinetics400", "scratch"): "73.5 %, 74.0 % with 5 non-local blocks (ResNet-50, "
    "validation set, 10 clips x 3 crops; SlowFast's model zoo), 74.8 % with --inflate slow (same)",
    ("resnet3d", "kinetics400", "imagenet"): "73.3 %, 74.9 % with 5 non-local blocks (ResNet-50, "
    "validation set, 10 clips, fully convolutional; arXiv:1711.07971 Table 2f)",
    ("resnet3d", "ucf101", "imagenet"): "83.9 % (ResNet-50, split 1; GluonCV with this recipe)",
    ("resnet3d", "ucf101", "kinetics"): "95.4 % (ResNet-50, split 1; GluonCV with this recipe)",
    ("resnet3d", "hmdb51", "imagenet"): "48.5 % (ResNet-50, split 1; GluonCV with this recipe)",
    ("resnet3d", "hmdb51", "kinetics"): "70.9 % (ResNet-50, split 1; GluonCV with this recipe)",
}
