"""Groups of videos that were cut from one recording, which must stay together in a split."""

import re

from config import UCF_NAME, UserError, group_of, plural
from pt_dataset.video_list import VideoList


def require_group(path: str, regex: re.Pattern[str]) -> str:
    """The group that `regex` finds in a path; UserError if it finds none."""
    group = group_of(path, regex)
    if group is None:
        raise UserError(f"--group-regex {regex.pattern} finds nothing in '{path}'")
    return group


def group_number(path: str) -> str:
    """The number of a group as in a name of UCF101, "g01" of v_Biking_g01_c02, or UserError."""
    match = UCF_NAME.search(path)
    if match is None:
        raise UserError(
            f"--val-groups: the name of {path} tells no group of recordings, as "
            "v_Biking_g01_c02 of UCF101 does"
        )
    return match["number"]


def hold_out(videos: VideoList, num_groups: int) -> tuple[VideoList, VideoList, list[str]]:
    """Takes the last groups out of a training list: those numbers of every class.

    UCF101's own splits, too, put the same numbers of all classes on one side. Returns the videos to
    train on, those held out, and the numbers of their groups, such as "g25"; UserError if a name
    tells no group, or no group would be left to train on.
    """
    numbers = [group_number(video.path) for video in videos]
    names = sorted(set(numbers))
    if num_groups >= len(names):
        raise UserError(
            f"--val-groups {num_groups} leaves nothing to train on: the list has "
            f"{plural(len(names), 'group')}"
        )
    held = names[-num_groups:]
    pairs = list(zip(videos, numbers, strict=True))
    return (
        VideoList(video for video, number in pairs if number not in held),
        VideoList(video for video, number in pairs if number in held),
        held,
    )
