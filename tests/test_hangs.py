"""What would be waited for for ever, and processes that are gone: each ends in one sentence."""

import contextlib
import itertools
import os
import re
import signal
import socket
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from test_distributed import start_ranks
from test_loader import CLIP, make_train_loader

from config import PREEMPTED, Loading, UserError, Views
from pt_dataset import identity, pack_frames
from pt_dataset.formats.flow import flow_fields
from pt_dataset.formats.measure import measure
from pt_dataset.formats.zip_frames import open_archive
from pt_dataset.inputs import windows
from pt_dataset.inputs.windows import Part, part_loader
from pt_dataset.listing.find_videos import Found, find_videos, measure_videos
from pt_dataset.listing.made_from import Source, is_same, take_note
from pt_dataset.loader import view_loader
from pt_dataset.processes import memory
from pt_dataset.sources import frames
from pt_dataset.video_list import Video
from pt_dataset.video_lists import read_dataset
from utils import distributed
from utils.actions.errors import error_in_words
from utils.interrupt import GracefulStop
from utils.live_page import server
from utils.options import processes, signs_of_life


def parts_of(root, num_clips=2):
    videos = read_dataset("tiny", root).test
    clips = [list(range(CLIP.clip_len))] * num_clips
    return [Part(video, [(0, 4)], clips) for video in videos]


def ends(signum):
    def end(*args, **kwargs):
        os.kill(os.getpid(), signum)

    return end


@pytest.fixture(params=["train", "evaluate", "predict"])
def batches(request, tiny_set):
    """Makes what reads ahead for that action, with one process."""

    def make():
        if request.param == "train":
            return make_train_loader(tiny_set, workers=1).epoch()
        if request.param == "evaluate":
            lists, loading = read_dataset("tiny", tiny_set), Loading(workers=1)
            return view_loader(lists.test, CLIP, Views(1, 1), loading, batch_size=2).epoch()
        return iter(part_loader(parts_of(tiny_set), CLIP, 1, 1, 4))

    return make


@pytest.mark.parametrize(
    ("signum", "said"),
    [
        (signal.SIGKILL, r"loader process \d+ was killed, as .* up to [\d,]+ MB.* of [\d,]+ MB"),
        (signal.SIGSEGV, r"loader process \d+ has crashed \(Segmentation fault\)"),
        (signal.SIGBUS, "/dev/shm, where loader processes leave batches, is full"),
    ],
    ids=["memory", "decoder", "shm"],
)
def test_a_loader_process_that_dies_is_one_sentence(batches, monkeypatch, signum, said):
    monkeypatch.setattr("pt_dataset.clip_dataset.clip_frames", ends(signum))
    with pytest.raises(RuntimeError) as caught:
        list(batches())
    sentence = error_in_words(caught.value)
    assert sentence and "\n" not in sentence
    assert re.search(said, sentence), sentence


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("unable to allocate shared memory(shm)"), "/dev/shm, where .* is full"),
        (OSError(24, "Too many open files"), r"^\[Errno 24\] Too many open files$"),
    ],
    ids=["shm", "files"],
)
def test_a_result_that_cannot_be_handed_over_is_not_waited_for(tiny_set, monkeypatch, error, said):
    """The thread that sends makes memory shared, and would only print what goes wrong there."""
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", mock.Mock(side_effect=error))
    with pytest.raises(type(error)) as caught:
        next(iter(part_loader(parts_of(tiny_set)[:1], CLIP, 1, 1, 4)))
    assert re.search(said, error_in_words(caught.value))


def test_other_errors_keep_their_traceback():
    assert (
        error_in_words(RuntimeError("Caught RuntimeError in DataLoader worker process 0.")) is None
    )


def test_parts_that_are_in_flight_fit_into_shared_memory(tiny_set, monkeypatch):
    asked = []

    def fitting(workers, size, in_use):
        asked.append((size, in_use))
        return workers, 1

    monkeypatch.setattr(windows, "fitting", fitting)
    parts = parts_of(tiny_set)
    loader = part_loader(parts, CLIP, 3, 1, 4)
    (_, views), *others = loader
    size, in_use = asked.pop()
    assert size == views.numel()
    assert in_use == min(2 * size + max(4 * views[0].numel(), size), len(others) * size)
    part_loader(parts[:1], CLIP, 3, 1, 100)
    assert asked.pop() == (size, 0)  # there is no other one
    part_loader(parts, CLIP, 3, 0, 4)
    assert asked == []


def test_without_room_for_what_is_in_flight_it_is_said_before(tiny_set, monkeypatch):
    monkeypatch.setattr(memory, "free_shm", lambda: 1000)
    with pytest.raises(UserError, match=r"batches need .* and /dev/shm.* free.*--workers 0"):
        part_loader(parts_of(tiny_set), CLIP, 1, 1, 4)


# what is no file


@pytest.fixture
def in_time():
    """A test that waits for ever fails after a minute."""

    def late(*args):
        raise AssertionError("waits")

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # such an address has 107 bytes at most


KINDS = {
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
}


@pytest.fixture(params=KINDS)
def odd(request, tmp_path, monkeypatch, in_time):
    """Makes at a path what is no file."""
    monkeypatch.chdir(tmp_path)
    return lambda name: KINDS[request.param](tmp_path / name) or tmp_path / name


def test_a_video_that_is_no_file_is_a_sentence(odd, tmp_path):
    path = str(odd("clip.mkv"))
    found = find_videos(tmp_path)
    by_name, problems = measure_videos(found, sorted(found.paths), {})
    assert not by_name and "clip.mkv" in "".join(found.problems + problems)
    with pytest.raises(UserError, match=r"clip\.mkv"):
        measure(path)
    with pytest.raises(UserError, match=r"clip\.mkv"):
        next(frames(path, [0], 1))
    with pytest.raises(UserError, match=r"clip\.mkv"):
        take_note(Source(path))
    assert identity.checksum(Video(path, 0, "", 1), "rgb") == 0
    assert not is_same(Source(path), {"bytes": 0, "mtime_ns": 0, "sha256": ""})


def test_a_frame_that_is_no_file_is_a_sentence(odd, tmp_path):
    (tmp_path / "video").mkdir()
    odd("video/image_00001.jpg")
    for name in ("flow_x_00001.jpg", "flow_y_00001.jpg"):
        odd(f"video/{name}")
    path = str(tmp_path / "video")
    with pytest.raises(UserError, match=r"image_00001\.jpg cannot be decoded"):
        next(frames(path, [0], 1))
    with pytest.raises(UserError, match=r"flow_x_00001\.jpg cannot be decoded"):
        next(flow_fields(path, [0], 2))
    with pytest.raises(UserError, match="video"):
        take_note(Source(path))
    assert identity.checksum(Video(path, 0, "", 1), "rgb") == 0
    assert pack_frames.main([path, str(tmp_path / "a.zip")]) == 1


def test_an_archive_that_is_no_file_is_a_sentence(odd, tmp_path):
    odd("frames.zip")
    found = Found()
    with contextlib.suppress(UserError):
        found = find_videos(tmp_path)
    assert not found.paths
    with pytest.raises(UserError, match=r"frames\.zip"):
        open_archive(str(tmp_path / "frames.zip"))


def test_shared_memory_that_is_full_when_a_loader_starts_is_a_sentence(monkeypatch):
    error = OSError(28, "No space left on device")
    assert error_in_words(error) == str(error)
    monkeypatch.setattr("pt_dataset.processes.deaths.free_shm", lambda: 4096)
    assert "/dev/shm, where loader processes leave batches, is full" in error_in_words(error)
    of_a_file = OSError(28, "No space left on device", "scores.npz")
    assert error_in_words(of_a_file) == str(of_a_file)


@pytest.mark.parametrize("start", [b"HT", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_drips_has_an_end(start, in_time):
    def drip(connection):
        connection.sendall(start)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serve = threading.Thread(target=lambda: drip(listening.accept()[0]), daemon=True)
        serve.start()
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="too slow"):
            server.post("127.0.0.1", listening.getsockname()[1], "/", {}, 0.15)
        assert time.monotonic() - began < 20  # the limit is 1.5


# processes of a run


def take_steps(limits, hangs):
    """Steps without end, of which the second process takes few where it `hangs`."""
    os.dup2(os.open(f"said_{os.environ['RANK']}.txt", os.O_CREAT | os.O_WRONLY), 2)
    for name, seconds in limits.items():
        setattr(signs_of_life, name, seconds)
    processes.STEP_TIMEOUT = timedelta(seconds=2 if hangs else 60)
    try:
        with distributed.joined(), GracefulStop() as stop, distributed.short_waits():
            for step in itertools.count():
                stop.check()
                Path(f"steps_{distributed.rank()}").write_text(str(step))
                if hangs and distributed.rank() == 1 and step == 5:
                    time.sleep(60)
    except RuntimeError as error:
        if processes.first_to_fail():
            print("error:", error_in_words(error), file=sys.stderr, flush=True)


def wait_until_steps():
    give_up = time.monotonic() + 60
    while not (Path("steps_0").exists() and Path("steps_1").exists()):
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("gone", "signum"), [(0, signal.SIGTERM), (1, 0)], ids=["stop", "alone"])
def test_a_process_that_is_not_heard_of_ends_the_run(tmp_path, monkeypatch, gone, signum):
    """SIGSTOP is as a machine that is lost: no connection is closed, and nobody answers."""
    monkeypatch.chdir(tmp_path)
    limits = {"BEAT": 0.2, "TICK": 0.1, "SILENCE": 1000 if signum else 3, "SILENCE_AT_STOP": 3}
    ranks = start_ranks(take_steps, limits, False)
    try:
        wait_until_steps()
        os.kill(ranks[gone].pid, signal.SIGSTOP)
        waiting = ranks[1 - gone]
        if signum:
            time.sleep(0.5)
            os.kill(waiting.pid, signum)
        waiting.join(20)
        assert waiting.exitcode == (PREEMPTED if signum else 1)
    finally:
        for process in ranks:
            process.kill()
    said = Path(f"said_{1 - gone}.txt").read_text()
    stopped = "stopped by SIGTERM, and " if signum else ""
    name = re.escape(socket.gethostname())
    assert re.match(rf"error: {stopped}last heard of process {gone} on {name} \d+ s ago: it", said)
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_process_that_takes_no_step_is_given_up_and_the_others_say_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ranks = start_ranks(take_steps, {"BEAT": 0.2, "TICK": 0.1}, True)
    try:
        ranks[0].join(30)
        assert ranks[0].exitcode == 0
    finally:
        for process in ranks:
            process.kill()
    said = Path("said_0.txt").read_text()
    assert "waited for the other processes of this run for more than 0:00:02; last heard" in said


@pytest.mark.slow
def test_the_store_of_a_run_on_one_machine_listens_there_alone(monkeypatch):
    """Addresses as in /proc/net/tcp: of this process, and of what listens on all addresses."""
    agent = dist.HashStore()
    monkeypatch.setattr(processes, "rendezvous", lambda *args, **kwargs: iter([(agent, 0, 2)]))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", socket.gethostname())
    for machines, expected in (("2", {"0100007F"}), ("1", {"00000000"})):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", machines)
        store, failures, *_ = processes.meet()
        assert listening_at(int(agent.get("port"))) == expected
        del store
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", machines)
        assert failures.add("failed", 1) == 1  # who failed first is known without the main process


def listening_at(port):
    """IPv4 addresses as /proc has them; those of IPv6 count as all of them where they are zero."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address[-8:])
    return found
