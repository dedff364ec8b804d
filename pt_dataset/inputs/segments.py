"""Frame counts -> frame indices of segments of a video, as sampling.py has those of clips."""

import random

from pt_dataset.sampling import num_starts


def random_segments(
    num_frames: int, num_segments: int, snippet_len: int, rng: random.Random
) -> list[int]:
    """`snippet_len` frames in a row of each of `num_segments` equal parts of a video: training.

    The parts of a video with fewer starts than segments share them: neighbours may begin at the
    same frame, and all of them together reach from the first start to the last.

    Source: the authors' PyTorch code of Temporal Segment Networks, tsn-pytorch (dataset.py), which
    takes the first snippet for all segments of a short video: a still picture.
    """
    fitting = num_starts(num_frames, snippet_len, stride=1)
    part = fitting // num_segments
    if part > 0:
        starts = [i * part + rng.randrange(part) for i in range(num_segments)]
    else:  # in units of which a part has `fitting` and a start `num_segments`
        starts = [
            (i * fitting + rng.randrange(fitting)) // num_segments for i in range(num_segments)
        ]
    return snippets(starts, num_frames, snippet_len)


def spaced_segments(
    num_frames: int, num_clips: int, num_segments: int, snippet_len: int
) -> list[list[int]]:
    """`num_clips` clips of `num_segments` each, which take turns at those of all: evaluation."""
    frames = center_segments(num_frames, num_clips * num_segments, snippet_len)
    turns = [i // snippet_len % num_clips for i in range(len(frames))]
    return [
        [frame for frame, turn in zip(frames, turns, strict=True) if turn == i]
        for i in range(num_clips)
    ]


def center_segments(num_frames: int, num_segments: int, snippet_len: int) -> list[int]:
    """The middle snippet of each part of a video, which repeat in a short one: evaluation."""
    fitting = num_starts(num_frames, snippet_len, stride=1)
    starts = [(2 * i + 1) * fitting // (2 * num_segments) for i in range(num_segments)]
    return snippets(starts, num_frames, snippet_len)


def snippets(starts: list[int], num_frames: int, snippet_len: int) -> list[int]:
    """The indices of all snippets in a row; behind the end the last frame is repeated."""
    if num_frames < 1:
        raise ValueError(f"cannot sample segments from {num_frames} frames")
    return [min(start + i, num_frames - 1) for start in starts for i in range(snippet_len)]
