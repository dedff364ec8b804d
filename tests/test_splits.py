"""All splits of a data set as one series."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_RUN

from config import UserError
from main import main
from opts import parse_opts
from utils.actions.splits import Series
from utils.compare import main as compare
from utils.fuse_scores import main as fuse
from utils.scores import Scores, load_scores, save_scores

PREFIX = Path("saved_model/net_set")
FILE = Path("saved_model/net_set_splits.json")
POOLED = Path("saved_model/net_set_scores.npz")
TOP1 = {1: 80.0, 2: 82.0, 3: 87.0}


class Runs:
    """Stands for main.py: makes what a run leaves; split `fails` ends with status 130.

    Of the videos of split k, k are right and one is wrong; `shared` is on all lists.
    """

    def __init__(self, fails=None, views="one clip", shared=()):
        self.fails, self.views, self.shared, self.calls = fails, views, list(shared), []

    def __call__(self, split, folder):
        assert folder == Path(f"{PREFIX}_{split}")
        split = int(split)
        self.calls.append(split)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "last.pth").touch()
        if split == self.fails:
            return 130
        result = {
            "top1": TOP1[split],
            "top1_interval": [70, 90],
            "top5": None,
            "mean_class_accuracy": TOP1[split] - 1,
            "num_videos": 9,
            "num_skipped": 0,
            "protocol": f"{self.views}; split {split}",
        }
        (folder / "result.json").write_text(json.dumps(result))
        names = [f"{split}/{i}" for i in range(split)] + (self.shared or [f"{split}/wrong"])
        scores, labels = np.eye(2)[[0] * split + [1]], np.zeros(split + 1, dtype=int)
        words = ["a", "b"], "scores", result["protocol"]
        save_scores(folder / "scores.npz", Scores(scores, labels, names, *words))
        return 0


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def series(run, splits=(1, 2, 3), evaluate=False, lists="of a seed"):
    """As main.py has it."""
    one = Series(dict.fromkeys(splits, lists), PREFIX, evaluate)
    for split, folder in one.left_to_do():
        if status := run(split, folder):
            return status
    one.sum_up()
    return 0


def test_mean_and_standard_deviation_are_those_worked_out_by_hand(caplog):
    with caplog.at_level("INFO", "video"):
        assert series(Runs()) == 0
    saved = json.loads(FILE.read_text())
    assert saved["top1"] == {"mean": 83, "std": pytest.approx(13**0.5)}  # (9 + 1 + 16) / 2
    assert saved["protocol"] == "one clip"
    assert "top5" not in saved  # of few classes it says nothing
    assert [saved["splits"][str(split)]["top1"] for split in TOP1] == [80, 82, 87]
    assert "mean over splits 1, 2, 3: top-1 83.0 % (standard deviation 3.6)" in caplog.text
    assert "mean class accuracy 82.0 % (standard deviation 3.6)" in caplog.text
    assert all(f"on 9 videos; split {split}" in caplog.text for split in TOP1)
    assert "each split: one clip" in caplog.text
    assert caplog.text.count("one clip") == 1  # the protocol, once for all numbers


def test_videos_that_are_tested_once_are_counted_together(caplog):
    with caplog.at_level("INFO", "video"):
        series(Runs())
    found = json.loads(FILE.read_text())["pooled"]
    assert (found["top1"], found["num_videos"]) == (pytest.approx(100 * 6 / 9), 9)
    assert found["top1_interval"] == [pytest.approx(35.4, abs=0.1), pytest.approx(87.9, abs=0.1)]
    assert (found["chance"], found["majority"]) == (50, 100)
    words = "pooled over all test lists, each video tested once: top-1 66.7 % (95 %: 35.4 to 87.9; "
    assert words + "chance 50.0 %, most frequent class 100.0 %)" in caplog.text


def test_lists_that_share_a_video_are_not_counted_together(caplog):
    with caplog.at_level("INFO", "video"):
        series(Runs(shared=["twice"]))
    assert "pooled" not in json.loads(FILE.read_text())
    assert "pooled" not in caplog.text
    assert "not counted together: twice comes 3 times in saved_model/net_set_1" in caplog.text


def test_the_scores_of_a_series_are_kept_for_other_tools(capsys):
    series(Runs())
    kept = load_scores(POOLED)
    assert kept.names == ["1/0", "1/wrong", "2/0", "2/1", "2/wrong"] + [
        "3/0",
        "3/1",
        "3/2",
        "3/wrong",
    ]
    assert kept.protocol == "one clip; 3 test lists as one: split 1 + split 2 + split 3"
    compare([str(FILE), str(POOLED)])
    fuse([str(FILE), str(FILE)])
    out = capsys.readouterr().out
    assert f"A: {FILE}: top-1 66.7 %" in out and "may well be chance" in out
    assert "both: top-1 66.7 %" in out
    series(Runs(shared=["twice"]), evaluate=True)
    assert not POOLED.exists()  # not those of what the series was before


def test_a_series_whose_first_folder_is_gone_still_has_its_mean(caplog):
    series(Runs(fails=3))
    shutil.rmtree("saved_model/net_set_1")
    with caplog.at_level("INFO", "video"):
        assert series(Runs()) == 0
    assert json.loads(FILE.read_text())["top1"]["mean"] == 83
    assert "not counted together: no file saved_model/net_set_1/scores.npz" in caplog.text


def test_a_series_that_was_cut_goes_on_with_the_split_that_is_missing():
    assert series(Runs(fails=2)) == 130
    assert "top1" not in json.loads(FILE.read_text())  # no mean of a part
    again = Runs()
    assert series(again) == 0
    assert again.calls == [2, 3]
    done = Runs()
    assert series(done) == 0
    assert done.calls == []
    assert json.loads(FILE.read_text())["top1"]["mean"] == 83


def test_a_series_does_not_go_on_with_lists_that_were_drawn_again():
    assert series(Runs(fails=2)) == 130
    message = "lists of split 1 are not those that it was done with; choose another --name, or"
    with pytest.raises(UserError, match=message):
        series(Runs(), lists="of another seed")
    assert series(Runs(), splits=(2,), lists="of another seed") == 0  # it was not done
    with pytest.raises(UserError, match="lists of split 2 are not"):
        series(Runs())
    assert series(Runs(), splits=(1, 2), evaluate=True) == 0
    old = json.loads(FILE.read_text())
    for result in old["splits"].values():
        assert result.pop("lists") == "of a seed"
    FILE.write_text(json.dumps(old))  # as of an earlier version
    assert series(Runs(), splits=(1, 2), lists="of another seed") == 0


def test_a_run_that_does_not_belong_to_the_series_is_not_taken_for_a_part_of_it():
    Path("saved_model/net_set_3").mkdir(parents=True)
    run = Runs()
    with pytest.raises(UserError, match="the run folder saved_model/net_set_3 exists"):
        series(run)
    assert run.calls == []
    assert not FILE.exists()


def test_an_evaluation_evaluates_all_runs_that_are_there_again():
    with pytest.raises(UserError, match="no checkpoint saved_model/net_set_1/last.pth"):
        series(Runs(), evaluate=True)
    series(Runs())
    again = Runs()
    assert series(again, evaluate=True) == 0
    assert again.calls == [1, 2, 3]


def test_numbers_that_were_not_measured_alike_have_no_mean():
    series(Runs(fails=2))
    with pytest.raises(UserError, match="different protocols, 'one clip' and 'ten clips'"):
        series(Runs(views="ten clips"))
    assert "top1" not in json.loads(FILE.read_text())


def test_a_file_of_something_else_is_not_taken_for_a_series():
    FILE.parent.mkdir()
    FILE.write_text("[")
    with pytest.raises(UserError, match="net_set_splits.json is not the file of a series"):
        series(Runs())


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--splits", "1", "2", "--split", "1"], "--split is one run and --splits a series"),
        (["--splits", "1", "2", "1"], "--splits names one of them twice"),
        (["--splits", "1", "2", "--resume", "last.pth"], "--splits finds the checkpoints itself"),
        (["--splits", "1", "2", "--plan"], "--plan is for one run"),
        (["--splits"], "expected at least one argument"),
    ],
)
def test_options_that_a_series_does_not_go_with(argv, message, capsys):
    with pytest.raises(SystemExit):
        parse_opts(["--arch", "i3d", "--dataset", "x", *argv])
    assert message in capsys.readouterr().err


def test_a_series_of_one_is_a_plain_run():
    opts = parse_opts(["--arch", "i3d", "--dataset", "x", "--splits", "2"])
    assert (opts.split, opts.splits, opts.name) == (2, (), "i3d_x_2")


@pytest.mark.slow
def test_two_splits_are_trained_and_evaluated_in_folders_of_their_own(in_tiny_set, capsys):
    tiny = in_tiny_set / "data" / "tiny"
    argv = [*TINY_RUN, "--precision", "fp32", "--epochs", "1", "--splits", "1", "2"]
    with pytest.raises(UserError, match="no list data/tiny/trainlist02.json"):
        main(argv)
    assert not Path("saved_model").exists()  # said before the first split was trained
    for part in ("train", "test"):
        shutil.copy(tiny / f"{part}list01.json", tiny / f"{part}list02.json")
    assert main(argv) == 0
    for split in (1, 2):
        result = json.loads(Path(f"saved_model/i3d_tiny_{split}/result.json").read_text())
        assert f"tiny split {split};" in result["protocol"]
    assert "mean over splits 1, 2: top-1" in capsys.readouterr().out
    before = json.loads(Path("saved_model/i3d_tiny_splits.json").read_text())["splits"]
    entries = json.loads((tiny / "testlist02.json").read_text())
    (tiny / "testlist02.json").write_text(json.dumps(entries[::-1]))
    with pytest.raises(UserError, match="the lists of split 2 are not those"):
        main(argv)
    again = ["--arch", "i3d", "--dataset", "tiny", "--data-root", "data", "--device", "cpu"]
    again += ["--precision", "fp32", "--workers", "0"]
    assert main([*again, "--splits", "1", "2", "--evaluate", "--protocol", "clip"]) == 0
    after = json.loads(Path("saved_model/i3d_tiny_splits.json").read_text())["splits"]
    assert "2 evenly spaced clips" in before["2"]["protocol"]
    assert "1 center clip" in after["2"]["protocol"]
