"""The same clips, byte for byte, from any number of processes, however they are started."""

import hashlib
import json
import logging
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import add_flow, write_frames
from torchvision.transforms.v2 import functional as tvf

from config import DATASETS, Augmentation, DatasetSpec, Loading, Preprocessing, UserError, Views
from pt_dataset import loader as loader_module
from pt_dataset import sampling, transforms
from pt_dataset.augmentations.of_clips import color_jitter
from pt_dataset.clip_dataset import TrainClips
from pt_dataset.formats.flow import read_flow
from pt_dataset.loader import train_loader, view_loader
from pt_dataset.processes import memory, signals
from pt_dataset.processes.slots import Sent, Slots, room
from pt_dataset.sources import read_frames
from pt_dataset.video_list import VideoList
from pt_dataset.video_lists import check_clips, read_dataset

ROOT = Path(__file__).resolve().parents[1]
CLIP = Preprocessing(
    clip_len=4, stride=2, short_side=34, crop_size=32, mean=(0.5,) * 3, std=(0.5,) * 3
)
FLOW = replace(CLIP, modality="flow")
STACKED_FLOW = replace(FLOW, clip_len=6, snippet_len=3)  # two segments
AUGMENTED = Augmentation(short_side=(34, 40))
JITTERED = replace(AUGMENTED, color_jitter=(0.4, 0.4, 0.4, 0.1))


def make_train_loader(root, workers=0, seed=3, batch_size=4, clip=CLIP, augmentation=AUGMENTED):
    return train_loader(
        read_dataset("tiny", root),
        clip,
        augmentation,
        Loading(workers=workers),
        batch_size=batch_size,
        seed=seed,
    )


@pytest.fixture
def start_by():
    """Chooses how the processes of loaders start, until the end of the test."""
    before = multiprocessing.get_start_method(allow_none=True)
    yield lambda method: multiprocessing.set_start_method(method, force=True)
    multiprocessing.set_start_method(before, force=True)


def flipping(prob):
    return replace(AUGMENTED, flip_prob=prob)


def digest(loader, epochs):
    """A hash for each epoch of everything that the loader gives."""
    digests = []
    for epoch in epochs:
        sha = hashlib.sha256()
        for batch in loader.epoch(epoch):
            for tensor in batch[:3]:
                sha.update(tensor.numpy().tobytes())
        digests.append(sha.hexdigest())
    return digests


@pytest.mark.parametrize(
    "clip, augmentation",
    [
        (CLIP, replace(JITTERED, crop="corners")),
        (replace(CLIP, resize="square"), replace(JITTERED, crop="resized")),
        (replace(CLIP, target_fps=20), AUGMENTED),
        (STACKED_FLOW, AUGMENTED),
    ],
    ids=["corners", "resized", "target_fps", "flow"],
)
def test_augmented_clips_do_not_depend_on_the_processes(tiny_set, clip, augmentation):
    add_flow(tiny_set / "tiny", fps=25)
    how = {"clip": clip, "augmentation": augmentation}
    expected = digest(make_train_loader(tiny_set, **how), [0, 1])
    assert len(set(expected)) == 2
    for workers in (1, 2):
        torch.manual_seed(workers)
        loader = make_train_loader(tiny_set, workers, **how)
        assert digest(loader, [0, 1]) == expected


@pytest.mark.parametrize(
    "workers, start_method", [(1, "fork"), (2, "fork"), (1, "spawn"), (2, "spawn")]
)
def test_clips_do_not_depend_on_the_processes(tiny_set, start_by, workers, start_method):
    expected = digest(make_train_loader(tiny_set), [0, 1, 2])
    start_by(start_method)
    assert len(set(expected)) == 3  # epochs differ
    assert digest(make_train_loader(tiny_set, workers), [0, 1, 2]) == expected


def test_an_epoch_does_not_depend_on_those_before_it(tiny_set):
    assert (
        digest(make_train_loader(tiny_set), [2])
        == digest(make_train_loader(tiny_set), [0, 1, 2])[2:]
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_go_on_from_any_batch(tiny_set, workers):
    loader = make_train_loader(tiny_set, workers, batch_size=2)
    whole = list(loader.epoch(1))
    for start in range(4):
        rest = list(loader.epoch(1, start))
        assert len(rest) == 3 - start
        assert_same_batches(rest, whole[start:])


def assert_same_batches(found, expected):
    for batch, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch[:3], other[:3], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_is_left_early_leaves_no_trace(tiny_set, workers):
    """As where a run is stopped, or batch norm is measured on a few batches."""
    loader = make_train_loader(tiny_set, workers, batch_size=2)
    expected = list(make_train_loader(tiny_set, batch_size=2).epoch(1))
    for taken in (1, 2):
        assert len(list(islice(loader.epoch(0), taken))) == taken
        processes = multiprocessing.active_children()
        assert_same_batches(loader.epoch(1), expected)
        assert multiprocessing.active_children() == processes  # those that read the first batch
    assert len(processes) == workers
    left = loader.epoch(0)
    next(left)
    del left, loader
    give_up = time.monotonic() + 20
    while multiprocessing.active_children():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_another_seed_gives_other_clips(tiny_set):
    assert digest(make_train_loader(tiny_set, seed=4), [0]) != digest(
        make_train_loader(tiny_set), [0]
    )


def test_views_do_not_depend_on_the_processes(tiny_set, start_by):
    def loader(workers):
        videos = read_dataset("tiny", tiny_set).test
        return view_loader(videos, CLIP, Views(2, 3), Loading(workers=workers), batch_size=12)

    start_by("spawn")
    assert digest(loader(2), [0]) == digest(loader(0), [0])


def test_a_video_that_makes_no_batch_to_train_on_is_refused(tiny_set):
    lists = read_dataset("tiny", tiny_set)
    alone = replace(lists, train=lists.train[:1])  # as --val-groups may leave it
    how = {"batch_size": 3, "seed": 0, "shard": (0, 1), "equal_shares": False}
    with pytest.raises(UserError, match="list01.json: 1 training video cannot make a batch of 3"):
        train_loader(alone, CLIP, AUGMENTED, Loading(workers=0), **how)
    assert len(train_loader(alone, CLIP, AUGMENTED, Loading(workers=0), **how | {"batch_size": 1}))


def test_every_video_comes_once_an_epoch_in_another_order(tiny_set):
    loader = make_train_loader(tiny_set)
    orders = []
    for epoch in range(2):
        orders.append(torch.cat([batch.indices for batch in loader.epoch(epoch)]).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(6))
    assert orders[0] != orders[1]


def test_only_a_last_batch_of_a_single_clip_is_left_out(tiny_set):
    sizes = {
        n: [len(b.labels) for b in make_train_loader(tiny_set, batch_size=n).epoch()]
        for n in (1, 2, 4, 5)
    }
    assert sizes == {1: [1] * 6, 2: [2, 2, 2], 4: [4, 2], 5: [5]}


def test_a_batch_is_uint8_clips_with_their_labels(tiny_set):
    lists = read_dataset("tiny", tiny_set)
    for clips, labels, indices, _ in make_train_loader(tiny_set, augmentation=flipping(0)).epoch():
        assert clips.dtype == torch.uint8
        assert clips.shape[1:] == (4, 32, 32, 3)
        assert labels.tolist() == [lists.train[i].label for i in indices]
        # class 1 grows brighter with time, class 0 darker: no frame is out of order
        rising = clips.float().mean(dim=(2, 3, 4)).diff(dim=1) > 0
        assert rising.all(dim=1).tolist() == [label == 1 for label in labels]


def test_views_are_clips_times_crops(tiny_set):
    loader = view_loader(
        read_dataset("tiny", tiny_set).test,
        CLIP,
        Views(2, 3),
        Loading(workers=0),
        batch_size=1,
    )
    views = next(loader.epoch()).clips
    assert views.shape == (1, 6, 4, 32, 32, 3)
    brightness = views[0].float().mean(dim=(1, 2, 3, 4))
    assert (brightness[:3] - brightness[0]).abs().max() < 2  # three crops of the first clip
    assert (brightness[3:] - brightness[0]).abs().min() > 20  # and of the second


def test_a_flip_mirrors_the_clip_and_swaps_the_label(tiny_set, monkeypatch):
    monkeypatch.setitem(
        DATASETS, "tiny", DatasetSpec(title="", flip_swaps={"up": "down", "down": "up"})
    )
    loaders = [make_train_loader(tiny_set, augmentation=flipping(p)).epoch() for p in (0, 1)]
    for (plain, labels, *_), (flipped, swapped, *_) in zip(*loaders, strict=True):
        assert torch.equal(flipped, plain.flip(3))
        assert torch.equal(swapped, 1 - labels)


def test_a_data_set_can_forbid_flips(tiny_set, monkeypatch):
    monkeypatch.setitem(DATASETS, "tiny", DatasetSpec(title="", flips=False))
    loaders = [make_train_loader(tiny_set, augmentation=flipping(p)).epoch() for p in (0, 1)]
    for (plain, labels, *_), (same, same_labels, *_) in zip(*loaders, strict=True):
        assert torch.equal(same, plain)
        assert torch.equal(same_labels, labels)


def test_a_video_shorter_than_the_clip_is_looped(tiny_set):
    folder = tiny_set / "tiny"
    entries = []
    for label, name in enumerate(("down", "up")):
        write_frames(folder / name, 3, level=lambda t: 80 * t)
        entries.append({"path": name, "class_name": name, "label": label, "num_frames": 3})
    (folder / "trainlist01.json").write_text(json.dumps(entries))
    clips = next(make_train_loader(tiny_set).epoch()).clips
    assert (clips[0].float().mean(dim=(1, 2, 3)) / 80).round().tolist() == [0, 2, 1, 0]  # stride 2


def test_a_missing_list_names_the_three_commands(tmp_path):
    with pytest.raises(UserError) as error:
        read_dataset("mine", tmp_path)
    for words in (
        "mine/trainlist01.json",
        "extract_frames.py",
        "make_json.py folder mine",
        "main.py",
    ):
        assert words in str(error.value)


def test_a_list_whose_videos_are_gone_is_an_error_at_the_start(tiny_set):
    frames = tiny_set / "tiny" / "frames"
    frames.rename(frames.with_name("moved"))
    with pytest.raises(
        UserError, match=r"6 of 6 videos looked for do not exist, the first is .*train_0"
    ):
        read_dataset("tiny", tiny_set)


def test_frames_from_the_wild_go_through_the_loader(shared, tmp_path):
    entries = [
        {
            "path": str(folder),
            "class_name": "ab"[i % 2],
            "label": i % 2,
            "num_frames": len(list(folder.iterdir())),
        }
        for i, folder in enumerate(sorted((shared / "real" / "ucf101_frames").iterdir()))
    ]
    other = {"path": str(shared / "real" / "kinetics_frames" / "skydiving"), "num_frames": 100}
    for part, some in (("train", entries), ("test", [entries[0] | other])):
        (tmp_path / "wild").mkdir(exist_ok=True)
        (tmp_path / "wild" / f"{part}list01.json").write_text(json.dumps(some))
    (tmp_path / "wild" / "classes.txt").write_text("a\nb\n")
    clip = replace(CLIP, clip_len=16, stride=1, short_side=256, crop_size=224)
    loader = train_loader(
        read_dataset("wild", tmp_path),
        clip,
        Augmentation(),
        Loading(workers=2),
        batch_size=8,
        seed=0,
    )
    clips = next(loader.epoch()).clips
    assert clips.shape == (8, 16, 224, 224, 3)
    assert clips.float().std() > 20


def test_flow_has_two_channels_and_a_mirrored_field_moves_the_other_way(tiny_set):
    add_flow(tiny_set / "tiny")
    make = make_train_loader
    loaders = [make(tiny_set, clip=FLOW, augmentation=flipping(p)).epoch() for p in (0, 1)]
    for (plain, *_), (mirrored, *_) in zip(*loaders, strict=True):
        assert plain.shape[1:] == (4, 32, 32, 2)
        fields = (plain[:, :, 16, 16, 0].float() - 100) / 2  # u says which field it is
        assert ((fields[:, 1:] - fields[:, :-1] - 2).abs() < 1).all()  # stride 2
        assert (fields.max() < 8.6) & (fields.min() > -0.6)  # ten frames, nine fields
        assert torch.equal(mirrored[..., 0], 255 - plain[..., 0].flip(3))
        assert torch.equal(mirrored[..., 1], plain[..., 1].flip(3))


def test_fields_of_a_segment_are_the_channels_of_a_frame(tiny_set):
    add_flow(tiny_set / "tiny")
    loader = make_train_loader(tiny_set, clip=STACKED_FLOW, augmentation=flipping(0))
    for clips, *_ in loader.epoch():
        assert clips.shape[1:] == (2, 32, 32, 6)
        u, v = clips[..., ::2].float(), clips[..., 1::2].float()
        assert ((u[..., 1:] - u[..., :-1] - 2).abs() < 1.5).all()  # consecutive
        assert ((v - 30).abs() < 2).all()
    assert STACKED_FLOW.network_input() == (6, 2, 32, 32)
    views = view_loader(
        read_dataset("tiny", tiny_set).test,
        STACKED_FLOW,
        Views(5, 10),
        Loading(workers=0),
        batch_size=1,
    )
    views = next(views.epoch()).clips.float()
    assert views.shape == (1, 10, 5, 32, 32, 6)
    assert torch.equal(views[0, 5:, ..., ::2].flip(3), 255 - views[0, :5, ..., ::2])
    assert torch.equal(views[0, 5:, ..., 1::2].flip(3), views[0, :5, ..., 1::2])


def test_a_target_rate_changes_the_frames_that_are_seen(tiny_set):
    add_flow(tiny_set / "tiny", fps=50)
    video = read_dataset("tiny", tiny_set).test[0]
    resampled = replace(CLIP, stride=1, target_fps=25)
    assert sampling.view_indices(video, resampled, 1) == [[1, 3, 5, 7]]
    assert sampling.view_indices(video, replace(CLIP, stride=1), 1) == [[3, 4, 5, 6]]


def test_whole_videos_come_one_by_one(tiny_set):
    folder = tiny_set / "tiny"
    entries = json.loads((folder / "testlist01.json").read_text())
    write_frames(folder / "frames" / "long", 25)
    entries[1] |= {"path": "frames/long", "num_frames": 25}
    (folder / "testlist01.json").write_text(json.dumps(entries))
    loader = view_loader(
        read_dataset("tiny", tiny_set).test,
        CLIP,
        Views(None, 3),
        Loading(workers=0),
        batch_size=8,
    )
    lengths = [batch.clips.shape[:3] for batch in loader.epoch()]
    assert lengths == [(1, 3, 5), (1, 3, 13), (1, 3, 5), (1, 3, 5)]  # stride 2


@pytest.mark.parametrize(
    "clip, num_crops, message",
    [
        (FLOW, 1, "--modality flow needs .* 10 of 10 videos do not have, the first is .*train_0"),
        (replace(CLIP, target_fps=25), 1, "--target-fps needs .* 10 of 10 videos"),
        (CLIP, 10, "ten crops of a video mirror it"),
    ],
)
def test_lists_that_lack_what_clips_need_are_an_error(
    tiny_set, monkeypatch, clip, num_crops, message
):
    monkeypatch.setitem(
        DATASETS, "tiny", DatasetSpec(title="", flip_swaps={"up": "down", "down": "up"})
    )
    lists = read_dataset("tiny", tiny_set)
    check_clips(lists, CLIP)
    with pytest.raises(UserError, match=message):
        check_clips(lists, clip, num_crops)


def plain_clip(video, clip, augmentation, seed, epoch, index):
    """What TrainClips makes of a video, from whole frames that torch resizes."""
    rng = sampling.generator(seed, epoch, index)
    indices = sampling.train_indices(video, clip, rng)
    if clip.modality == "flow":
        frames = read_flow(video.flow_path, indices, video.num_frames)
    else:
        frames = read_frames(video.path, indices, video.num_frames)
    crops = transforms.training_crop(*frames.shape[1:3], clip, augmentation, rng)
    whole = torch.from_numpy(frames[(slice(None), *crops.part)]).permute(0, 3, 1, 2)
    whole = tvf.resize(whole, crops.size, antialias=clip.antialias).permute(0, 2, 3, 1)
    cut = whole[(slice(None), *crops.windows[0])].numpy()
    if rng.random() < augmentation.flip_prob:
        cut = cut[:, :, ::-1].copy()
        if clip.modality == "flow":
            cut[..., 0] = 255 - cut[..., 0]
    cut = torch.from_numpy(cut.copy())
    if clip.snippet_len:  # fields of a segment side by side, as channels
        fields = cut.split(clip.snippet_len)
        cut = torch.stack([torch.cat(list(segment), dim=-1) for segment in fields])
    return color_jitter(cut, augmentation, rng)


@pytest.mark.parametrize(
    "clip, augmentation",
    [
        (CLIP, AUGMENTED),
        (CLIP, Augmentation(short_side=(36, 36))),
        (CLIP, replace(JITTERED, crop="corners")),
        (replace(CLIP, antialias=False), replace(AUGMENTED, crop="resized")),
        (FLOW, AUGMENTED),
        (STACKED_FLOW, AUGMENTED),
    ],
    ids=["random", "no resize", "corners", "resized", "flow", "stacked flow"],
)
@pytest.mark.parametrize("opencv", [True, False], ids=["OpenCV", "torch"])
def test_frames_cut_one_by_one_make_the_same_clips(
    tiny_set, clip, augmentation, opencv, monkeypatch
):
    add_flow(tiny_set / "tiny")
    if not opencv:
        monkeypatch.setattr(transforms, "opencv", lambda: None)
    videos = read_dataset("tiny", tiny_set).train
    clips = TrainClips(videos, clip, augmentation, [0, 1], seed=7)
    for index, video in enumerate(videos):
        expected = plain_clip(video, clip, augmentation, 7, 2, index)
        found = clips[2, index].clip
        assert_near(found, expected, opencv)
        batch, *_ = clips.__getitems__([(2, 0), (2, index)])  # straight into the batch
        assert torch.equal(batch[1], found)


def assert_near(found, expected, opencv):
    """Each resized pixel within one gray level, where OpenCV resizes."""
    error = (found.int() - expected.int()).abs().max()
    assert error <= (1 if opencv else 0)


def test_the_draws_of_a_clip_are_those_of_before():
    """So that a resumed run goes on as it would have."""
    rng = sampling.generator(3, 1, 5)
    assert sampling.random_clip(100, 4, 2, rng) == [91, 93, 95, 97]
    crops = transforms.training_crop(64, 96, CLIP, Augmentation(short_side=(64, 80)), rng)
    assert (crops.size, crops.windows) == ((77, 116), [(slice(40, 72), slice(79, 111))])
    crops = transforms.training_crop(64, 96, CLIP, Augmentation(crop="corners"), rng)
    assert crops.part == (slice(0, 64), slice(0, 56))
    crops = transforms.training_crop(64, 96, CLIP, Augmentation(crop="resized"), rng)
    assert crops.part == (slice(23, 61), slice(24, 59))


def private_mb(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def worker_mb(root, count, start_method, batches):
    """Private memory of a loader process with a list of `count` entries after so many batches."""
    lists = read_dataset("tiny", root)
    videos = VideoList(
        lists.train[i % 6]._replace(path=lists.train[i % 6].path + "/" * (i % 50))
        for i in range(count)
    )
    multiprocessing.set_start_method(start_method, force=True)
    loader = view_loader(videos, CLIP, Views(1, 1), Loading(workers=1), batch_size=10)
    rest, used = loader.epoch(), []
    for number in range(max(batches) + 1):
        next(rest)
        if number in batches:
            (process,) = multiprocessing.active_children()
            used.append(private_mb(process.pid))
    rest.close()
    del loader, rest
    return used


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells")
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_long_lists_cost_a_process_little_memory(tiny_set, start_by, start_method):
    (short,) = worker_mb(tiny_set, 100, start_method, [8])
    (long,) = worker_mb(tiny_set, 240_000, start_method, [8])
    assert long - short < 50


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells")
def test_the_memory_of_a_process_does_not_grow_with_the_clips(tiny_set):
    # in a fresh process: of a fork of this one what the tests left, touched bit by bit, would count
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        early, late = pool.submit(worker_mb, tiny_set, 2100, "fork", [10, 205]).result()
    assert late - early < 3


def test_batches_that_wait_fit_into_the_free_memory(monkeypatch, caplog):
    room = {"shm": 100e9, "memory": 100e9}
    monkeypatch.setattr(memory, "free_shm", lambda: room["shm"])
    monkeypatch.setattr(memory, "free_memory", lambda: room["memory"])
    with caplog.at_level(logging.INFO, "video"):
        assert memory.fitting(16, 600_000_000, 1_200_000_000) == (16, 2)
        assert not caplog.records
        room["memory"] = 48e9  # 20 batches in a quarter of it
        assert memory.fitting(16, 600_000_000, 1_200_000_000) == (16, 1)
        assert "16 of 16 processes, with 1 instead of 2 batches of 600 MB" in caplog.text
        room["shm"] = 10e9
        assert memory.fitting(16, 600_000_000, 1_200_000_000) == (8, 1)
        assert "8 of 16 processes" in caplog.text
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # processes of a run on this machine
        assert memory.fitting(16, 600_000_000, 1_200_000_000) == (2, 1)
        monkeypatch.delenv("LOCAL_WORLD_SIZE")
        room["shm"] = 1.9e9
        assert memory.fitting(16, 600_000_000, 1_200_000_000) == (1, 1)
        room["shm"] = 64e6
        with pytest.raises(UserError, match=r"batches need 1,800 MB.* 64 MB free.*--workers 0"):
            memory.fitting(16, 600_000_000, 1_200_000_000)
        room |= {"shm": math.inf, "memory": math.inf}  # not known
        assert memory.fitting(16, 600_000_000, 1_200_000_000) == (16, 2)


def test_a_slot_is_filled_again_when_nothing_of_its_batch_is_left():
    slots = Slots(2, 24)
    first, second, third = (slots.keys([(0, i)]) for i in range(3))
    assert (first.slot[1], second.slot[1]) == (0, 1)
    assert third == [(0, 2)] and not hasattr(third, "slot")  # comes in memory of its own
    room(first.slot, (2, 4)).fill_(7)
    sent = pickle.loads(pickle.dumps(Sent(first.slot, (2, 4), [0, 1], [5, 6], {})))
    batch = loader_module.received(sent)
    assert batch.clips.tolist() == [[7] * 4] * 2
    assert (batch.labels.tolist(), batch.indices.tolist()) == ([0, 1], [5, 6])
    part = batch.clips[1:].float().byte(), batch.clips[1:]  # a copy, and a view
    del batch
    assert not hasattr(slots.keys([(0, 3)]), "slot")
    assert part[1].tolist() == [[7] * 4]
    del part
    assert slots.keys([(0, 3)]).slot == first.slot
    slots.start()  # the epoch was left: nobody will take them
    assert [slots.keys([(1, i)]).slot[1] for i in range(2)] == [0, 1]


def test_a_slot_is_free_once_its_batch_is_pinned(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)  # there may be no GPU
    slots = Slots(1, 6)
    keys = slots.keys([(0, 0)])
    room(keys.slot, (1, 6)).fill_(3)
    sent = torch.utils.data._utils.pin_memory.pin_memory(Sent(keys.slot, (1, 6), [1], [0], {}))
    assert slots.keys([(0, 1)]).slot == keys.slot
    room(keys.slot, (1, 6)).fill_(4)
    assert loader_module.received(sent).clips.tolist() == [[3] * 6]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="it is needed")
def test_batches_of_processes_come_in_slots_and_stay_as_they_are(tiny_set, start_by):
    start_by("fork")
    loader = make_train_loader(tiny_set, workers=1, batch_size=2)
    memory = loader.sampler.slots.memory
    assert memory.shape == (4, 2 * CLIP.clip_len * 32 * 32 * 3)  # two ahead, two in use
    kept = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    inside = [np.shares_memory(batch.clips.numpy(), memory) for batch in kept]
    assert inside == [True] * 4 + [False] * 5
    expected = make_train_loader(tiny_set, batch_size=2)
    assert_same_batches(kept, [batch for epoch in range(3) for batch in expected.epoch(epoch)])


def test_a_process_keeps_memory_where_the_c_library_lets_it(monkeypatch):
    asked = []
    library = SimpleNamespace(mallopt=lambda *option: asked.append(option))
    for found in (library, SimpleNamespace()):
        monkeypatch.setattr(memory.ctypes, "CDLL", lambda name, found=found: found)
        memory.keep_freed_memory()
        memory.give_freed_memory_back()

    def on_windows(name):
        return "/" in name  # as ctypes asks there

    monkeypatch.setattr(memory.ctypes, "CDLL", on_windows)
    memory.keep_freed_memory()
    memory.give_freed_memory_back()
    assert asked == [(-3, 1 << 25), (-1, 1 << 26)]


def test_signals_to_all_processes_are_not_for_loaders(monkeypatch):
    blocked = []
    monkeypatch.setattr(signals.signal, "pthread_sigmask", lambda how, which: blocked.extend(which))
    monkeypatch.setattr(signals.threading, "Thread", lambda **how: SimpleNamespace(start=int))
    monkeypatch.setattr(signals.gc, "freeze", int)
    monkeypatch.setattr(signals, "keep_freed_memory", int)
    monkeypatch.setattr(signals.Queue, "_on_queue_feeder_error", None)
    signals.set_up_worker(0)
    assert set(blocked) == {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}


def test_the_bytes_of_a_batch_are_known_before(tiny_set, monkeypatch):
    asked = []
    monkeypatch.setattr(
        loader_module, "fitting", lambda workers, size, _: asked.append(size) or (workers, 1)
    )
    add_flow(tiny_set / "tiny")
    lists = read_dataset("tiny", tiny_set)
    for clip in (CLIP, STACKED_FLOW):
        clips = next(make_train_loader(tiny_set, workers=1, clip=clip).epoch()).clips
        assert asked.pop() == clips.numel()
    loading = Loading(workers=1)
    for num_clips in (2, None):
        loader = view_loader(lists.test, CLIP, Views(num_clips, 3), loading, batch_size=12)
        assert asked.pop() == next(loader.epoch()).clips.numel()


def test_advice_depends_on_where_the_frames_are(tiny_set, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    lists = read_dataset("tiny", tiny_set)

    def advice(path, workers):
        videos = VideoList([lists.train[0]._replace(path=path)])
        loader = train_loader(
            replace(lists, train=videos),
            CLIP,
            AUGMENTED,
            Loading(workers=workers),
            batch_size=1,
            seed=0,
        )
        return loader.advice()

    assert "--workers 2" in advice(lists.train[0].path, 1)
    assert "pack_frames.py" in advice(lists.train[0].path, 2)
    assert "extract_frames.py" in advice("videos/a.mp4", 2)
    assert "faster disk" in advice("frames.zip/a", 2)


def runs(pid):
    try:  # the state stands behind the name in parentheses; Z is dead, and not yet noticed
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


ABANDON = """
import os, signal, time
from torch.utils.data import DataLoader, Dataset
from pt_dataset.processes.signals import set_up_worker

class Stuck(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):  # as if a disk never answered
        os.write(there, b".")
        time.sleep(1000)

begun, there = os.pipe()
batches = iter(DataLoader(Stuck(), num_workers=2, worker_init_fn=set_up_worker))
os.read(begun, 1), os.read(begun, 1)
print(*[worker.pid for worker in batches._workers], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_do_not_outlive_a_killed_run():
    argv = [sys.executable, "-c", ABANDON]
    # a worker that lives on keeps the pipe open
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)
    workers = done.stdout.split()
    assert len(workers) == 2
    give_up = time.monotonic() + 20
    while any(map(runs, workers)):
        assert time.monotonic() < give_up
        time.sleep(0.2)


@pytest.mark.parametrize("swaps", [{"pu": "down"}, {"up": "nowhere"}, {"up": "down"}])
def test_a_swap_of_labels_that_cannot_be_is_refused(tiny_set, monkeypatch, swaps):
    monkeypatch.setitem(DATASETS, "tiny", DatasetSpec(title="", flip_swaps=swaps))
    with pytest.raises(UserError, match="flip_swaps of tiny turns '(pu|up)' into"):
        read_dataset("tiny", tiny_set).flipped_labels()
