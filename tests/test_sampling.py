import random

import pytest

from pt_dataset.sampling import generator, random_clip, spaced_clips


@pytest.mark.parametrize(
    "num_frames, clip_len, stride, starts",
    [
        (10, 4, 1, range(7)),  # start 6 ends on the last frame
        (10, 4, 3, [0]),  # exactly one clip fits
        (11, 4, 3, [0, 1]),
        (3, 4, 1, [0]),  # too short: looped
        (1, 8, 2, [0]),
    ],
)
def test_random_clip_uses_every_start_that_fits(num_frames, clip_len, stride, starts):
    rng = random.Random(0)
    clips = [random_clip(num_frames, clip_len, stride, rng) for _ in range(300)]
    assert {clip[0] for clip in clips} == set(starts)
    for clip in clips:
        assert clip == [(clip[0] + i * stride) % num_frames for i in range(clip_len)]


def test_a_short_video_is_looped():
    assert random_clip(3, 8, 1, random.Random(0)) == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    "num_frames, clip_len, stride, num_clips, starts",
    [
        (20, 4, 1, 1, [8]),  # the middle
        (20, 4, 1, 3, [0, 8, 16]),
        (21, 4, 1, 3, [0, 9, 17]),  # 8.5 rounds up
        (10, 4, 3, 4, [0, 0, 0, 0]),  # one start fits
        (2, 4, 1, 2, [0, 0]),  # too short
        (300, 64, 1, 10, [0, 26, 52, 79, 105, 131, 157, 184, 210, 236]),
    ],
)
def test_spaced_clips_run_from_the_first_start_to_the_last(
    num_frames, clip_len, stride, num_clips, starts
):
    clips = spaced_clips(num_frames, clip_len, stride, num_clips)
    assert [clip[0] for clip in clips] == starts
    assert all(len(clip) == clip_len and max(clip) < num_frames for clip in clips)


def test_the_generator_is_a_pure_function_of_its_key():
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 1)]
    draws = [generator(*key).random() for key in keys]
    assert draws == [generator(*key).random() for key in keys]
    assert len(set(draws)) == len(keys)
    assert generator(0, 0, 0).random() == pytest.approx(0.8647667219672085)  # on every machine
