"""Draw what a network really sees: some training clips after sampling, augmentation and crop.

    python pt_dataset/browse.py --dataset NAME [--arch i3d] [--num 8] [--out browse.png]

A row is a clip under its class and video, with the number of the source frame over each picture.
Options that are not given come from the recipe of --arch, as in main.py. Flow is drawn with u as
red and v as green; gray is no motion.
"""

import argparse
import random
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

# so that the file runs as a script too
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import ARCHS, CROPS, RESIZES, Augmentation, Clip, UserError, find_recipe
from pt_dataset import sampling

if TYPE_CHECKING:
    from pt_dataset.clip_dataset import TrainClips, VideoLists

# of a recipe, what decides over clips
NAMES = tuple(f.name for kind in (Clip, Augmentation) for f in fields(kind))
CHOICES = {"crop": CROPS, "resize": RESIZES, "modality": ("rgb", "flow", "rgbdiff")}
NARGS = {"short_side": "+", "crop_scales": "+"}  # of the others, as many as the recipe has
OF_NONE = {"target_fps": float}  # the type of what is None in every recipe
INCHES = 1.4  # a side of a picture


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a folder of --data-root")
    parser.add_argument("--data-root", default="videos_dataset", metavar="DIR")
    parser.add_argument("--split", type=int, default=1, metavar="N")
    parser.add_argument("--arch", choices=ARCHS, default="i3d", help="whose recipe (i3d)")
    parser.add_argument("--num", type=int, default=8, metavar="N", help="clips (8)")
    parser.add_argument("--columns", type=int, default=8, metavar="N", help="frames of each (8)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of clips and chance (0)")
    parser.add_argument("--out", type=Path, default=Path("browse.png"), metavar="FILE")
    group = parser.add_argument_group("recipe", "as in main.py, whose --help explains them")
    recipe = find_recipe("i3d", "", "scratch")
    for name in NAMES:
        value = getattr(recipe, name)
        several = isinstance(value, tuple)
        group.add_argument(
            "--" + name.replace("_", "-"),
            type=OF_NONE.get(name) or type(value[0] if several else value),
            nargs=NARGS.get(name) or (len(value) if several else None),
            choices=CHOICES.get(name),
            metavar=None if name in CHOICES else "X",
            default=argparse.SUPPRESS,
        )
    return parser


def pictures(clip: np.ndarray) -> np.ndarray:
    """RGB frames to look at, (T, S, S, 3): of flow, the first field of each frame."""
    if clip.shape[-1] == 3:
        return clip
    blue = np.full_like(clip[..., :1], 128)
    return np.concatenate([clip[..., :2], blue], axis=-1)


def draw(
    lists: "VideoLists", clips: "TrainClips", indices: list[int], columns: int, out: Path
) -> None:
    """Writes the picture of the clips of some videos."""
    from matplotlib.figure import Figure  # here, since nothing else of pt_dataset needs it

    num_frames = len(clips[0, indices[0]].clip)
    shown = np.unique(np.linspace(0, num_frames - 1, columns).round().astype(int))
    size = (INCHES * len(shown), (INCHES + 0.6) * len(indices))
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subfigures(len(indices), 1, squeeze=False)[:, 0]
    for row, index in zip(rows, indices, strict=True):
        clip, label, *_ = clips[0, index]
        video = lists.train[index]
        rng = sampling.generator(clips.seed, 0, index)
        # the same first draw as that of the clip; of stacked flow, the first field of each segment
        sources = clips.shape.train_indices(video, rng)[:: clips.shape.clip_len // num_frames]
        title = f"{lists.class_names[label]}: {'/'.join(Path(video.path).parts[-2:])}"
        row.suptitle(title, fontsize=9, parse_math=False)
        frames = pictures(clip.numpy())
        for axes, i in zip(row.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            axes.imshow(frames[i])
            axes.set_title(sources[i], fontsize=7)
            axes.axis("off")
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:  # no such folder, or an ending that is no picture's
        raise UserError(f"{out} cannot be written: {error}") from None


def check(values: dict) -> None:
    """What main.py says of the same options."""
    low, high = values["short_side"]
    if not values["crop_size"] <= low <= high:
        raise UserError("--short-side: the lowest and the highest, neither less than --crop-size")
    jitter = values["color_jitter"]
    if min(jitter) < 0 or max(jitter) > 1 or jitter[3] > 0.5:
        raise UserError("--color-jitter takes four numbers from 0 to 1, the hue 0.5 at most")
    for name in ("crop_area", "crop_ratio", "crop_scales"):
        low, most = min(values[name]), 10 if name == "crop_ratio" else 1
        if low <= 0 or max(values[name]) > most:
            raise UserError(f"--{name.replace('_', '-')} takes numbers above 0, {most} at most")
        if name != "crop_scales" and values[name][0] != low:
            raise UserError(f"--{name.replace('_', '-')} takes the lowest, then the highest")


def main(argv: list[str] | None = None) -> None:
    """Raises UserError where the lists, the videos or an option are of no use."""
    args = vars(build_parser().parse_args(argv))
    # after the options, since it brings torch
    from pt_dataset.clip_dataset import ClipShape, TrainClips, check_clips, read_dataset

    for name in ("num", "columns", "clip_len", "stride", "crop_size"):
        if args.get(name, 1) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")
    modality = args.get("modality", "rgb")
    if modality not in ARCHS[args["arch"]].modalities:
        raise UserError(f"--modality {modality} is not for {args['arch']}")
    recipe = find_recipe(args["arch"], args["dataset"], "scratch", modality)
    values = {name: args.get(name, getattr(recipe, name)) for name in NAMES}
    values["short_side"] = (values["short_side"][0], values["short_side"][-1])
    check(values)
    flip_prob = values.pop("flip_prob")
    shape = ClipShape(**values)
    lists = read_dataset(args["dataset"], args["data_root"], args["split"])
    check_clips(lists, shape)
    clips = TrainClips(lists.train, shape, lists.flipped_labels(), flip_prob, args["seed"])
    num = min(args["num"], len(clips))
    indices = random.Random(args["seed"]).sample(range(len(clips)), num)
    draw(lists, clips, indices, args["columns"], args["out"])
    print(f"{num} training clips of {args['dataset']}: {args['out']}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
