import json
import re
from pathlib import Path

import pytest
from test_resume import RUN, lines

from config import UserError, group_of
from main import main
from pt_dataset.listing.groups import hold_out
from pt_dataset.video_list import Video, VideoList


def video(name):
    return Video(path=f"frames/{name}", label=0, class_name="a", num_frames=9)


VIDEOS = VideoList(
    video(f"v_{name}_g{group:02d}_c{clip:02d}")
    for name in "AB"
    for group in (1, 2, 10)
    for clip in (1, 2)
)


def test_whole_groups_are_held_out():
    kept, held, names = hold_out(VIDEOS, 2)
    assert names == ["g02", "g10"]
    assert {v.path[-7:-4] for v in kept} == {"g01"}
    assert {v.path[-7:-4] for v in held} == {"g02", "g10"}
    assert sorted([*kept, *held]) == sorted(VIDEOS)


@pytest.mark.parametrize(
    "path, group",
    [
        ("frames/Biking/v_Biking_g01_c02", "biking g01"),
        ("frames.zip/v_Basketball_g01_c02.avi", "basketball g01"),  # another recording
        ("a/v_HandstandPushups_g12_c01", "handstandpushups g12"),
        ("a/v_HandStandPushups_g12_c07", "handstandpushups g12"),
        ("walk_g01_c02", None),  # whatever g and c are there
        ("v_Biking_g01", None),
        ("v_Biking", None),
    ],
)
def test_class_and_number_are_the_group_of_a_ucf101_video(path, group):
    assert group_of(path) == group


@pytest.mark.parametrize(
    "regex, group",
    [
        (r"day\d", "day1"),
        (r"day(\d)", "1"),
        (r"/(\w+)_(\d)", "person"),
        (r"day2", None),
        (r"day1(x)?", None),  # the parentheses have no part in the match
    ],
)
def test_a_regex_says_what_the_group_is(regex, group):
    assert group_of("day1/person_3_v_Biking_g01_c01", re.compile(regex)) == group


def test_a_number_is_enough_to_be_held_out():
    kept, held, names = hold_out(VideoList(video(f"walk_g{i}_c01") for i in (1, 2)), 1)
    assert ([v.path for v in kept], [v.path for v in held]) == (
        ["frames/walk_g1_c01"],
        ["frames/walk_g2_c01"],
    )
    assert names == ["g2"]


def test_names_without_groups_and_too_many_groups_are_errors():
    with pytest.raises(UserError, match="frames/holiday tells no group"):
        hold_out(VideoList([video("holiday")]), 1)
    with pytest.raises(UserError, match="leaves nothing to train on: the list has 3 groups"):
        hold_out(VIDEOS, 3)


def test_a_run_chooses_on_groups_of_the_training_list(in_tiny_set):
    path = Path("data/tiny/trainlist01.json")
    entries = json.loads(path.read_text())
    for i, entry in enumerate(entries):
        source = Path("data/tiny", entry["path"])
        target = source.with_name(f"v_x_g{i // 2:02d}_c{i % 2:02d}")
        source.rename(target)
        entry["path"] = str(target.relative_to("data/tiny"))
    path.write_text(json.dumps(entries))
    argv = [*RUN, "--name", "g", "--epochs", "1", "--batch-size", "2", "--val-groups", "1"]
    assert main(argv) == 0
    log = "\n".join(lines("g", "log.txt"))
    assert "4 training and 4 test videos" in log
    assert "validation: 2 videos, groups g02 of data/tiny/trainlist01.json" in log
    best = ["--resume", "saved_model/g/best.pth", "--evaluate", "--device", "cpu"]
    assert main(best) == 0
    result = json.loads(Path("saved_model/g/results_best_tiny_1/result.json").read_text())
    assert result["num_videos"] == 4
    assert "chosen for their accuracy on groups g02 of data/tiny/trainlist01" in result["protocol"]
