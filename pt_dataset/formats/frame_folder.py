"""Frames as pictures in a folder on the disk."""

import os
from pathlib import Path

from config import UserError, open_regular
from pt_dataset.formats.frame_names import by_kind, in_order


class FolderFrames:
    """The encoded frames of a folder, in the order of time; of flow those with a `prefix`."""

    def __init__(self, folder: str, prefix: str = "", any_numbers: bool = False):
        self.folder, self.names = folder, frame_names(folder, prefix, any_numbers)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return os.path.join(self.folder, self.names[index])

    def read(self, index: int) -> bytes:
        file = open_regular(
            f"{self.folder}/{self.names[index]}"
        )  # Python's own takes twice as long
        try:
            return os.read(file, os.fstat(file).st_size)
        finally:
            os.close(file)


def frame_names(folder: str | Path, prefix: str = "", any_numbers: bool = False) -> list[str]:
    """File names of the frames in a folder in the order of time, or of flow those with a `prefix`.

    Raises:
        UserError: no such folder, or see `in_order`.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no such folder of frames") from None
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    return in_order(by_kind(names)[prefix], str(folder), any_numbers)
