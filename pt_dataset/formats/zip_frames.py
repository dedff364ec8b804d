"""Frames inside a zip, read in place: a compact index of its members, and their bytes.

Python's zipfile makes an object of every member, in every process: minutes and gigabytes for the
2.5 million frames of UCF101. Here the index is one buffer of arrays. Of a large archive it is kept
in a file beside it, ARCHIVE.index, which all processes map into memory together.

What tells damage is checked: checksums and names of members when they are read, their number and
places when the index is made.

Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3.
"""

import contextlib
import functools
import json
import mmap
import os
import posixpath
import struct
import threading
import weakref
import zlib
from bisect import bisect_left
from collections import defaultdict
from pathlib import Path

import numpy as np

from config import UserError, open_regular, whole
from pt_dataset.formats.frame_names import EmptyVideo, by_kind, has_frames, in_order

END, END64, LOCATOR64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
MAX_END = 22 + 65535  # bytes: the end record with the longest comment
# of a member in the central directory: signature, flags, method, checksum, packed size, size,
# lengths of the name, extra field and comment that follow, and offset
CENTRAL = struct.Struct("<4s4x2H4x3L3H8xL")
LOCAL_LEN = 30  # bytes before the name of a member at its own place
LOCAL_EXTRA = 64  # bytes: more than what usually follows that name
MEMBER = np.dtype(  # what the index keeps of a frame
    [
        *[("offset", "<u8"), ("packed", "<u4"), ("size", "<u4")],
        *[("crc", "<u4"), ("name_crc", "<u4")],  # of its bytes, and of its name with folders
        *[("name_len", "<u2"), ("method", "<u2"), ("flags", "<u2")],
    ]
)
ROW = struct.Struct("<Q4L3H")  # the same for one
STORED, DEFLATED = 0, 8  # methods
ENCRYPTED = 1  # flag
ZIP64 = 0xFFFFFFFF  # in place of a number that is too large and stands in the extra field
DAMAGED = "{}: its table of contents is damaged; copy it again"
MAX_SIZE = 1 << 29  # bytes of a frame: more than sources.MAX_PIXELS need, of 16 bits and unpacked
MAGIC = int.from_bytes(b"frames 3", "little")
HEADER = 8  # numbers that an index starts with
KEPT_FROM = 20_000  # frames; the index of a smaller archive is built faster than it is worth a file

_reading = threading.Lock()


class Archive:
    """An open zip. Keys of its index are folders, "" for the root; for flow folder, NUL, prefix.

    Raises:
        UserError: the archive is no zip, is cut off, or has a path that leads out of it.
    """

    def __init__(self, path: str):
        self.path = path
        self.file = open_regular(path)
        weakref.finalize(self, os.close, self.file)
        buffer = load_index(path, self.file)
        num_keys, num_members, key_len = np.frombuffer(buffer, "<u8", HEADER)[4:7].tolist()
        at = HEADER * 8
        self.members = np.frombuffer(buffer, MEMBER, num_members, at)
        at += self.members.nbytes
        self.ends = np.frombuffer(buffer, "<u8", num_keys, at)  # of the members of each key
        at += self.ends.nbytes
        self.keys = np.frombuffer(buffer, f"S{key_len}", num_keys, at)  # sorted
        self.problems = json.loads(bytes(memoryview(buffer)[at + self.keys.nbytes :]))

    def folders(self) -> dict[str, int]:
        """Folders and how many frames each has, 0 where something is wrong with them."""
        counts = np.diff(self.ends, prepend=np.uint64(0)).tolist()
        pairs = zip(self.keys.tolist(), counts, strict=True)
        found = {key.decode(): count for key, count in pairs if b"\0" not in key}
        return found | dict.fromkeys(found.keys() & self.problems.keys(), 0)

    def flow_folders(self) -> set[str]:
        """Folders with flow_x_ and flow_y_ pictures, which may have frames as well."""
        parts = (key.decode().partition("\0") for key in self.keys.tolist())
        return {folder for folder, _, prefix in parts if prefix}

    def find(self, folder: str, prefix: str) -> np.ndarray:
        """Members of a folder in the order of time; "" also names the only folder there is.

        Raises:
            UserError: there is no such folder, or its frames cannot be used.
        """
        if not folder:
            folders = {key.partition(b"\0")[0].decode() for key in self.keys.tolist()}
            folder = folders.pop() if len(folders) == 1 else folder
        key = f"{normalized(folder)}\0{prefix}" if prefix else normalized(folder)
        place = self.bisect(key)
        if place == len(self.keys) or self.keys[place] != key.encode():
            raise EmptyVideo(f"{self.path}: no {prefix or 'numbered'} frames in folder '{folder}'")
        if key in self.problems:
            raise UserError(f"{self.path}/{self.problems[key]}")
        start = self.ends[place - 1] if place else 0
        return self.members[int(start) : int(self.ends[place])]

    def has(self, folder: str) -> bool:
        """Whether a folder has frames or flow in it; "" asks whether there are any."""
        place = self.bisect(normalized(folder))
        if not folder or place == len(self.keys):
            return place < len(self.keys)
        return self.keys[place].partition(b"\0")[0].decode() == normalized(folder)

    def bisect(self, key: str) -> int:
        return bisect_left(self.keys, key.encode())  # type: ignore


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
        self.archive, self.folder = open_archive(path), folder
        self.rows = self.archive.find(folder, prefix)
        if (self.rows["flags"] & ENCRYPTED).all():
            raise UserError(f"{path}/{folder} is encrypted; pack the frames without a password")
        if not np.isin(self.rows["method"], (STORED, DEFLATED)).any():
            raise UserError(
                f"{path}/{folder} is compressed by method {self.rows['method'][0]}, of which only "
                "0 (stored) and 8 (deflate) can be read; pack the frames with "
                "pt_dataset/pack_frames.py"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        name = local_name(self.archive.file, self.rows[index])
        inside = f"{self.folder}, frame {index + 1}," if name is None else decode_name(name)
        return f"{self.archive.path}/{inside}"

    def read(self, index: int) -> bytes:
        """The bytes of a frame; ValueError if they are damaged, OSError if they cannot be read."""
        offset, packed, size, crc, name_crc, name_len, method, flags = self.rows[index].tolist()
        if flags & ENCRYPTED or method not in (STORED, DEFLATED) or max(packed, size) > MAX_SIZE:
            raise ValueError("its entry in the archive is damaged")
        # at once, although only the header itself tells where the data starts
        data = read_at(self.archive.file, LOCAL_LEN + name_len + LOCAL_EXTRA + packed, offset)
        name = data[LOCAL_LEN : LOCAL_LEN + name_len]
        if data[:4] != b"PK\3\4" or len(data) < LOCAL_LEN or zlib.crc32(name) != name_crc:
            raise ValueError("the archive is damaged there")
        start = LOCAL_LEN + sum(struct.unpack_from("<2H", data, 26))
        if start + packed > len(data):
            data, start = read_at(self.archive.file, packed, offset + start), 0
        data = data[start : start + packed]
        if method == DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
            except zlib.error as error:
                raise ValueError(str(error)) from None
        if len(data) != size or zlib.crc32(data) != crc:
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
    if np.frombuffer(buffer, "<u8", HEADER)[5] >= KEPT_FROM:
        with contextlib.suppress(OSError):  # read-only, or full: then each process has its own
            with whole(index_path) as temporary:
                temporary.write_bytes(buffer)
            # another process may be writing the same one at this moment: it is not usable yet
            return map_index(index_path, status) or buffer
    return buffer


def map_index(path: str, status: os.stat_result) -> mmap.mmap | None:
    """An index file in memory that all processes share; None if it is not that of the archive."""
    # there is none; it is empty, or too short for a header
    with contextlib.suppress(OSError, ValueError), open(path, "rb", opener=open_regular) as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, crc, size, time = np.frombuffer(buffer, "<u8", 4).tolist()
        wanted = (MAGIC, checksum(buffer), status.st_size, status.st_mtime_ns)
        if (magic, crc, size, time) == wanted:
            return buffer
    return None


def checksum(index: bytes | mmap.mmap) -> int:
    """Of all that follows it in an index."""
    return zlib.crc32(memoryview(index)[16:])


def build_index(path: str, file: int, status: os.stat_result) -> bytes:
    """The buffer that Archive reads, from the central directory of an archive."""
    found, problems = {}, {}
    for folder, (rows, names) in read_directory(path, file, status.st_size).items():
        members, others = np.frombuffer(rows, MEMBER), {name: i for i, name in enumerate(names)}
        for prefix, kind in by_kind(names).items():
            if has_frames(kind):
                key = f"{folder}\0{prefix}" if prefix else folder
                try:
                    ordered = in_order(kind, folder)
                except UserError as error:
                    ordered, problems[key] = [], str(error)
                found[key.encode()] = members[[others.pop(name) for name in ordered]]
        # a frame whose entry is damaged may look like a file that is none
        if any(local_name(file, members[place]) is None for place in others.values()):
            raise UserError(DAMAGED.format(path))
    keys, text = np.array(sorted(found), "S"), json.dumps(problems).encode()
    rows = [found[key] for key in sorted(found)]
    ends = np.cumsum([len(part) for part in rows], dtype="<u8")
    numbers = [MAGIC, 0, status.st_size, status.st_mtime_ns]
    numbers += [len(keys), sum(map(len, rows)), keys.itemsize, len(text)]
    parts = [np.array(numbers, "<u8"), *rows, ends, keys]
    index = b"".join([*(part.tobytes() for part in parts), text])
    return index[:8] + struct.pack("<Q", checksum(index)) + index[16:]


def read_at(file: int, count: int, offset: int) -> bytes:
    """So many bytes of an open file, or fewer at its end, whatever other threads read."""
    if hasattr(os, "pread"):
        return os.pread(file, count, offset)
    with _reading:  # on Windows
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, count)


def local_name(file: int, row: np.void) -> bytes | None:
    """The name of a member at its own place, with folders; None if the directory says another."""
    name = read_at(file, int(row["name_len"]), int(row["offset"]) + LOCAL_LEN)
    return name if zlib.crc32(name) == row["name_crc"] else None


def find_directory(path: str, file: int, size: int) -> tuple[int, int, int, int]:
    """Where the central directory starts and ends, what stands before the archive, in bytes; and
    how many members it has."""
    tail = read_at(file, MAX_END, max(size - MAX_END, 0))
    at = tail.rfind(END)
    cut_off = UserError(f"{path}: no zip, or its end is cut off; copy it again, or pack it again")
    if at < 0 or len(tail) < at + 22:
        raise cut_off
    end = size - len(tail) + at
    disk, _, _, count, length, offset = struct.unpack_from("<4H2L", tail, at + 4)
    if at >= 20 and tail[at - 20 : at - 16] == LOCATOR64:
        record = read_at(file, 56, end - 20 - 56)
        if record[:4] != END64:
            raise cut_off
        disk, _, _, count, length, offset = struct.unpack_from("<2L4Q", record, 16)
        end -= 20 + 56
    if disk not in (0, 0xFFFF):
        raise UserError(f"{path}: one part of several; join them first with cat")
    shift = end - length - offset  # of an archive behind a program that unpacks it
    if shift < 0:
        raise cut_off
    return offset + shift, end, shift, count


def read_directory(path: str, file: int, size: int) -> dict[str, tuple[bytearray, list[str]]]:
    """By folder: its members, as many of MEMBER, and their names without the folder."""
    start, end, shift, count = find_directory(path, file, size)
    mapped = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    rows, names = defaultdict(bytearray), defaultdict(bytearray)  # millions: no object for each
    at = start
    try:
        while at < end:
            head, flags, method, crc, *numbers, offset = CENTRAL.unpack_from(mapped, at)
            packed, size, name_len, extra_len, comment_len = numbers
            name_end = at + CENTRAL.size + name_len
            if ZIP64 in (size, packed, offset):
                extra = mapped[name_end : name_end + extra_len]
                size, packed, offset = read_zip64(extra, (size, packed, offset))
                size, packed = min(size, ZIP64), min(packed, ZIP64)  # too large for a frame anyway
            name = mapped[at + CENTRAL.size : name_end]
            if head != b"PK\1\2" or offset + shift > start or b"\0" in name:
                raise struct.error
            folder, _, own = name.replace(b"\\", b"/").rpartition(b"/")
            numbers = packed, size, crc, zlib.crc32(name), name_len, method, flags
            rows[folder] += ROW.pack(offset + shift, *numbers)
            names[folder] += own + b"/"
            at, count = name_end + extra_len + comment_len, count - 1
        if at != end or count % 0x10000:  # of more, old packers write the rest of a division
            raise struct.error
    except struct.error:
        raise UserError(DAMAGED.format(path)) from None
    found = {}
    for raw, some in rows.items():
        folder = decode_name(raw)
        if ".." in folder.split("/"):
            raise UserError(f"{path}: its member folder {folder} leads out of it; pack it again")
        if not normalized(folder).startswith("__MACOSX"):
            # a/b and a//b are one folder
            all_rows, all_names = found.setdefault(normalized(folder), (bytearray(), []))
            all_rows += some
            all_names += [decode_name(name) for name in bytes(names[raw]).split(b"/")[:-1]]
    return found


def read_zip64(extra: bytes, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Size, packed size and offset of a member, from `extra` where 32 bits are not enough."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:  # it has only those that are too large, in this order
            large = iter(struct.unpack_from(f"<{numbers.count(ZIP64)}Q", extra, at + 4))
            return tuple(next(large) if number == ZIP64 else number for number in numbers)
        at += 4 + length
    return numbers


def normalized(folder: str) -> str:
    """A folder without what does not matter in its path: ./, // and / at its ends."""
    return posixpath.normpath("/" + folder).lstrip("/")


def decode_name(raw: bytes) -> str:
    """A member's name; many packers write UTF-8 without saying so, and old ones code page 437."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp437")
