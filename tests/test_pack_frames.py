import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import write_frames

from pt_dataset import pack_frames
from pt_dataset.formats.flow import count_flow
from pt_dataset.formats.measure import count_frames
from pt_dataset.formats.zip_frames import zip_videos
from pt_dataset.sources import read_frames

ROOT = Path(__file__).resolve().parents[1]
TOOL = [sys.executable, str(ROOT / "pt_dataset" / "pack_frames.py")]
CLIPS = {"wave/two words": 4, "wave/\u00fcber": 12, "run/deep/x.1": 3, "flat": 2}


def run(*args, **kwargs):
    return subprocess.run([*TOOL, *map(str, args)], capture_output=True, text=True, **kwargs)


@pytest.fixture
def frames(tmp_path):
    """A tree of frames, with what else lies around in such trees."""
    folder = tmp_path / "frames"
    for clip, count in CLIPS.items():
        write_frames(folder / clip, count, scheme="{}.jpg")
    (folder / "wave" / "notes.txt").write_text("no frame")
    (folder / "loop").symlink_to(folder)
    (folder / "wave" / "loop").symlink_to(folder / "wave")
    (folder / "wave" / "\u00fcber again").symlink_to(folder / "wave" / "\u00fcber")
    write_frames(folder / "run" / ".hidden", 1)
    return folder


def same_frames(video, folder):
    count = count_frames(str(folder))
    assert count_frames(video) == count
    indices = [*range(count), 0]
    assert np.array_equal(
        read_frames(video, indices, count), read_frames(str(folder), indices, count)
    )


def test_one_zip_has_the_frames_of_every_folder_as_they_are_in_order(tmp_path, frames):
    out = tmp_path / "new" / "all.zip"
    done = run(frames, out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 videos packed, 0 packed before (21 frames in all), 0 left out" in done.stdout
    assert f"next: python pt_dataset/make_json.py folder NAME {out}" in done.stdout
    assert zip_videos(out) == CLIPS
    for clip in CLIPS:
        same_frames(f"{out}/{clip}", frames / clip)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        inside = [name for name in archive.namelist() if "ber" in name]
        assert inside == [f"wave/\u00fcber/{i}.jpg" for i in range(1, 13)]  # 10 after 9
        assert archive.read(inside[9]) == (frames / inside[9]).read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["all.zip"]


def test_equal_frames_make_equal_bytes(tmp_path, frames):
    assert pack_frames.main([str(frames), str(tmp_path / "1.zip")]) == 0
    for path in frames.rglob("*.jpg"):
        os.utime(path, (10**9, 10**9))
        path.chmod(0o600)
    assert pack_frames.main([str(frames), str(tmp_path / "2.zip")]) == 0
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_a_zip_a_video_goes_on_where_it_stopped(tmp_path, frames, capsys):
    out = tmp_path / "out"
    assert pack_frames.main([str(frames), "--per-video", str(out)]) == 0
    zips = {str(path.relative_to(out)) for path in out.rglob("*.zip")}
    assert zips == {f"{clip}.zip" for clip in CLIPS}
    for clip in CLIPS:
        same_frames(f"{out / clip}.zip", frames / clip)
    (out / "flat.zip").unlink()
    (out / ".lock").write_text("process 1 on there\nc0ffee01")  # of a process that was killed
    (out / ".flat.zip.c0ffee01-1-0.partial").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.zip")}
    capsys.readouterr()
    assert pack_frames.main([str(frames), "--per-video", str(out)]) == 0
    assert "1 video packed, 3 packed before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    same_frames(f"{out}/flat.zip", frames / "flat")
    assert not list(out.rglob(".*"))


def test_flow_is_packed_with_the_frames_beside_it(tmp_path):
    for prefix, count in (("img_", 4), ("flow_x_", 3), ("flow_y_", 3)):
        write_frames(tmp_path / "frames" / "clip", count, scheme=prefix + "{:05d}.jpg")
    assert pack_frames.main([str(tmp_path / "frames"), str(tmp_path / "a.zip")]) == 0
    assert zip_videos(tmp_path / "a.zip") == {"clip": 4}
    assert count_flow(f"{tmp_path}/a.zip/clip") == 3


def test_folders_that_cannot_be_used_are_named_and_left_out(tmp_path, frames, capsys):
    (frames / "wave/\u00fcber/3.jpg").unlink()
    write_frames(frames / "back\\slash", 2)
    out = tmp_path / "all.zip"
    assert pack_frames.main([str(frames), str(out)]) == 1
    printed = capsys.readouterr()
    assert "3 videos packed" in printed.out
    assert f"left out: {frames}/wave/\u00fcber: frame 3 is missing" in printed.err
    assert "a name that a zip cannot hold" in printed.err
    assert set(zip_videos(out)) == CLIPS.keys() - {"wave/\u00fcber"}


def test_mistakes_are_one_sentence(tmp_path, frames, capsys):
    (tmp_path / "empty").mkdir()
    write_frames(tmp_path / "gap" / "v", 3).joinpath("image_00002.jpg").unlink()
    (tmp_path / "taken.zip").write_bytes(b"mine")
    for src, out, message in (
        ("nowhere", "a.zip", "is no folder"),
        ("taken.zip", "a.zip", "is no folder"),
        ("empty", "a.zip", "has no folder of numbered .jpg or .png files"),
        ("gap", "a.zip", "can be used (" + str(tmp_path / "gap" / "v") + ": frame 2 is missing"),
        ("frames", "taken.zip", "exists; remove it"),
        ("frames", "out", "does not end in .zip; for a zip a video add --per-video"),
        ("frames", "frames", "is FRAMES itself"),
        ("frames", "taken.zip/a.zip", "taken.zip is a file; name a folder"),
    ):
        assert pack_frames.main([str(tmp_path / src), str(tmp_path / out)]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error
        assert error.startswith("error: ")
    assert (tmp_path / "taken.zip").read_bytes() == b"mine"
    assert not (tmp_path / "a.zip").exists()
    with pytest.raises(SystemExit, match="2"):
        pack_frames.main(["frames"])


@pytest.mark.parametrize("options", [["all.zip"], ["--per-video", "out"]])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(tmp_path, frames, options):
    write_frames(frames / "zebra", 3, size=(300, 300))

    def no_large_files():  # a write past the limit fails like one to a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = run(frames, *options, preexec_fn=no_large_files, cwd=tmp_path)
    assert done.returncode == 1
    assert "too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.partial"))
    left = {path.name for path in tmp_path.rglob("*.zip")}
    assert left == ({f"{Path(clip).name}.zip" for clip in CLIPS} if len(options) > 1 else set())


def test_an_interrupted_run_leaves_nothing_half(tmp_path):
    write_frames(tmp_path / "frames" / "v", 1, size=(400, 300))
    frame = tmp_path / "frames" / "v" / "image_00001.jpg"
    for i in range(2, 4000):
        frame.with_name(f"image_{i:05d}.jpg").hardlink_to(frame)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*TOOL, tmp_path / "frames", tmp_path / "a.zip"], **pipes) as process:
        while not list(tmp_path.glob(".a.zip.*.partial")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=10)[1]
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped; nothing was written"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames"]
