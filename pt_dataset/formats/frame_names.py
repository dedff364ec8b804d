"""Which files are frames, and in what order, by their names alone."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

from config import UserError

PICTURE = r"\.(?:jpe?g|png|bmp|webp|tiff?|p[gp]m)"
# frame000001.jpg, image_00001.jpg, 001.jpg; not ._001.jpg, which a Mac puts beside each file
FRAME_NAME = re.compile(rf"(?!\.)(.*?)(\d+)({PICTURE})", re.IGNORECASE)
# 00001_color.png, frame_00_delay-0.04s.jpg: beside video files these are pictures of the videos
TAILED_NAME = re.compile(rf"(?!\.).*?\d.*{PICTURE}", re.IGNORECASE)
DELAY = re.compile(r"_delay-\d+(\.\d+)?s")  # how long the frame of a GIF is shown
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
    frames = [name for name in names if FRAME_NAME.fullmatch(name)]
    frames = frames or [name for name in names if TAILED_NAME.fullmatch(name)]
    if not frames:
        raise EmptyVideo(f"{folder}: no frames (numbered .jpg or .png files) in this folder")
    numbered = sorted(zip(frame_numbers(frames, folder), frames, strict=True))
    steps = [after[0] - before[0] for before, after in pairwise(numbered)]
    least = min(filter(None, steps), default=1) if len(steps) > 1 else 1
    for step, (number, _), (_, after) in zip(steps, numbered, numbered[1:], strict=False):
        # every fifth, or by the clock: a frame that is lost makes a step twice as large
        if step == 0 or step >= 2 * least and not any_numbers:
            raise FrameGap(
                f"{folder}: frame {float(number + least):.15g} is missing or doubled before "
                f"{after}; extract the video again, or list it with --any-numbers if gaps are meant"
            )
    return [name for _, name in numbered]


def frame_numbers(names: list[str], folder: str) -> list[int] | list[Fraction]:
    """The number, or the time, in each of some names that differ in nothing else, or UserError."""
    parts = [re.split(r"(\d+)", DELAY.sub("", name)) for name in names]  # text, digits, text, ...
    kinds = [(*texts[:-1:2], texts[-1].lower()) for texts in parts]
    (usual, count), *others = Counter(kinds).most_common()
    if others:
        odd = next(name for name, kind in zip(names, kinds, strict=True) if kind != usual)
        raise different_names(folder, odd, count)
    columns = list(zip(*(texts[1::2] for texts in parts), strict=True))
    varying = [i for i, column in enumerate(columns) if len(set(map(int, column))) > 1]
    last = varying[-1] if varying else len(columns) - 1
    numbers = list(map(int, columns[last]))
    # 0.96 and 1.00, or 0.5 and 0.75; not the 1.9 and 1.10 of shot 1
    other_widths = len({*map(len, columns[last])}) > 1
    is_run = max(numbers) - min(numbers) == len(names) - 1
    is_time = varying[:-1] == [last - 1] or other_widths and not is_run
    if last > 0 and usual[last] == "." and is_time:
        pairs = zip(columns[last - 1], columns[last], strict=True)
        return [Fraction(f"{whole}.{decimals}") for whole, decimals in pairs]
    if len(varying) > 1:
        raise different_names(folder, names[-1], len(names) - 1)
    return numbers


def different_names(folder: str, odd: str, num_others: int) -> UserError:
    return UserError(
        f"{folder}: frames of different names, {odd} is not named like {num_others} others; keep "
        "one kind, and remove what is no frame"
    )
