"""Which files are frames, and in what order, by their names alone."""

import re
from collections.abc import Iterable

from config import UserError

# frame000001.jpg, image_00001.jpg, 001.jpg; not ._001.jpg, which a Mac puts beside each file
FRAME_NAME = re.compile(r"(?!\.)(.*?)(\d+)(\.(?:jpe?g|png|bmp|webp))", re.IGNORECASE)
FLOW_PREFIXES = ("flow_x_", "flow_y_")  # TSN keeps them in one folder with the frames


def frames_by_prefix(names: Iterable[str]) -> dict[str, list[re.Match]]:
    """Matches of FRAME_NAME: those of flow by their prefix, all the others under ""."""
    kinds = {prefix: [] for prefix in ("", *FLOW_PREFIXES)}
    for match in map(FRAME_NAME.fullmatch, names):
        if match:
            kinds[match[1] if match[1] in FLOW_PREFIXES else ""].append(match)
    return kinds


def in_order(matches: list[re.Match], folder: str) -> list[str]:
    """Frame names of one folder in the order of time, whatever their naming scheme.

    Raises:
        UserError: no frames, two naming schemes, or a number missing between two frames.
    """
    if not matches:
        raise UserError(f"{folder}: no frames (numbered .jpg or .png files) in this folder")
    schemes = {(match[1], match[3]) for match in matches}
    if len(schemes) > 1:
        names = " and ".join(sorted(f"{prefix}*{suffix}" for prefix, suffix in schemes)[:2])
        raise UserError(f"{folder}: frames of different names, {names}; keep one kind")
    numbers = sorted((int(match[2]), match[0]) for match in matches)
    first = numbers[0][0]
    for i, (number, name) in enumerate(numbers):
        if number != first + i:
            raise UserError(
                f"{folder}: frame {first + i} is missing or doubled before {name}; extract the "
                f"video again"
            )
    return [name for _, name in numbers]
