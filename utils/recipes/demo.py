"""Recipes of the demo set, for all architectures."""

from dataclasses import replace

from config import Recipe, Views

# found by measuring on two CPU cores: small crops for speed, variety from random starts and crops
DEMO = Recipe(
    clip_len=8,
    stride=2,
    short_side=(64, 64),
    crop_size=40,
    dropout=0.2,
    epochs=9,
    batch_size=32,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=1e-2,
    schedule="cosine",
    warmup_epochs=1,
    views=Views(3, 1),
)
RECIPES = {
    ("any", "demo", "scratch"): DEMO,
    # twice the layers in a row, twice the batch norms: it needs longer until it sees motion
    ("s3d", "demo", "scratch"): replace(DEMO, epochs=30),
    # no better than 38.8 % after nine epochs, and 100 % after these
    ("x3d", "demo", "scratch"): replace(DEMO, epochs=30, arch_args={"variant": "x3d_m"}),
    # the middle of eight segments of three frames each: all that a network without time can use
    ("tsn", "demo", "scratch"): replace(
        DEMO, stride=1, snippet_len=1, arch_args={"backbone": "resnet18"}, views=Views(1, 1)
    ),
    # sees motion only after the eighth epoch
    ("tsm", "demo", "scratch"): replace(
        DEMO,
        epochs=20,
        stride=1,
        snippet_len=1,
        arch_args={"backbone": "resnet18", "shift": True},
        views=Views(1, 1),
    ),
}
