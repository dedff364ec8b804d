"""Which files are frames, and in what order, by their names alone."""

import re
from bisect import bisect_left
from collections.abc import Iterable

from config import UserError

PICTURE = r"\.(?:jpe?g|png|bmp|webp|tiff?|p[gp]m)"
# frame000001.jpg, image_00001.jpg, 001.jpg; not ._001.jpg, which a Mac puts beside each file
FRAME_NAME = re.compile(rf"(?!\.)(.*?)(\d+)({PICTURE})", re.IGNORECASE)
# 00001_color.png, frame_00_delay-0.04s.jpg: beside video files these are pictures of the videos
TAILED_NAME = re.compile(rf"(?!\.).*?\d.*{PICTURE}", re.IGNORECASE)
FLOW_PREFIXES = ("flow_x_", "flow_y_")  # TSN keeps them in one folder with the frames


class EmptyVideo(UserError):
    """There is no frame where a video should be."""


class FrameGap(UserError):
    """The numbers of the frames of a video leave one out, or have one twice."""


def by_kind(names: Iterable[str]) -> dict[str, list[str]]:
    """Sorted file names: those of flow by their prefix, all others under ""."""
    names = sorted(names)
    x, y, end = (bisect_left(names, prefix) for prefix in (*FLOW_PREFIXES, "flow_z"))
    return {"": names[:x] + names[end:], "flow_x_": names[x:y], "flow_y_": names[y:end]}


def has_frames(names: list[str]) -> bool:
    """Whether any of these files is a frame."""
    return any(map(FRAME_NAME.fullmatch, names)) or any(map(TAILED_NAME.fullmatch, names))


def in_order(names: list[str], folder: str, any_numbers: bool = False) -> list[str]:
    """The frames among the sorted `names` in the order of time, whatever their naming scheme.

    Their numbers are in steps of one, or all in steps of the same size, unless `any_numbers`.

    Raises:
        EmptyVideo: no frames; FrameGap: a number is missing between two; UserError: two naming
            schemes.
    """
    match = FRAME_NAME.fullmatch(names[0]) if names else None
    if match:
        prefix, digits, suffix = match.groups()
        first, width = int(digits), len(digits)
        if names == [f"{prefix}{first + i:0{width}}{suffix}" for i in range(len(names))]:
            return names  # the usual case, found quickly
    from pt_dataset.formats.unusual_names import by_numbers

    return by_numbers(names, folder, any_numbers)
