"""Frame counts -> frame indices: pure integers, and chance only from the generator passed in.

The first two functions choose among those below them by what a clip is.
"""

import math
import random
from fractions import Fraction
from functools import lru_cache

from config import Clip
from pt_dataset.video_list import Video


def generator(seed: int, epoch: int, index: int) -> random.Random:
    """The generator of one clip: a pure function of its arguments, whatever process asks."""
    # a string is seeded through SHA-512, the same everywhere, not through hash(); 0 is the one clip
    # of this video and epoch
    return random.Random(f"{seed} {epoch} {index} 0")


def train_indices(video: Video, clip: Clip, rng: random.Random) -> list[int]:
    """The frames, or fields of flow, of one random clip."""
    num_frames = length(video, clip)
    if clip.snippet_len:
        from pt_dataset.inputs.segments import random_segments

        num_segments = clip.clip_len // clip.snippet_len
        return random_segments(num_frames, num_segments, clip.snippet_len, rng)
    return random_clip(num_frames, clip.clip_len, step(video, clip), rng)


def view_indices(video: Video, clip: Clip, num_clips: int | None) -> list[list[int]]:
    """The frames of the clips of evaluation; None: one clip, the whole video.

    Of segments, one clip with `num_clips` of them, or if that is 1, as many as in training; or of
    fixed ones, `num_clips` clips, which take turns at the segments of all.
    """
    num_frames = length(video, clip)
    if not clip.snippet_len:
        if num_clips is None:
            return [whole_video(num_frames, clip.clip_len, step(video, clip))]
        return spaced_clips(num_frames, clip.clip_len, step(video, clip), num_clips)
    assert num_clips is not None  # as opts.py and actions/network.py see to
    from pt_dataset.inputs.segments import spaced_segments

    return spaced_segments(num_frames, *clip.segments_of_views(num_clips), clip.snippet_len)


def is_short(video: Video, clip: Clip, num_clips: int | None = 1) -> bool:
    """Is it shorter than a clip, so that it is looped, or segments of it begin at one frame?"""
    if clip.snippet_len:
        assert num_clips is not None  # as above
        num_segments = math.prod(clip.segments_of_views(num_clips))
        needed = num_segments + clip.snippet_len - 1  # a start for each
    else:
        needed = span(clip.clip_len, step(video, clip))
    return length(video, clip) < needed


def length(video: Video, clip: Clip) -> int:
    """How many frames a video has, or how many fields of flow lie between them."""
    return video.num_frames - 1 if clip.modality == "flow" else video.num_frames


def step(video: Video, clip: Clip) -> int | Fraction:
    """Source frames from one frame of a clip to the next.

    A video of unknown rate is taken as it is; where that would not do, video_lists.check_clips and
    inputs.paths.usable have refused it.
    """
    if not clip.target_fps or not video.fps:
        return clip.stride
    return resampled_stride(clip.stride, video.fps, clip.target_fps)


@lru_cache(maxsize=1024)
def resampled_stride(stride: int, fps: float, target_fps: float) -> int | Fraction:
    """The step in source frames that is `stride` frames of the video shown at `target_fps`.

    Exact: 29.97003 frames a second are meant as 30000/1001, and a whole number is an int.
    """
    rate, target = (Fraction(number).limit_denominator(1001) for number in (fps, target_fps))
    step = stride * rate / target
    return step.numerator if step.denominator == 1 else step


def random_clip(
    num_frames: int, clip_len: int, stride: int | Fraction, rng: random.Random
) -> list[int]:
    """A clip that starts anywhere it fits; a video that is too short is looped.

    Args:
        num_frames: length of the video, at least 1.
        clip_len: frames to return.
        stride: source frames from one frame of the clip to the next; of a fraction, whole frames.

    Source: I3D, arXiv:1705.07750 sec. 2.5: random start frames, short videos looped.
    """
    start = rng.randrange(num_starts(num_frames, clip_len, stride))
    return clip_from(start, num_frames, clip_len, stride)


def spaced_clips(
    num_frames: int, clip_len: int, stride: int | Fraction, num_clips: int
) -> list[list[int]]:
    """`num_clips` clips, evenly from the first start that fits to the last; one: the middle."""
    last = num_starts(num_frames, clip_len, stride) - 1
    if num_clips == 1:
        starts = [last // 2]
    else:
        # rounded half up in integers, so that the list read backwards gives the same gaps
        starts = [(2 * i * last + num_clips - 1) // (2 * (num_clips - 1)) for i in range(num_clips)]
    return [clip_from(start, num_frames, clip_len, stride) for start in starts]


def whole_video(num_frames: int, clip_len: int, stride: int | Fraction) -> list[int]:
    """One clip of all frames, or every `stride`-th; a video too short for `clip_len` is looped.

    Source: the evaluation of I3D, arXiv:1705.07750: the network is convolutional in time, too.
    """
    fitting = -(-num_frames // stride)  # rounded up
    return clip_from(0, num_frames, max(fitting, clip_len), stride)


def num_starts(num_frames: int, clip_len: int, stride: int | Fraction) -> int:
    """From how many frames a clip can start; 1 if the video is too short for any."""
    return max(num_frames - span(clip_len, stride), 0) + 1


def span(clip_len: int, stride: int | Fraction) -> int:
    """Source frames from the first to the last of a clip, both included."""
    return int((clip_len - 1) * stride) + 1


def clip_from(start: int, num_frames: int, clip_len: int, stride: int | Fraction) -> list[int]:
    """The indices of the clip that starts at `start`, going round at the end of the video."""
    return [(start + int(i * stride)) % num_frames for i in range(clip_len)]


def nearest(indices: list[int], num_frames: int, bad: set[int]) -> list[int]:
    """The indices with the nearest one that is not `bad`, of two the earlier, for each that is."""
    good = [i for i in range(num_frames) if i not in bad]
    return [min(good, key=lambda i: (abs(i - index), i)) for index in indices]
