"""Seeded damage to every kind of file that is read back: it is refused in one sentence, or read.

What has a checksum is read as it was written, or not at all. CI takes a few hundred cases;
`python -m pytest tests/fuzz --fuzz 2000` takes so many of each kind. A case that fails is named by
its number, and comes again with any larger number of them.
"""

import json
import math
import random
import resource
import signal
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_frames
from test_damaged_zips import content
from test_doors import SCORES, STATE
from test_pictures import encoded, picture
from test_sources import zip_folder
from test_video_damage import alone, write_moving

import opts
from config import UserError
from models.weights.files import read_state
from pt_dataset.datalist import read_list
from pt_dataset.formats import zip_frames
from pt_dataset.formats.measure import measure
from pt_dataset.sources import decoded, read_frames
from pt_dataset.video_list import Video
from tests.fuzz.mutations import damaged, mutated
from utils import checkpoint
from utils.actions import head_only
from utils.loggers import read_lines
from utils.resume import checkpoint_file
from utils.scores import load_scores, save_scores

SECONDS, BYTES = 20, 1 << 30  # a case may take at most
CLASSES = ["down", "up"]
VIDEOS = [Video(f"{i}.mp4", i % 2, CLASSES[i % 2], 9) for i in range(5)]


@dataclass(frozen=True)
class Kind:
    """A kind of file: how one is written and read, and what there is to change in it.

    Args:
        write: into a folder; the path.
        read: raises `errors` where it refuses the file.
        same: where there are checksums: is what was read of a damaged file what had been written?
        form: is what is read of the form that the rest relies on?
        form_of: what the file holds, to change single values of; write it back with `put`.
        share: of the cases that are refused, at least.
        cost: how many cases of other kinds take as long as one of this.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    same: Callable[[Any, Any], bool] | None = None
    form: Callable[[Any], bool] = lambda found: True
    values: Any = None
    put: Callable[[Path, Any], None] | None = None
    share: float = 0.2
    cost: int = 1
    errors: type[Exception] = UserError


def equal(found, expected):
    return str(found) == str(expected)


def at(name, write):
    """`write` to that name."""

    def write_there(folder):
        write(folder / name)
        return folder / name

    return write_there


def put_json(path, values):
    path.write_text(json.dumps(values))


def put_arrays(path, values):
    arrays = {}
    for name, value in values.items():
        try:
            arrays[str(name)] = np.asarray(value)
        except ValueError:  # rows of different lengths
            arrays[str(name)] = np.array(value, dtype=object)
    np.savez(path, **arrays)


ENTRIES = [
    {"path": v.path, "class_name": v.class_name, "label": v.label, "num_frames": 9, "fps": 25.0}
    for v in VIDEOS
]


def is_list(found):
    videos, num_remapped = found
    return num_remapped <= len(videos) and all(
        v.class_name == CLASSES[v.label]
        and 0 < v.num_frames < 2**31
        and (v.fps is None or 0 < v.fps < math.inf)
        and not {"\0", ""} & {*v.path, v.path}
        for v in videos
    )


def is_scores(found):
    return (
        found.scores.shape == (6, 3) and np.isfinite(found.scores).all() and len(found.names) == 6
    )


OPTIONS = opts.parse_opts(["--arch", "tsn", "--dataset", "demo", "--backbone", "resnet18"]).values()
OPTIONS = json.loads(json.dumps(OPTIONS, default=str))
FEATURES = head_only.Features(
    torch.randn(5, 2, 8), torch.tensor([v.label for v in VIDEOS]), torch.arange(5)
)
LINES = [{"epoch": i, "val/top1": 50.0 + i, "val/loss": 1 / i} for i in range(1, 9)]


def write_zip(folder, compression=zipfile.ZIP_STORED):
    for name in "vw":
        frames = write_frames(folder / name, 3, size=(16, 16))
        zip_folder(folder / "a.zip", frames, f"set/{name}/", compression=compression)
    return folder / "a.zip"


def read_zip(path):
    found = content(path)
    if found is None:
        raise UserError("refused")
    return found


def same_frames(found, expected):
    """What is missing is bad frames, or folders that are refused, and nothing is new."""
    frames = {frame for frames in found.values() for frame in frames or [None]}
    good = {frame for frames in expected.values() for frame in frames}
    return found == expected or (None in frames and frames <= good | {None})


def write_index(folder):
    read_zip(write_zip(folder))
    return folder / "a.zip.index"


def read_video(path):
    """How many frames, which of them are bad, and the others: each by itself as with the rest."""
    found = measure(str(path))
    good = [index for index in range(found.num_frames) if index not in found.bad]
    through = dict(zip(good, read_frames(str(path), good, found.num_frames), strict=True))
    for index in random.Random(0).sample(range(found.num_frames), min(found.num_frames, 4)):
        frame = alone(str(path), index, found.num_frames)
        assert (frame is None) == (index in found.bad), index
        assert frame is None or np.array_equal(frame, through[index]), index
    return found.num_frames


def is_frame(found):
    return found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3


def picture_kind(form, orientation=None):
    data = encoded(picture(24, 32), form, orientation)
    return Kind(
        at("a", lambda path: path.write_bytes(data)),
        lambda path: decoded(path.read_bytes(), 3),
        form=is_frame,
        share=0.03,
        errors=ValueError,
    )


def video_kind(name, codec):
    return Kind(lambda folder: write_moving(folder / name, codec), read_video, share=0, cost=8)


KINDS = {
    "list": Kind(
        at("testlist01.json", lambda path: put_json(path, ENTRIES)),
        lambda path: read_list(path, CLASSES),
        form=is_list,
        values=ENTRIES,
        put=put_json,
    ),
    "checkpoint to evaluate": Kind(
        at("last.pth", lambda path: checkpoint.save(STATE, path)),
        checkpoint_file.load,
        same=equal,
        form=lambda found: found.keys() >= STATE.keys(),
        values=STATE,
        put=lambda path, state: torch.save(state, path),
        share=0.4,
    ),
    "checkpoint to go on": Kind(
        at("last.pth", lambda path: checkpoint.save(STATE, path)),
        lambda path: checkpoint_file.load(path, to_train=True),
        same=equal,
        values=STATE,
        put=lambda path, state: torch.save(state, path),
        share=0.4,
    ),
    "public weights": Kind(
        at("w.pth", lambda path: torch.save({"w": torch.arange(480.0)}, path)),
        read_state,
        same=equal,
    ),
    "options.json": Kind(
        at("options.json", lambda path: put_json(path, OPTIONS)),
        lambda path: opts.saved_options(str(path)),
        form=lambda found: found.keys() <= {f.name for f in fields(opts.Options)},
        values=OPTIONS,
        put=put_json,
    ),
    "metrics.jsonl": Kind(
        at("m.jsonl", lambda path: path.write_text("".join(f"{json.dumps(x)}\n" for x in LINES))),
        lambda path: read_lines(path, "val/top1"),
        form=lambda found: all(math.isfinite(line["val/top1"]) for line in found),
    ),
    "scores.npz": Kind(
        at("scores.npz", lambda path: save_scores(path, SCORES)),
        load_scores,
        same=equal,
        form=is_scores,
        values={
            name: getattr(SCORES, name) for name in ("scores", "labels", "names", "class_names")
        }
        | {"average": "scores", "protocol": "one clip"},
        put=put_arrays,
    ),
    "features": Kind(
        at("features.pt", lambda path: head_only.save_features(path, FEATURES, None)),
        lambda path: head_only.load_features(path, VIDEOS, []),
        same=equal,
        form=lambda found: found is None or bool(found.values.isfinite().all()),
        values={"features": tuple(FEATURES)},
        put=lambda path, values: torch.save(values, path),
    ),
    "zip": Kind(write_zip, read_zip, same=same_frames, share=0.05),
    "packed zip": Kind(
        lambda folder: write_zip(folder, zipfile.ZIP_DEFLATED),
        read_zip,
        same=same_frames,
        share=0.05,
    ),
    "index of a zip": Kind(
        write_index, lambda path: read_zip(path.with_suffix("")), same=equal, share=0
    ),
    "JPEG": picture_kind("JPEG"),
    "JPEG with EXIF": picture_kind("JPEG", 6),
    "PNG": picture_kind("PNG"),
    "WEBP": picture_kind("WEBP"),
    "BMP": picture_kind("BMP"),
    "TIFF": picture_kind("TIFF"),
    "AVI": video_kind("a.avi", "mpeg4"),
    "MP4": video_kind("a.mp4", "libx264"),
    "MKV": video_kind("a.mkv", "libx264"),
    "TS": video_kind("a.ts", "libx264"),
}


@contextmanager
def limited():
    """Ends what hangs, and finds what takes much memory even for a moment."""

    def too_long(signum, frame):
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) < BYTES


@pytest.mark.filterwarnings("ignore")  # of Pillow and NumPy, about what is damaged
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_refused_in_one_sentence_or_read(name, tmp_path, monkeypatch, request):
    kind, num_refused = KINDS[name], 0
    monkeypatch.setattr(zip_frames, "KEPT_FROM", 1)  # archives of any size have an index
    path = kind.write(tmp_path)
    whole, expected = path.read_bytes(), kind.read(path)
    num_cases = max(request.config.getoption("fuzz") // kind.cost, 1)
    for case in range(num_cases):
        rng = random.Random(f"{name} {case}")
        as_written = kind.put is None or case % 2
        if as_written:
            what, data = damaged(whole, rng)
            path.write_bytes(data)
        else:
            what, values = mutated(kind.values, rng, json_only=kind.put is put_json)
            kind.put(path, values)
        try:
            with limited():
                found = kind.read(path)
        except kind.errors as error:
            assert 0 < len(str(error)) < 600 and "\n" not in str(error), (case, what, str(error))
            num_refused += 1
            continue
        except Exception as error:
            raise AssertionError(f"{name}, case {case}: {what}") from error
        assert kind.form(found), (case, what)
        if as_written and kind.same:
            assert kind.same(found, expected), (case, what)
    assert num_refused >= kind.share * num_cases
