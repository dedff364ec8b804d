"""What is wrong with one video that a list names: found by counting and decoding its frames."""

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from config import UserError, plural
from pt_dataset.formats.flow import count_flow, read_flow
from pt_dataset.formats.frame_folder import frame_names
from pt_dataset.formats.frame_names import FRAME_NAME, EmptyVideo, FrameGap
from pt_dataset.formats.measure import measure
from pt_dataset.sources import exists, read_frames
from pt_dataset.video_list import Video

CHUNK = 16  # frames decoded at a time


class Problem(NamedTuple):
    """Something wrong with a video."""

    kind: str  # a key of KINDS in check_json.py
    message: str


class Checked(NamedTuple):
    """What was found of one video; None is what could not be."""

    num_frames: int | None
    first_number: int | None  # of a folder of frames: the number of the first one
    problems: list[Problem]


def check_video(video: Video, sample: int | None, any_numbers: bool = False) -> Checked:
    """Counts the frames and the flow of a video and decodes `sample` of each, or all for None.

    `any_numbers`: gaps between the numbers of its frames are meant.
    """
    try:
        if not exists(video.path):
            return Checked(None, None, [Problem("missing", f"{video.path} does not exist")])
        measured = measure(video.path, any_numbers)
    except (UserError, OSError) as error:
        is_empty, has_gap = isinstance(error, EmptyVideo), isinstance(error, FrameGap)
        kind = "empty" if is_empty else "gap" if has_gap else "unusable"
        return Checked(None, None, [Problem(kind, error_text(error, video.path))])
    num_frames, problems, first = measured.num_frames, [], first_number(video.path)
    if video.num_frames != num_frames:
        kind = "too few frames" if num_frames < video.num_frames else "too many frames"
        message = f"{video.path}: {plural(num_frames, 'frame')}, the list says {video.num_frames}"
        problems.append(Problem(kind, message))
    if first is not None and first > 1:
        message = f"{video.path}: its first frame has the number {first}; is its beginning lost?"
        problems.append(Problem("starts late", message))
    if measured.bad:
        problems.append(Problem("bad frame", f"{video.path}: {measured.damage()}"))
    problems += check_pictures(video.path, num_frames, sample, known=measured.bad)
    if video.flow_path is not None:
        problems += check_flow(video.flow_path, num_frames, sample)
    return Checked(num_frames, first, problems)


def error_text(error: UserError | OSError, path: str) -> str:
    """One sentence about the file at `path`, whichever kind of error it is."""
    return str(error) if isinstance(error, UserError) else f"{path}: {error.strerror}"


def first_number(video: str) -> int | None:
    """The number of the first frame of a folder; None of other videos."""
    if not os.path.isdir(video):
        return None
    match = FRAME_NAME.fullmatch(frame_names(video, any_numbers=True)[0])
    return int(match[2]) if match else None


def check_flow(flow: str, num_frames: int, sample: int | None) -> list[Problem]:
    """What is wrong with the flow of a video of `num_frames`."""
    try:
        count = count_flow(flow)
    except (UserError, OSError) as error:
        return [Problem("unusable flow", error_text(error, flow))]
    problems = check_pictures(flow, count, sample, is_flow=True)
    if count != num_frames - 1:
        kind = "too little flow" if count < num_frames - 1 else "too much flow"
        frames = plural(num_frames, "frame")
        message = f"{flow}: {plural(count, 'field')} for {frames}; there should be one fewer"
        problems.append(Problem(kind, message))
    return problems


def check_pictures(
    path: str, count: int, sample: int | None, is_flow: bool = False, known: Collection[int] = ()
) -> list[Problem]:
    """Decodes `sample` of the `count` frames of a video, or fields of its flow, or all for None.

    The first and the last are among them; those `known` to be bad are not.
    """
    if sample is None or sample >= count:
        indices = list(range(count))
    else:
        indices = np.linspace(0, count - 1, sample).round().astype(int).tolist()
    indices = [index for index in indices if index not in known]
    first_of_size: dict[tuple[int, int], int] = {}
    bad: list[str] = []
    for index, size in decoded_sizes(path, count, indices, is_flow):
        if isinstance(size, str):
            bad.append(size)
        else:
            first_of_size.setdefault(size, index)
    problems = []
    if bad:
        message = f"{bad[0]} ({len(bad)} bad of {len(indices)} decoded)"
        problems.append(Problem("bad frame", message))
    if len(first_of_size) > 1:
        words = [
            f"{width}x{height} from the {index + 1}. on"
            for (height, width), index in first_of_size.items()
        ]
        problems.append(Problem("mixed sizes", f"{path}: frames of {', '.join(words)}"))
    return problems


def decoded_sizes(
    path: str, count: int, indices: list[int], is_flow: bool
) -> Iterator[tuple[int, tuple[int, int] | str]]:
    """Index with (height, width) of each picture, or with why it cannot be decoded."""
    for start in range(0, len(indices), CHUNK):
        chunk = indices[start : start + CHUNK]
        try:
            height, width = decode_pictures(path, count, chunk, is_flow).shape[1:3]
            yield from ((index, (height, width)) for index in chunk)
        except (UserError, OSError) as error:  # one of them is bad, or of another size: which?
            if len(chunk) == 1:
                yield chunk[0], error_text(error, path)
            else:
                for index in chunk:
                    yield from decoded_sizes(path, count, [index], is_flow)


def decode_pictures(path: str, count: int, indices: list[int], is_flow: bool) -> np.ndarray:
    """Pixels (T, H, W, C) of some of the `count` pictures of a video, or of its flow."""
    if is_flow:
        return read_flow(path, indices, num_frames=count + 1)  # one more frame than fields
    return read_frames(path, indices, num_frames=count)
