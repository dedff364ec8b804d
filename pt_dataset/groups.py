"""Groups of videos that were cut from one recording, which must stay together in a split."""

import re
from collections.abc import Sequence

from config import UserError
from pt_dataset.datalist import Video

GROUP = re.compile(r"_(g\d+)_c\d+")  # UCF101: v_Biking_g01_c02 is the second clip of group 1


def hold_out(
    videos: Sequence[Video], num_groups: int
) -> tuple[Sequence[Video], Sequence[Video], list[str]]:
    """Takes the last groups out of a training list.

    Returns:
        The videos to train on, those held out, both of the type of `videos`, and the groups' names.

    Raises:
        UserError: a video's name tells no group, or no group would be left to train on.
    """
    groups = [group_of(video) for video in videos]
    names = sorted(set(groups))
    if num_groups >= len(names):
        raise UserError(
            f"--val-groups {num_groups} leaves nothing to train on: the list has {len(names)} "
            "groups"
        )
    held = names[-num_groups:]
    of = type(videos)
    pairs = list(zip(videos, groups, strict=True))
    kept = of(video for video, group in pairs if group not in held)
    return kept, of(video for video, group in pairs if group in held), held


def group_of(video: Video) -> str:
    match = GROUP.search(video.path)
    if not match:
        raise UserError(
            f"--val-groups: the name of {video.path} tells no group of recordings, as "
            "v_Biking_g01_c02 of UCF101 does"
        )
    return match[1]
