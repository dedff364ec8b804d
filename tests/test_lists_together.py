"""The lists of one split belong together, and no video is on both."""

import json
import threading
from pathlib import Path

import pytest

from config import UserError
from pt_dataset import make_json, video_lists
from pt_dataset.video_list import Video
from pt_dataset.video_lists import read_dataset


def write(root, split_of):
    """Lists of ten videos, of which those that `split_of` says are in test."""
    videos = [Video(f"{root}/set/v{i}", 0, "ab"[i % 2], 1) for i in range(10)]
    for video in videos:
        Path(video.path).mkdir(parents=True, exist_ok=True)
    sides = {side: [v for i, v in enumerate(videos) if split_of(i) == side] for side in SIDES}
    make_json.write_lists(
        root / "set", ["a", "b"], {f"{side}list01": sides[side] for side in SIDES}
    )


SIDES = ("train", "test")


def one_split(i):
    return "test" if i < 3 else "train"


def another_split(i):
    return "train" if i < 7 else "test"


class Killed(BaseException):
    """What no handler of the tool catches."""


@pytest.mark.parametrize("num_replaced", range(4))
def test_a_stop_between_two_lists_is_found_and_mended_by_another_call(
    tmp_path, monkeypatch, num_replaced
):
    write(tmp_path, one_split)
    replace, calls = Path.replace, []

    def killed(self, target):
        if len(calls) == num_replaced:
            raise Killed
        calls.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", killed)
        write(tmp_path, another_split)
        raise Killed  # after all three
    monkeypatch.setattr(video_lists.time, "sleep", lambda seconds: None)
    if num_replaced == 3:
        assert len(read_dataset("set", tmp_path).test) == 3
    else:
        with pytest.raises(UserError, match="was stopped while it replaced the lists in .*/set,"):
            read_dataset("set", tmp_path)
        write(tmp_path, another_split)
    assert {video.path[-2:] for video in read_dataset("set", tmp_path).test} == {"v7", "v8", "v9"}


def test_a_reader_beside_a_writer_sees_one_split(tmp_path):
    write(tmp_path, one_split)
    stop = threading.Event()

    def keep_writing():
        while not stop.is_set():
            for split in (another_split, one_split):
                write(tmp_path, split)
                stop.wait(0.01)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for _ in range(30):
            lists = read_dataset("set", tmp_path)
            names = [sorted(video.path[-1] for video in part) for part in (lists.train, lists.test)]
            assert len(names[0]) == 7 and sorted(sum(names, [])) == list("0123456789")
    finally:
        stop.set()
        writer.join()


def test_a_video_on_both_sides_is_refused(tiny_set):
    path = tiny_set / "tiny" / "testlist01.json"
    train = json.loads(path.with_name("trainlist01.json").read_text())
    path.write_text(json.dumps([*json.loads(path.read_text()), *train[:2]]))
    message = "trainlist01.json has 2 videos of .*testlist01.json, the first is .*train_0"
    with pytest.raises(UserError, match=message):
        read_dataset("tiny", tiny_set)
    entries = [v | {"path": str(tiny_set / "tiny/../tiny" / v["path"])} for v in train[:2]]
    path.write_text(json.dumps(entries))
    with pytest.raises(UserError, match=message):
        read_dataset("tiny", tiny_set)


def test_a_data_set_of_one_class_is_refused(tiny_set):
    for path in (tiny_set / "tiny").glob("*list01.json"):
        entries = [e for e in json.loads(path.read_text()) if e["class_name"] == "up"]
        path.write_text(json.dumps(entries))
    with pytest.raises(UserError, match="all videos of .*trainlist01.json are of one class, 'up';"):
        read_dataset("tiny", tiny_set)
