"""The order of frames that are not simply counted: with gaps, by times, or under two numbers."""

import re
from collections import Counter
from fractions import Fraction
from itertools import pairwise

from config import UserError, plural
from pt_dataset.formats.frame_names import FRAME_NAME, TAILED_NAME, EmptyVideo, FrameGap

DELAY = re.compile(r"_delay-\d+(\.\d+)?s")  # how long the frame of a GIF is shown


def by_numbers(names: list[str], folder: str, any_numbers: bool) -> list[str]:
    """What `in_order` returns, and raises."""
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
    others = plural(num_others, "other")
    return UserError(
        f"{folder}: frames of different names, {odd} is not named like {others}; keep one kind, "
        "and remove what is no frame"
    )
