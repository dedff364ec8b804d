"""What changes the pixels of clips, and several clips of one video."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import write_frames
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from config import Augmentation, Loading, Preprocessing
from opts import parse_opts
from pt_dataset.augmentations.of_clips import TURNING, changed, erase
from pt_dataset.clip_dataset import TrainClips
from pt_dataset.loader import EpochBatches, train_loader
from pt_dataset.video_list import Video
from pt_dataset.video_lists import read_dataset

RAND, TRIVIAL = Augmentation(augment="randaugment"), Augmentation(augment="trivialaugment")
ERASING = Augmentation(erasing=1.0)
CLIP = Preprocessing(clip_len=3, short_side=34, crop_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture
def still():
    """Four frames that are all the same."""
    frame = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8))
    return frame.repeat(4, 1, 1, 1)


@pytest.mark.parametrize("augmentation", [RAND, TRIVIAL, ERASING], ids=["rand", "trivial", "erase"])
def test_one_set_of_parameters_serves_all_frames_and_comes_from_the_generator(still, augmentation):
    others = 0
    for seed in range(40):
        torch.manual_seed(seed)
        one, again = (changed(still.clone(), augmentation, [0, 1], random.Random(5)) for _ in "ab")
        other = changed(still.clone(), augmentation, [0, 1], random.Random(seed))
        assert torch.equal(one, again)  # whatever torch's own generator
        assert (other == other[:1]).all()
        assert other.dtype == torch.uint8 and other.is_contiguous()
        others += not torch.equal(other, still)
    assert others > 25


def test_what_is_off_changes_and_draws_nothing(still):
    rng = random.Random(0)
    before = torch.get_rng_state()
    assert changed(still, Augmentation(), [0], rng) is still
    assert rng.getstate() == random.Random(0).getstate()
    changed(still.clone(), replace(RAND, erasing=1.0), [0], rng)
    assert torch.equal(torch.get_rng_state(), before)


def operations_of(monkeypatch, still, augmentation, flipped_labels):
    """How often each operation is applied to 300 clips."""
    found = Counter()
    base = v2.RandAugment.__mro__[1]

    def apply(self, image, name, magnitude, **_):
        found[name] += 1
        assert name != "Rotate" or abs(magnitude) <= (30 if self._RAND else 135)
        return image

    monkeypatch.setattr(base, "_apply_image_or_video_transform", apply)
    monkeypatch.setattr(base, "_RAND", augmentation.augment == "randaugment", raising=False)
    for i in range(300):
        changed(still, augmentation, flipped_labels, random.Random(i))
    return found


@pytest.mark.parametrize("augmentation", [RAND, TRIVIAL], ids=["rand", "trivial"])
def test_clips_are_turned_only_where_no_label_tells_directions_apart(
    monkeypatch, still, augmentation
):
    how = monkeypatch, still
    free = operations_of(*how, augmentation, [0, 1, 2])
    assert free.keys() >= TURNING
    assert free.total() == 300 * (augmentation.rand_augment[0] if augmentation is RAND else 1)
    upright = [
        operations_of(*how, augmentation, [1, 0, 2]),  # two classes become each other in a mirror
        operations_of(*how, augmentation, None),  # no frame may be mirrored
        operations_of(*how, replace(augmentation, flip_prob=0.0), [0, 1, 2]),  # nor shall it be
    ]
    assert all(found.keys() == free.keys() - TURNING for found in upright)


def test_rand_augment_has_the_operations_and_the_magnitude_that_are_asked_for(monkeypatch, still):
    asked = replace(RAND, rand_augment=(3, 30))
    strongest = []
    monkeypatch.setattr(tvf, "rotate", lambda image, angle, **_: strongest.append(angle) or image)
    for i in range(60):
        changed(still, asked, [0], random.Random(i))
    assert {abs(angle) for angle in strongest} == {30}
    assert {angle > 0 for angle in strongest} == {True, False}


def test_erasing_takes_one_rectangle_of_two_to_thirty_three_percent(still):
    shares = []
    for seed in range(60):
        torch.manual_seed(seed)
        clip = torch.full((2, 60, 80, 3), 7, dtype=torch.uint8)
        erase(clip)
        rows, columns = ((clip[0] != 7).any(2).any(axis).nonzero().flatten() for axis in (1, 0))
        inside = clip[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert len(inside.unique()) > 50 and (clip != 7).sum() <= inside.numel()
        shares.append(inside[0, ..., 0].numel() / 4800)
    assert 0.015 < min(shares) < 0.06 and 0.25 < max(shares) < 0.34
    some = [
        changed(still.clone(), replace(ERASING, erasing=0.3), [0], random.Random(i))
        for i in range(100)
    ]
    assert 18 < sum(not torch.equal(clip, still) for clip in some) < 42


def test_clips_of_training_are_changed_and_stay_the_same_again(tmp_path):
    """Also where they are decoded straight into a batch."""
    write_frames(tmp_path / "v", 9)
    videos = [Video(str(tmp_path / "v"), 0, "a", 9)]
    plain, strong = (
        TrainClips(videos, CLIP, replace(RAND, short_side=(34, 34), **how), [0], seed=3)
        for how in ({"augment": "none"}, {"erasing": 0.5, "rand_augment": (4, 20)})
    )
    keys = [(0, i) for i in range(6)]
    batch, samples, _ = strong.__getitems__(keys)
    assert not torch.equal(batch, plain.__getitems__(keys)[0])
    for key, clip in zip(keys, batch, strict=True):
        assert torch.equal(strong[key].clip, clip)
    assert [sample.index for sample in samples] == [0] * 6  # of the one video
    assert len({clip.numpy().tobytes() for clip in batch}) == 6


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_each_video_comes_so_often_in_an_epoch_and_all_of_it_in_one_batch(num_processes):
    num_videos, repeats = 11, 3
    shards = [
        EpochBatches(num_videos, 6, 5, repeats, shard=(rank, num_processes))
        for rank in range(num_processes)
    ]
    batches = [sum(parts, []) for parts in zip(*shards, strict=True)]
    assert len(batches) == len(shards[0]) == 6
    seen = [Counter(index % num_videos for _, index in batch) for batch in batches]
    assert all(count == repeats for found in seen for count in found.values())
    assert sorted(index for batch in batches for _, index in batch) == list(range(33))
    once = EpochBatches(num_videos, 2, 5)  # in the same order
    assert [list(found) for found in seen] == [[i for _, i in batch] for batch in once]


def test_repeats_are_other_clips_of_a_video_and_its_label_and_index_stay(tiny_set):
    lists = read_dataset("tiny", tiny_set)
    how = {"batch_size": 4, "seed": 3, "repeats": 2}
    loader = train_loader(lists, CLIP, Augmentation(), Loading(workers=0), **how)
    batches, again = list(loader.epoch()), list(loader.epoch())
    assert len(batches) == 3 and torch.equal(again[0].clips, batches[0].clips)
    for clips, labels, indices, _ in batches:
        assert indices.max() < 6
        assert torch.equal(indices[::2], indices[1::2])
        assert [lists.train[i].label for i in indices[::2]] == labels[::2].tolist()
        assert not torch.equal(clips[0], clips[1])


@pytest.mark.parametrize(
    "typed, words",
    [
        ("--batch-size 9 --repeats 2", "--batch-size 9 is no multiple of --repeats 2"),
        ("--modality flow --erasing 0.1", "--augment and --erasing are for RGB frames"),
        ("--rand-augment 2 31", "31 must be between 1 and 30"),
        ("--erasing 1.5", "1.5 must be between 0 and 1"),
        ("--layer-decay 0", "0 must be between 0.01 and 1"),
        ("--drop-path 0.1", "--drop-path is an option of mvit, not of i3d"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys, typed, words):
    with pytest.raises(SystemExit):
        parse_opts(["--arch", "i3d", "--dataset", "x", *typed.split()])
    assert words in capsys.readouterr().err


def test_flow_is_trained_without_what_changes_colors():
    opts = parse_opts(["--arch", "mvit", "--dataset", "x", "--modality", "flow"])
    assert (opts.augment, opts.erasing, opts.cutmix, opts.repeats) == ("none", 0, 1, 2)


def test_a_run_of_before_these_options_goes_on_without_them(in_tiny_set, tmp_path):
    """Though its recipe has them now."""
    (tmp_path / "options.json").write_text('{"arch": "mvit", "dataset": "x", "lr": 4e-4}')
    (tmp_path / "last.pth").touch()
    opts = parse_opts(["--resume", str(tmp_path / "last.pth")])
    assert (opts.augment, opts.erasing, opts.repeats) == ("none", 0, 1)
    assert (opts.cutmix, opts.layer_decay, opts.lr) == (0, 1, 4e-4)
