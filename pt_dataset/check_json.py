"""Check lists and every video that they name, before a training finds out.

    python pt_dataset/check_json.py LIST [LIST ...]             # counts frames, decodes a few
    python pt_dataset/check_json.py LIST --decode               # decodes every frame
    python pt_dataset/check_json.py LIST --fix --report R.json  # LIST.fixed.json, and all findings

A list is compared with the other side of its split, too: trainlist01.json with testlist01.json
beside it. The exit status is 1 where a training would fail or a result would be wrong.
"""

import argparse
import json
import os
import re
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

import numpy as np
from tqdm import tqdm

from config import UserError
from pt_dataset.datalist import (
    Video,
    check_entry,
    load_array,
    read_classes,
    resolve,
    write_atomic,
    write_list,
)
from pt_dataset.formats.flow import count_flow, read_flow
from pt_dataset.formats.frame_folder import frame_names
from pt_dataset.formats.frame_names import FRAME_NAME, EmptyVideo, FrameGap
from pt_dataset.jobs import exit_status, run_jobs
from pt_dataset.sources import count_frames, exists, read_frames

# kinds of findings, in the order of the summary, and how bad they are. error: a training fails, or
# an accuracy means something else than it seems to. warning: what one would rather know.
KINDS = {
    "unreadable list": "error",
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
}
KIND_OF = {EmptyVideo: "empty", FrameGap: "gap"}  # else "unusable"
MENDED = {"too few frames", "too many frames", "wrong label"}  # by --fix
KEPT = {"group in train and test"}  # by --fix, too: another split is not its to decide
SIDE = re.compile(r"train|test|val(?:idation)?", re.IGNORECASE)  # in the name of a list
UCF_GROUP = re.compile(r"v_([a-z]+)_(g\d+)_c\d+", re.IGNORECASE)  # clips of one recording
VIDEOS_A_JOB = 16
CHUNK = 16  # frames decoded at a time
EXAMPLES = 3  # of each kind, in the summary


class Finding(NamedTuple):
    """Something wrong with a list, or with one of its entries."""

    list: str
    entry: int | None
    path: str | None  # of the video
    kind: str
    message: str


class Check(NamedTuple):
    """What was found of one video; None is what could not be."""

    num_frames: int | None
    first: int | None  # the number of the first frame, of a folder
    problems: list[tuple[str, str]]  # kind and message


@dataclass(eq=False)
class DataList:
    """One list: the entries that can be looked at, and what is known of them."""

    path: Path
    class_names: list[str] = field(default_factory=list)  # as in classes.txt
    num_entries: int = 0
    videos: dict[int, Video] = field(default_factory=dict)  # by entry, labels as in the list
    num_frames: dict[int, int] = field(default_factory=dict)  # measured, by entry
    findings: list[Finding] = field(default_factory=list)
    compared_with: Path | None = None  # the list of the other side of the split

    def add(self, kind: str, message: str, entry: int | None = None) -> None:
        """Notes a finding."""
        path = self.videos[entry].path if entry in self.videos else None
        self.findings.append(Finding(str(self.path), entry, path, kind, message))

    @property
    def side(self) -> str:
        """The last word for a side in its name: "train", or "test", or "" where there is none."""
        words = SIDE.findall(self.path.name)
        return ("train" if words[-1].lower() == "train" else "test") if words else ""


def load(path: Path, class_file: Path | None) -> DataList:
    """A list with the findings that need no look at its videos."""
    data = DataList(path)
    try:
        entries = load_array(path)
    except (UserError, OSError) as error:
        data.add("unreadable list", reason(error, str(path)))
        return data
    read_entries(data, entries)
    resolve_paths(data)
    beside = path.parent / "classes.txt"
    if class_file or beside.exists():
        data.class_names = read_classes(class_file or beside)
        check_labels(data)
    else:
        data.add("no class file", f"{beside} is missing; labels are not checked")
    return data


def read_entries(data: DataList, entries: list) -> None:
    """Makes videos of those entries that are well-formed, of whatever class."""
    data.num_entries = len(entries)
    named = [entry for entry in entries if isinstance(entry, dict) and "class_name" in entry]
    classes = {entry["class_name"] for entry in named if isinstance(entry["class_name"], str)}
    for i, entry in enumerate(entries):
        try:
            check_entry("the entry", entry, classes)
        except UserError as error:
            data.add("bad entry", str(error), i)
        else:
            data.videos[i] = Video(**{key: entry[key] for key in Video._fields if key in entry})


def check_labels(data: DataList) -> None:
    """Finds classes that there are not, and labels of another class."""
    labels = {name: label for label, name in enumerate(data.class_names)}
    for i, video in data.videos.items():
        name = video.class_name
        if name not in labels:
            where = f"class '{name}' is not among the {len(labels)} of the class file"
            data.add("unknown class", f"{video.path}: {where}", i)
        elif video.label != labels[name]:
            message = f"{video.path}: label {video.label}, but '{name}' is class {labels[name]}"
            data.add("wrong label", message, i)


def resolve_paths(data: DataList) -> None:
    """Makes the paths of a list such as can be opened."""
    videos, folder = data.videos.values(), data.path.parent
    paths = resolve([video.path for video in videos], folder)
    flow_paths = resolve([video.flow_path for video in videos], folder)
    for i, path, flow_path in zip(list(data.videos), paths, flow_paths, strict=True):
        data.videos[i] = data.videos[i]._replace(path=path, flow_path=flow_path)


def check_videos(videos: list[Video], sample: int | None, numbers: list) -> tuple[list, list]:
    """A job of the pool; returns `numbers`, which say whose they are, and the checks."""
    return numbers, [check_video(video, sample) for video in videos]


def check_video(video: Video, sample: int | None) -> Check:
    """Counts the frames and the flow of a video and decodes `sample` of each, or all for None."""
    try:
        if not exists(video.path):
            return Check(None, None, [("missing", f"{video.path} does not exist")])
        num_frames = count_frames(video.path)
    except (UserError, OSError) as error:
        kind = KIND_OF.get(type(error), "unusable")
        return Check(None, None, [(kind, reason(error, video.path))])
    problems, first = [], first_number(video.path)
    if video.num_frames != num_frames:
        kind = "too few frames" if num_frames < video.num_frames else "too many frames"
        message = f"{video.path}: {num_frames} frames, the list says {video.num_frames}"
        problems.append((kind, message))
    if first is not None and first > 1:
        message = f"{video.path}: its first frame has the number {first}; is its beginning lost?"
        problems.append(("starts late", message))
    read = partial(read_frames, video.path, num_frames=num_frames)
    problems += check_pixels(read, video.path, num_frames, sample)
    if video.flow_path is not None:
        problems += check_flow(video.flow_path, num_frames, sample)
    return Check(num_frames, first, problems)


def reason(error: UserError | OSError, path: str) -> str:
    """What an error says of the video at `path`."""
    return str(error) if isinstance(error, UserError) else f"{path}: {error.strerror}"


def first_number(video: str) -> int | None:
    """The number of the first frame of a folder; None of other videos."""
    if not os.path.isdir(video):
        return None
    return int(FRAME_NAME.fullmatch(frame_names(video)[0])[2])


def check_flow(flow: str, num_frames: int, sample: int | None) -> list[tuple[str, str]]:
    """What is wrong with the flow of a video of `num_frames`: kinds and messages."""
    try:
        count = count_flow(flow)
    except (UserError, OSError) as error:
        return [("unusable flow", reason(error, flow))]
    read = partial(read_flow, flow, num_frames=count + 1)  # it counts frames, one more than fields
    problems = check_pixels(read, flow, count, sample)
    if count != num_frames - 1:
        kind = "too little flow" if count < num_frames - 1 else "too much flow"
        message = f"{flow}: {count} fields for {num_frames} frames; there should be one fewer"
        problems.append((kind, message))
    return problems


def check_pixels(
    read: Callable, path: str, count: int, sample: int | None
) -> list[tuple[str, str]]:
    """Decodes `sample` of the `count` pictures of a video, the first and the last among them.

    Args:
        read: indices -> pixels (T, H, W, C).
        path: of the video, or of its flow, for messages.
        count: of its frames or fields.
        sample: how many to decode; None: all.

    Returns:
        kinds and messages.
    """
    if sample is None or sample >= count:
        indices = list(range(count))
    else:
        indices = np.linspace(0, count - 1, sample).round().astype(int).tolist()
    sizes, bad = {}, []
    for index, size, message in decoded_sizes(read, path, indices):
        if message:
            bad.append(message)
        else:
            sizes.setdefault(size, index)
    problems = []
    if bad:
        message = f"{bad[0]} ({len(bad)} bad of {len(indices)} decoded)"
        problems.append(("bad frame", message))
    if len(sizes) > 1:
        words = (f"{width}x{height} from the {i + 1}. on" for (height, width), i in sizes.items())
        problems.append(("mixed sizes", f"{path}: frames of {', '.join(words)}"))
    return problems


def decoded_sizes(
    read: Callable, path: str, indices: list[int]
) -> Iterator[tuple[int, tuple[int, int] | None, str]]:
    """(index, (height, width), "") of each picture, or (index, None, why it cannot be decoded)."""
    for start in range(0, len(indices), CHUNK):
        chunk = indices[start : start + CHUNK]
        try:
            size = read(chunk).shape[1:3]
            yield from ((index, size, "") for index in chunk)
        except (UserError, OSError):  # one of them is bad, or of another size: which?
            for index in chunk:
                try:
                    yield index, read([index]).shape[1:3], ""
                except (UserError, OSError) as error:
                    yield index, None, reason(error, path)


def check_all(lists: list[DataList], sample: int | None, workers: int) -> Counter:
    """Checks the videos of all lists, and counts the numbers of first frames of folders."""
    todo, firsts = [], Counter()
    for n, data in enumerate(lists):
        entries = list(data.videos)
        for start in range(0, len(entries), VIDEOS_A_JOB):
            numbers = entries[start : start + VIDEOS_A_JOB]
            videos = [data.videos[i] for i in numbers]
            todo.append((videos, sample, [(n, i) for i in numbers]))
    num_videos = sum(len(data.videos) for data in lists)
    with tqdm(desc="checking", total=num_videos, unit="video", disable=not todo) as progress:
        for numbers, checks in run_jobs(check_videos, todo, workers):
            for (n, i), check in zip(numbers, checks, strict=True):
                if check.num_frames is not None:
                    lists[n].num_frames[i] = check.num_frames
                if check.first is not None:
                    firsts[check.first] += 1
                for kind, message in check.problems:
                    lists[n].add(kind, message, i)
            progress.update(len(checks))
    return firsts


def check_entries(data: DataList) -> None:
    """Finds what entries of one list have against each other: doubles, and flow of only some."""
    seen = {}
    with_flow = [i for i, video in data.videos.items() if video.flow_path is not None]
    for i, video in data.videos.items():
        earlier = seen.setdefault(os.path.normpath(video.path), i)
        if earlier != i:
            data.add("duplicate", f"{video.path} is entry {earlier}, too", i)
        if with_flow and video.flow_path is None:
            data.add("no flow", f"{video.path} has no flow_path, others have", i)
    if data.videos:
        named = {video.class_name for video in data.videos.values()}
        for name in data.class_names:
            if name not in named:
                data.add("class without videos", f"no video of '{name}'")


def other_side(data: DataList, lists: list[DataList], class_file: Path | None) -> DataList | None:
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
            other = load(path, class_file)
            data.findings += [f for f in other.findings if f.kind == "unreadable list"]
            return other
    return None


def check_leaks(data: DataList, other: DataList) -> None:
    """Finds the videos and UCF groups of `data` that are in the other side of its split."""
    theirs = {os.path.normpath(video.path) for video in other.videos.values()}
    their_groups = Counter(filter(None, map(ucf_group, other.videos.values())))
    groups = defaultdict(list)
    for i, video in data.videos.items():
        group = ucf_group(video)
        if os.path.normpath(video.path) in theirs:
            data.add("in train and test", f"{video.path} is in {other.path}, too", i)
        elif group in their_groups:
            groups[group].append(i)
    for group, entries in groups.items():
        message = (
            f"{data.videos[entries[0]].path}: group {' '.join(group)} has other videos in "
            f"{other.path} ({len(entries)} here, {their_groups[group]} there)"
        )
        data.add("group in train and test", message, entries[0])


def ucf_group(video: Video) -> tuple[str, str] | None:
    """The class and the group of a UCF video, which are clips of one recording, by its name."""
    match = UCF_GROUP.match(os.path.basename(video.path))
    return (match[1].lower(), match[2]) if match else None  # HandstandPushups in two spellings


def check_split(data: DataList, lists: list[DataList], class_file: Path | None) -> None:
    """Compares a list with the other side of its split; of two given ones train has the finding."""
    other = other_side(data, lists, class_file)
    if other is None:
        return
    data.compared_with = other.path
    if other not in lists or data.side == "train":
        check_leaks(data, other)


def class_sizes(data: DataList) -> list[int]:
    """Videos of each class, in the order of the class file or, without one, of any."""
    counts = Counter(video.class_name for video in data.videos.values())
    return [counts[name] for name in data.class_names or counts]


def balance(data: DataList) -> list[float]:
    """Least, median and most videos of a class; empty where no class is known."""
    sizes = class_sizes(data)
    return [min(sizes), statistics.median(sizes), max(sizes)] if sizes else []


def print_summary(lists: list[DataList], firsts: Counter, sample: int | None) -> None:
    """One line a list, then one row for each kind of finding with the first few."""
    frames = "every one" if sample is None else f"{sample} of each video (--decode: all)"
    num_videos = sum(len(data.videos) for data in lists)
    print(f"{num_videos} videos checked: frames counted, {frames} decoded")
    for data in lists:
        if data.videos:
            sizes = class_sizes(data)
            numbers = " / ".join(f"{number:g}" for number in balance(data))
            print(
                f"{data.path}: {len(data.videos)} videos, {sum(map(bool, sizes))} of {len(sizes)} "
                f"classes; least / median / most of a class: {numbers}"
            )
            print(
                f"    compared with {data.compared_with or 'no list of the other side of a split'}"
            )
    if firsts:
        counts = ", ".join(
            f"{first} ({count} videos)" for first, count in sorted(firsts.items())[:5]
        )
        print(f"frames are numbered from {counts}")
    findings = defaultdict(list)
    for data in lists:
        for finding in data.findings:
            findings[finding.kind].append(finding)
    if not findings:
        print("nothing is wrong")
        return
    print(f"\n{'problem':26}{'severity':9}{'count':>7}  the first of them")
    for kind in sorted(KINDS, key=KINDS.get):  # errors before warnings
        for n, finding in enumerate(findings[kind][:EXAMPLES]):
            row = f"{kind:26}{KINDS[kind]:9}{len(findings[kind]):7}" if n == 0 else " " * 42
            where = Path(finding.list).name
            where += "" if finding.entry is None else f" entry {finding.entry}"
            print(f"{row}  {where}: {finding.message}")
    print()
    for data in lists:
        if data.videos and all_missing(data):
            print(
                f"every video of {data.path} is missing; move the data there or write the list "
                "again with pt_dataset/make_json.py"
            )


def all_missing(data: DataList) -> bool:
    """Whether no video of a list is there: it is the list that is wrong, or the place."""
    return sum(finding.kind == "missing" for finding in data.findings) == len(data.videos)


def report_of(lists: list[DataList], firsts: Counter, sample: int | None) -> dict:
    """Everything that was found, for other programs."""
    findings = [finding for data in lists for finding in data.findings]
    counts = Counter(finding.kind for finding in findings)
    return {
        "lists": {
            str(data.path): {
                "entries": data.num_entries,
                "videos_a_class": balance(data),
                "compared_with": data.compared_with and str(data.compared_with),
            }
            for data in lists
        },
        "frames_decoded": "all" if sample is None else sample,
        "first_numbers": dict(sorted(firsts.items())),
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "findings": [finding._asdict() | {"severity": KINDS[finding.kind]} for finding in findings],
    }


def write_fixed(data: DataList) -> None:
    """Writes the list without what cannot be used and with what was measured, and says so."""
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
    words = [f"{count} {kind}" for kind, count in sorted(mended.items())]
    print(f"{fixed}: {len(videos)} of {data.num_entries} videos")
    print(f"    mended: {', '.join(words) or 'nothing'}")
    words = [f"{count} {kind}" for kind, count in sorted(dropped.items())]
    print(f"    dropped: {', '.join(words) or 'nothing'}")


def is_dropped(kind: str, side: str) -> bool:
    """Whether --fix leaves out a video with such a finding; one in both lists stays in test."""
    if kind == "in train and test":
        return side == "train"
    return KINDS[kind] == "error" and kind not in MENDED | KEPT


def run(
    *,
    lists: list[Path],
    classes: Path | None,
    workers: int,
    sample: int | None,
    report: Path | None,
    fix: bool,
) -> int:
    """Checks the lists, prints what was found and returns the exit status."""
    loaded = [load(path, classes) for path in lists]
    firsts = check_all(loaded, sample, workers)
    for data in loaded:
        check_entries(data)
        check_split(data, loaded, classes)
        # they came as the workers were done
        data.findings.sort(key=lambda finding: -1 if finding.entry is None else finding.entry)
    print_summary(loaded, firsts, sample)
    if report:
        text = json.dumps(report_of(loaded, firsts, sample), indent=1)
        write_atomic(report, text + "\n")
        print(f"report: {report}")
    if fix:
        for data in loaded:
            write_fixed(data)
    severities = Counter(KINDS[finding.kind] for data in loaded for finding in data.findings)
    print(f"{severities['error']} errors, {severities['warning']} warnings")
    return 1 if severities["error"] else 0


def parse_opts(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description="Check lists and every video that they name.", allow_abbrev=False
    )
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
    add("--report", type=Path, metavar="FILE", help="write all findings to this JSON file")
    fix_help = "write LIST.fixed.json: measured frame counts, right labels, no unusable videos"
    add("--fix", action="store_true", help=fix_help)
    opts = parser.parse_args(argv)
    if opts.workers < 1 or (opts.sample is not None and opts.sample < 0):
        parser.error("--workers must be 1 or more, --sample 0 or more")
    return opts


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    opts = parse_opts(argv)
    return exit_status(run, opts.report or "the lists", "nothing was changed", **vars(opts))


if __name__ == "__main__":
    sys.exit(main())
