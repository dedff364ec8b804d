"""A video of a list, and many of them in a few arrays."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple, overload

import numpy as np


class Video(NamedTuple):
    """One entry of a list; `path` and `flow_path` can be opened as they are, see sources.py."""

    path: str
    label: int
    class_name: str
    num_frames: int
    fps: float | None = None  # where it is known
    flow_path: str | None = None


class Texts:
    """Many strings in one buffer.

    A list of strings costs three times as much memory, and counting references to its members
    copies it into every forked process.
    """

    def __init__(self, texts: Sequence[str]):
        self.start = os.path.commonprefix(texts)
        cut = len(self.start)
        # surrogates stand for bytes of file names that are not UTF-8
        encoded = [text[cut:].encode("utf-8", "surrogatepass") for text in texts]
        self.ends = np.cumsum([0, *map(len, encoded)])
        self.data = b"".join(encoded)

    def __getitem__(self, index: int) -> str:
        rest = self.data[self.ends[index] : self.ends[index + 1]]
        return self.start + rest.decode("utf-8", "surrogatepass")


class VideoList(Sequence[Video]):
    """Videos in a few arrays, cheap to fork and to pickle: about 100 bytes each."""

    def __init__(self, videos: Iterable[Video]):
        columns = list(zip(*videos, strict=True)) or [()] * len(Video._fields)
        self._pack(**dict(zip(Video._fields, columns, strict=True)))

    @classmethod
    def from_columns(cls, **columns: Sequence) -> "VideoList":
        """The same from a column for each field of `Video`, without an object for each video."""
        videos = cls.__new__(cls)
        videos._pack(**columns)
        return videos

    def _pack(self, path, label, class_name, num_frames, fps, flow_path):
        self._paths = Texts(path)
        self.labels, self.num_frames = np.array(label, np.int32), np.array(num_frames, np.int32)
        self._class_names = list(dict.fromkeys(class_name))
        numbers = {name: i for i, name in enumerate(self._class_names)}
        self._classes = np.array([numbers[name] for name in class_name], np.int32)
        # most lists have none of these
        self.fps = np.array(fps, np.float64) if any(fps) else None  # None becomes nan
        self._flow_paths = Texts([p or "" for p in flow_path]) if any(flow_path) else None

    def paths(self) -> list[str]:
        return [self._paths[index] for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> Video: ...

    @overload
    def __getitem__(self, index: slice) -> "VideoList": ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return VideoList(self[i] for i in range(*index.indices(len(self))))
        index = range(len(self))[index]  # counts from the end, and knows where that is
        fps = None if self.fps is None else float(self.fps[index])
        return Video(
            self._paths[index],
            int(self.labels[index]),
            self._class_names[self._classes[index]],
            int(self.num_frames[index]),
            fps if fps == fps else None,
            self._flow_paths[index] or None if self._flow_paths else None,
        )
