"""What --on-bad-frame does, the same from any number of processes, and never silently."""

import json
import logging
import os
import shutil
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import SMALL_RUN, TINY_RUN, add_flow, write_frames
from test_loader import CLIP, FLOW, flipping

from config import PREEMPTED, Loading, UserError, Views
from main import main
from pt_dataset import sampling
from pt_dataset.loader import train_loader, view_loader
from pt_dataset.sources import BadFrame, read_frames
from pt_dataset.video_lists import read_dataset
from utils.distributed import sharing_faults
from utils.resume import checkpoint_file
from utils.trainer import Trainer

RUN = Path("saved_model/tsn_tiny_1")
BEAR = ["--max-bad-share", "0.5", "--on-bad-frame"]


def frame(root, video, number):
    return root / f"tiny/frames/{('down', 'up')[int(video[-1]) % 2]}/{video}/image_{number:05d}.jpg"


def damage(root, video, numbers=range(1, 11)):
    for number in numbers:
        frame(root, video, number).write_bytes(b"")


def batches(root, on_bad_frame, workers=0, batch_size=2, clip=CLIP, share=0.5):
    """The faults of one epoch, and what a loader gives in it, without flips."""
    loader = train_loader(
        read_dataset("tiny", root, some_missing=True),
        clip,
        flipping(0),
        Loading(workers=workers, on_bad_frame=on_bad_frame, max_bad_share=share),
        batch_size=batch_size,
        seed=3,
    )
    return watched(loader)


def watched(loader):
    """The faults, and what the loader gives in one epoch, as a run sees both."""
    faults = loader.new_faults()
    return faults, [batch[:3] for batch in sharing_faults(loader.epoch(), faults)]


def views(root, on_bad_frame, share=0.5):
    return view_loader(
        read_dataset("tiny", root).test,
        CLIP,
        Views(2, 1),
        Loading(workers=0, on_bad_frame=on_bad_frame, max_bad_share=share),
        batch_size=4,
    )


def test_the_nearest_frame_is_the_earlier_of_two():
    assert sampling.nearest([0, 3, 4, 9, 4], 10, {4, 9}) == [0, 3, 3, 8, 3]
    assert sampling.nearest([0, 1, 5], 6, {0, 1, 5, 4}) == [2, 2, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_nearest_frames_stand_in_for_bad_ones(tiny_set, workers):
    good = {
        i: clip for _, b in [batches(tiny_set, "stop")] for clip, _, i in map(flat, zip_rows(b))
    }
    damage(tiny_set, "train_1", [1, 2, 4, 6, 7, 10])
    faults, got = batches(tiny_set, "nearest", workers)
    assert list(faults.found) == [1]
    assert "train_1/image_000" in faults.found[1]
    for clip, label, index in map(flat, zip_rows(got)):
        if index != 1:
            assert torch.equal(clip, good[index])
            continue
        # frame t (from 0) is as bright as 20 + 20 t, and 2, 4, 7 and 8 are left
        wanted, seen = (
            ((c.float().mean(dim=(1, 2, 3)) - 20) / 20).round().int().tolist()
            for c in (good[1], clip)
        )
        assert label == 1
        assert wanted != seen
        assert seen == [min((2, 4, 7, 8), key=lambda i, w=w: (abs(i - w), i)) for w in wanted]


def zip_rows(got):
    return [row for batch in got for row in zip(*batch, strict=True)]


def flat(row):
    clip, label, index = row
    return clip, int(label), int(index)


def test_a_video_without_a_good_frame_stops_even_where_nearest_ones_would_do(tiny_set):
    damage(tiny_set, "train_1")
    with pytest.raises(UserError, match=r"train_1 has no frame that can be decoded"):
        batches(tiny_set, "nearest")
    shutil.rmtree(frame(tiny_set, "train_1", 1).parent)
    with pytest.raises(UserError, match=r"train_1: no such folder"):
        batches(tiny_set, "nearest")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("gone", [False, True], ids=["frames", "folder"])
def test_skipped_clips_leave_the_others_as_they_are(tiny_set, workers, gone):
    good = zip_rows(batches(tiny_set, "stop", batch_size=3)[1])
    damage(tiny_set, "train_4")
    if gone:
        shutil.rmtree(frame(tiny_set, "train_4", 1).parent)
    faults, got = batches(tiny_set, "skip", workers, batch_size=3)
    assert len(got) == 2
    assert set(faults.found) == {4}
    got = zip_rows(got)
    assert len(got) == 5
    for row, expected in zip(got, (row for row in good if row[2] != 4), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(row, expected, strict=True))


def test_a_lone_clip_makes_an_empty_batch_which_still_is_a_step(tiny_set):
    damage(tiny_set, "train_4")
    sizes = [len(labels) for _, labels, _ in batches(tiny_set, "skip")[1]]
    assert sorted(sizes) == [0, 2, 2]
    damage(tiny_set, "test_0")
    assert [batch.indices.tolist() for batch in views(tiny_set, "skip").epoch()] == [[1], [2, 3]]


def test_flow_is_mended_too(tiny_set):
    add_flow(tiny_set / "tiny")
    (tiny_set / "tiny/flow/train_2/flow_y_00003.jpg").write_bytes(b"")
    faults, got = batches(tiny_set, "nearest", batch_size=6, clip=FLOW)
    assert "flow_y_00003.jpg" in faults.found[2]
    assert len(got[0][1]) == 6


def test_of_frames_of_two_sizes_the_fewer_are_bad(tmp_path):
    folder = write_frames(tmp_path / "v", 6)
    other = write_frames(tmp_path / "w", 1, size=(20, 20)) / "image_00001.jpg"
    shutil.copy(other, folder)  # the first frame: those after it are not to blame
    with pytest.raises(BadFrame, match="image_00001.jpg is 20x20, the other frames 48x36") as error:
        read_frames(str(folder), [0, 2, 4], 6)
    assert error.value.index == 0


def test_more_bad_videos_than_the_share_end_the_epoch(tiny_set):
    damage(tiny_set, "train_1")
    damage(tiny_set, "train_2")
    batches(tiny_set, "skip", share=0.34)
    with pytest.raises(UserError, match=r"2 of 6 videos are bad, more than --max-bad-share 0.33"):
        batches(tiny_set, "skip", share=0.33)
    for i in range(4):
        damage(tiny_set, f"test_{i}")
    with pytest.raises(UserError, match=r"4 of 4 videos are bad"):
        watched(views(tiny_set, "skip", share=1))


def test_each_epoch_says_what_was_done_and_to_which_files(tiny_set, caplog):
    for i in range(4):
        damage(tiny_set, f"train_{i}")
    with caplog.at_level(logging.INFO, "video"):
        batches(tiny_set, "skip", share=0.9)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("training: 4 of 6 videos were left out: ")
    assert line.count("cannot be decoded") == 3
    assert line.endswith(", and 1 more")


def test_a_run_that_skips_counts_what_it_left_out_and_leaves_the_data_alone(in_tiny_set):
    damage(in_tiny_set / "data", "train_4")
    shutil.rmtree(frame(in_tiny_set / "data", "test_1", 1).parent)
    before = sorted((in_tiny_set / "data").rglob("*"))
    argv = [*SMALL_RUN, "--batch-size", "2", "--precise-bn", "2", *BEAR, "skip"]
    assert main(argv) == 0
    result = json.loads((RUN / "result.json").read_text())
    assert (result["num_videos"], result["num_skipped"]) == (3, 1)
    names = [Path(p["path"]).name for p in json.loads((RUN / "predictions.json").read_text())]
    assert names == ["test_0", "test_2", "test_3"]
    said = (RUN / "log.txt").read_text()
    assert "training: 1 of 6 videos were left out: " in said
    assert "evaluation: 1 of 4 videos were left out: " in said
    assert "on 3 videos (1 skipped)" in said
    steps = [json.loads(line) for line in (RUN / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in steps] == [3, 6]
    assert sorted((in_tiny_set / "data").rglob("*")) == before


def test_an_epoch_that_goes_on_remembers_the_bad_videos_before_the_stop(in_tiny_set, monkeypatch):
    for i in range(6):
        damage(in_tiny_set / "data", f"train_{i}", [1])
    argv = [*SMALL_RUN, "--clip-len", "10", "--batch-size", "2", "--epochs", "1"]
    argv += ["--resume", "auto", "--on-bad-frame", "nearest"]
    step = Trainer.train_batch

    def stopped(self, clips, labels, waited=0):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, clips, labels, waited)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_batch", stopped)
        assert main([*argv, "--max-bad-share", "0.7"]) == PREEMPTED
    assert len(checkpoint_file.load(RUN / "last.pth")["faults"]) == 2
    with pytest.raises(UserError, match="6 of 6 videos are bad"):  # four since the stop
        main([*argv, "--max-bad-share", "0.7"])


def cut_off_zip(folder, root):
    """Packs the videos into frames.zip beside the lists, the second half of which is lost."""
    with zipfile.ZipFile(folder / "frames.zip", "w") as archive:
        for file in sorted((folder / "frames").rglob("*.jpg")):
            archive.write(file, file.relative_to(folder / "frames"))
    for path in folder.glob("*list01.json"):
        path.write_text(path.read_text().replace('"frames/', '"frames.zip/'))
    content = (folder / "frames.zip").read_bytes()
    (folder / "frames.zip").write_bytes(content[: len(content) // 2])


def zero_bytes(folder, root):
    damage(root, "train_3", [6])


def other_size(folder, root):
    small = write_frames(folder / "small", 1, size=(20, 20)) / "image_00001.jpg"
    shutil.copy(small, frame(root, "train_3", 6))


def unreadable(folder, root):
    frame(root, "train_3", 6).unlink()
    frame(root, "train_3", 6).mkdir()  # what may not be read fails like this; root may read all


@pytest.mark.parametrize(
    "how, words",
    [
        (cut_off_zip, "frames.zip"),
        (zero_bytes, "train_3/image_00006.jpg cannot be decoded"),
        (other_size, "train_3/image_00006.jpg is 20x20, the other frames 48x36"),
        (unreadable, "train_3/image_00006.jpg cannot be decoded: this is no file, but a folder"),
    ],
)
def test_bad_input_ends_training_with_workers_in_one_sentence(in_tiny_set, how, words):
    how(in_tiny_set / "data" / "tiny", in_tiny_set / "data")
    with pytest.raises(UserError) as error:
        main([*TINY_RUN, "--workers", "2", "--clip-len", "10"])
    sentence = str(error.value).rsplit(f"{type(error.value).__name__}: ", 1)[-1].strip()
    assert words in sentence
    assert "\n" not in sentence
