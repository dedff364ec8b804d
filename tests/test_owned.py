"""One owner: two real processes never write the same thing, and the dead own nothing."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY_RUN, write_frames

import utils.run
from config import UserError, owned, try_folder, unfinished, whole
from main import main
from models import weights
from models.weights.i3d import WEIGHTS
from opts import parse_opts
from pt_dataset import (
    extract_flow,
    extract_frames,
    make_demo,
    make_json,
    pack_frames,
    shrink_videos,
)
from pt_dataset.video_list import Video

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import os, sys, time
from config import owned, unfinished
from pathlib import Path
path = Path(sys.argv[1])
with owned(path, inside=sys.argv[2] == "inside"):
    unfinished(path / "last.pth" if path.is_dir() else path).touch()
    if sys.argv[3] == "fork" and not os.fork():
        time.sleep(60)
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Starts a process that owns a path until its input ends or it is killed."""
    started = []

    def start(path, inside="", fork=""):
        command = [sys.executable, "-c", HOLD, str(path), inside, fork]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes))
        assert started[-1].stdout.readline() == "mine\n"
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):  # has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()


EVALUATE = ["--evaluate", "--arch", "tsn", "--dataset", "tiny", "--data-root", "data"]
EVALUATE += ["--device", "cpu", "--workers", "0", "--views", "1x1"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_owner_is_told_who_the_first_one_is(tmp_path, hold):
    first = hold(tmp_path / "run")
    with pytest.raises(UserError) as error, owned(tmp_path / "run"):
        pass
    assert str(error.value) == (
        f"{tmp_path}/run is in use by process {first.pid} on {socket.gethostname()}; wait until "
        "that ends, or choose another name"
    )
    with owned(tmp_path / "other"):  # its neighbor is free
        assert names(tmp_path)[0] == ".other.lock"
    first.stdin.close()
    first.wait(10)
    with owned(tmp_path / "run"):
        pass
    assert not list(tmp_path.glob("*.lock"))


def test_links_lead_to_one_lock(tmp_path, hold):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    hold(tmp_path / "real")
    with pytest.raises(UserError, match="link is in use"), owned(tmp_path / "link"):
        pass


def test_the_dead_own_nothing_and_what_they_left_goes(tmp_path, hold):
    """Also while a process that the dead one has forked lives on, as those of a loader do."""
    folder = tmp_path / "run"
    folder.mkdir()
    living = unfinished(folder / "net.onnx")  # as of an export by another process into the folder
    living.touch()
    first = hold(folder, fork="fork")
    left = {path for path in folder.iterdir() if path != living}
    assert len(left) == 1
    first.kill()
    first.wait()
    with owned(folder):
        assert list(folder.iterdir()) == [living]
    assert names(tmp_path) == ["run"]


def test_an_owner_that_ends_in_time_is_waited_for(tmp_path, hold, caplog):
    first = hold(tmp_path / "run")
    threading.Timer(0.3, first.stdin.close).start()
    with owned(tmp_path / "run", wait=20):
        first.wait(10)
    assert f"waiting for process {first.pid} on" in caplog.text


def test_of_many_that_want_it_one_has_it_at_a_time(tmp_path):
    """Though each owner removes the file of the lock, on which others wait already."""
    code = """
import os, sys
from config import owned
for _ in range(40):
    with owned(sys.argv[1], wait=60):
        os.mkdir(sys.argv[1] + ".held")
        os.rmdir(sys.argv[1] + ".held")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]


def test_a_file_that_its_owner_removed_meanwhile_is_no_lock(tmp_path, monkeypatch):
    tried = []

    def lockf(file, how):
        if not tried:
            (tmp_path / ".x.lock").unlink()
        tried.append(how)

    monkeypatch.setattr("fcntl.lockf", lockf)
    with owned(tmp_path / "x"):
        assert names(tmp_path) == [".x.lock"]
    assert len(tried) == 2


@pytest.mark.parametrize("left", ["", "process 1 on there\n*", "\x1b\n../*", b"\xff\0"])
def test_a_lock_that_was_left_half_written_removes_nothing(tmp_path, left):
    (tmp_path / ".x.lock").write_bytes(left if isinstance(left, bytes) else left.encode())
    partial = unfinished(tmp_path / "x")
    partial.touch()
    with owned(tmp_path / "x") as before:
        assert before == ""
    assert names(tmp_path) == [partial.name]


@pytest.mark.parametrize("why", ["no locks", "read-only"])
def test_a_disk_without_locks_is_said(tmp_path, monkeypatch, caplog, why):
    if why == "no locks":
        monkeypatch.setattr("fcntl.lockf", lambda *_: os.open(tmp_path, os.O_WRONLY))
    else:
        monkeypatch.setattr("builtins.open", lambda *_, **__: os.open(tmp_path, os.O_WRONLY))
    with owned(tmp_path / "run"):
        pass
    assert [line.split(":")[0] for line in caplog.messages] == [
        f"{tmp_path}/.run.lock cannot be locked (Is a directory)"
    ]


def test_a_name_of_the_longest_length_can_be_owned(tmp_path):
    for name in ("x" * 255, "\U0001f600" * 63):
        with owned(tmp_path / name):
            assert len(names(tmp_path)) == 1


def test_two_writers_never_leave_half_of_a_file(tmp_path):
    """Thousands of looks, each at one of two whole contents; and nothing beside the file stays."""
    path = tmp_path / "last.pth"
    with whole(path) as temporary:
        temporary.write_bytes(b"0" * 300_000)
    write = """
import sys
from config import whole
for _ in range(150):
    with whole(sys.argv[1]) as temporary:
        temporary.write_bytes(sys.argv[2].encode() * 300_000)
"""
    command = [sys.executable, "-c", write, str(path)]
    writers = [subprocess.Popen([*command, digit], cwd=ROOT) for digit in "12"]
    looks = 0
    while looks < 2000 or any(writer.poll() is None for writer in writers):
        content = path.read_bytes()
        assert len(content) == 300_000
        assert content == content[:1] * 300_000
        looks += 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert names(tmp_path) == ["last.pth"]


@pytest.mark.parametrize(
    "command",
    [
        [make_demo.main, "--data-root", "file"],
        [extract_frames.main, "src", "file"],
        [extract_flow.main, "src", "file"],
        [shrink_videos.main, "src", "file"],
        [pack_frames.main, "--per-video", "src", "file"],
    ],
    ids=lambda command: command[0].__module__.rpartition(".")[2],
)
def test_a_file_is_no_folder_to_fill(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "src" / "v", 2)
    (tmp_path / "src" / "v.mp4").touch()
    (tmp_path / "file").write_text("mine")
    tool, *argv = command
    assert tool(argv) == 1
    assert capsys.readouterr().err.strip() == f"error: {tmp_path / 'file'} is a file; name a folder"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_is_no_file_to_write(tmp_path):
    (tmp_path / "out.json").mkdir()
    sentence = "out.json is a folder; name a file"
    with pytest.raises(UserError, match=sentence), whole(tmp_path / "out.json"):
        raise AssertionError("nothing is to be written")
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file is a file, and no folder; choose another --out"):
            try_folder(folder, "--out")


def test_threads_have_names_of_their_own(tmp_path):
    assert unfinished(tmp_path / "a") != unfinished(tmp_path / "a")


# what asks for it


def test_a_second_run_of_a_name_touches_nothing(in_tiny_set, hold, monkeypatch):
    """Three seeds started with & under one name; and a job that overlaps the one before it."""
    monkeypatch.setattr(utils.run, "GRACE", 0.1)
    first = hold(in_tiny_set / "saved_model" / "run")
    for more in ([], ["--head-only", "--pretrained", "x.pth"], ["--resume", "auto"]):
        with pytest.raises(UserError, match=f"saved_model/run is in use by process {first.pid}"):
            main([*TINY_RUN, "--name", "run", *more])
    with pytest.raises(UserError, match="saved_model/run is in use by process"):
        main([*TINY_RUN, "--name", "run", "--splits", "1", "2"])
    assert not Path("saved_model/run").exists()


def test_a_run_goes_on_from_what_the_one_before_it_left_while_it_ended(in_tiny_set, hold):
    folder = in_tiny_set / "saved_model" / "run"
    first = hold(folder)
    argv = ["--arch", "i3d", "--dataset", "tiny", "--name", "run", "--resume", "auto"]
    opts = parse_opts(argv)
    assert opts.resume is None

    def end():
        folder.mkdir()
        (folder / "last.pth").touch()
        (folder / "options.json").write_text('{"lr": 0.5}')
        first.stdin.close()

    threading.Timer(0.3, end).start()
    with utils.run.owned_run(opts, argv) as now:
        assert (now.resume, now.lr) == ("saved_model/run/last.pth", 0.5)


def test_what_only_looks_at_a_run_is_not_kept_out(in_tiny_set, hold):
    hold(in_tiny_set / "saved_model" / "run")
    argv = [*TINY_RUN, "--name", "run", "--plan"]
    with utils.run.owned_run(parse_opts(argv), argv) as opts:
        assert opts.plan


def test_what_a_network_says_is_not_written_where_another_process_writes(
    untrained, in_tiny_set, hold
):
    first = hold(untrained.parent)
    last = untrained.rename(untrained.with_name("last.pth"))
    evaluate = [*EVALUATE, "--resume", str(last)]
    with pytest.raises(UserError, match=f"{untrained.parent} is in use by process {first.pid}"):
        main(evaluate)
    assert [name for name in names(untrained.parent) if name[0] != "."] == ["last.pth"]
    hold(in_tiny_set / "out", "inside")
    videos = ["--videos", "data/tiny/frames", "--device", "cpu", "--workers", "0"]
    with pytest.raises(UserError, match="out is in use"):
        main(["--resume", str(last), "--extract-features", "out", *videos])
    assert not (in_tiny_set / "out" / "settings.json").exists()


def test_two_downloads_are_one(tmp_path, hold, monkeypatch):
    """The second waits for the first, and takes its file."""
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    entry = replace(WEIGHTS["i3d_rgb_piergiaj"], url="http://127.0.0.1:9/w.pt", sha256="")
    first = hold(tmp_path / "w.pt")

    def end():
        (tmp_path / "w.pt").write_bytes(b"weights")
        first.stdin.close()

    threading.Timer(0.3, end).start()
    assert weights.fetch(entry).read_bytes() == b"weights"


def test_runs_that_start_together_share_one_demo_set(tmp_path, hold):
    first = hold(tmp_path / "demo")

    def end():
        (tmp_path / "demo").mkdir()
        first.stdin.close()

    threading.Timer(0.3, end).start()
    assert list(make_demo.write_demo(tmp_path).iterdir()) == []


def test_lists_wait_for_those_that_are_being_written(tmp_path, hold):
    first = hold(tmp_path / "set", "inside")
    threading.Timer(0.3, first.stdin.close).start()
    videos = {"trainlist01": [Video("v", 0, "walk", 3)]}
    make_json.write_lists(tmp_path / "set", ["walk"], videos)
    first.wait(10)
    assert {"classes.txt", "trainlist01.json"} < {*names(tmp_path / "set")}


def test_tools_do_not_work_in_one_folder_at_once(tmp_path, hold, capsys):
    write_frames(tmp_path / "frames" / "v", 3)
    frames, out = str(tmp_path / "frames"), tmp_path / "out"
    first = hold(out, "inside")
    assert pack_frames.main([frames, "--per-video", str(out)]) == 1
    assert extract_flow.main([frames, str(out)]) == 1
    assert [
        f"error: {out} is in use by process {first.pid} on" in line
        for line in capsys.readouterr().err.splitlines()
    ] == [True, True]
    hold(tmp_path / "a.zip")
    assert pack_frames.main([frames, str(tmp_path / "a.zip")]) == 1
    assert "a.zip is in use" in capsys.readouterr().err
