import itertools
import math
import random
from dataclasses import replace
from fractions import Fraction

import pytest

from config import Clip, Preprocessing
from pt_dataset import sampling
from pt_dataset.inputs.segments import center_segments, random_segments
from pt_dataset.sampling import generator, random_clip, spaced_clips
from pt_dataset.video_list import Video


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
    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    draws = [generator(*key).random() for key in keys]
    assert draws == [generator(*key).random() for key in keys]
    assert len(set(draws)) == len(keys)
    assert generator(0, 0, 0).random() == pytest.approx(0.8647667219672085)  # on every machine


RIGHT_OF_THE_MIDDLE = [range(2, 4), range(3, 5), range(4, 5)]


@pytest.mark.parametrize(
    "num_frames, num_segments, snippet_len, starts",
    [
        (30, 3, 1, [range(10), range(10, 20), range(20, 30)]),  # one part each
        (32, 3, 1, [range(10), range(10, 20), range(20, 30)]),  # the remainder is never seen
        (34, 3, 5, [range(10), range(10, 20), range(20, 30)]),  # the last snippet ends at 33
        (7, 3, 5, [range(1), range(1, 2), range(2, 3)]),  # three starts, one each
        (3, 3, 1, [range(1), range(1, 2), range(2, 3)]),
        (6, 3, 5, [range(1), range(2), range(1, 2)]),  # two starts for three segments: shared
        (4, 3, 5, [range(1)] * 3),  # shorter than a snippet
        (3, 3, 2, [range(1), range(2), range(1, 2)]),
        (2, 3, 1, [range(1), range(2), range(1, 2)]),
        (5, 7, 1, [range(1), range(2), range(1, 3), range(2, 3), *RIGHT_OF_THE_MIDDLE]),
        (1, 3, 6, [range(1)] * 3),
    ],
)
def test_random_segments_use_every_start_of_their_part(
    num_frames, num_segments, snippet_len, starts
):
    rng = random.Random(0)
    seen = [set() for _ in range(num_segments)]
    for _ in range(300):
        indices = random_segments(num_frames, num_segments, snippet_len, rng)
        segments = in_segments(indices, num_segments)
        firsts = [segment[0] for segment in segments]
        assert firsts == sorted(firsts)
        for segment, first, of_segment in zip(segments, firsts, seen, strict=True):
            assert segment == [min(first + i, num_frames - 1) for i in range(snippet_len)]
            of_segment.add(first)
    assert seen == [set(part) for part in starts]


def in_segments(indices, num_segments):
    length = len(indices) // num_segments
    return [indices[i * length : (i + 1) * length] for i in range(num_segments)]


@pytest.mark.parametrize(
    "num_frames, num_segments, snippet_len, indices",
    [
        (30, 3, 1, [5, 15, 25]),
        (31, 3, 1, [5, 15, 25]),  # 5.17, 15.5 and 25.83
        (4, 3, 1, [0, 2, 3]),  # 0.67, 2 and 3.33
        (250, 25, 1, list(range(5, 250, 10))),
        (8, 8, 1, list(range(8))),
        (7, 8, 1, [0, 1, 2, 3, 3, 4, 5, 6]),  # too short: a frame comes more than once
        (2, 3, 1, [0, 1, 1]),
        (1, 3, 1, [0, 0, 0]),
        (8, 3, 5, [0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7]),
        (7, 3, 5, [0, 1, 2, 3, 4, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6]),
        (5, 3, 5, [0, 1, 2, 3, 4] * 3),
        (3, 2, 5, [0, 1, 2, 2, 2] * 2),  # behind the end the last frame is repeated
    ],
)
def test_center_segments_take_the_middle_of_each_part(
    num_frames, num_segments, snippet_len, indices
):
    assert center_segments(num_frames, num_segments, snippet_len) == indices


@pytest.mark.parametrize("snippet_len", [1, 5])
def test_segments_of_a_short_video_are_spread_over_all_of_it(snippet_len):
    rng = random.Random(0)
    for num_frames in range(snippet_len + 1, 40):
        starts = num_frames - snippet_len + 1
        for segments in range(2, 30):
            of_training = [
                random_segments(num_frames, segments, snippet_len, rng) for _ in range(5)
            ]
            of_evaluation = center_segments(num_frames, segments, snippet_len)
            for indices in (*of_training, of_evaluation):
                firsts = indices[::snippet_len]
                assert firsts == sorted(firsts)
                assert len(set(firsts)) >= min(starts, segments) / 2  # never one still picture
                if starts <= segments:
                    assert (firsts[0], firsts[-1]) == (0, starts - 1)


@pytest.mark.parametrize("snippet_len", [1, 5, 6])
@pytest.mark.parametrize("num_segments", [1, 3, 7, 25])
def test_segments_follow_the_published_formula(num_segments, snippet_len):
    for num_frames in range(1, 120):
        part = (num_frames - snippet_len + 1) / num_segments
        starts = [max(math.floor(part / 2 + part * i + 1e-9), 0) for i in range(num_segments)]
        indices = center_segments(num_frames, num_segments, snippet_len)
        assert indices[::snippet_len] == starts
        assert 0 <= min(indices) <= max(indices) < num_frames


@pytest.mark.parametrize("snippet_len", [1, 5])
@pytest.mark.parametrize("num_clips", [1, 2, 3, 25])
def test_fixed_segments_are_evaluated_as_several_clips(num_clips, snippet_len):
    length = 4 * snippet_len
    shifted = Preprocessing(
        clip_len=length, snippet_len=snippet_len, fixed_segments=True, mean=(0.0,), std=(1.0,)
    )
    for num_frames in (1, 7, 30, 301):
        video = Video("x", 0, "", num_frames)
        clips = sampling.view_indices(video, shifted, num_clips)
        assert [len(indices) for indices in clips] == [length] * num_clips
        # all of them together see what TSN sees of that many segments
        flat = replace(shifted, fixed_segments=False, clip_len=num_clips * length)
        (together,) = sampling.view_indices(video, flat, 1)
        assert sorted(itertools.chain(*clips)) == sorted(together)
        for indices in clips:  # each goes all over the video
            firsts = indices[::snippet_len]
            assert firsts == sorted(firsts)
            assert firsts[-1] - firsts[0] >= 3 * (num_frames - snippet_len) // 4 - 1
        few = num_frames < 4 * num_clips + snippet_len - 1
        assert sampling.is_short(video, shifted, num_clips) == few


def test_segments_of_no_frames_are_an_error():
    with pytest.raises(ValueError, match="0 frames"):
        center_segments(0, 3, 1)


@pytest.mark.parametrize(
    "stride, fps, target_fps, step",
    [
        (1, 25, 25, 1),
        (2, 30, 15, 4),
        (1, 30.0, 25.0, Fraction(6, 5)),  # as a float 1.19999..., which would lose frame 6
        (2, 12.5, 25, 1),
        (1, 10, 25, Fraction(2, 5)),  # frames come more than once
        (1, 29.97002997002997, 25, Fraction(1200, 1001)),  # NTSC's 30000/1001
    ],
)
def test_a_stride_at_a_frame_rate_is_exact(stride, fps, target_fps, step):
    assert sampling.resampled_stride(stride, fps, target_fps) == step
    assert isinstance(sampling.resampled_stride(stride, fps, target_fps), int) == (
        step == int(step)
    )


@pytest.mark.parametrize(
    "num_frames, clip_len, step, indices",
    [
        (7, 6, Fraction(6, 5), [0, 1, 2, 3, 4, 6]),  # exactly one clip fits
        (5, 5, Fraction(2, 5), [1, 1, 1, 2, 2]),  # the middle of starts 0 to 3
        (4, 6, Fraction(3, 2), [0, 1, 3, 0, 2, 3]),  # too short: looped
    ],
)
def test_a_fractional_stride_takes_the_last_frame_shown_by_then(
    num_frames, clip_len, step, indices
):
    assert spaced_clips(num_frames, clip_len, step, 1) == [indices]


def test_clips_of_any_rate_cover_the_same_time():
    rng = random.Random(0)
    for fps in (10, 15, 24, 25, 29.97, 30, 50, 60):
        step = sampling.resampled_stride(2, fps, 25)
        for num_frames in range(1, 200, 7):
            clip = random_clip(num_frames, 16, step, rng)
            assert len(clip) == 16
            assert 0 <= min(clip) <= max(clip) < num_frames
            if num_frames > 15 * step + 1:
                assert clip[-1] - clip[0] == int(15 * step)
                seconds = [(i - clip[0]) / fps for i in clip]
                # never later than asked for, and by less than a frame
                assert all(-1e-3 < 2 * i / 25 - t < 1 / fps + 1e-3 for i, t in enumerate(seconds))


@pytest.mark.parametrize("step", [1, 2, 3, Fraction(6, 5), Fraction(2, 5), Fraction(1200, 1001)])
def test_the_whole_video_is_every_frame_that_the_stride_meets(step):
    for num_frames in range(1, 100):
        clip = sampling.whole_video(num_frames, 8, step)
        fitting = [int(i * step) for i in range(1000) if int(i * step) < num_frames]
        if len(fitting) >= 8:
            assert clip == fitting
        else:  # a network needs its 8 frames
            assert clip == [int(i * step) % num_frames for i in range(8)]


@pytest.mark.parametrize(
    "clip, num_clips, fewest",
    [
        (Clip(clip_len=8), 10, 8),
        (Clip(clip_len=8, stride=2), 1, 15),
        (Clip(clip_len=8, stride=2), None, 15),  # the whole video
        (Clip(clip_len=8, stride=2, target_fps=20), 10, 22),  # of a video of 30
        (Clip(clip_len=8, modality="flow"), 10, 9),  # fields lie between frames
        (Clip(clip_len=8, snippet_len=1), 1, 8),
        (Clip(clip_len=8, snippet_len=1), 25, 25),
        (Clip(clip_len=15, snippet_len=5, modality="flow"), 1, 8),  # three starts, four fields more
    ],
)
def test_a_short_video_is_looped_or_its_segments_begin_alike(clip, num_clips, fewest):
    for num_frames in range(2, 40):
        video = Video("x", 0, "", num_frames, fps=30)
        assert sampling.is_short(video, clip, num_clips) == (num_frames < fewest)
        for indices in sampling.view_indices(video, clip, num_clips):
            starts = indices[:: clip.snippet_len or 1]
            assert (starts != sorted(set(starts))) == (num_frames < fewest)
