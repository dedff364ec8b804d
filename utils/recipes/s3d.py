"""Recipes of S3D (Xie et al., 2018)."""

from dataclasses import replace

from utils.recipes.i3d import I3D_HMDB51, I3D_SCRATCH, I3D_UCF101

# torchvision's S3D on Kinetics-400: lr 0.2 for 12 x 64 clips; square frames, as in the paper
S3D_SCRATCH = replace(
    I3D_SCRATCH, resize="square", epochs=45, lr_steps=(20, 30, 40), warmup_epochs=10, lr=0.2 / 12
)
RECIPES = {
    ("s3d", "scratch"): S3D_SCRATCH,
    ("s3d", "kinetics400", "scratch"): S3D_SCRATCH,
    ("s3d", "kinetics200", "scratch"): S3D_SCRATCH,
    ("s3d", "kinetics"): I3D_UCF101,  # no schedule of S3D on a smaller set is known: that of I3D
    ("s3d", "ucf101", "kinetics"): I3D_UCF101,
    ("s3d", "hmdb51", "kinetics"): I3D_HMDB51,
}
EXPECTED = {
    ("s3d", "kinetics400", "scratch"): "68.4 % (validation set, one clip of 128 frames at 15 fps; "
    "torchvision)",
    ("s3d", "kinetics200", "scratch"): "78.9 % (RGB; arXiv:1712.04851, as others quote it)",
    ("s3d", "ucf101", "kinetics"): "96.8 % (S3D-G, RGB, mean of 3 splits; a survey's table)",
    ("s3d", "hmdb51", "kinetics"): "75.9 % (S3D-G, RGB, mean of 3 splits; a survey's table)",
}
