"""When each frame of a video is shown: by the stamps of a video file, else by its rate."""

import bisect
import math

import numpy as np

from config import Clip
from pt_dataset import sampling
from pt_dataset.sources import is_video_file
from pt_dataset.video_list import Video


def seconds(video: Video) -> np.ndarray | None:
    """When each frame is shown, from the first one on, and at last the end; None: nobody knows."""
    times = uneven_times(video)
    if times is None and video.fps:
        return np.arange(video.num_frames + 1) / video.fps
    return times


def uneven_times(video: Video) -> np.ndarray | None:
    """The same of a video file whose frames are not shown at its rate; None of all others."""
    if not is_video_file(video.path):
        return None
    from pt_dataset.formats import video_file

    times = video_file.frame_times(video.path, video.num_frames)
    is_even = times is None or (video.fps and video_file.are_even(times, video.fps))
    return None if is_even else times


def resampled(
    video: Video, clip: Clip, start: int = 0, end: int | None = None
) -> tuple[Video, list[int]]:
    """Frames [start, end) of a video as a video of its own, and which frame each of its frames is.

    Uneven frames become those on screen at each tick of `target_fps`, where clips have one.
    """
    end = video.num_frames if end is None else end
    times = uneven_times(video) if clip.target_fps and video.fps else None
    if times is None or clip.target_fps is None:
        return video._replace(num_frames=end - start), list(range(start, end))
    shown = on_screen(times[start : end + 1].tolist(), clip.target_fps)
    last = sampling.length(video, clip) - 1  # of flow there is one field less
    frames = [min(start + index, last) for index in shown]
    return video._replace(num_frames=len(frames), fps=clip.target_fps), frames


def on_screen(times: list[float], fps: float) -> list[int]:
    """The frame on screen at each tick k / fps from the first frame on.

    Args:
        times: seconds at which each frame is shown, and at last those of the end.
    """
    early = 1e-3  # s; files round times to it, and no frame may miss its tick by that
    num_ticks = max(math.ceil((times[-1] - times[0] - early) * fps), 1)
    ticks = (times[0] + tick / fps + early for tick in range(num_ticks))
    return [min(bisect.bisect_right(times, tick), len(times) - 1) - 1 for tick in ticks]
