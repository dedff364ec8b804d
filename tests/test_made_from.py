"""Tools and features that go on where they stopped know another video of the same name."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_frames
from test_extract_frames import write_video
from test_features import extract

from config import whole
from main import main
from pt_dataset import extract_flow, extract_frames, pack_frames
from pt_dataset.formats.frame_folder import frame_names
from pt_dataset.listing import folders
from pt_dataset.listing.made_from import Source, add_note, is_same, read_notes, take_note
from pt_dataset.video_list import Video
from utils.actions import head_only

LONG = "\u00e9" * 120 + "x" * 11  # 251 bytes: with .avi as long as a name can be
CASES = {  # what happens to a.avi, three frames, and whether it is another video then
    "nothing": (lambda video: None, False),
    "copied, so with a new time": (lambda video: os.utime(video, (1, 1)), False),
    "renewed with the same bytes": (lambda video: video.write_bytes(video.read_bytes()), False),
    "another one": (lambda video: write_video(video, count=5), True),
    "of the same size": (lambda video: damage(video, 0.5), True),
    "of the same size and end": (lambda video: damage(video, 0.9), True),
}


def damage(video, part):
    data = bytearray(video.read_bytes())
    data[int(part * len(data))] ^= 1
    video.write_bytes(data)
    os.utime(video, (1, 1))


@pytest.fixture
def in_process(monkeypatch):
    """The jobs of the tools are done in this process, which is quick and can be interrupted."""

    def run_jobs(job, todo, workers):
        for item in todo:
            yield job(*item)

    monkeypatch.setattr(folders, "run_jobs", run_jobs)


def frames_of(src, dst):
    return extract_frames.main([str(src), str(dst), "--workers", "1"])


@pytest.mark.parametrize("case", CASES)
def test_frames_are_extracted_again_where_the_video_is_another(tmp_path, in_process, capsys, case):
    change, is_other = CASES[case]
    src, dst = tmp_path / "src", tmp_path / "dst"
    write_video(src / "c" / "a.avi", count=3)
    write_video(src / "c" / "b.avi", count=3)
    assert frames_of(src, dst) == 0
    (dst / "c" / "a" / "image_00001.jpg").write_text("of the first time")
    change(src / "c" / "a.avi")
    capsys.readouterr()
    for again in (is_other, False):
        assert frames_of(src, dst) == 0
        printed = capsys.readouterr().out
        assert ("1 of them again as the video has changed" in printed) == again
        assert f"{1 if again else 2} finished before" in printed
    first = (dst / "c" / "a" / "image_00001.jpg").read_bytes()
    assert (first != b"of the first time") == is_other
    assert sorted(path.name for path in (dst / "c").iterdir()) == ["a", "b"]


def test_a_source_that_moved_is_the_same_and_another_one_with_its_names_is_not(
    tmp_path, in_process, capsys
):
    for i in range(3):
        write_video(tmp_path / "one" / f"{i}.avi", count=2 + i)
        write_video(tmp_path / "two" / f"{i}.avi", count=5 if i else 2)
    assert frames_of(tmp_path / "one", tmp_path / "dst") == 0
    shutil.copytree(tmp_path / "one", tmp_path / "moved", copy_function=shutil.copyfile)
    assert frames_of(tmp_path / "moved", tmp_path / "dst") == 0
    assert "3 finished before" in capsys.readouterr().out
    assert frames_of(tmp_path / "two", tmp_path / "dst") == 0
    assert "(10 frames), 2 of them again" in capsys.readouterr().out
    assert [len(frame_names(tmp_path / "dst" / f"{i}")) for i in range(3)] == [2, 5, 5]


def test_a_suffix_that_takes_the_folder_of_another_video_takes_its_frames_as_well(
    tmp_path, in_process
):
    src, dst = tmp_path / "src", tmp_path / "dst"
    write_video(src / "a.mp4", count=3)
    assert frames_of(src, dst) == 0
    write_video(src / "a.avi", count=5)  # the first by name: a is its folder now
    assert frames_of(src, dst) == 0
    assert len(frame_names(dst / "a")) == 5
    assert len(frame_names(dst / "a.mp4")) == 3


def test_frames_of_an_earlier_version_are_kept_and_it_is_said(tmp_path, in_process, capsys):
    src, dst = tmp_path / "src", tmp_path / "dst"
    for name in "ab":
        write_video(src / f"{name}.avi", count=3)
    assert frames_of(src, dst) == 0
    notes = dst / "extract_frames.sources.jsonl"
    lines = notes.read_text().splitlines()
    assert json.loads(lines[1])[0] == "a"
    notes.write_text("\n".join([lines[1], lines[2][:40]]))  # a stop of the machine in the middle
    write_video(src / "b.avi", count=4)
    capsys.readouterr()
    assert frames_of(src, dst) == 0
    printed = capsys.readouterr().out
    assert "whether the video has changed was not checked for 1 result in" in printed
    assert "2 finished before" in printed
    shutil.rmtree(dst / "b")
    assert frames_of(src, dst) == 0  # the line that was cut off does not take this one with it
    note = take_note(Source(str(src / "b.avi")))
    assert read_notes(notes)["b"] == note | {"num_frames": 4, "fps": 30.0}


def test_where_the_new_video_is_broken_the_frames_of_the_old_one_stay(tmp_path, in_process, capsys):
    src, dst = tmp_path / "src", tmp_path / "dst"
    write_video(src / "a.avi", count=3)
    assert frames_of(src, dst) == 0
    (src / "a.avi").write_text("no video")
    for _ in range(2):
        assert frames_of(src, dst) == 1
        assert f"{dst / 'a'} stays as it was made before" in capsys.readouterr().err
        assert len(frame_names(dst / "a")) == 3


class Killed(BaseException):
    """A kill at this moment: nothing is tidied up."""


@pytest.mark.parametrize("renames", [0, 1])
@pytest.mark.parametrize("notes", [0, 1])
def test_a_kill_while_frames_are_replaced_leaves_no_old_ones_for_new(
    tmp_path, in_process, monkeypatch, renames, notes
):
    src, dst = tmp_path / "src", tmp_path / "dst"
    write_video(src / "a.avi", count=3)
    assert frames_of(src, dst) == 0
    write_video(src / "a.avi", count=5)
    with monkeypatch.context() as patch:
        kill_after(patch, Path, "rename", renames)
        kill_after(patch, folders, "add_note", notes)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            frames_of(src, dst)
    assert frames_of(src, dst) == 0
    assert len(frame_names(dst / "a")) == 5
    assert not list(dst.glob("..*"))


def kill_after(patch, place, name, count):
    """The call number `count` of a function ends everything before it does anything."""
    function, calls = getattr(place, name), []

    def counting(*args):
        calls.append(args)
        if len(calls) > count:
            raise Killed
        return function(*args)

    patch.setattr(place, name, counting)


@pytest.mark.parametrize("packed", [False, True])
def test_flow_is_computed_again_where_frames_are_others(tmp_path, in_process, capsys, packed):
    frames, src, dst = tmp_path / "frames", tmp_path / "src.zip", tmp_path / "dst"
    write_frames(frames / "a", 4, size=(24, 24))
    write_frames(frames / "b", 4, size=(24, 24))

    def flow():
        if packed:
            src.unlink(missing_ok=True)
            assert pack_frames.main([str(frames), str(src)]) == 0
        capsys.readouterr()
        assert extract_flow.main([str(src if packed else frames), str(dst)]) == 0
        return capsys.readouterr().out

    flow()
    for path in frames.rglob("*.jpg"):
        os.utime(path, (1, 1))
    assert "2 finished before" in flow()
    write_frames(frames / "b", 4, size=(24, 26))
    assert "flow of 1 video computed (3 fields), 1 of them again" in flow()
    (frames / "a" / "image_00004.jpg").unlink()
    assert "(2 fields), 1 of them again" in flow()
    assert len(list((dst / "a").glob("flow_x_*"))) == 2
    assert "2 finished before" in flow()


def test_a_zip_of_other_frames_is_named_and_stays(tmp_path, capsys):
    for name in "abcd":
        write_frames(tmp_path / "frames" / name, 3)
    argv = [str(tmp_path / "frames"), "--per-video", str(tmp_path / "out")]
    assert pack_frames.main(argv) == 0
    before = (tmp_path / "out" / "a.zip").read_bytes()
    write_frames(tmp_path / "frames" / "a", 4)
    write_frames(tmp_path / "frames" / "b", 3, size=(40, 30))
    (tmp_path / "out" / "c.zip").write_bytes(b"mine")
    capsys.readouterr()
    assert pack_frames.main(argv) == 1
    printed = capsys.readouterr()
    assert "0 videos packed, 1 packed before" in printed.out
    left_out = [line for line in printed.err.splitlines() if "has other frames than" in line]
    assert len(left_out) == 3
    assert (tmp_path / "out" / "a.zip").read_bytes() == before
    (tmp_path / "out" / "a.zip").unlink()
    assert pack_frames.main(argv) == 1
    assert "1 video packed, 1 packed before" in capsys.readouterr().out


@pytest.mark.parametrize("scheme", ["{}.jpg", "{}.bmp"])
def test_pictures_of_the_same_size_are_told_apart(tmp_path, scheme):
    folder = write_frames(tmp_path / "a", 3, scheme=scheme)
    note = take_note(Source(str(folder)))
    assert is_same(Source(str(shutil.copytree(folder, tmp_path / "b"))), note)
    damage(folder / scheme.format(2), 0.5)
    assert not is_same(Source(str(folder)), note)


@pytest.mark.parametrize("path", ["flow", "{}/flow"])
def test_the_source_of_a_network_of_flow_is_the_flow(tmp_path, path):
    kinds = [("u", "img_"), ("v", "img_")] if "{" in path else [("", "flow_x_"), ("", "flow_y_")]
    for part, prefix in kinds:
        write_frames(tmp_path / part / "flow", 3, scheme=prefix + "{:05d}.jpg")
    video = Video(str(tmp_path / "rgb"), 0, "", 4, flow_path=str(tmp_path / path))
    source = Source.of(video, "flow")
    note = take_note(source)
    assert is_same(source, note)
    damage(sorted((tmp_path / kinds[1][0] / "flow").glob(f"{kinds[1][1]}*"))[1], 0.5)
    assert not is_same(source, note)


def test_processes_that_take_notes_at_once_keep_all_of_them(tmp_path):
    path = tmp_path / "notes.jsonl"
    if (child := os.fork()) == 0:
        for i in range(200):
            add_note(path, f"child {i}", {"frames": i})
        os._exit(0)
    for i in range(200):
        add_note(path, f"parent {i}", {"frames": i})
    os.waitpid(child, 0)
    assert len(read_notes(path)) == 400


def test_features_are_computed_again_where_the_video_is_another(untrained, capsys):
    for name in "abc":
        write_frames(Path("videos", name), 9)

    def features():
        capsys.readouterr()
        assert extract(untrained, "out", "--videos", "videos", "--fps", 10) == 0
        return capsys.readouterr().out

    features()
    assert "3 of 3 videos are done already" in features()
    write_frames(Path("videos/b"), 9, size=(40, 30))
    Path("out/a.npz").write_bytes(Path("out/a.npz").read_bytes()[:100])
    rewrite_without(Path("out/c.npz"), "source")
    printed = features()
    assert "1 of 3 videos are done already" in printed
    assert "2 have changed, or their files are damaged" in printed
    assert "not checked for 1 file of an earlier version" in printed
    assert json.loads(str(np.load("out/b.npz")["source"]))["num_frames"] == 9
    assert "3 of 3 videos are done already" in features()


def rewrite_without(path, name):
    with np.load(path) as archive:
        kept = {key: archive[key] for key in archive.files if key != name}
    np.savez(path, **kept)


def test_a_video_that_cannot_be_read_does_not_make_kept_features_old(tmp_path):
    sources, videos = [Source(str(tmp_path / "missing.avi"))], [Video("missing.avi", 0, "a", 2)]
    features = head_only.Features(torch.rand(1, 1, 4), torch.tensor([0]), torch.tensor([0]))
    head_only.save_features(tmp_path / "x.pt", features, head_only.take_notes(sources))
    assert head_only.load_features(tmp_path / "x.pt", videos, sources) is not None
    write_video(tmp_path / "missing.avi", count=2)
    assert head_only.load_features(tmp_path / "x.pt", videos, sources) is None


def test_names_as_long_as_a_disk_allows_are_no_obstacle(tmp_path, in_process, capsys):
    src, dst = tmp_path / "src", tmp_path / "dst"
    write_video(src / f"{LONG}.avi", count=3)
    write_video(src / f"{LONG[:-1]}y.avi", count=3)
    write_video(src / f"{LONG[:-1]}y.mkv", count=3)
    assert frames_of(src, dst) == 0
    assert extract_flow.main([str(dst), str(tmp_path / "flow")]) == 0
    assert "flow of 3 videos computed" in capsys.readouterr().out
    assert pack_frames.main([str(dst), "--per-video", str(tmp_path / "zips")]) == 1
    printed = capsys.readouterr()
    assert "2 videos packed, 0 packed before" in printed.out
    assert f"too long a name for {LONG[:-1]}y.mkv.zip; rename it" in printed.err


def test_files_with_long_names_are_written_together(tmp_path):
    paths = [tmp_path / f"{LONG[:-1]}{end}" for end in (".pt", ".json")]
    with ExitStack() as together:
        for path in paths:
            together.enter_context(whole(path)).write_text(path.suffix)
    assert [path.read_text() for path in paths] == [".pt", ".json"]


def test_features_of_a_name_that_is_too_long_are_one_problem(untrained, capsys):
    write_frames(Path("videos") / (LONG + "xxxx"), 9)
    write_frames(Path("videos/b"), 9)
    assert extract(untrained, "out", "--videos", "videos") == 1
    assert "too long a name for" in capsys.readouterr().out
    assert [path.name for path in Path("out").glob("*.npz")] == ["b.npz"]


def test_a_timeline_of_a_long_name_is_drawn(untrained):
    write_video(Path(f"{LONG}.avi"), count=20)
    argv = ["--resume", str(untrained), "--predict", f"{LONG}.avi", "--sliding-window", "0.3"]
    assert main([*argv, "--device", "cpu", "--workers", "0", "--out", "out"]) == 0
    assert len(list(Path("out").glob("timeline_*.png"))) == 1


@pytest.fixture
def unreadable(monkeypatch):
    """Files and folders called `locked` may not be read; as root, nothing else is refused."""

    def refuse(function):
        def refusing(path=".", *args, **kwargs):
            if not isinstance(path, int) and "locked" in Path(path).name:
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *args, **kwargs)

        return refusing

    access = os.access
    monkeypatch.setattr("builtins.open", refuse(open))
    monkeypatch.setattr(os, "scandir", refuse(os.scandir))
    monkeypatch.setattr(os, "access", lambda p, mode: "locked" not in str(p) and access(p, mode))


def test_what_may_not_be_read_is_one_sentence_and_the_rest_is_done(
    tmp_path, in_process, unreadable, capsys
):
    src, dst = tmp_path / "src", tmp_path / "dst"
    write_video(src / "c" / "locked.avi", count=3)
    write_video(src / "c" / "a.avi", count=3)
    (src / "locked").mkdir()
    assert frames_of(src, dst) == 1
    printed = capsys.readouterr()
    assert "1 video extracted (3 frames), 0 finished before, 2 broken" in printed.out
    for path in ("locked", "c/locked.avi"):
        assert f"broken: {src / path}: Permission denied\n" in printed.err

    write_frames(dst / "b", 3, size=(24, 24))
    (dst / "locked").mkdir()
    assert extract_flow.main([str(dst), str(tmp_path / "flow")]) == 1
    printed = capsys.readouterr()
    assert "flow of 2 videos computed (4 fields), 0 finished before, 1 without" in printed.out
    assert f"no flow: {dst / 'locked'}: Permission denied\n" in printed.err

    for path in write_frames(dst / "d", 3, scheme="{}.jpg").iterdir():
        path.rename(path.with_name(f"locked_{path.name}"))
    for argv in (["--per-video", "zips"], ["all.zip"]):
        argv[-1] = str(tmp_path / argv[-1])
        assert pack_frames.main([str(dst), *argv]) == 1
        printed = capsys.readouterr()
        assert "2 videos packed" in printed.out
        assert printed.err.count("left out: ") == 2
        assert f"{dst / 'd' / 'locked_1.jpg'}: may not be read" in printed.err


def test_a_source_that_may_not_be_read_is_one_sentence(tmp_path, unreadable, capsys):
    (tmp_path / "locked").mkdir()
    assert frames_of(tmp_path / "locked", tmp_path / "dst") == 1
    assert f"error: {tmp_path / 'locked'}: Permission denied" in capsys.readouterr().err
