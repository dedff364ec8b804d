"""Frame counts -> frame indices: pure integers, and chance only from the generator passed in."""

import random


def generator(seed: int, epoch: int, index: int, view: int = 0) -> random.Random:
    """The generator of one clip: a pure function of its arguments, whatever process asks."""
    # a string is seeded through SHA-512, the same everywhere, not through hash()
    return random.Random(f"{seed} {epoch} {index} {view}")


def random_clip(num_frames: int, clip_len: int, stride: int, rng: random.Random) -> list[int]:
    """A clip that starts anywhere it fits; a video that is too short is looped.

    Args:
        num_frames: length of the video, at least 1.
        clip_len: frames to return.
        stride: source frames from one frame of the clip to the next.
        rng: where the start comes from.

    Returns:
        `clip_len` indices in [0, num_frames).

    Source: I3D, arXiv:1705.07750 sec. 2.5: random start frames, short videos looped.
    """
    return clip_from(
        rng.randrange(num_starts(num_frames, clip_len, stride)), num_frames, clip_len, stride
    )


def spaced_clips(num_frames: int, clip_len: int, stride: int, num_clips: int) -> list[list[int]]:
    """`num_clips` clips, evenly from the first start that fits to the last; one: the middle."""
    last = num_starts(num_frames, clip_len, stride) - 1
    if num_clips == 1:
        starts = [last // 2]
    else:
        # rounded half up in integers, so that the list read backwards gives the same gaps
        starts = [(2 * i * last + num_clips - 1) // (2 * (num_clips - 1)) for i in range(num_clips)]
    return [clip_from(start, num_frames, clip_len, stride) for start in starts]


def num_starts(num_frames: int, clip_len: int, stride: int) -> int:
    """From how many frames a clip can start; 1 if the video is too short for any."""
    span = (clip_len - 1) * stride + 1  # first to last frame of the clip, both included
    return max(num_frames - span, 0) + 1


def clip_from(start: int, num_frames: int, clip_len: int, stride: int) -> list[int]:
    """The indices of the clip that starts at `start`, going round at the end of the video."""
    return [(start + i * stride) % num_frames for i in range(clip_len)]
