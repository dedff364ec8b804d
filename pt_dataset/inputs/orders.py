"""Clips with their frames in another order: does a network see it?"""

import random
from pathlib import Path

from pt_dataset.video_list import Video

ORDERS = ("normal", "reversed", "shuffled", "frozen")


def reordered_clips(clips: list[list[int]], order: str, video: Video) -> list[list[int]]:
    """The clips of a video with their frames in one of ORDERS."""
    # by the name: the same at each call and wherever the videos are
    rng = random.Random(Path(video.path).name)
    return [reordered(clip, order, rng) for clip in clips]


def reordered(clip: list[int], order: str, rng: random.Random) -> list[int]:
    """The frames of a clip played backwards, in random order, or all of them the middle one."""
    if order == "reversed":
        return clip[::-1]
    if order == "shuffled":
        return rng.sample(clip, len(clip))
    if order == "frozen":
        return [clip[len(clip) // 2]] * len(clip)
    return clip
