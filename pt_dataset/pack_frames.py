"""Pack folders of frames into zips, which training reads in place: few files instead of millions.

    python pt_dataset/pack_frames.py FRAMES OUT.zip                # one zip for the whole set
    python pt_dataset/pack_frames.py FRAMES --per-video OUT_FOLDER # OUT_FOLDER/<class>/<clip>.zip

The pictures are copied as they are, in the order of time. A zip appears when it is complete; with
--per-video the same command goes on after a stop, and names zips that are not of these frames.
Equal frames make equal zips, byte for byte.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import contextlib
import os
import shlex
import zipfile
import zlib
from collections.abc import Iterator

from tqdm import tqdm

from config import Parser, UserError, owned, plural, remove_unfinished, whole
from pt_dataset.formats.frame_names import by_kind, has_frames, in_order
from pt_dataset.listing.folders import LONGEST_NAME, walk
from pt_dataset.listing.made_from import sampled
from pt_dataset.listing.pool import exit_status

MODE = 0o100644 << 16  # a plain file that all may read


def find_folders(frames: Path, out: Path, problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Folders below `frames` that have frames: path, and names in order.

    `problems` gets a sentence for each that cannot be used.
    """
    for folder, files in walk(frames, out, problems):
        kinds = [names for names in by_kind(files).values() if has_frames(names)]
        if kinds:
            path = folder.relative_to(frames).as_posix()
            # "\\" would be another path there, and not all that a disk allows is UTF-8
            if "\\" in path or path.encode("utf-8", "replace").decode() != path:
                problems.append(f"{path!r}: a name that a zip cannot hold; rename it")
                continue
            try:
                names = [name for names in kinds for name in in_order(names, str(folder))]
            except UserError as error:
                problems.append(str(error))
                continue
            paths = [folder / name for name in names]
            unreadable = [p for p in paths if not (p.is_file() and os.access(p, os.R_OK))]
            if unreadable:
                problems.append(f"{unreadable[0]}: may not be read, or is no file")
            else:
                yield path, names


def add_frames(archive: zipfile.ZipFile, folder: Path, names: list[str], inside: str) -> None:
    """Stores the files `names` of a folder as they are, under the path `inside` the archive."""
    for name in names:
        member = zipfile.ZipInfo(inside + name)  # of 1980: dates of files would make zips differ
        member.external_attr = MODE
        archive.writestr(member, (folder / name).read_bytes())


@contextlib.contextmanager
def new_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip to write, which takes its name when it is complete and vanishes when it is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        yield archive


def is_packed(folder: Path, names: list[str], path: Path) -> bool:
    """Whether a zip has the frames `names` of a folder: their sizes, and the bytes of some."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {os.path.basename(member.filename): member for member in archive.infolist()}
    except (OSError, zipfile.BadZipFile):
        return False
    if [name for name in found if name] != names:  # "": of a folder
        return False
    some = (names[i] for i in sampled(len(names)))
    return all((folder / name).stat().st_size == found[name].file_size for name in names) and all(
        zlib.crc32((folder / name).read_bytes()) == found[name].CRC for name in some
    )


def pack_set(frames: Path, folders: list[tuple[str, list[str]]], out: Path) -> None:
    """Writes one zip of all folders."""
    if out.suffix.lower() != ".zip":
        raise UserError(f"{out} does not end in .zip; for a zip a video add --per-video")
    with owned(out):
        if out.exists():
            raise UserError(f"{out} exists; remove it, or name another one")
        with new_zip(out) as archive:
            for path, names in tqdm(folders, "packing", unit="video"):
                add_frames(archive, frames / path, names, "" if path == "." else f"{path}/")


def pack_videos(
    frames: Path,
    folders: list[tuple[str, list[str]]],
    out: Path,
    problems: list[str],
    killed: str,
) -> tuple[int, int]:
    """Writes a zip for each folder that has none yet; returns how many, and how many have one.

    `problems` gets a sentence for each that cannot have one, or has that of other frames. What the
    owner of `out` that was `killed`, see config.owned, left unfinished is removed.
    """
    todo, num_before = [], 0
    for path, names in folders:
        # a folder clip.1 becomes clip.1.zip
        target = out / f"{frames.name if path == '.' else path}.zip"
        if len(os.fsencode(target.name)) > LONGEST_NAME:
            problems.append(f"{frames / path}: too long a name for {target.name}; rename it")
        elif not target.exists():
            todo.append((frames / path, names, target))
        elif is_packed(frames / path, names, target):
            num_before += 1
        else:
            why = f"has other frames than {frames / path}; remove it, and these are packed"
            problems.append(f"{target}: {why}")
    remove_unfinished({target.parent for *_, target in todo}, killed)
    for folder, names, target in tqdm(todo, "packing", unit="video", disable=not todo):
        with new_zip(target) as archive:
            add_frames(archive, folder, names, "")
    return len(todo), num_before


def pack_folders(*, frames: Path, out: Path, per_video: bool) -> int:
    """Packs all folders with frames and returns the exit status."""
    frames, out = frames.absolute(), out.absolute()
    if not frames.is_dir():
        raise UserError(f"{frames} is no folder; FRAMES has a folder of frames for each video")
    if os.path.realpath(frames) == os.path.realpath(out):
        raise UserError(f"{out} is FRAMES itself; name another folder for the zips")
    problems: list[str] = []
    folders = list(find_folders(frames, out, problems))
    if not folders:
        why = f" that can be used ({problems[0]})" if problems else ""
        raise UserError(f"{frames} has no folder of numbered .jpg or .png files{why}")
    num_packed, num_before = len(folders), 0
    if per_video:
        with owned(out, inside=True) as killed:
            num_packed, num_before = pack_videos(frames, folders, out, problems, killed)
    else:
        pack_set(frames, folders, out)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    num_frames = sum(len(names) for _, names in folders)
    print(
        f"{plural(num_packed, 'video')} packed, {num_before} packed before "
        f"({plural(num_frames, 'frame')} in all), {len(problems)} left out"
    )
    print(f"next: python pt_dataset/make_json.py folder NAME {shlex.quote(str(out))}")
    return 1 if problems else 0


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        description="Pack folders of frames into zips, to be read in place.", allow_abbrev=False
    )
    add = parser.add_argument
    add("frames", metavar="FRAMES", type=Path, help="folder with folders of frames, at any depth")
    add("out", metavar="OUT", type=Path, help="the zip to write; with --per-video a folder of zips")
    add("--per-video", action="store_true", help="a zip for each video, in the folders of FRAMES")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The tool; returns its exit status."""
    opts = build_parser().parse_args(argv)
    goes_on = "what is finished stays" if opts.per_video else "nothing was written"
    return exit_status(pack_folders, opts.out, goes_on, **vars(opts))


if __name__ == "__main__":
    sys.exit(main())
