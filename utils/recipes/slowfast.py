"""Recipes of SlowFast (Feichtenhofer et al., 2019)."""

from dataclasses import replace

from utils.recipes.resnet3d import RESNET_HMDB51, RESNET_SCRATCH, RESNET_UCF101

# the authors' SLOWFAST_8x8_R50 and 4x16 on Kinetics-400; Nesterov is the default of their code
SLOWFAST_SCRATCH = replace(RESNET_SCRATCH, clip_len=32, stride=2, nesterov=True)
RECIPES = {
    ("slowfast", "scratch"): SLOWFAST_SCRATCH,
    ("slowfast", "kinetics400", "scratch"): SLOWFAST_SCRATCH,
    ("slowfast", "kinetics"): RESNET_UCF101,  # nothing published on a small set
    ("slowfast", "hmdb51", "kinetics"): RESNET_HMDB51,
}
EXPECTED = {
    ("slowfast", "kinetics400", "scratch"): "77.0 %, 75.6 % with --variant slowfast_r50_4x16 "
    "(validation set, 10 clips x 3 crops; SlowFast's model zoo)",
}
