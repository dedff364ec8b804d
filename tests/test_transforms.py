import random

import numpy as np
import pytest
from PIL import Image

from pt_dataset.transforms import crop_at, random_crop, resize, view_crops


def gradient(height, width):
    """Red counts columns, green rows; four frames."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.stack([x, y, np.full_like(x, 7)], -1).astype(np.uint8)] * 4)


def test_a_clip_of_the_right_size_is_only_cropped():
    clip = gradient(36, 48)
    assert np.array_equal(crop_at(clip, 0.5, 0.5, 32), clip[:, 2:34, 8:40])
    assert np.array_equal(crop_at(clip, 0, 1, 32), clip[:, :32, 16:])


def test_the_corners_are_reached():
    rng = random.Random(0)
    crops = [random_crop(gradient(36, 48), (36, 36), 32, rng) for _ in range(500)]
    assert {crop[0, 0, 0, 0] for crop in crops} == set(range(17))  # columns 0 to 48 - 32
    assert {crop[0, 0, 0, 1] for crop in crops} == set(range(5))


def test_the_short_side_is_drawn_from_the_whole_range():
    rng = random.Random(0)
    clip = gradient(64, 64)
    # how many source columns a crop of 32 px sees says how large the frames were made before it
    spans = [int(np.ptp(random_crop(clip, (32, 64), 32, rng)[0, 0, :, 0])) for _ in range(300)]
    assert max(spans) >= 60
    assert min(spans) == 31
    assert len(set(spans)) > 20


def test_resizing_agrees_with_pillow():
    clip = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(clip[1]).resize((40, 30), Image.Resampling.BILINEAR))
    assert np.abs(resize(clip, 30, 40)[1].astype(int) - expected).max() <= 1


def test_resizing_without_antialias_looks_at_the_nearest_pixels_only():
    clip = np.zeros((1, 64, 64, 3), np.uint8)
    clip[:, ::4] = 200  # every fourth row: rows 1.5, 5.5 ... of a quarter of the size miss them all
    for crops in (
        lambda antialias: view_crops(clip, 16, 16, 1, antialias=antialias)[0],
        lambda antialias: [random_crop(clip, (16, 16), 16, random.Random(0), antialias=antialias)],
    ):
        assert crops(False)[0].max() == 0
        assert crops(True)[0].min() > 20


@pytest.mark.parametrize("shape", [(36, 48), (48, 36), (33, 33), (20, 90)])
@pytest.mark.parametrize("num_crops", [1, 3])
def test_view_crops_lie_along_the_longer_side(shape, num_crops):
    clip = gradient(*shape)
    crops = [crop for crop, _ in view_crops(clip, 32, 32, num_crops)]
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
    crop = random_crop(gradient(36, 48), (36, 40), 32, rng)
    assert all(np.array_equal(frame, crop[0]) for frame in crop)


def test_every_place_has_the_same_chance():
    rng = random.Random(0)
    rows = [int(random_crop(gradient(34, 34), (34, 34), 32, rng)[0, 0, 0, 1]) for _ in range(3000)]
    assert all(900 < rows.count(row) < 1100 for row in range(3))


def test_a_square_resize_ignores_the_aspect_ratio():
    crop = view_crops(gradient(64, 128), 32, 32, 1, square=True)[0][0]
    assert np.ptp(crop[0, 0, :, 0].astype(int)) >= 122  # all columns
    assert np.ptp(crop[0, :, 0, 1].astype(int)) >= 60  # and all rows
