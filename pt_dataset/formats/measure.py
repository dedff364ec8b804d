"""What a list says of a video, measured."""

from collections.abc import Mapping
from typing import NamedTuple

from pt_dataset.sources import is_video_file, open_frames


class Measured(NamedTuple):
    """What was found of a video."""

    num_frames: int
    fps: float | None = None  # of a video file; frames do not tell
    bad: Mapping[int, str] = {}  # the frames of a video file that are bad, from 0, and why

    def damage(self) -> str:
        """What is wrong with the frames that are bad, or ""."""
        if not self.bad:
            return ""
        (first, why), count = next(iter(self.bad.items())), len(self.bad)
        are = "is" if count == 1 else "are"
        return f"{count} of {self.num_frames} frames {are} bad, from frame {first + 1}: {why}"


def measure(video: str, any_numbers: bool = False) -> Measured:
    """Counts the frames of a video by decoding them, or the pictures, whatever a header says.

    `any_numbers`: gaps between the numbers of its pictures are meant.

    Raises:
        UserError: the video cannot be used.
    """
    if not is_video_file(video):
        return Measured(len(open_frames(video, any_numbers=any_numbers)))
    from pt_dataset.formats import video_file

    return video_file.measure(video)


def count_frames(video: str) -> int:
    """How many frames a video has, as `measure` finds them."""
    return measure(video).num_frames
