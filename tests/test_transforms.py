import random
import sys
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from conftest import write_frames
from PIL import Image
from torchvision.transforms.v2 import functional as tvf

from config import Augmentation, Preprocessing
from pt_dataset import transforms
from pt_dataset.augmentations.of_clips import color_jitter
from pt_dataset.clip_dataset import TrainClips
from pt_dataset.transforms import (
    flow_channels,
    mirror,
    resize,
    training_crop,
    view_crops,
    window_at,
)
from pt_dataset.video_list import Video


def gradient(height, width):
    """Red counts columns, green rows; four frames."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.stack([x, y, np.full_like(x, 7)], -1).astype(np.uint8)] * 4)


CLIP = Preprocessing(clip_len=4, mean=(0.5,) * 3, std=(0.5,) * 3)


# elsewhere torchvision computes in float32
IN_INTEGERS = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def cut(crops, clip):
    """What each window sees of all frames."""
    rows, columns = crops.windows[0]
    shape = (len(crops.windows), len(clip), rows.stop - rows.start, columns.stop - columns.start)
    outs = np.empty((*shape, clip.shape[-1]), np.uint8)
    for place, frame in enumerate(clip):
        crops(frame, outs[:, place])
    return list(outs)


def views(clip, short_side, size, num_crops, **facts):
    """The crops of evaluation."""
    seen = replace(CLIP, short_side=short_side, crop_size=size, **facts)
    return cut(view_crops(*clip.shape[1:3], seen, num_crops), clip)


def crops_of(height, width, size, rng, facts=None, **augmentation):
    seen = replace(CLIP, crop_size=size, **facts or {})
    return training_crop(height, width, seen, Augmentation(**augmentation), rng)


def cropped(clip, *args, **augmentation):
    """What training sees of a clip."""
    (crop,) = cut(crops_of(*clip.shape[1:3], *args, **augmentation), clip)
    return crop


def test_a_window_is_placed_by_shares_of_the_way():
    assert window_at(36, 48, 0.5, 0.5, 32) == (slice(2, 34), slice(8, 40))
    assert window_at(36, 48, 0, 1, 32) == (slice(0, 32), slice(16, 48))


def test_a_clip_of_the_right_size_is_only_cropped():
    clip = gradient(36, 48)
    (crop,) = views(clip, 36, 32, 1)
    assert np.array_equal(crop, clip[:, 2:34, 8:40])


WAYS = (
    {"crop": "corners", "crop_scales": (1, 0.8, 0.6)},
    {"crop": "resized", "crop_area": (0.1, 1), "crop_ratio": (0.5, 2)},
    {"crop": "random", "short_side": (33, 80)},
)


@pytest.fixture(params=[True, False], ids=["OpenCV", "torch"])
def with_opencv(request, monkeypatch):
    """Whether it is installed: everything works without it."""
    if not request.param:
        monkeypatch.setattr(transforms, "opencv", lambda: None)
    elif transforms.opencv() is None:
        pytest.skip("OpenCV is not installed")
    return request.param


def test_opencv_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    transforms.opencv.cache_clear()
    assert transforms.opencv() is None
    transforms.opencv.cache_clear()


def test_windows_of_frames_are_those_of_the_resized_clip(with_opencv):
    clip = np.random.default_rng(0).integers(0, 256, (4, 50, 70, 3), dtype=np.uint8)
    for augmentation in WAYS:
        for seed in range(5):
            crops = crops_of(50, 70, 32, random.Random(seed), **augmentation)
            part = torch.from_numpy(clip[(slice(None), *crops.part)]).permute(0, 3, 1, 2)
            rows, columns = crops.windows[0]
            expected = tvf.resize(part, crops.size).permute(0, 2, 3, 1)[:, rows, columns].numpy()
            assert np.abs(cut(crops, clip)[0].astype(int) - expected).max() <= 1


def test_the_corners_are_reached():
    rng = random.Random(0)
    crops = [cropped(gradient(36, 48), 32, rng, short_side=(36, 36)) for _ in range(500)]
    assert {crop[0, 0, 0, 0] for crop in crops} == set(range(17))  # columns 0 to 48 - 32
    assert {crop[0, 0, 0, 1] for crop in crops} == set(range(5))


def test_the_short_side_is_drawn_from_the_whole_range():
    rng = random.Random(0)
    clip = gradient(64, 64)
    # how many source columns a crop of 32 px sees says how large the frames were made before it
    spans = [
        int(np.ptp(cropped(clip, 32, rng, short_side=(32, 64))[0, 0, :, 0])) for _ in range(300)
    ]
    assert max(spans) >= 60
    assert min(spans) == 31
    assert len(set(spans)) > 20


def test_resizing_agrees_with_pillow(with_opencv):
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(frame).resize((40, 30), Image.Resampling.BILINEAR))
    resized = resize(frame, 30, 40, True, (30, 40))
    assert np.abs(resized.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("channels", [3, 2])
def test_resizing_is_that_of_torchvision(channels, antialias, with_opencv):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (60, 80, channels), dtype=np.uint8)
    for source in (frame, frame[3:-2, 5:-4]):  # a part of a frame, too
        for size in ((30, 40), (47, 33), (59, 133), (120, 7), (61, 97), (173, 211)):
            channels_first = torch.from_numpy(source).permute(2, 0, 1)
            expected = tvf.resize(channels_first, size, antialias=antialias).permute(1, 2, 0)
            # the same numbers, however much of the picture is asked for
            for rows, columns in (size, (1, 1), (size[0] // 2, size[1] - 1)):
                resized = resize(source, *size, antialias, (rows, columns))[:rows, :columns]
                error = resized.astype(int) - expected[:rows, :columns].numpy()
                assert error.shape == (rows, columns, channels)
                assert np.abs(error).max() <= (1 if with_opencv else not IN_INTEGERS)


def test_torch_sees_that_channels_are_last_even_of_a_single_frame(monkeypatch):
    """Otherwise it resizes at two thirds of the speed."""
    strides, interpolate = [], transforms.F.interpolate

    def noting(frames, *args, **kwargs):
        strides.append(frames.stride())
        return interpolate(frames, *args, **kwargs)

    monkeypatch.setattr(transforms.F, "interpolate", noting)
    resize(gradient(50, 60)[0], 40, 40, True, (40, 40))
    resize(gradient(50, 60)[0, 5:-5, 5:-5], 30, 30, True, (30, 30))
    assert strides == [(50 * 60 * 3, 1, 60 * 3, 3), (40 * 50 * 3, 1, 50 * 3, 3)]


def test_resizing_without_antialias_looks_at_the_nearest_pixels_only():
    clip = np.zeros((1, 64, 64, 3), np.uint8)
    clip[:, ::4] = 200  # every fourth row: rows 1.5, 5.5 ... of a quarter of the size miss them all
    for crops in (
        lambda antialias: views(clip, 16, 16, 1, antialias=antialias)[0],
        lambda antialias: cropped(
            clip, 16, random.Random(0), {"antialias": antialias}, short_side=(16, 16)
        ),
    ):
        assert crops(False).max() == 0
        assert crops(True).min() > 20


@pytest.mark.parametrize("shape", [(36, 48), (48, 36), (33, 33), (20, 90)])
@pytest.mark.parametrize("num_crops", [1, 3])
def test_view_crops_lie_along_the_longer_side(shape, num_crops):
    clip = gradient(*shape)
    crops = views(clip, 32, 32, num_crops)
    assert [crop.shape for crop in crops] == [(4, 32, 32, 3)] * num_crops
    channel = 1 if shape[0] > shape[1] else 0
    if num_crops == 3:
        starts = [int(crop[0, 0, 0, channel]) for crop in crops]
        assert starts == sorted(starts)
        assert starts[0] <= 1
        ends = int(crops[2][0, -1, -1, channel])
        assert ends >= shape[1 - channel] - 3


def test_one_crop_serves_all_frames():
    rng = random.Random(1)
    crop = cropped(gradient(36, 48), 32, rng, short_side=(36, 40))
    assert all(np.array_equal(frame, crop[0]) for frame in crop)


def test_every_place_has_the_same_chance():
    rng = random.Random(0)
    crops = [cropped(gradient(34, 34), 32, rng, short_side=(34, 34)) for _ in range(3000)]
    rows = [int(crop[0, 0, 0, 1]) for crop in crops]
    assert all(900 < rows.count(row) < 1100 for row in range(3))


SQUARE = {"resize": "square"}


def test_a_square_resize_ignores_the_aspect_ratio():
    (crop,) = views(gradient(64, 128), 32, 32, 1, **SQUARE)
    assert np.ptp(crop[0, 0, :, 0].astype(int)) >= 122  # all columns
    assert np.ptp(crop[0, :, 0, 1].astype(int)) >= 60  # and all rows


def window(crop):
    """Top, left, bottom and right of what a crop of `gradient` sees, to about two pixels."""
    first, last = crop[0, 0, 0].astype(int), crop[0, -1, -1].astype(int)
    return first[1], first[0], last[1], last[0]


def test_each_of_the_thirteen_positions_comes_equally_often():
    rng = random.Random(0)
    clip = gradient(72, 104)  # a window of 36 goes down by up to 36 pixels and right by 68
    crops = [cropped(clip, 36, rng, crop="corners", crop_scales=(0.5,)) for _ in range(2600)]
    assert all(crop.shape == (4, 36, 36, 3) for crop in crops)
    places = Counter(window(crop)[:2] for crop in crops)
    # corners, middles of the edges, halfway between the center and the corners, center
    rows, columns = (0, 9, 18, 27, 36), (0, 17, 34, 51, 68)
    steps = [(i, j) for i in range(5) for j in range(5) if i % 2 == j % 2]
    assert places.keys() == {(rows[i], columns[j]) for i, j in steps}
    assert len(places) == 13
    assert min(places.values()) > 140
    assert max(places.values()) < 260  # 200 expected


def test_sides_of_a_corner_crop_are_at_most_one_scale_apart():
    rng = random.Random(0)
    sides = Counter()
    for _ in range(1500):
        top, left, bottom, right = window(
            cropped(gradient(200, 250), 40, rng, crop="corners", crop_scales=(1, 0.8, 0.6))
        )
        sides[round((bottom - top) / 40), round((right - left) / 40)] += 1  # 5, 4 or 3
    assert sides.keys() == {(5, 5), (5, 4), (4, 5), (4, 4), (4, 3), (3, 4), (3, 3)}
    assert min(sides.values()) > 150


def test_a_corner_crop_of_the_right_size_is_not_resized(monkeypatch):
    monkeypatch.delattr(transforms, "resize")
    clip = gradient(64, 80)
    crop = cropped(clip, 32, random.Random(0), crop="corners", crop_scales=(0.5,))
    assert crop.shape == (4, 32, 32, 3)


def test_corner_crops_of_square_frames_are_shares_of_each_side():
    rng = random.Random(0)
    clip, corners = gradient(100, 200), {"crop": "corners", "crop_scales": (0.5,)}
    crops = [cropped(clip, 50, rng, SQUARE, **corners) for _ in range(50)]
    for top, left, bottom, right in map(window, crops):
        assert (bottom - top, right - left) == pytest.approx((50, 100), abs=3)


def test_resized_crops_have_the_area_and_the_ratio_asked_for():
    rng = random.Random(0)
    areas, ratios = [], []
    parts = {"crop": "resized", "crop_area": (0.2, 0.6), "crop_ratio": (0.5, 2)}
    for _ in range(500):
        crop = cropped(gradient(200, 250), 64, rng, **parts)
        assert crop.shape == (4, 64, 64, 3)
        top, left, bottom, right = window(crop)
        height, width = (bottom - top) * 64 / 63, (right - left) * 64 / 63
        areas.append(height * width / 200 / 250)
        ratios.append(width / height)
    assert 0.18 < min(areas) < 0.22
    assert 0.55 < max(areas) < 0.63
    assert 0.47 < min(ratios) < 0.6
    assert 1.7 < max(ratios) < 2.1


JITTER = Augmentation(color_jitter=(0.4, 0.4, 0.4, 0.1))


def random_changes(clip, rng):
    for augmentation in WAYS:
        yield cropped(clip, 32, rng, **augmentation)
    yield color_jitter(torch.from_numpy(clip), JITTER, rng)


def test_one_set_of_parameters_serves_all_frames_and_comes_from_the_generator():
    clip = gradient(60, 80)
    torch.manual_seed(0)
    changed = list(random_changes(clip, random.Random(5)))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    for crop, again, other in zip(
        changed,
        random_changes(clip, random.Random(5)),
        random_changes(clip, random.Random(6)),
        strict=True,
    ):
        assert all(np.array_equal(frame, crop[0]) for frame in crop)
        assert np.array_equal(again, crop)  # whatever torch's own generator
        assert not np.array_equal(other, crop)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)  # and that is left as it was


def test_colors_change_as_asked_and_only_if_asked():
    clip = torch.from_numpy(np.full((2, 8, 8, 3), (80, 120, 160), np.uint8))
    rng = random.Random(0)
    assert color_jitter(clip, Augmentation(), rng) is clip
    assert rng.getstate() == random.Random(0).getstate()  # so that other draws stay the same
    brighter, turned = (Augmentation(color_jitter=j) for j in ((0.5, 0, 0, 0), (0, 0, 0, 0.5)))
    bright = [color_jitter(clip, brighter, random.Random(i)) for i in range(50)]
    levels = [int(c[0, 0, 0, 1]) for c in bright]
    assert 60 <= min(levels) < 75
    assert 165 < max(levels) <= 180
    hue = color_jitter(clip, turned, random.Random(0))[0, 0, 0]
    assert hue.max() == pytest.approx(160, abs=2)  # the same color turned
    assert hue.min() == pytest.approx(80, abs=2)


@dataclass(frozen=True, kw_only=True)
class Darkened(Augmentation):
    darken_prob: float = 0.0


def test_an_augmentation_that_is_registered_changes_the_clips_of_training(tmp_path, monkeypatch):
    write_frames(tmp_path / "v", 9)
    clip = replace(CLIP, short_side=36, crop_size=32)
    videos = [Video(str(tmp_path / "v"), 0, "a", 9)]

    def clips(**asked):
        asked = Darkened(short_side=(33, 40), color_jitter=(0.4, 0.4, 0.4, 0.1), **asked)
        dataset = TrainClips(videos, clip, asked, [0], seed=3)
        batch, *_ = dataset.__getitems__([(epoch, 0) for epoch in range(20)])
        assert torch.equal(batch[7], dataset[7, 0].clip)
        return batch

    before = clips(darken_prob=1.0)  # nobody knows of it yet
    monkeypatch.setattr(transforms, "CLIP_AUGMENTATIONS", [*transforms.CLIP_AUGMENTATIONS])

    @transforms.clip_augmentation
    def darken(clip, augmentation, rng):
        off = not augmentation.darken_prob
        return clip if off or rng.random() >= augmentation.darken_prob else clip // 2

    assert torch.equal(clips(), before)
    assert torch.equal(clips(darken_prob=1.0), before // 2)
    some = clips(darken_prob=0.5)
    changed = [not torch.equal(a, b) for a, b in zip(some, before, strict=True)]
    assert 4 < sum(changed) < 16


@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_windows_are_read_from_the_right(channels, with_opencv):
    clip = np.random.default_rng(0).integers(0, 256, (4, 9, 12, channels), dtype=np.uint8)
    crops = view_crops(9, 12, replace(CLIP, short_side=9, crop_size=6), 1)
    (plain,), (mirrored,) = cut(crops, clip), cut(replace(crops, mirrored=(True,)), clip)
    assert np.array_equal(mirrored, plain[:, :, ::-1])


def test_mirrored_flow_moves_the_other_way(with_opencv):
    fields = np.random.default_rng(0).integers(0, 256, (6, 9, 2), dtype=np.uint8)
    before, out = fields.copy(), np.empty((6, 8, 2), np.uint8)
    mirror(fields[:, :8], out)
    assert np.array_equal(out[..., 0], 255 - fields[:, 7::-1, 0])
    assert np.array_equal(out[..., 1], fields[:, 7::-1, 1])
    assert np.array_equal(fields, before)


def test_fields_of_flow_become_channels_in_their_order():
    fields = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * 2 + np.array([0, 1], np.uint8)
    fields = np.broadcast_to(fields, (6, 3, 3, 2)).copy()  # u of field i is 2 i, v is 2 i + 1
    stacked = flow_channels(torch.from_numpy(fields), 3)
    assert stacked.shape == (2, 3, 3, 6)
    assert stacked.is_contiguous()
    assert stacked[:, 1, 1].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_the_crops_of_ten_are_corners_and_center_plain_and_mirrored():
    crops = views(gradient(40, 60), 40, 32, 10)
    tops = [window(crop)[:2] for crop in crops[:5]]
    assert tops == [(0, 0), (0, 28), (8, 0), (8, 28), (4, 14)]
    for plain, mirrored in zip(crops[:5], crops[5:], strict=True):
        assert np.array_equal(mirrored, plain[:, :, ::-1])
