"""Check lists and every video that they name, before a training finds out.

    python pt_dataset/check_json.py LIST [LIST ...]             # counts frames, decodes a few
    python pt_dataset/check_json.py LIST --decode               # decodes every frame
    python pt_dataset/check_json.py LIST --fix --report R.json  # LIST.fixed.json, and all findings

A list is compared with the other side of its split, too: trainlist01.json with testlist01.json
beside it. The exit status is 1 where a training would fail or a result would be wrong.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import json
import os
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tqdm import tqdm

from config import Parser, UserError, group_of, plural, whole
from pt_dataset.datalist import (
    HALF_REPLACED,
    entry_problem,
    load_array,
    read_classes,
    resolve,
    write_list,
)
from pt_dataset.listing.check_video import Checked, check_video, error_text
from pt_dataset.listing.pool import exit_status, run_jobs
from pt_dataset.video_list import Video

# kinds of findings, in the order of the summary, and how bad they are. error: a training fails, or
# an accuracy means something else than it seems to. warning: what one would rather know.
KINDS = {
    "unreadable list": "error",
    "half replaced": "error",
    "no class file": "error",
    "bad entry": "error",
    "unknown class": "error",
    "wrong label": "warning",  # training goes by the class name and corrects it
    "missing": "error",
    "empty": "error",
    "gap": "error",
    "unusable": "error",
    "too few frames": "error",
    "too many frames": "warning",  # there are more than the list says: some are never used
    "few frames": "warning",
    "starts late": "warning",
    "bad frame": "error",
    "mixed sizes": "error",
    "no flow": "warning",
    "unusable flow": "error",
    "too little flow": "error",
    "too much flow": "warning",
    "duplicate": "error",
    "in train and test": "error",
    "group in train and test": "error",
    "class without videos": "warning",
    "one class": "error",
}
MENDED = {"too few frames", "too many frames", "wrong label"}  # by --fix
KEPT = {"group in train and test"}  # by --fix, too: choosing another split is up to the user
SIDE = re.compile(r"train|test|val(?:idation)?", re.IGNORECASE)  # in the name of a list
FEW_FRAMES = 8  # of consecutive frames, no recipe has fewer but that of x3d_xs
VIDEOS_A_JOB = 16
EXAMPLES = 3  # of each kind, in the summary


class Finding(NamedTuple):
    """Something wrong with a list, or with one of its entries."""

    list: str
    entry: int | None
    path: str | None  # of the video
    kind: str
    message: str


@dataclass(eq=False)
class DataList:
    """One list: the entries that can be looked at, and what is known of them."""

    path: Path
    class_names: list[str] = field(default_factory=list)  # as in classes.txt
    num_entries: int = 0
    videos: dict[int, Video] = field(default_factory=dict)  # by entry, labels as in the list
    num_frames: dict[int, int] = field(default_factory=dict)  # counted, by entry
    # how many folders of frames begin with each number
    first_numbers: Counter[int] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    compared_with: Path | None = None  # the list of the other side of the split

    def add_finding(self, kind: str, message: str, entry: int | None = None) -> None:
        path = self.videos[entry].path if entry in self.videos else None
        self.findings.append(Finding(str(self.path), entry, path, kind, message))

    @property
    def side(self) -> str:
        """The last word for a side in its name: "train", or "test", or "" where there is none."""
        words = SIDE.findall(self.path.name)
        return ("train" if words[-1].lower() == "train" else "test") if words else ""


def load_list(path: Path, class_file: Path | None) -> DataList:
    """A list, with the findings for which its videos need not be opened."""
    data = DataList(path)
    if (path.parent / HALF_REPLACED).exists():
        message = f"make_json.py was stopped while it replaced the lists in {path.parent}"
        data.add_finding("half replaced", f"{message}; run it again")
    try:
        entries = load_array(path)
    except (UserError, OSError) as error:
        data.add_finding("unreadable list", error_text(error, str(path)))
        return data
    data.num_entries = len(entries)
    beside, labels = path.parent / "classes.txt", None
    if class_file or beside.exists():
        data.class_names = read_classes(class_file or beside)
        labels = {name: label for label, name in enumerate(data.class_names)}
    else:
        data.add_finding("no class file", f"{beside} is missing; labels are not checked")
    named = [entry for entry in entries if isinstance(entry, dict) and "class_name" in entry]
    classes = {entry["class_name"] for entry in named if isinstance(entry["class_name"], str)}
    for i, entry in enumerate(entries):
        problem = entry_problem(entry, classes)  # unknown classes are a finding of their own
        if problem:
            data.add_finding("bad entry", f"the entry{problem}", i)
            continue
        video = Video(**{key: entry[key] for key in Video._fields if key in entry})
        openable, flow_path = resolve([video.path, video.flow_path], path.parent)
        data.videos[i] = video._replace(path=openable or video.path, flow_path=flow_path)
        if labels is not None:
            check_label(data, i, labels)
    return data


def check_label(data: DataList, entry: int, labels: dict[str, int]) -> None:
    """Finds an unknown class, or a label that belongs to another class."""
    path, label, name, *_ = data.videos[entry]
    if name not in labels:
        where = f"class '{name}' is not among the {len(labels)} of the class file"
        data.add_finding("unknown class", f"{path}: {where}", entry)
    elif label != labels[name]:
        message = f"{path}: label {label}, but '{name}' is class {labels[name]}"
        data.add_finding("wrong label", message, entry)


def check_some(
    videos: dict[tuple[int, int], Video], sample: int | None, any_numbers: bool
) -> dict[tuple[int, int], Checked]:
    """A job of the pool: what was found of each video, by number of its list and its entry."""
    return {place: check_video(video, sample, any_numbers) for place, video in videos.items()}


def check_all_videos(
    lists: list[DataList], sample: int | None, any_numbers: bool, workers: int
) -> None:
    """Checks the videos of all lists, and adds to each what was found."""
    videos = [((n, i), v) for n, data in enumerate(lists) for i, v in data.videos.items()]
    starts = range(0, len(videos), VIDEOS_A_JOB)
    todo = [(dict(videos[start : start + VIDEOS_A_JOB]), sample, any_numbers) for start in starts]
    with tqdm(desc="checking", total=len(videos), unit="video", disable=not todo) as progress:
        for results in run_jobs(check_some, todo, workers):
            for (n, i), checked in results.items():
                if checked.num_frames is not None:
                    lists[n].num_frames[i] = checked.num_frames
                if checked.first_number is not None:
                    lists[n].first_numbers[checked.first_number] += 1
                for problem in checked.problems:
                    lists[n].add_finding(problem.kind, problem.message, i)
            progress.update(len(results))


def check_entries(data: DataList) -> None:
    """Finds duplicates, very short videos, missing flow where others have it, empty classes."""
    seen = {}
    with_flow = [i for i, video in data.videos.items() if video.flow_path is not None]
    for i, video in data.videos.items():
        earlier = seen.setdefault(os.path.realpath(video.path), i)
        if earlier != i:
            data.add_finding("duplicate", f"{video.path} is entry {earlier}, too", i)
        if 0 < data.num_frames.get(i, 0) < FEW_FRAMES:
            few = f"has {plural(data.num_frames[i], 'frame')}: clips loop, and segments share them"
            data.add_finding("few frames", f"{video.path} {few}", i)
        if with_flow and video.flow_path is None:
            data.add_finding("no flow", f"{video.path} has no flow_path, others have", i)
    named = {video.class_name for video in data.videos.values()}
    if len(named) == 1 and data.side != "test":
        data.add_finding("one class", f"all videos are of '{named.copy().pop()}'")
    for name in data.class_names if named else ():
        if name not in named:
            data.add_finding("class without videos", f"no video of '{name}'")


def find_other_side(
    data: DataList, lists: list[DataList], class_file: Path | None
) -> DataList | None:
    """The list of the other side of the split of `data`: one of `lists`, or else beside it."""
    if not data.side:
        return None
    match = list(SIDE.finditer(data.path.name))[-1]
    before, after = data.path.name[: match.start()], data.path.name[match.end() :]
    for word in ("test", "val", "validation") if data.side == "train" else ("train",):
        path = data.path.with_name(before + word + after)
        for other in lists:
            if os.path.realpath(other.path) == os.path.realpath(path):
                return other
        if path.exists():
            other = load_list(path, class_file)
            data.findings += [f for f in other.findings if f.kind == "unreadable list"]
            return other
    return None


def check_leaks(data: DataList, other: DataList) -> None:
    """Finds the videos and the groups of `data` that are in the other side of its split, too.

    A group is known by a name as in UCF101 alone: v_Biking_g01_c02.
    """
    theirs = {os.path.realpath(video.path) for video in other.videos.values()}
    their_groups = Counter(group_of(video.path) for video in other.videos.values())
    leaking = defaultdict(list)  # entries by group
    for i, video in data.videos.items():
        group = group_of(video.path)
        if os.path.realpath(video.path) in theirs:
            data.add_finding("in train and test", f"{video.path} is in {other.path}, too", i)
        elif group is not None and group in their_groups:
            leaking[group].append(i)
    for group, entries in leaking.items():
        message = (
            f"{data.videos[entries[0]].path}: group {group} has other videos in {other.path} "
            f"({len(entries)} here, {their_groups[group]} there)"
        )
        data.add_finding("group in train and test", message, entries[0])


def class_sizes(data: DataList) -> list[int]:
    """Videos of each class."""
    counts = Counter(video.class_name for video in data.videos.values())
    return [counts[name] for name in data.class_names or counts]


def balance(sizes: list[int]) -> list[float]:
    """Fewest, median and most videos of a class; empty where no class is known."""
    return [min(sizes), statistics.median(sizes), max(sizes)] if sizes else []


def print_summary(lists: list[DataList], sample: int | None) -> None:
    """One line a list, then one row for each kind of finding with the first few."""
    frames = "every one" if sample is None else f"{sample} of each video (--decode: all)"
    num_videos = sum(len(data.videos) for data in lists)
    print(f"{plural(num_videos, 'video')} checked: frames counted, {frames} decoded")
    for data in lists:
        if data.videos:
            sizes = class_sizes(data)
            numbers = " / ".join(f"{number:g}" for number in balance(sizes))
            print(
                f"{data.path}: {plural(len(data.videos), 'video')}, {sum(map(bool, sizes))} of "
                f"{len(sizes)} classes; least / median / most of a class: {numbers}\n"
                f"    compared with {data.compared_with or 'no list of the other side of a split'}"
            )
    firsts = count_first_numbers(lists)
    if firsts:
        counts = [
            f"{first} ({plural(count, 'video')})" for first, count in list(firsts.items())[:5]
        ]
        print(f"frames are numbered from {', '.join(counts)}")
    print_findings([finding for data in lists for finding in data.findings])
    for data in lists:
        num_missing = sum(finding.kind == "missing" for finding in data.findings)
        if data.videos and num_missing == len(data.videos):
            print(
                f"every video of {data.path} is missing; move the data there or write the list "
                "again with pt_dataset/make_json.py"
            )


def print_findings(findings: list[Finding]) -> None:
    """A table with the number of each kind and its first examples, errors before warnings."""
    if not findings:
        print("nothing is wrong")
        return
    by_kind = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    print(f"\n{'problem':26}{'severity':9}{'count':>7}  the first of them")
    for kind in sorted(KINDS, key=KINDS.__getitem__):
        row = f"{kind:26}{KINDS[kind]:9}{len(by_kind[kind]):7}"
        for finding in by_kind[kind][:EXAMPLES]:
            where = Path(finding.list).name
            where += "" if finding.entry is None else f" entry {finding.entry}"
            print(f"{row}  {where}: {finding.message}")
            row = " " * len(row)
    print()


def count_first_numbers(lists: list[DataList]) -> dict[int, int]:
    """How many folders of frames begin with each number, in the order of the numbers."""
    return dict(sorted(sum((data.first_numbers for data in lists), Counter()).items()))


def make_report(lists: list[DataList], sample: int | None) -> dict[str, Any]:
    """Everything that was found, for other programs."""
    findings = [finding for data in lists for finding in data.findings]
    counts = Counter(finding.kind for finding in findings)
    return {
        "lists": {
            str(data.path): {
                "entries": data.num_entries,
                "videos_a_class": balance(class_sizes(data)),
                "compared_with": data.compared_with and str(data.compared_with),
            }
            for data in lists
        },
        "frames_decoded": "all" if sample is None else sample,
        "first_numbers": count_first_numbers(lists),
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "findings": [finding._asdict() | {"severity": KINDS[finding.kind]} for finding in findings],
    }


def write_fixed(data: DataList) -> None:
    """Writes the list without unusable videos, with the counted frames, and says what changed."""
    kinds = defaultdict(list)
    for finding in data.findings:
        kinds[finding.entry].append(finding.kind)
    dropped, mended, videos = Counter(), Counter(), []
    for i in range(data.num_entries):
        reasons = [kind for kind in kinds[i] if is_dropped(kind, data.side)]
        if reasons:
            dropped[reasons[0]] += 1
            continue
        mended.update(MENDED.intersection(kinds[i]))
        label = data.videos[i].label
        if data.class_names:
            label = data.class_names.index(data.videos[i].class_name)
        videos.append(data.videos[i]._replace(label=label, num_frames=data.num_frames[i]))
    if not videos or not dropped and not mended:
        print(f"{data.path}: {'nothing to fix' if videos else 'no video is left to write'}")
        return
    fixed = data.path.with_suffix(".fixed.json")
    write_list(fixed, videos)
    print(f"{fixed}: {len(videos)} of {data.num_entries} videos")
    for verb, counts in (("mended", mended), ("dropped", dropped)):
        words = [f"{count} {kind}" for kind, count in sorted(counts.items())]
        print(f"    {verb}: {', '.join(words) or 'nothing'}")


def is_dropped(kind: str, side: str) -> bool:
    """Whether --fix leaves out a video with such a finding; one in both lists stays in test."""
    if kind == "in train and test":
        return side == "train"
    return KINDS[kind] == "error" and kind not in MENDED | KEPT


def check_lists(
    *,
    lists: list[Path],
    classes: Path | None,
    workers: int,
    sample: int | None,
    any_numbers: bool,
    report: Path | None,
    fix: bool,
) -> int:
    """Checks the lists, prints what was found and returns the exit status."""
    loaded = [load_list(path, classes) for path in lists]
    check_all_videos(loaded, sample, any_numbers, workers)
    for data in loaded:
        check_entries(data)
        other = find_other_side(data, loaded, classes)
        if other:
            data.compared_with = other.path
            # where both sides were given, what they share is a finding of the training list alone
            if other not in loaded or data.side == "train":
                check_leaks(data, other)
        # the workers' findings came in any order
        data.findings.sort(key=lambda finding: -1 if finding.entry is None else finding.entry)
    print_summary(loaded, sample)
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        with whole(report) as temporary:
            text = json.dumps(make_report(loaded, sample), indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")
        print(f"report: {report}")
    if fix:
        for data in loaded:
            write_fixed(data)
    severities = Counter(KINDS[finding.kind] for data in loaded for finding in data.findings)
    print(", ".join(plural(severities[kind], kind) for kind in ("error", "warning")))
    return 1 if severities["error"] else 0


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description="Check lists and every video that they name.", allow_abbrev=False)
    add = parser.add_argument
    add("lists", metavar="LIST", nargs="+", type=Path, help="trainlist01.json and the like")
    class_help = "the class names, label 0 first (default: classes.txt beside each list)"
    add("--classes", type=Path, metavar="FILE", help=class_help)
    cpus = os.cpu_count()
    add("--workers", type=int, default=cpus, metavar="N", help="processes (default: one a CPU)")
    decode = parser.add_mutually_exclusive_group().add_argument
    sample_help = "decode K frames of each video, evenly from first to last (default: %(default)s)"
    decode("--sample", type=int, default=5, metavar="K", help=sample_help)
    decode("--decode", dest="sample", action="store_const", const=None, help="decode every frame")
    add("--any-numbers", action="store_true", help="gaps between the numbers of frames are meant")
    add("--report", type=Path, metavar="FILE", help="write all findings to this JSON file")
    fix_help = "write LIST.fixed.json: measured frame counts, right labels, no unusable videos"
    add("--fix", action="store_true", help=fix_help)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    parser = build_parser()
    opts = parser.parse_args(argv)
    if opts.workers < 1 or (opts.sample is not None and opts.sample < 0):
        parser.error("--workers must be 1 or more, --sample 0 or more")
    return exit_status(check_lists, opts.report or "the lists", "nothing was changed", **vars(opts))


if __name__ == "__main__":
    sys.exit(main())
