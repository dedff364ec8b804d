"""What a list says of a video, measured."""

from pt_dataset.sources import is_video_file, open_frames


def count_frames(video: str, any_numbers: bool = False) -> int:
    """How many frames a video has: measured, whatever its header says.

    `any_numbers`: gaps between the numbers of its pictures are meant.

    Raises:
        UserError: the video cannot be used.
    """
    if not is_video_file(video):
        return len(open_frames(video, any_numbers=any_numbers))
    from pt_dataset.formats import video_file

    return video_file.count_frames(video)


def frame_rate(video: str) -> float | None:
    """Frames a second of a video file; None of frames, which do not tell."""
    if not is_video_file(video):
        return None
    from pt_dataset.formats import video_file

    return video_file.frame_rate(video)
