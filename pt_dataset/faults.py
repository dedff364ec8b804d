"""What was wrong with videos, and how much is too much."""

from config import UserError

NAMED = 3  # faults that are told one by one


class Faults:
    """The videos that had a fault in one epoch; each loader makes those of its list.

    A loader tells what its own process saw (`Batch.faults`); whoever knows the other processes adds
    up all of it here, at each batch, so that too many end all processes at the same one.

    Args:
        name: of the list, for messages.
        num_videos: of the list.
        on_bad_frame: "stop", with which there are no faults but errors, "nearest" or "skip".
        max_bad_share: of the videos that may have a fault.
    """

    def __init__(self, name: str, num_videos: int, on_bad_frame: str, max_bad_share: float):
        self.name, self.num_videos = name, num_videos
        self.on_bad_frame, self.max_bad_share = on_bad_frame, max_bad_share
        self.found: dict[int, str] = {}  # index of a video -> what was wrong with it

    @property
    def possible(self) -> bool:
        return self.on_bad_frame != "stop"

    def add(self, found: dict[int, str]) -> None:
        """
        Raises:
            UserError: with these, too many videos have a fault, or all of them.
        """
        self.found |= found
        bad = len(self.found)
        if bad and (bad == self.num_videos or bad > self.max_bad_share * self.num_videos):
            raise UserError(
                f"{self.name}: {bad} of {self.num_videos} videos are bad, more than "
                f"--max-bad-share {self.max_bad_share:g}, the first: "
                f"{next(iter(self.found.values()))}; python pt_dataset/check_json.py finds all of "
                "them"
            )

    def __str__(self) -> str:
        """What was done, and to which files."""
        done = {"nearest": "got the nearest good frame for each bad one", "skip": "were left out"}
        first = [fault.split("; ")[0] for fault in list(self.found.values())[:NAMED]]
        more = len(self.found) - len(first)
        return (
            f"{self.name}: {len(self.found)} of {self.num_videos} videos "
            f"{done[self.on_bad_frame]}: {', '.join(first)}"
            + (f", and {more} more" if more else "")
        )
