"""Pack folders of frames into zips, which training reads in place: few files instead of millions.

    python pt_dataset/pack_frames.py FRAMES OUT.zip                # one zip for the whole set
    python pt_dataset/pack_frames.py FRAMES --per-video OUT_FOLDER # OUT_FOLDER/<class>/<clip>.zip

The pictures are copied as they are, in the order of time. A zip appears when it is complete; with
--per-video the same command goes on after a stop. Equal frames make equal zips, byte for byte.
"""

import argparse
import contextlib
import os
import shlex
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that it also runs as a script

from tqdm import tqdm

from config import UserError, whole
from pt_dataset.formats.frame_names import by_kind, has_frames, in_order
from pt_dataset.listing.folders import walk
from pt_dataset.listing.pool import exit_status

MODE = 0o100644 << 16  # a plain file that all may read


def find_folders(frames: Path, out: Path) -> Iterator[tuple[str, list[str], str]]:
    """Folders below `frames` that have frames: path, names in order, and what is wrong or ""."""
    for folder, files in walk(frames, out):
        kinds = [names for names in by_kind(files).values() if has_frames(names)]
        if kinds:
            path = folder.relative_to(frames).as_posix()
            # "\\" would be another path there, and not all that a disk allows is UTF-8
            if "\\" in path or path.encode("utf-8", "replace").decode() != path:
                yield path, [], f"{path!r}: a name that a zip cannot hold; rename it"
                continue
            try:
                yield path, [name for names in kinds for name in in_order(names, str(folder))], ""
            except UserError as error:
                yield path, [], str(error)


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
    with whole(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        yield archive


def pack_set(frames: Path, folders: list[tuple[str, list[str]]], out: Path) -> int:
    """Writes one zip of all folders; returns how many."""
    if out.suffix.lower() != ".zip":
        raise UserError(f"{out} does not end in .zip; for a zip a video add --per-video")
    if out.exists():
        raise UserError(f"{out} exists; remove it, or name another one")
    with new_zip(out) as archive:
        for path, names in tqdm(folders, "packing", unit="video"):
            add_frames(archive, frames / path, names, "" if path == "." else f"{path}/")
    return len(folders)


def pack_videos(frames: Path, folders: list[tuple[str, list[str]]], out: Path) -> int:
    """Writes a zip for each folder that has none yet; returns how many."""
    todo = []
    for path, names in folders:
        # a folder clip.1 becomes clip.1.zip
        target = out / f"{frames.name if path == '.' else path}.zip"
        if not target.exists():
            todo.append((frames / path, names, target))
    for folder, names, target in tqdm(todo, "packing", unit="video", disable=not todo):
        with new_zip(target) as archive:
            add_frames(archive, folder, names, "")
    return len(todo)


def pack_folders(*, frames: Path, out: Path, per_video: bool) -> int:
    """Packs all folders with frames and returns the exit status."""
    frames, out = frames.absolute(), out.absolute()
    if not frames.is_dir():
        raise UserError(f"{frames} is no folder; FRAMES has a folder of frames for each video")
    if os.path.realpath(frames) == os.path.realpath(out):
        raise UserError(f"{out} is FRAMES itself; name another folder for the zips")
    found = list(find_folders(frames, out))
    folders = [(path, names) for path, names, problem in found if not problem]
    problems = [problem for _, _, problem in found if problem]
    if not folders:
        why = f" that can be used ({problems[0]})" if problems else ""
        raise UserError(f"{frames} has no folder of numbered .jpg or .png files{why}")
    num_packed = (pack_videos if per_video else pack_set)(frames, folders, out)

    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    num_frames = sum(len(names) for _, names in folders)
    print(
        f"{num_packed} videos packed, {len(folders) - num_packed} packed before "
        f"({num_frames} frames in all), {len(problems)} left out"
    )
    print(f"next: python pt_dataset/make_json.py folder NAME {shlex.quote(str(out))}")
    return 1 if problems else 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
