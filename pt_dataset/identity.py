"""Which videos a list names, in a few numbers each, the same wherever the videos lie.

Checkpoints carry them: a run goes on with the data that it was trained on, and an evaluation tells
how many of its videos were trained on.
"""

import hashlib
import os
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from config import UserError, open_regular
from pt_dataset.sources import VIDEO_NAME, is_video_file, open_frames
from pt_dataset.video_list import Video, VideoList
from pt_dataset.video_lists import VideoLists

SAMPLED = 8  # videos of a list whose files are looked at
Names = dict[str, Any]  # "names", the hashes of videos, which have "depth" components


def identify(lists: VideoLists, depth: int | None = None, modality: str = "rgb") -> dict[str, Any]:
    """What the lists of a run are: "depth", and of "train", "validation" and "test" some columns.

    Args:
        depth: of the names, see `hashes`; None: the smallest that tells all videos apart, so that
            most folders can be renamed.
        modality: whose files are looked at.
    """
    parts = {"train": lists.train, "validation": lists.validation, "test": lists.test}
    names = {part: stems(videos) for part, videos in parts.items()}
    if depth is None:
        together = {name for part in names.values() for name in part}
        depth = 1
        longest = max(name.count("/") for name in together) + 1
        while len({last(name, depth) for name in together}) < len(together) and depth < longest:
            depth += 1
    if lists.held_out is None:
        del parts["validation"]  # the test list
    found = {part: columns(parts[part], names[part], depth, modality) for part in parts}
    return {"depth": depth, "validation": found["test"], **found}


def columns(
    videos: VideoList, names: Sequence[str], depth: int, modality: str
) -> dict[str, torch.Tensor]:
    """An element a video, but for "files": checksums of a few videos spread over the list."""
    fps = np.zeros(len(videos)) if videos.fps is None else np.nan_to_num(videos.fps)
    spread = np.linspace(0, len(videos) - 1, min(SAMPLED, len(videos))).astype(int).tolist()
    return {
        "names": hashes(names, depth),
        "labels": torch.from_numpy(videos.labels),
        "num_frames": torch.from_numpy(videos.num_frames),
        "fps": torch.from_numpy(fps),  # 0: not known
        "files": torch.tensor([checksum(videos[index], modality) for index in spread]),
    }


def stems(videos: VideoList) -> list[str]:
    """The paths of videos, alike for a video file, a folder of its frames, and a zip of them."""

    def stem(path: str) -> str:
        name = path.rpartition("/")[2]
        kept = name[-4:].lower() != ".zip" and not ("." in name and VIDEO_NAME.fullmatch(name))
        return path if kept else path.rpartition(".")[0]

    return [stem(path) for path in videos.paths()]


def last(name: str, depth: int) -> str:
    """The last `depth` components of a path."""
    return "/".join(name.rsplit("/", depth)[-depth:])


def hashes(names: Sequence[str], depth: int) -> torch.Tensor:
    """int64 of the last `depth` components of each name: where the data lie does not matter."""

    def digest(name: str) -> bytes:
        text = last(name, depth).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8).digest()

    return torch.from_numpy(np.frombuffer(b"".join(map(digest, names)), np.int64).copy())


def checksum(video: Video, modality: str) -> int:
    """Of the beginning of a video file, or of its first frame or field; 0 if it cannot be read."""
    try:
        if modality == "flow":
            from pt_dataset.formats.flow import open_flow

            return zlib.crc32(open_flow(video.flow_path or "")[0].read(0))
        if not is_video_file(video.path):
            return zlib.crc32(open_frames(video.path).read(0))
        with open(video.path, "rb", opener=open_regular) as file:
            return zlib.crc32(file.read(1 << 16), os.path.getsize(video.path) % 2**32)
    except (OSError, ValueError, IndexError, UserError):
        return 0  # whoever needs the video says what is wrong


def count_known(videos: VideoList, known: Sequence[Names]) -> int:
    """How many of `videos` are among those of `known`."""
    names = stems(videos)
    found = torch.zeros(len(names), dtype=torch.bool)
    for one in known:
        found |= torch.isin(hashes(names, one["depth"]), one["names"])
    return int(found.sum())
