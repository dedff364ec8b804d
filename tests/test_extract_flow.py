import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from conftest import write_frames
from PIL import Image
from test_extract_frames import write_video

from pt_dataset import extract_flow
from pt_dataset.formats.flow import read_flow

TOOL = [sys.executable, str(Path(extract_flow.__file__))]
LEVEL = 20 / 127.5  # pixels


def write_moving(folder, shifts, size=(96, 80)):
    """Frames of a texture that moves by each (right, down) of `shifts`, in whole pixels."""
    folder.mkdir(parents=True)
    cells = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    canvas = Image.fromarray(cells).resize((360, 360), Image.Resampling.BICUBIC)
    left = top = 120
    for i, (right, down) in enumerate([(0, 0), *shifts]):
        left, top = left - right, top - down  # the window goes where the picture comes from
        frame = canvas.crop((left, top, left + size[0], top + size[1]))
        frame.save(folder / f"image_{i + 1:05d}.jpg", quality=95)
    return folder


def levels(folder):
    """The stored flow, (T, 2) times the median level of u and v, without the border."""
    fields = []
    for number in range(1, len(list(folder.glob("flow_x_*"))) + 1):
        pictures = [Image.open(folder / f"flow_{axis}_{number:05d}.jpg") for axis in "xy"]
        assert [picture.mode for picture in pictures] == ["L", "L"]
        fields.append([np.median(np.asarray(picture)[20:-20, 20:-20]) for picture in pictures])
    return np.array(fields)


def run(*args, **kwargs):
    return subprocess.run([*TOOL, *map(str, args)], capture_output=True, text=True, **kwargs)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".jsonl"  # which is not the same each time
    }


def test_the_flow_of_a_shift_is_that_shift_in_order_and_with_its_sign(tmp_path):
    shifts = [(3, 0), (0, 3), (-4, 2), (0, 0), (9, -7)] * 4  # more than a chunk
    frames = write_moving(tmp_path / "v", shifts)
    (tmp_path / "out").mkdir()
    settings = {"bound": 20, "quality": 90}
    assert extract_flow.write_flow(frames, tmp_path / "out", settings) == (20, "", None)
    flow = (levels(tmp_path / "out") - 128) * LEVEL
    assert np.abs(flow - shifts).max() <= 2 * LEVEL


def test_another_bound_is_another_scale_and_faster_motion_is_clipped(tmp_path):
    frames = write_moving(tmp_path / "v", [(4, -4), (9, -9)])
    (tmp_path / "out").mkdir()
    extract_flow.write_flow(frames, tmp_path / "out", {"bound": 8, "quality": 90})
    slow, fast = levels(tmp_path / "out")
    assert slow == pytest.approx([128 + 64, 128 - 64], abs=3)
    assert fast == pytest.approx([255, 0], abs=2)


def test_pixels_are_linear_and_no_motion_is_128_with_room_for_noise():
    flow = np.array([-99, -20, -10, -LEVEL, -0.07, 0, 0.07, LEVEL, 10, 20, 99], np.float32)
    expected = [0, 0, 64, 127, 128, 128, 128, 129, 192, 255, 255]
    assert extract_flow.to_pixels(flow, 20).tolist() == expected


@pytest.mark.parametrize("quality", [1, 50, 90])
def test_no_motion_comes_back_as_128_from_a_jpeg_of_any_quality(tmp_path, quality):
    frames = write_moving(tmp_path / "v", [(0, 0)])
    (tmp_path / "out").mkdir()
    extract_flow.write_flow(frames, tmp_path / "out", {"bound": 20, "quality": quality})
    for axis in "xy":
        data = (tmp_path / "out" / f"flow_{axis}_00001.jpg").read_bytes()
        assert np.unique(simplejpeg.decode_jpeg(data, "GRAY")).tolist() == [128]


def test_a_whole_tree_gets_flow_and_what_has_none_is_named(tmp_path):
    src, dst = tmp_path / "src", tmp_path / "src" / "flow"  # DST in SRC is not walked into
    write_moving(src / "walk" / "two words", [(1, 0), (2, 0)])
    write_moving(src / "run" / "v1.5", [(1, 0)])  # a dot is no suffix of a folder
    write_frames(src / "run" / "single", 1)
    write_frames(src / "run" / "tiny", 3, size=(8, 8))
    broken = write_frames(src / "run" / "broken", 30) / "image_00020.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    Image.new("RGB", (20, 20)).save(
        write_frames(src / "run" / "mixed", 30) / "image_00018.jpg"
    )  # the first of a chunk
    (src / "notes.txt").write_text("no frame")
    (src / "loop").symlink_to(src)

    done = run(src, dst, "--workers", 2)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "flow of 2 videos computed (3 fields), 0 finished before, 4 without" in done.stdout
    assert "1 other file ignored" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("no flow: ")]
    for line, message in zip(
        lines,
        (
            f"{broken} cannot be decoded",
            "image_00018.jpg is 20x20, the other frames 48x36",
            f"{src}/run/single: a single frame",
            f"{src}/run/tiny: frames of under 12 pixels",
        ),
        strict=True,
    ):
        assert message in line
    pictures = {f"walk/two words/flow_{a}_0000{i}.jpg" for a in "xy" for i in (1, 2)}
    pictures |= {f"run/v1.5/flow_{a}_00001.jpg" for a in "xy"}
    assert set(files(dst)) == pictures | {"extract_flow.json"}

    done = run(src, dst, "--workers", 2)
    assert "flow of 0 videos computed (0 fields), 2 finished before, 4 without" in done.stdout


def test_a_video_file_gets_the_flow_of_its_frames(tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    write_moving(src / "a", [(1, 0)])
    write_video(src / "a.avi", count=4)
    write_video(src / "b.avi", count=3)
    assert extract_flow.main([str(src), str(dst), "--workers", "1"]) == 0
    folders = [path for path in dst.iterdir() if path.is_dir()]
    counts = {path.name: len(list(path.glob("flow_?_*.jpg"))) for path in folders}
    assert counts == {"a": 2, "a.avi": 6, "b": 4}
    read = read_flow(str(dst / "a.avi"), [0, 2], 4)
    assert read.shape == (2, 48, 64, 2)


def test_a_zip_gets_the_same_flow_as_its_folders(tmp_path):
    write_moving(tmp_path / "src" / "walk" / "a b", [(1, 0), (3, 0)])
    write_frames(tmp_path / "src" / "run" / "single", 1)
    shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "src")
    for src in ("src", "set.zip"):
        args = [str(tmp_path / src), str(tmp_path / f"flow_{src}"), "--workers", "1"]
        assert extract_flow.main(args) == 1  # one is a single frame
    assert len(files(tmp_path / "flow_src")) == 5
    assert files(tmp_path / "flow_set.zip") == files(tmp_path / "flow_src")


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path):
    src, dst = tmp_path / "src", tmp_path / "dst"
    frames = write_moving(src / "0", [(1, 0), (-1, 0)] * 60)
    for i in range(1, 5):
        (src / str(i)).mkdir()
        for frame in frames.iterdir():
            os.link(frame, src / str(i) / frame.name)
    args = [*TOOL, src, dst, "--workers", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(args, start_new_session=True, **pipes) as process:
        while not (dst / "0").exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        errors = process.communicate(timeout=10)[1]
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("stopped; ")
    assert 1 <= len(list(dst.glob("[0-9]"))) < 5
    assert not list(dst.glob(".*"))
    assert run(src, dst).returncode == 0
    assert len(files(dst)) == 5 * 240 + 1
    assert all(
        (dst / "4" / path.name).read_bytes() == path.read_bytes() for path in dst.glob("0/*")
    )


def test_a_full_disk_is_one_sentence(tmp_path):
    write_moving(tmp_path / "src" / "a", [(3, 0)])

    def no_large_files():  # a write past the limit fails like one to a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = run(tmp_path / "src", tmp_path / "dst", "--workers", 1, preexec_fn=no_large_files)
    assert done.returncode == 1
    assert "too large; what is finished stays" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert set(files(tmp_path / "dst")) == {"extract_flow.json"}


def test_other_settings_are_refused(tmp_path, capsys):
    write_moving(tmp_path / "src" / "a", [(3, 0)])
    (tmp_path / "dst" / "a").mkdir(parents=True)
    args = [str(tmp_path / "src"), str(tmp_path / "dst")]
    assert extract_flow.main(args) == 1
    assert "has flow of another origin" in capsys.readouterr().err
    (tmp_path / "dst" / "extract_flow.json").write_text(json.dumps({"bound": 8.0, "quality": 90}))
    assert extract_flow.main(args) == 1
    assert 'has flow made with {"bound": 8.0' in capsys.readouterr().err
    assert extract_flow.main([*args, "--bound", "8"]) == 0
    assert extract_flow.main([args[0], str(tmp_path / "new")]) == 0
    assert extract_flow.main([args[0], str(tmp_path / "new"), "--bound", "20"]) == 0  # the default


def test_mistakes_are_one_sentence(tmp_path, capsys):
    write_frames(tmp_path / "frames" / "a", 2)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no frame")
    (tmp_path / "text" / "cut.zip").write_bytes(b"PK")
    for src, dst, message in (
        ("nowhere", "dst", "is no folder or zip"),
        ("text/notes.txt", "dst", "is no folder or zip"),
        ("text/cut.zip", "dst", "cut.zip"),
        ("text", "dst", "has no frames or videos in it (2 other files)"),
        ("frames", "frames", "is SRC itself"),
        ("frames/a", "dst", "name the folder that has the folders of frames"),
        ("frames", "text/notes.txt/dst", "Not a directory"),
    ):
        assert extract_flow.main([str(tmp_path / src), str(tmp_path / dst)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize("option", ["--bound=0", "--bound=inf", "--quality=0", "--workers=0"])
def test_impossible_options_are_usage_errors(option):
    with pytest.raises(SystemExit, match="2"):
        extract_flow.main(["src", "dst", option])
