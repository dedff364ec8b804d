import hashlib
import time

import numpy as np
import pytest

from pt_dataset import make_demo
from pt_dataset.datalist import read_classes, read_list
from pt_dataset.listing import demo_videos


def digest(folder):
    sha = hashlib.sha256()
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        sha.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return sha.hexdigest()


def test_the_demo_set_is_written_quickly_and_byte_for_byte_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(make_demo, "NUM_VIDEOS", {"train": 64, "test": 16})  # a tenth
    started = time.perf_counter()
    first = make_demo.write_demo(tmp_path / "a")
    assert time.perf_counter() - started < 20  # under 2 s on two idle cores
    assert digest(first) == digest(make_demo.write_demo(tmp_path / "b"))
    classes = read_classes(first / "classes.txt")
    train, _ = read_list(first / "trainlist01.json", classes)
    test, _ = read_list(first / "testlist01.json", classes)
    assert len(train) == make_demo.NUM_VIDEOS["train"]
    assert len(test) == make_demo.NUM_VIDEOS["test"]
    assert np.bincount([video.label for video in test]).tolist() == [2] * 8


def frames_of(label, seed):
    return [np.asarray(f) for f in demo_videos.render(label, np.random.default_rng(seed))]


@pytest.mark.parametrize("first", [0, 2, 4, 6])
def test_a_video_played_backwards_is_one_of_the_partner_class(first):
    for seed in range(5):
        assert np.array_equal(frames_of(first, seed), frames_of(first + 1, seed)[::-1])


def test_the_frames_of_a_video_differ_from_each_other():
    for label in range(8):
        frames = frames_of(label, 0)
        assert all((a != b).any() for a, b in zip(frames, frames[1:], strict=False))


def test_the_motions_are_what_their_names_say():
    """The moving shape is where the frames of a video differ."""
    for seed in range(5):
        centers = {}
        for name in ("left", "up"):
            frames = np.stack(frames_of(demo_videos.CLASSES.index(name), seed)).astype(int)
            moving = (np.abs(np.diff(frames, axis=0)).sum(-1) > 30).astype(float)
            y, x = np.mgrid[: demo_videos.SIZE, : demo_videos.SIZE]
            centers[name] = [((x * m).sum() / m.sum(), (y * m).sum() / m.sum()) for m in moving]
        assert centers["left"][0][0] > centers["left"][-1][0] + 8
        assert centers["up"][0][1] > centers["up"][-1][1] + 8  # rows count downwards
        radius = [r for _, _, r, _ in demo_videos.motion(np.random.default_rng(seed), "growing")]
        assert radius == sorted(radius)
        angle = [a for _, _, _, a in demo_videos.motion(np.random.default_rng(seed), "clockwise")]
        assert angle == sorted(angle)


def test_a_write_that_is_cut_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(path, videos):
        raise OSError("disk full")

    monkeypatch.setattr(make_demo, "NUM_VIDEOS", {"train": 2, "test": 2})
    monkeypatch.setattr(make_demo, "write_list", fail)
    with pytest.raises(OSError, match="disk full"):
        make_demo.write_demo(tmp_path)
    assert list(tmp_path.iterdir()) == []
