"""Which files are frames, and in what order, by their names alone."""

import re
from bisect import bisect_left
from collections.abc import Iterable

from config import UserError

# frame000001.jpg, image_00001.jpg, 001.jpg; not ._001.jpg, which a Mac puts beside each file
FRAME_NAME = re.compile(r"(?!\.)(.*?)(\d+)(\.(?:jpe?g|png|bmp|webp))", re.IGNORECASE)
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
    return any(map(FRAME_NAME.fullmatch, names))


def in_order(names: list[str], folder: str) -> list[str]:
    """The frames among the sorted `names` in the order of time, whatever their naming scheme.

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
    matches = [match for match in map(FRAME_NAME.fullmatch, names) if match]
    if not matches:
        raise EmptyVideo(f"{folder}: no frames (numbered .jpg or .png files) in this folder")
    schemes = sorted({f"{match[1]}*{match[3]}" for match in matches})
    if len(schemes) > 1:
        kinds = " and ".join(schemes[:2])
        raise UserError(f"{folder}: frames of different names, {kinds}; keep one kind")
    numbers = sorted((int(match[2]), match[0]) for match in matches)
    for expected, (number, name) in enumerate(numbers, start=numbers[0][0]):
        if number != expected:
            raise FrameGap(
                f"{folder}: frame {expected} is missing or doubled before {name}; extract the "
                "video again"
            )
    return [name for _, name in numbers]
