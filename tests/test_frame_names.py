"""Frames are in the order of their numbers, however they are called."""

import pytest

from config import UserError
from pt_dataset.formats.frame_folder import frame_names
from pt_dataset.formats.frame_names import in_order
from pt_dataset.formats.measure import count_frames, measure
from pt_dataset.sources import read_frames
from tests.conftest import write_frames


def ordered(names, **options):
    return in_order(sorted(names), "v", **options)


@pytest.mark.parametrize(
    "names",
    [
        [f"{i}.jpg" for i in range(12)],
        [f"IMG_{i}.JPG" for i in range(98, 103)],
        [f"{i:03}.{'jpg' if i < 6 else 'JPG'}" for i in range(12)],
        [f"{i}.jpg" if i < 6 else f"{i:04}.jpg" for i in range(12)],
        [f"{i:03}.{suffix}" for suffix in ("tif",) for i in range(3)],
        [f"{i}.ppm" for i in range(12)],
        [f"frame_{i:02}_delay-0.04s.jpg" for i in range(12)],
        [f"frame_{i}_delay-0.{4 + i % 2:02}s.gif.png" for i in range(12)],
        [f"{i:05}_color.png" for i in range(12)],
        [f"{i}_color2.png" for i in range(12)],
        [f"{i * 5:05}.jpg" for i in range(12)],  # every fifth
        [f"{i * 5}.jpg" for i in range(12)],
        [f"{1700000000000 + i * 100 // 3}.jpg" for i in range(12)],  # milliseconds, rounded
        [f"clip_{i * 0.04:.2f}.jpg" for i in range(20, 40)],  # seconds
        [f"clip_{i * 0.25:g}.jpg" for i in range(3, 60) if i % 4],
        [f"shot1.{i}.jpg" for i in range(8, 12)],  # no times: as before
        [f"v1.2_{i}.jpg" for i in range(8, 12)],
        ["7.jpg"],
    ],
)
def test_names_of_every_kind_are_in_the_order_of_time(names):
    steady = "0.25" not in " ".join(names)
    assert ordered(names, any_numbers=not steady) == names


@pytest.mark.parametrize(
    "names, message",
    [
        (["1.jpg", "2.jpg", "4.jpg"], "frame 3 is missing or doubled before 4.jpg; extract"),
        (["0.jpg", "5.jpg", "10.jpg", "20.jpg"], "frame 15 is missing or doubled before 20.jpg"),
        (["1.jpg", "3.jpg"], "frame 2 is missing"),
        (["0.00.jpg", "0.04.jpg", "0.12.jpg"], "frame 8 is missing"),
    ],
)
def test_a_gap_is_found_unless_it_is_meant(names, message):
    with pytest.raises(UserError, match=message) as error:
        ordered(names)
    assert "--any-numbers" in str(error.value)
    assert ordered(names, any_numbers=True) == names


@pytest.mark.parametrize("any_numbers", [True, False])
@pytest.mark.parametrize(
    "names, message",
    [
        (["1.jpg", "01.jpg", "2.jpg"], "missing or doubled before"),
        ([*(f"{i:03}.jpg" for i in range(12)), "cover1.jpg"], "cover1.jpg is not named like 12"),
        ([*(f"a_{i:03}.jpg" for i in range(3)), "a_003.png"], "a_003.png is not named like 3"),
        (["v1_001.jpg", "v1_002.jpg", "v2_001.jpg", "v2_002.jpg"], "frames of different names"),
        (["cover.jpg", "notes.txt"], "no frames"),
    ],
)
def test_what_is_no_sequence_is_one_sentence(names, message, any_numbers):
    with pytest.raises(UserError, match=message):
        ordered(names, any_numbers=any_numbers)


def test_frames_with_gaps_that_a_list_counts_are_read(tmp_path):
    folder = write_frames(tmp_path / "v", 5, level=lambda t: 40 * t)
    (folder / "image_00003.jpg").unlink()
    (folder / "cover.jpg").touch()  # without a number it is no frame
    with pytest.raises(UserError, match="frame 3 is missing"):
        count_frames(str(folder))
    assert measure(str(folder), any_numbers=True).num_frames == 4
    clip = read_frames(str(folder), [0, 1, 2, 3], 4)
    assert clip.mean(axis=(1, 2, 3)) == pytest.approx([0, 40, 120, 160], abs=2)
    assert len(frame_names(folder, any_numbers=True)) == 4
