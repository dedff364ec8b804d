"""Frames inside a zip, read in place: a compact index of its members, and their bytes.

Python's zipfile makes an object of every member, in every process: minutes and gigabytes for the
2.5 million frames of UCF101. Here the index is one buffer of arrays. Of a large archive it is kept
in a file beside it, ARCHIVE.index, which all processes map into memory together.

Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3.
"""

import contextlib
import functools
import json
import mmap
import os
import posixpath
import struct
import weakref
import zlib
from array import array
from bisect import bisect_left
from pathlib import Path

import numpy as np

from config import UserError, whole
from pt_dataset.formats.frame_names import EmptyVideo, by_kind, has_frames, in_order

END, END64, LOCATOR64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
MAX_END = 22 + 65535  # bytes: the end record with the longest comment
CENTRAL = np.dtype(  # one member in the central directory; its name, extra and comment follow
    [
        *[("signature", "S4"), ("versions", "<u4"), ("flags", "<u2"), ("method", "<u2")],
        *[("time", "<u4"), ("crc", "<u4"), ("packed", "<u4"), ("size", "<u4")],
        *[("name_len", "<u2"), ("extra_len", "<u2"), ("comment_len", "<u2"), ("disk", "<u2")],
        *[("attributes", "S6"), ("offset", "<u4")],
    ]
)
LOCAL_LEN = 30  # bytes before the name of a member at its own place
LOCAL_EXTRA = 64  # bytes: more than what usually follows that name
MEMBER = np.dtype(  # what the index keeps of a frame
    [
        *[("offset", "<u8"), ("packed", "<u8"), ("size", "<u8")],
        *[("name_len", "<u2"), ("method", "<u2"), ("flags", "<u2"), ("unused", "<u2")],
    ]
)
STORED, DEFLATED = 0, 8  # methods
ENCRYPTED = 1  # flag
ZIP64 = 0xFFFFFFFF  # in place of a number that is too large and stands in the extra field
MAGIC = int.from_bytes(b"frames 1", "little")
HEADER = 7  # numbers that an index starts with
KEPT_FROM = 20_000  # frames; the index of a smaller archive is built faster than it is worth a file


class Archive:
    """An open zip. Keys of its index are folders, "" for the root; for flow folder, NUL, prefix.

    Raises:
        UserError: the archive is no zip, is cut off, or has a path that leads out of it.
    """

    def __init__(self, path: str):
        self.path = path
        self.file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.file)
        buffer = load_index(path, self.file)
        num_keys, num_members, keys_len = np.frombuffer(buffer, "<u8", HEADER)[3:6].tolist()
        at = HEADER * 8
        self.members = np.frombuffer(buffer, MEMBER, num_members, at)
        at += self.members.nbytes
        self.member_ends = np.frombuffer(buffer, "<u8", num_keys, at)
        self.key_ends = np.frombuffer(buffer, "<u8", num_keys, at + 8 * num_keys)
        at += 16 * num_keys
        self.keys = memoryview(buffer)[at : at + keys_len]
        self.problems = json.loads(bytes(memoryview(buffer)[at + keys_len :]))

    def __len__(self) -> int:
        return len(self.key_ends)

    def key(self, place: int) -> bytes:
        start = self.key_ends[place - 1] if place else 0
        return bytes(self.keys[int(start) : int(self.key_ends[place])])

    def rows(self, place: int) -> np.ndarray:
        """Members of a key in the order of time."""
        start = self.member_ends[place - 1] if place else 0
        return self.members[int(start) : int(self.member_ends[place])]

    def folders(self) -> dict[str, int]:
        """Folders and how many frames each has, 0 where something is wrong with them."""
        keys = (self.key(place).decode() for place in range(len(self)))
        return {
            key: 0 if key in self.problems else len(self.rows(place))
            for place, key in enumerate(keys)
            if "\0" not in key
        }

    def find(self, folder: str, prefix: str) -> np.ndarray:
        """Members of a folder in the order of time; "" also names the only folder there is.

        Raises:
            UserError: there is no such folder, or its frames cannot be used.
        """
        if not folder:
            folders = {self.key(place).partition(b"\0")[0].decode() for place in range(len(self))}
            folder = folders.pop() if len(folders) == 1 else folder
        key = f"{normalized(folder)}\0{prefix}" if prefix else normalized(folder)
        place = self.bisect(key)
        if place == len(self) or self.key(place) != key.encode():
            raise EmptyVideo(f"{self.path}: no {prefix or 'numbered'} frames in folder '{folder}'")
        if key in self.problems:
            raise UserError(f"{self.path}/{self.problems[key]}")
        return self.rows(place)

    def has(self, folder: str) -> bool:
        """Whether a folder has frames or flow in it; "" asks whether there are any."""
        place = self.bisect(normalized(folder))
        if not folder or place == len(self):
            return place < len(self)
        return self.key(place).partition(b"\0")[0].decode() == normalized(folder)

    def bisect(self, key: str) -> int:
        return bisect_left(range(len(self)), key.encode(), key=self.key)


def zip_videos(path: str | Path) -> dict[str, int]:
    """Folders of an archive that hold frames ("": its root), and how many.

    0 where there is something wrong with them, which `sources.count_frames` then says.
    """
    return open_archive(str(path)).folders()


class ZipFrames:
    """The encoded frames of one folder of an archive, in the order of time."""

    def __init__(self, path: str, folder: str, prefix: str = ""):
        if ".." in folder.split("/"):
            raise UserError(f"{path}/{folder} leads out of the archive; correct the list")
        self.archive = open_archive(path)
        self.rows = self.archive.find(folder, prefix)
        if (self.rows["flags"] & ENCRYPTED).any():
            raise UserError(f"{path}/{folder} is encrypted; pack the frames without a password")
        others = self.rows["method"][~np.isin(self.rows["method"], (STORED, DEFLATED))]
        if len(others):
            raise UserError(
                f"{path}/{folder} is compressed by method {others[0]}, of which only 0 (stored) "
                "and 8 (deflate) can be read; pack the frames with pt_dataset/pack_frames.py"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        offset, _, _, name_len, *_ = self.rows[index].tolist()
        name = decode_name(os.pread(self.archive.file, name_len, offset + LOCAL_LEN))
        return f"{self.archive.path}/{name}"

    def read(self, index: int) -> bytes:
        """The bytes of a frame.

        Raises:
            ValueError: they are damaged; OSError: they cannot be read.
        """
        offset, packed, size, name_len, method, _, _ = self.rows[index].tolist()
        # at once, although only the header itself tells where the data starts
        data = os.pread(self.archive.file, LOCAL_LEN + name_len + LOCAL_EXTRA + packed, offset)
        if data[:4] != b"PK\3\4" or len(data) < LOCAL_LEN:
            raise ValueError("the archive is damaged there")
        start = LOCAL_LEN + sum(struct.unpack_from("<2H", data, 26))
        if start + packed > len(data):
            data, start = os.pread(self.archive.file, packed, offset + start), 0
        data = data[start : start + packed]
        if method == DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
            except zlib.error as error:
                raise ValueError(str(error)) from None
        if len(data) != size:
            raise ValueError("the archive is damaged or cut off there")
        return data


def open_archive(path: str) -> Archive:
    """The archive at `path`; the last few stay open, until they are written again."""
    try:
        status = os.stat(path)
        return _open_archive(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


@functools.lru_cache(maxsize=8)
def _open_archive(path: str, size: int, mtime_ns: int) -> Archive:
    return Archive(path)


def load_index(path: str, file: int) -> bytes | mmap.mmap:
    """The index of an open archive: of its file if that is of this archive, else built.

    A new one of a large archive is written, unless the folder is not ours to write to.
    """
    index_path, status = path + ".index", os.fstat(file)
    kept = map_index(index_path, status)
    if kept is not None:
        return kept
    buffer = build_index(path, file, status)
    if np.frombuffer(buffer, "<u8", HEADER)[4] < KEPT_FROM:
        return buffer
    with contextlib.suppress(OSError):  # read-only, or full: then each process has its own
        with whole(index_path) as temporary:
            temporary.write_bytes(buffer)
        # another process may be writing the same one at this moment: then it is not usable yet
        return map_index(index_path, status) or buffer
    return buffer


def map_index(path: str, status: os.stat_result) -> mmap.mmap | None:
    """An index file in memory that all processes share; None if it is not that of the archive."""
    with contextlib.suppress(OSError, ValueError):  # there is none; it is empty
        with open(path, "rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if is_index(buffer, status):
            return buffer
    return None


def is_index(buffer: mmap.mmap, status: os.stat_result) -> bool:
    """Whether `buffer` is a whole index of the archive with that status."""
    if len(buffer) < HEADER * 8:
        return False
    head = np.frombuffer(buffer, "<u8", HEADER).tolist()
    magic, size, mtime_ns, num_keys, num_members, keys_len, problems_len = head
    length = HEADER * 8 + num_members * MEMBER.itemsize + 16 * num_keys + keys_len + problems_len
    return [magic, size, mtime_ns, length] == [
        MAGIC,
        status.st_size,
        status.st_mtime_ns,
        len(buffer),
    ]


def build_index(path: str, file: int, status: os.stat_result) -> bytes:
    """The index of an archive from its central directory."""
    start, length, shift = find_directory(path, file, status.st_size)
    if not length:
        return pack_index(status, {}, {})
    page = start % mmap.ALLOCATIONGRANULARITY
    mapped = mmap.mmap(file, page + length, access=mmap.ACCESS_READ, offset=start - page)
    places = group_members(path, mapped, page)
    found, problems = {}, {}
    for folder, where in places.items():
        if not folder.startswith("__MACOSX"):
            sort_folder(folder, np.array(where), mapped, shift, found, problems)
    return pack_index(status, found, problems)


def find_directory(path: str, file: int, size: int) -> tuple[int, int, int]:
    """Where the central directory starts, its length, and what stands before the archive, bytes."""
    tail = os.pread(file, MAX_END, max(size - MAX_END, 0))
    at = tail.rfind(END)
    cut_off = UserError(f"{path}: no zip, or its end is cut off; copy it again, or pack it again")
    if at < 0 or len(tail) < at + 22:
        raise cut_off
    end = size - len(tail) + at
    disk, _, _, _, length, offset = struct.unpack_from("<4H2L", tail, at + 4)
    if at >= 20 and tail[at - 20 : at - 16] == LOCATOR64:
        record = os.pread(file, 56, end - 20 - 56)
        if record[:4] != END64:
            raise cut_off
        disk, _, _, _, length, offset = struct.unpack_from("<2L4Q", record, 16)
        end -= 20 + 56
    if disk not in (0, 0xFFFF):
        raise UserError(f"{path}: one part of several; join them first with cat")
    shift = end - length - offset  # of an archive behind a program that unpacks it
    if shift < 0:
        raise cut_off
    return offset + shift, length, shift


def group_members(path: str, mapped: mmap.mmap, start: int) -> dict[str, array]:
    """Places of the frames in the central directory, by their folder."""
    unpack, raw = struct.Struct("<4s24x3H").unpack_from, {}
    at, end = start, len(mapped)
    while at < end:
        if end - at < CENTRAL.itemsize:
            raise UserError(f"{path}: its table of contents is damaged; copy it again")
        signature, name_len, extra_len, comment_len = unpack(mapped, at)
        if signature != b"PK\1\2":
            raise UserError(f"{path}: its table of contents is damaged; copy it again")
        name = mapped[at + 46 : at + 46 + name_len].replace(b"\\", b"/")
        folder = name.rpartition(b"/")[0]
        if folder not in raw:
            raw[folder] = array("q")
        raw[folder].append(at)
        at += 46 + name_len + extra_len + comment_len
    places = {}
    for folder, found in raw.items():
        folder = decode_name(folder)
        if ".." in folder.split("/"):
            raise UserError(f"{path}: its member folder {folder} leads out of it; pack it again")
        places.setdefault(normalized(folder), array("q")).extend(found)
    return places


def sort_folder(
    folder: str, where: np.ndarray, mapped: mmap.mmap, shift: int, found: dict, problems: dict
) -> None:
    """Enters the members of one folder, at `where`, in the order of time, or why there is none."""
    table = np.frombuffer(mapped, np.uint8)
    heads = table[where[:, None] + np.arange(CENTRAL.itemsize)].view(CENTRAL)[:, 0]
    members = np.zeros(len(where), MEMBER)
    for field in ("packed", "size", "name_len", "method", "flags", "offset"):
        members[field] = heads[field]
    large = (heads["size"] == ZIP64) | (heads["packed"] == ZIP64) | (heads["offset"] == ZIP64)
    for i in np.flatnonzero(large):
        read_zip64(mapped, int(where[i]), heads[i], members[i])
    members["offset"] += np.uint64(shift)
    starts = where + CENTRAL.itemsize
    ends = starts + heads["name_len"]
    names = [
        decode_name(mapped[start:end]).replace("\\", "/").rpartition("/")[2]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    places = {name: i for i, name in enumerate(names)}
    for prefix, kind in by_kind(names).items():
        if has_frames(kind):
            key = f"{folder}\0{prefix}" if prefix else folder
            try:
                ordered = in_order(kind, folder)
            except UserError as error:
                ordered, problems[key] = [], str(error)
            found[key] = members[[places[name] for name in ordered]]


def pack_index(
    status: os.stat_result, found: dict[str, np.ndarray], problems: dict[str, str]
) -> bytes:
    """The buffer that Archive reads."""
    found = dict(sorted((key.encode(), rows) for key, rows in found.items()))
    text, keys = json.dumps(problems).encode(), b"".join(found)
    member_ends = np.cumsum([len(rows) for rows in found.values()], dtype="<u8")
    key_ends = np.cumsum([len(key) for key in found], dtype="<u8")
    num_members = sum(map(len, found.values()))
    numbers = [MAGIC, status.st_size, status.st_mtime_ns]
    numbers += [len(found), num_members, len(keys), len(text)]
    parts = [np.array(numbers, "<u8"), *found.values(), member_ends, key_ends]
    return b"".join([*(part.tobytes() for part in parts), keys, text])


def read_zip64(mapped: mmap.mmap, at: int, head: np.void, member: np.void) -> None:
    """Numbers of a member for which 32 bits are not enough, from its extra field."""
    at += CENTRAL.itemsize + int(head["name_len"])
    end = at + int(head["extra_len"])
    while at + 4 <= end:
        kind, length = struct.unpack_from("<2H", mapped, at)
        at += 4
        if kind == 1:
            for field in ("size", "packed", "offset"):  # those that are too large, in this order
                if head[field] == ZIP64:
                    (member[field],) = struct.unpack_from("<Q", mapped, at)
                    at += 8
            return
        at += length


def normalized(folder: str) -> str:
    """A folder without what does not matter in its path: ./, // and / at its ends."""
    return posixpath.normpath("/" + folder).lstrip("/")


def decode_name(raw: bytes) -> str:
    """A member's name; many packers write UTF-8 without saying so, and old ones code page 437."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437")
