import json
from pathlib import Path

import pytest
from test_resume import RUN, lines

from config import UserError
from main import main
from pt_dataset.datalist import Video
from pt_dataset.groups import hold_out


def video(name):
    return Video(path=f"frames/{name}", label=0, class_name="a", num_frames=9)


VIDEOS = [video(f"v_{name}_g{group:02d}_c{clip:02d}")
          for name in "AB" for group in (1, 2, 10) for clip in (1, 2)]  # fmt: skip


def test_whole_groups_are_held_out():
    kept, held, names = hold_out(VIDEOS, 2)
    assert names == ["g02", "g10"]
    assert {v.path[-7:-4] for v in kept} == {"g01"}
    assert {v.path[-7:-4] for v in held} == {"g02", "g10"}
    assert sorted(kept + held) == sorted(VIDEOS)


def test_names_without_groups_and_too_many_groups_are_errors():
    with pytest.raises(UserError, match="frames/holiday tells no group"):
        hold_out([video("holiday")], 1)
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
    result = json.loads(Path("saved_model/g/result.json").read_text())
    assert result["num_videos"] == 4
    assert "chosen for their accuracy on groups g02 of data/tiny/trainlist01" in result["protocol"]
