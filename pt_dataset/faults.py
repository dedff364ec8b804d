"""What was wrong with videos, and how much is too much."""

from config import UserError

NAMED = 3  # faults that are told one by one


class Faults:
    """The videos of a list, called `name`, that had a fault in one epoch.

    A loader tells what its own process saw (`Batch.faults`); whoever knows the other processes adds
    up all of it here, at each batch, so that too many end all processes at the same one.
    """

    def __init__(self, name: str, num_videos: int, on_bad_frame: str, max_bad_share: float):
        self.name, self.num_videos = name, num_videos
        self.on_bad_frame, self.max_bad_share = on_bad_frame, max_bad_share
        self.found: dict[int, str] = {}  # index of a video -> what was wrong with it

    @property
    def possible(self) -> bool:
        return self.on_bad_frame != "stop"  # which ends the run with the error

    def add(self, found: dict[int, str]) -> None:
        """Raises UserError if with these too many videos have a fault, or all of them."""
        self.found |= found
        bad = len(self.found)
        if bad and (bad == self.num_videos or bad > self.max_bad_share * self.num_videos):
            first = next(iter(self.found.values()))
            raise UserError(
                f"{self.name}: {bad} of {self.num_videos} videos {'is' if bad == 1 else 'are'} "
                f"bad, more than --max-bad-share {self.max_bad_share:g}, the first: {first}; "
                "python pt_dataset/check_json.py finds all of them"
            )

    def __str__(self) -> str:
        """What was done, and to which files."""
        done = {"nearest": "got the nearest good frame for each bad one", "skip": "were left out"}
        told = [fault.split("; ")[0] for fault in list(self.found.values())[:NAMED]]
        if len(self.found) > NAMED:
            told.append(f"and {len(self.found) - NAMED} more")
        videos = f"{len(self.found)} of {self.num_videos} videos {done[self.on_bad_frame]}"
        return f"{self.name}: {videos}: {', '.join(told)}"
