"""Draw what a network really sees: some training clips after sampling, augmentation and crop.

    python pt_dataset/browse.py --dataset NAME [--arch i3d] [--num 8] [--out browse.png]

A row is a clip under its class and video, with the number of the source frame over each picture.
Options that are not given come from the recipe of --arch, as in main.py. Flow is drawn with u as
red and v as green; gray is no motion.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import random
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from config import (
    ARCHS,
    Augmentation,
    Clip,
    Parser,
    Preprocessing,
    Recipe,
    UserError,
    add_options,
    check_augmentation,
    in_form,
    part,
    plural,
    refuse,
)
from utils.recipes import find_recipe, recipe_data

INCHES = 1.4  # a side of a picture


class Row(NamedTuple):
    """A clip to draw."""

    title: str
    frames: np.ndarray  # as the network sees them, uint8 (T, S, S, C)
    sources: list[int]  # of each, its number in the video


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a folder of --data-root")
    parser.add_argument("--data-root", default="videos_dataset", metavar="DIR")
    parser.add_argument("--split", type=int, default=1, metavar="N")
    parser.add_argument("--arch", choices=ARCHS, default="i3d", help="whose recipe (i3d)")
    parser.add_argument("--recipe", choices=("paper", "small"), default="paper", help="(paper)")
    parser.add_argument("--num", type=int, default=8, metavar="N", help="clips (8)")
    parser.add_argument("--columns", type=int, default=8, metavar="N", help="frames of each (8)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of clips and chance (0)")
    parser.add_argument("--out", type=Path, default=Path("browse.png"), metavar="FILE")
    for kind in (Clip, Augmentation):  # the options of main.py that decide over clips
        add_options(parser, kind)
    return parser


def chosen_recipe(args: dict) -> Recipe:
    """The recipe of --arch with what was typed; UserError if they cannot be combined."""
    modality = args.get("modality", "rgb")
    if modality not in ARCHS[args["arch"]].modalities:
        raise UserError(f"--modality {modality} is not for {args['arch']}")
    dataset = recipe_data(args["recipe"], args["dataset"])
    recipe = find_recipe(args["arch"], dataset, "scratch", modality)
    typed = {name: value for name, value in args.items() if name in vars(recipe)}
    recipe = replace(recipe, **in_form(Recipe, typed))
    check_augmentation(recipe, recipe)
    return recipe


def training_rows(args: dict, recipe: Recipe) -> list[Row]:
    """Clips of some videos of the training list, as the first epoch of a run has them."""
    # after the options, since they bring torch
    from pt_dataset import sampling
    from pt_dataset.clip_dataset import TrainClips
    from pt_dataset.video_lists import check_clips, read_dataset

    clip = Preprocessing(
        **vars(part(Clip, recipe)),
        short_side=recipe.short_side[0],
        mean=recipe.mean,
        std=recipe.std,
    )
    lists, seed = read_dataset(args["dataset"], args["data_root"], args["split"]), args["seed"]
    check_clips(lists, clip)
    clips = TrainClips(lists.train, clip, part(Augmentation, recipe), lists.flipped_labels(), seed)
    rows = []
    num_clips = min(args["num"], len(clips))
    for index in random.Random(seed).sample(range(len(clips)), num_clips):
        seen, label, *_ = clips[0, index]
        assert seen is not None  # it would be for a video that a run skips
        video = lists.train[index]
        # the same first draw as that of the clip
        sources = sampling.train_indices(video, clip, sampling.generator(seed, 0, index))
        step = len(sources) // len(seen)  # of stacked flow, the first field of each segment
        name = "/".join(Path(video.path).parts[-2:])
        title = f"{lists.class_names[label]}: {name}"
        rows.append(Row(title, seen.numpy(), sources[::step]))
    return rows


def rgb_pictures(frames: np.ndarray) -> np.ndarray:
    """RGB frames to look at, (T, S, S, 3): of flow, the first field of each frame."""
    if frames.shape[-1] == 3:
        return frames
    blue = np.full_like(frames[..., :1], 128)
    return np.concatenate([frames[..., :2], blue], axis=-1)


def draw_rows(rows: list[Row], columns: int, out: Path) -> None:
    """Writes the picture: a clip a row, at most so many frames of it."""
    from matplotlib.figure import Figure  # here, since nothing else of pt_dataset needs it

    shown = np.unique(np.linspace(0, len(rows[0].frames) - 1, columns).round().astype(int))
    size = (INCHES * len(shown), (INCHES + 0.6) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for place, row in zip(parts, rows, strict=True):
        place.suptitle(row.title, fontsize=9, parse_math=False)
        pictures = rgb_pictures(row.frames)
        for axes, i in zip(place.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            axes.imshow(pictures[i])
            axes.set_title(row.sources[i], fontsize=7)
            axes.axis("off")
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:  # no such folder, or an ending that is no picture's
        raise UserError(f"{out} cannot be written: {error}") from None


def main(argv: list[str] | None = None) -> None:
    """Raises UserError where the lists, the videos or an option are of no use."""
    args = vars(build_parser().parse_args(argv))
    for name in ("num", "columns"):
        if args[name] < 1:
            raise UserError(f"--{name} must be at least 1")
    refuse(args["out"].is_dir(), f"--out {args['out']} is a folder; name a file")
    rows = training_rows(args, chosen_recipe(args))
    draw_rows(rows, args["columns"], args["out"])
    print(f"{plural(len(rows), 'training clip')} of {args['dataset']}: {args['out']}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
