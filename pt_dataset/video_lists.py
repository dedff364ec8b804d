"""The lists of one split of a data set, found, read and checked before the first step."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from config import DATASETS, Clip, DatasetSpec, UserError, plural
from pt_dataset import make_demo
from pt_dataset.datalist import HALF_REPLACED, provide_classes, read_classes, read_list
from pt_dataset.sources import exists
from pt_dataset.video_list import VideoList


@dataclass(frozen=True)
class VideoLists:
    """One split of a data set."""

    spec: DatasetSpec
    class_names: list[str]
    train: VideoList
    test: VideoList
    folder: Path
    test_list: Path
    num_remapped: int  # entries whose label disagreed with their class name
    held_out: VideoList | None = None  # of the training list, by --val-groups
    groups: Sequence[str] = ()  # of recordings, those that are held out

    @property
    def validation(self) -> VideoList:
        """What is evaluated after each epoch."""
        return self.test if self.held_out is None else self.held_out

    @property
    def chosen_on(self) -> str:
        """Where those videos come from, in words."""
        held_out = f"groups {', '.join(self.groups)} of {self.train_list}"
        return held_out if self.groups else str(self.test_list)

    @property
    def train_list(self) -> Path:
        return self.test_list.with_name(self.test_list.name.replace("test", "train"))

    def flipped_labels(self) -> list[int] | None:
        """The label of a mirrored video by its label; None where mirroring is not allowed."""
        swaps = self.spec.flip_swaps
        for name, other in swaps.items():
            if name not in self.class_names or swaps.get(other) != name:
                raise UserError(
                    f"config.py, DATASETS: flip_swaps of {self.folder.name} turns '{name}' into "
                    f"'{other}'; both must be in {self.folder}/classes.txt, each turned into the "
                    "other"
                )
        if not self.spec.flips:
            return None
        return [self.class_names.index(swaps.get(name, name)) for name in self.class_names]


def read_dataset(
    name: str, data_root: str | Path, split: int = 1, some_missing: bool = False
) -> VideoLists:
    """The lists under <data-root>/NAME, checked; the demo set is written if it is not there.

    Args:
        some_missing: it is all right if some of the videos are not on the disk.

    Raises:
        UserError: a list is missing or wrong, or videos that it names are not on the disk.
    """
    folder = Path(data_root) / name
    if name == "demo" and not folder.exists():
        make_demo.write_demo(Path(data_root))
    paths = [folder / f"{part}list{split:02d}.json" for part in ("train", "test")]
    for path in paths:
        if not path.exists():
            from pt_dataset.listing.splits import how_to_make

            raise UserError(f"no list {path}; {how_to_make(folder, split)}")
    class_names, (train, remapped_train), (test, remapped_test) = read_together(folder, paths)
    check_sides(paths, train, test)
    for path, videos in zip(paths, (train, test), strict=True):
        check_paths(path, videos, some_missing)
    spec, num_remapped = DATASETS.get(name, DatasetSpec(title=name)), remapped_train + remapped_test
    return VideoLists(spec, class_names, train, test, folder, paths[1], num_remapped)


def read_together(
    folder: Path, paths: list[Path]
) -> tuple[list[str], tuple[VideoList, int], tuple[VideoList, int]]:
    """The classes and both lists as one call of make_json.py wrote them, even if one runs now.

    Raises:
        UserError: see `read_list`; or a call was stopped between two of the files.
    """
    files = [provide_classes(folder), *paths]
    for _ in range(20):
        before = stamps(folder, files)
        try:
            class_names = read_classes(files[0])
            found = class_names, read_list(paths[0], class_names), read_list(paths[1], class_names)
        except UserError:  # perhaps of old and new files together
            if before and stamps(folder, files) == before:
                raise
        else:
            if before and stamps(folder, files) == before:
                return found
        time.sleep(0.1)
    raise UserError(
        f"make_json.py was stopped while it replaced the lists in {folder}, which may now be of "
        "two splits; run it again"
    )


def stamps(folder: Path, files: list[Path]) -> list[tuple[int, int] | None] | None:
    """What changes when one of the files is replaced; None while they are being replaced."""
    if (folder / HALF_REPLACED).exists():
        return None
    found = [path.stat() if path.exists() else None for path in files]
    return [(status.st_ino, status.st_mtime_ns) if status else None for status in found]


def check_sides(paths: list[Path], train: VideoList, test: VideoList) -> None:
    """Refuses a video on both lists, and a single class, of which every network is right."""
    trained_on = set(map(os.path.abspath, train.paths()))
    both = [path for path in test.paths() if os.path.abspath(path) in trained_on]
    if both:
        raise UserError(
            f"{paths[0].name} has {plural(len(both), 'video')} of {paths[1]}, the first is "
            f"{both[0]}; write the lists again, or remove each from one of them"
        )
    if len(set(train.labels.tolist())) < 2:
        raise UserError(
            f"all videos of {paths[0]} are of one class, '{train[0].class_name}'; write the lists "
            "again from the folder that has all class folders in it"
        )


def check_paths(list_path: Path, videos: VideoList, some_missing: bool) -> None:
    """Looks for a hundred of the videos, so that a wrong path ends the run at its start."""
    sample = videos[:: max((len(videos) - 1) // 99, 1)]
    missing = [video.path for video in sample if not exists(video.path)]
    if len(missing) == len(sample) or missing and not some_missing:
        raise UserError(
            f"{list_path}: {len(missing)} of {len(sample)} videos looked for do not exist, the "
            f"first is {missing[0]}; move the data there or write the list again with "
            "pt_dataset/make_json.py"
        )


def check_clips(lists: VideoLists, clip: Clip, num_crops: int = 1) -> None:
    """Looks whether the lists say all that such clips need, before the first step.

    Raises:
        UserError: there is no optical flow, the frame rate is not known, or the mirrored ones of
            ten crops would show other classes.
    """
    if num_crops == 10 and lists.flipped_labels() != list(range(len(lists.class_names))):
        raise UserError(
            f"{lists.folder}: ten crops of a video mirror it, which changes labels of this data "
            "set; take --views with 1 or 3 crops"
        )
    num_videos = len(lists.train) + len(lists.test)
    if clip.modality == "flow":
        videos = chain(lists.train, lists.test)
        bad = [video.path for video in videos if video.flow_path is None or video.num_frames < 2]
        if bad:
            raise UserError(
                f"{lists.folder}: --modality flow needs the optical flow ('flow_path', of at least "
                f"two frames), which {len(bad)} of {num_videos} videos do not have, the first is "
                f"{bad[0]}; write the lists again with the flow, or train on --modality rgb"
            )
    if clip.needs_rates():
        videos = chain(lists.train, lists.test)
        bad = [video.path for video in videos if not video.fps]
        if bad:
            raise UserError(
                f"{lists.folder}: --target-fps needs the frame rate ('fps'), which the lists do "
                f"not say of {len(bad)} of {num_videos} videos, the first is {bad[0]}; write the "
                "lists again from video files, or frames of extract_frames.py, or choose a --stride"
            )
