"""Write the lists of a data set: trainlist01.json, testlist01.json and classes.txt.

    python pt_dataset/make_json.py                        # all public sets in the data root
    python pt_dataset/make_json.py ucf101 FRAMES                    # a public set, all its splits
    python pt_dataset/make_json.py hmdb51 FRAMES --annotations DIR  # with its official files
    python pt_dataset/make_json.py folder NAME FRAMES               # your own, a random split
    python pt_dataset/make_json.py folder NAME FRAMES --group-regex "seq\\d+"   # by source
    python pt_dataset/make_json.py folder NAME FRAMES --folds 5     # five splits: cross-validation
    python pt_dataset/make_json.py folder NAME FRAMES --split-file split.csv   # a given split
    python pt_dataset/make_json.py folder NAME FRAMES --train-list A.txt --val-list B.txt
    python pt_dataset/make_json.py folder NAME FRAMES --labels labels.csv

FRAMES has folders of numbered pictures in it, as extract_frames.py writes them, video files, or
zips of frames; it may also be one zip of them all. Each of one's own videos lies below the folder
of its class. The lists land in <data-root>/NAME; the videos stay where they are.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import math
import os
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack

from config import DATASETS, Parser, UserError, owned, plural, whole
from pt_dataset.datalist import HALF_REPLACED, any_case, list_text
from pt_dataset.listing import annotated_sets, known_sets
from pt_dataset.listing.find_videos import (
    BAD_FRAMES,
    Found,
    find_flow,
    find_videos,
    measure_videos,
)
from pt_dataset.listing.groups import require_group
from pt_dataset.listing.known_sets import (
    RULES,
    check_own_name,
    has_videos,
    kinetics400_videos,
    known_classes,
)
from pt_dataset.listing.own_videos import (
    WHAT_FRAMES_IS,
    check_classes,
    deal_out,
    find_own,
    sort_videos,
)
from pt_dataset.listing.pool import exit_status
from pt_dataset.listing.splits import draw_splits
from pt_dataset.video_list import Video

LOOKED_FOR = known_sets.LOOKED_FOR | annotated_sets.LOOKED_FOR  # of all public sets
DATA_ROOT = Path("videos_dataset")  # below the working folder


def check_can_write(folder: Path) -> None:
    """Finds out before hours of counting that the lists cannot be written."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{existing} cannot be written to; name another place with --data-root")


def write_lists(folder: Path, classes: list[str], lists: dict[str, list[Video]]) -> None:
    """Writes classes.txt and the lists, such as "trainlist01", together.

    A reader finds all of them old or new, or the mark that they are not.
    """
    labels = {name: label for label, name in enumerate(classes)}
    texts = {folder / "classes.txt": "".join(f"{name}\n" for name in classes)}
    for name, videos in lists.items():
        labelled = [video._replace(label=labels[video.class_name]) for video in videos]
        texts[folder / f"{name}.json"] = list_text(labelled, folder)
    with owned(folder, wait=math.inf, inside=True), ExitStack() as together:
        for path, text in texts.items():
            together.enter_context(whole(path)).write_text(text, encoding="utf-8")
        (folder / HALF_REPLACED).touch()  # all are written; leaving replaces one after another
    (folder / HALF_REPLACED).unlink()


def report_problems(problems: list[str]) -> None:
    """One line for each video that is left out, or has bad frames."""
    for problem in problems:
        what = "" if problem.startswith(BAD_FRAMES) else "left out: "
        print(f"{what}{problem}", file=sys.stderr)


def print_next_step(name: str, data_root: Path, splits: Sequence[int] = ()) -> None:
    """What to type after the lists are written; `splits` are those of a cross-validation."""
    where = "" if data_root == DATA_ROOT else f" --data-root {shlex.quote(str(data_root))}"
    series = f" --splits {' '.join(map(str, splits))}" if splits else ""
    print(f"next: python main.py --arch i3d --dataset {shlex.quote(name)}{where}{series}")


def print_flow(videos: Iterable[Video]) -> None:
    """Says how many videos have optical flow, if any has."""
    has_flow = [video.flow_path is not None for video in videos]
    if any(has_flow):
        print(f"optical flow: found for {sum(has_flow)} of {len(has_flow)} videos")


def measure_usable(
    found: Found,
    wanted: Collection[str],
    frames: Path,
    flow: Path | None,
    any_numbers: bool = False,
) -> tuple[dict[str, Video], list[str]]:
    """Counts the frames of `wanted`, reports which cannot be used; UserError if none can be."""
    flow_paths = find_flow(frames, found, flow)
    videos, problems = measure_videos(found, wanted, flow_paths, any_numbers)
    report_problems(problems)
    if not videos:
        raise UserError(f"no video of {frames} can be used ({problems[0]})")
    return videos, problems


def list_own_videos(
    *,
    name: str,
    frames: Path,
    data_root: Path,
    flow: Path | None,
    any_numbers: bool,
    val_fraction: float,
    folds: int | None,
    split_file: Path | None,
    train_list: Path | None,
    val_list: Path | None,
    labels: Path | None,
    classes: Path | None,
    class_level: int | None,
    group_regex: re.Pattern[str],
    seed: int,
) -> int:
    """The lists of a folder of one's own videos; returns the exit status."""
    if not re.fullmatch(r"[^./\\][^/\\]*", name):
        raise UserError(f"NAME is '{name}'; it has to be the plain name of a folder")
    if bool(train_list) != bool(val_list) or (classes and not (train_list or labels)):
        raise UserError("--train-list and --val-list belong together, and --classes to them")
    if (folds or labels) and (split_file or train_list):
        option = "--folds makes splits" if folds else "--labels may have a column split"
        raise UserError(f"{option}: give it without --split-file and --train-list")
    folder, frames = Path(os.path.abspath(data_root / name)), Path(os.path.abspath(frames))
    check_can_write(folder)
    found = find_own(frames)
    report_problems(found.problems)
    sorted_by, class_names, splits, order = sort_videos(
        found,
        frames,
        class_level=class_level,
        split_file=split_file,
        lists={"train": train_list, "test": val_list} if train_list and val_list else {},
        labels=labels,
        classes=classes,
        draw=bool(folds),
    )
    check_own_name(name, class_names)
    groups = {} if splits else {video: require_group(video, group_regex) for video in sorted_by}
    wanted = {video for sides in splits for video in sides} or sorted_by
    videos, problems = measure_usable(found, sorted(wanted), frames, flow, any_numbers)
    usable = {video: group for video, group in groups.items() if video in videos}
    splits = splits or draw_splits(usable, sorted_by, val_fraction, folds, seed)
    named = {v: entry._replace(class_name=sorted_by[v]) for v, entry in sorted(videos.items())}
    lists = deal_out(named, splits)
    found_classes = sorted({entry.class_name for entry in named.values()})
    check_classes(frames, found_classes, found.paths)
    class_names = found_classes if order == "of the names" else class_names
    write_lists(folder, class_names, lists)
    print_class_sizes(class_names, lists)
    print_flow(videos.values())
    print_lists(folder, lists)
    print(f"labels: 0 to {len(class_names) - 1}, in the order {order} as in classes.txt")
    print_next_step(name, data_root, range(1, folds + 1) if folds else ())
    return 1 if found.problems or problems else 0


def print_lists(folder: Path, lists: dict[str, list[Video]]) -> None:
    """Where the lists are, and which others are there that were not written now."""
    num_splits = len(lists) // 2
    more = f", up to number {num_splits:02}" if num_splits > 1 else ""
    print(f"lists: {folder}/trainlist01.json and testlist01.json{more}")
    older = sorted(
        path.name for path in folder.glob("*list[0-9][0-9].json") if path.stem not in lists
    )
    if older:
        print(
            f"warning: {', '.join(older)} are left from an earlier call and do not belong to this "
            "split"
        )


def print_class_sizes(class_names: list[str], lists: dict[str, list[Video]]) -> None:
    """The number of videos of each class on each list; of many splits only on the test lists."""
    counts = {name: Counter(video.class_name for video in lists[name]) for name in lists}
    shown = [name for name in lists if len(lists) == 2 or name.startswith("test")]
    width = max(map(len, (*class_names, "class")))
    print(f"{'class':{width}}", *(f"{name:>11}" for name in shown))
    for class_name in class_names:
        print(f"{class_name:{width}}", *(f"{counts[name][class_name]:11}" for name in shown))
    print(" " * width, *(f"{counts[name].total():11}" for name in shown))
    for name, count in counts.items():
        without = [class_name for class_name in class_names if not count[class_name]]
        if without:
            print(f"{name} has no video of: {', '.join(without)}")


def list_known_set(
    *, name: str, frames: Path | None, data_root: Path, annotations: Path | None, flow: Path | None
) -> int:
    """All lists of a public set; returns the exit status."""
    folder = Path(os.path.abspath(data_root / name))
    own_folder = any_case(folder.parent, name)
    check_can_write(folder)
    official = None
    if name in annotated_sets.READERS:
        official = annotated_sets.READERS[name](annotations or own_folder)
    classes = official.classes if official else known_classes(name, folder)
    source = Path(os.path.abspath(frames)) if frames else own_folder
    if name == "kinetics200" and not frames:
        source = any_case(data_root, "kinetics400")
        found, listed = Found(), kinetics400_videos(source)
    else:
        found, listed = find_videos(source), {}
        if not found.paths:
            raise UserError(f"{source} has no videos in it; looked for {LOOKED_FOR[name]}")
    report_problems(found.problems)
    names = listed or found.paths
    if official:
        plan = annotated_sets.by_annotations(name, names, official)
    else:
        plan = RULES[name](names, classes, annotations, own_folder)
    wanted = {video for chosen in plan.lists.values() for video in chosen}
    num_others = len(names) - len(wanted)
    if not wanted:
        raise UserError(
            f"none of {plural(num_others, 'video')} below {source} is one of {name}'s; looked for "
            f"{LOOKED_FOR[name]}"
        )
    videos, problems = listed, []
    if not listed:
        videos, problems = measure_usable(found, sorted(wanted), source, flow)

    lists = {}
    for list_name, chosen in plan.lists.items():
        there = sorted(chosen.keys() & videos.keys())
        lists[list_name] = [videos[video]._replace(class_name=chosen[video]) for video in there]
    write_lists(folder, classes, {key: entries for key, entries in lists.items() if entries})
    for list_name, entries in lists.items():
        num_found = len({video.class_name for video in entries})
        print(
            f"{list_name}: {len(entries)} of the official {plan.list_sizes[list_name]} videos are "
            f"there, of {num_found} of the {len(classes)} classes"
        )
    print_flow(videos[video] for video in wanted & videos.keys())
    if num_others:
        print(f"on no list: {plural(num_others, 'other video')}")
    print(f"lists: in {folder}, split by {plan.split_by}")
    if official:
        print(f"labels: 0 to {len(classes) - 1}, in the order of {official.order}")
    print_next_step(name, data_root)
    return 1 if found.problems or problems else 0


def list_known_sets(*, data_root: Path) -> int:
    """The lists of all public sets in the data root; returns the exit status."""
    present = [name for name in LOOKED_FOR if has_videos(name, any_case(data_root, name))]
    missing = [f"{name}/ with {LOOKED_FOR[name]}" for name in LOOKED_FOR if name not in present]
    if not present:
        raise UserError(
            f"{data_root} has none of the public data sets in it; looked for {'; '.join(missing)}"
        )
    status = 0
    for name in present:
        print(f"\n{name}: {DATASETS[name].title}")
        try:
            status |= list_known_set(
                name=name, frames=None, data_root=data_root, annotations=None, flow=None
            )
        except UserError as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            status = 1
    for what in missing:
        print(f"\nnot there: {data_root}/{what}")
    return status


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command."""
    root_help = f"the lists go to DIR/NAME (default: {DATA_ROOT})"
    # without a default: that of the parser above would lose its value to it
    parser.add_argument(
        "--data-root", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=root_help
    )
    flow_help = (
        "where the optical flow is: DIR/u/VIDEO and DIR/v/VIDEO, or DIR/VIDEO/flow_x_00001.jpg; "
        "default: a folder tvl1_flow or flow beside FRAMES"
    )
    parser.add_argument("--flow", type=Path, metavar="DIR", help=flow_help)


def add_known_set(commands, name: str) -> None:
    """The command of a public set, with its options."""
    description = f"{DATASETS[name].title}: the lists of all its splits from {LOOKED_FOR[name]}."
    parser = commands.add_parser(
        name, help=DATASETS[name].title, description=description, allow_abbrev=False
    )
    parser.set_defaults(make=list_known_set, name=name)
    frames_help = f"where the videos or frames are (default: <data-root>/{name})"
    parser.add_argument("frames", metavar="FRAMES", type=Path, nargs="?", help=frames_help)
    files_help = f"has the official files in it (default: <data-root>/{name} is searched for them)"
    parser.add_argument("--annotations", type=Path, metavar="DIR", help=files_help)
    add_shared_options(parser)


def add_own_videos(commands) -> None:
    """The command `folder`, with its options."""
    parser = commands.add_parser(
        "folder",
        help="your own videos, in a folder for each class",
        description="Lists of your own videos. " + WHAT_FRAMES_IS + ".",
        allow_abbrev=False,
    )
    parser.set_defaults(make=list_own_videos)
    add = parser.add_argument
    add("name", metavar="NAME", help="what main.py is to call the data set")
    add(
        "frames",
        metavar="FRAMES",
        type=Path,
        help="the folder that has the class folders, or a zip",
    )
    add_shared_options(parser)
    size = parser.add_mutually_exclusive_group()
    fraction_help = "of each class for the test list (default: %(default)s)"
    size.add_argument("--val-fraction", type=fraction, default=0.2, metavar="F", help=fraction_help)
    folds_help = "make K splits for a cross-validation: each video is in one of their test lists"
    size.add_argument("--folds", type=fold_count, metavar="K", help=folds_help)
    add("--seed", type=int, default=0, metavar="N", help="of the random split (default: 0)")
    list_help = "with lines `path label` or `path frames label`, as TSN, MMAction2 and PySlowFast "
    list_help += "read them; a label is a number or a name"
    add("--val-list", type=Path, metavar="FILE", help=list_help)
    class_help = "class names, label 0 first, of these labels (default: the folders' names)"
    add("--classes", type=Path, metavar="FILE", help=class_help)
    labels_help = "take the classes from its columns video and label, and the split from split"
    add("--labels", type=Path, metavar="CSV", help=labels_help)
    level_help = "the classes are the folders N levels below FRAMES (default: 1, or 2 where the "
    level_help += "folders such as train and val are the split)"
    add("--class-level", type=int, choices=range(1, 10), metavar="N", help=level_help)
    numbers_help = "take frames in folders whose numbers have gaps, in their order"
    add("--any-numbers", action="store_true", help=numbers_help)
    add = parser.add_mutually_exclusive_group().add_argument
    add("--train-list", type=Path, metavar="FILE", help=list_help)
    file_help = "take the split from its columns path and split (train, or val or test)"
    add("--split-file", type=Path, metavar="CSV", help=file_help)
    group_help = "keep videos together for which it finds the same in their path below FRAMES"
    add("--group-regex", type=regex, default=regex(".+"), metavar="RE", help=group_help)


def fraction(text: str) -> float:
    """A number between 0 and 1 for argparse."""
    if not 0 < float(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return float(text)


def fold_count(text: str) -> int:
    """A number of folds for argparse; more than lists have numbers for is a mistake."""
    if not 2 <= int(text) <= 99:
        raise argparse.ArgumentTypeError(f"{text} is not between 2 and 99")
    return int(text)


def regex(text: str) -> re.Pattern:
    """A regular expression for argparse."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"no regular expression: {error}") from None


class SetParser(Parser):
    """Whose error for an unknown data set says what to type for one of one's own."""

    def error(self, message: str):
        own = message.startswith("argument NAME: invalid choice")
        super().error(message + "; of your own videos: make_json.py folder NAME FRAMES" * own)


def build_parser() -> argparse.ArgumentParser:
    parser = SetParser(
        description="Write the lists of a data set; without NAME, of all public ones that are in "
        "the data root.",
        allow_abbrev=False,
    )
    root_help = "where data sets are looked for, and lists go (default: %(default)s)"
    parser.add_argument("--data-root", type=Path, default=DATA_ROOT, metavar="DIR", help=root_help)
    parser.set_defaults(make=list_known_sets)
    commands = parser.add_subparsers(metavar="NAME", title="data sets")
    for name in LOOKED_FOR:
        add_known_set(commands, name)
    add_own_videos(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    opts = vars(build_parser().parse_args(argv))
    return exit_status(opts.pop("make"), "output", "no list is left half written", **opts)


if __name__ == "__main__":
    sys.exit(main())
