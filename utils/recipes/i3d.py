"""Recipes of I3D (Carreira and Zisserman, 2017)."""

from dataclasses import replace

from config import Recipe

# 64 consecutive frames at 25 fps, short side 256, a random crop of 224 px, one flip a video:
# arXiv:1705.07750 sec. 2.4 and 2.5. The rate and its steps for 64 clips: GluonCV's
# i3d_inceptionv1_kinetics400, 71.8 % top-1
I3D_SCRATCH = Recipe(clip_len=64, epochs=100, lr_steps=(40, 80), batch_size=64, lr=0.01)
# GluonCV's i3d_resnet50_v1_ucf101 and _hmdb51; the I3D paper adapts its own and prints no numbers
I3D_UCF101 = replace(I3D_SCRATCH, epochs=50, lr_steps=(20, 40), lr=0.001, clip_grad=40)
I3D_HMDB51 = replace(I3D_SCRATCH, epochs=35, lr_steps=(15, 25), lr=0.01, clip_grad=40)
RECIPES = {
    ("i3d", "scratch"): I3D_SCRATCH,
    # 50 epochs at 0.001, /10 after 20 and 40: GluonCV's fine-tuning of a Kinetics I3D on UCF101
    ("i3d", "kinetics"): I3D_UCF101,
    ("i3d", "kinetics400", "scratch"): I3D_SCRATCH,
    # GluonCV's i3d_inceptionv1_kinetics400
    ("i3d", "kinetics400", "imagenet"): replace(I3D_SCRATCH, clip_len=32, stride=2),
    ("i3d", "kinetics200", "scratch"): I3D_SCRATCH,
    ("i3d", "ucf101", "scratch"): I3D_SCRATCH,
    ("i3d", "ucf101", "imagenet"): I3D_UCF101,
    ("i3d", "ucf101", "kinetics"): I3D_UCF101,
    ("i3d", "hmdb51", "imagenet"): I3D_HMDB51,
    ("i3d", "hmdb51", "kinetics"): I3D_HMDB51,
}
EXPECTED = {
    ("i3d", "kinetics400", "scratch"): "68.4 % (RGB, test set, whole video, 1 center crop; "
    "arXiv:1705.07750 Table 3)",
    ("i3d", "kinetics400", "imagenet"): "71.8 % (RGB, validation set; GluonCV with this recipe)",
    ("i3d", "kinetics200", "scratch"): "78.4 % (RGB; arXiv:1712.04851, as others quote it)",
    ("i3d", "ucf101", "scratch"): "50 to 60 % (RGB; what an author of I3D expects, no measurement)",
    ("i3d", "ucf101", "imagenet"): "84.5 % (RGB, split 1, whole video; arXiv:1705.07750 Table 2)",
    ("i3d", "ucf101", "kinetics"): "95.6 % (RGB, mean of 3 splits, whole video; "
    "arXiv:1705.07750 Table 5)",
    ("i3d", "hmdb51", "imagenet"): "49.8 % (RGB, split 1, whole video; arXiv:1705.07750 Table 2)",
    ("i3d", "hmdb51", "kinetics"): "74.8 % (RGB, mean of 3 splits, whole video; "
    "arXiv:1705.07750 Table 5)",
}
