"""A run goes on with its own data, and a number says which videos and weights it is of."""

import json
import os
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_frames, write_tiny_set
from test_distributed import finish, start_ranks
from test_resume import RUN

import main
from config import UserError
from opts import parse_opts
from pt_dataset.identity import checksum, count_known, hashes, identify
from pt_dataset.video_list import Video, VideoList
from tests.fuzz.mutations import changed_arrays
from utils.actions.errors import error_in_words
from utils.resume import checkpoint_file
from utils.resume.same_data import changed_files, differences
from utils.resume.start import resumed_in_words
from utils.trainer import NonFiniteLoss
from utils.words import evaluation_in_words

SHORT = [word for word in RUN if word not in ("--resume", "auto")] + ["--epochs", "1"]


def lists_of(train, test=("frames/up/z",), root="/data/set"):
    """Lists of videos of these names, each with 10 frames, that follow each other in labels."""

    def videos(names):
        return VideoList(Video(f"{root}/{n}", i % 2, "ab"[i % 2], 10) for i, n in enumerate(names))

    test = videos(test)
    return SimpleNamespace(train=videos(train), test=test, validation=test, held_out=None)


NAMES = [f"frames/{'up' if i % 2 else 'down'}/{i}" for i in range(8)]


@pytest.mark.parametrize(
    "now, found",
    [
        (lists_of(NAMES, root="elsewhere/x"), []),  # a moved data root
        (lists_of([n.replace("frames", "of_256_px") for n in NAMES]), []),  # a renamed folder
        (lists_of([n.replace("up", "Upwards") for n in NAMES]), []),  # a class folder
        (lists_of([f"{n}.mp4" for n in NAMES]), []),
        (lists_of([f"{n}.zip" for n in NAMES]), []),
        (lists_of([n.replace("frames", "all.ZIP") for n in NAMES]), []),
        (lists_of(NAMES[2:] + NAMES[:2]), ["training videos in another order"]),
        (lists_of(NAMES[:6]), ["2 of 8 training videos missing"]),
        (lists_of([*NAMES, "frames/up/8"]), ["1 of 9 training videos new"]),
        (lists_of(NAMES * 2), ["16 training videos, not 8"]),
        (
            lists_of([*NAMES[:6], "frames/down/x"]),
            ["1 of 7 training videos new", "2 of 8 training videos missing"],
        ),
        (
            lists_of([*NAMES[:6], "frames/down/x", "frames/up/y"]),
            ["2 of 8 training videos new"],
        ),
        (
            lists_of([NAMES[1], NAMES[0], *NAMES[2:]]),  # and the labels stay: relabelled
            [
                "training videos in another order",
                "another label of 2 of 8 training videos",
            ],
        ),
    ],
)
def test_what_differs_between_two_lists_is_told(now, found):
    before = identify(lists_of(NAMES))
    now = identify(now, before["depth"])
    assert differences(before["train"], now["train"], "training") == found
    assert differences(before["test"], now["test"], "test") == []


def test_other_frame_counts_are_told_and_rates_only_where_clips_are_taken_at_one():
    before = identify(lists_of(NAMES))
    now = lists_of(NAMES)
    now.train = VideoList(v._replace(num_frames=9, fps=25.0) for v in now.train)
    now = identify(now, before["depth"])
    counts = "another number of frames of 8 of 8 training videos"
    rates = "another frame rate of 8 of 8 training videos"
    assert differences(before["train"], now["train"], "training") == [counts]
    assert differences(before["train"], now["train"], "training", rates=True) == [counts, rates]


@pytest.mark.parametrize(
    "train, test, depth",
    [
        (["frames/up/a", "frames/up/b"], ["frames/up/c"], 1),  # all in one folder
        (["frames/up/a", "frames/down/b"], ["frames/up/c"], 1),  # folders may be renamed
        (["frames/up/a", "frames/down/a"], ["frames/up/c"], 2),
        (["frames/up/a", "frames/up/a"], ["frames/down/a"], 2),  # one of them twice
        (["train/up/a", "train/down/a"], ["val/up/a"], 3),
        (["up/a.mp4", "up/a.avi", "up/b"], ["down/c"], 1),  # two files of one name
    ],
)
def test_names_are_as_long_as_they_must_be_to_tell_videos_apart(train, test, depth):
    assert identify(lists_of(train, test))["depth"] == depth


def test_what_older_checkpoints_say_of_their_videos_still_compares(tmp_path):
    """Numbers that are in checkpoints: others would call all videos new, and all files changed."""
    assert hashes(["frames/up/a", "b"], 1).tolist() == [3405396810240292928, 8453121595177857668]
    assert hashes(["frames/up/a"], 2).tolist() == [-6097373541715107551]
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)) * 300)
    assert checksum(Video(str(tmp_path / "a.mp4"), 0, "", 1), "rgb") == 2073998430


def test_videos_that_were_trained_on_are_counted_at_the_length_of_their_own_names():
    one = identify(lists_of(["x/up/a", "x/down/a", "x/down/b"]))
    two = identify(lists_of(["k/1", "k/2"], []))
    known = [{"depth": d["depth"], "names": d["train"]["names"]} for d in (one, two)]
    test = lists_of([], ["y/up/a", "y/up/b", "y/down/b", "2", "1/2"], root="z").test
    assert count_known(test, []) == 0
    assert count_known(test, known[:1]) == 2
    assert count_known(test, known) == 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data/tiny and a run of one epoch on it."""
    folder = tmp_path_factory.mktemp("identity")
    write_tiny_set(folder / "data" / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main.main([*SHORT, "--name", "run"]) == 0
    return folder


@pytest.fixture
def in_trained(trained, tmp_path, monkeypatch):
    """A copy of it, which a test may change, as the working folder."""
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy, copy_function=os.link)
    monkeypatch.chdir(copy)
    return copy


def change(path, new):
    entries = new(json.loads(Path(path).read_text()))
    Path(path).unlink()  # a link
    Path(path).write_text(json.dumps(entries))


def last(name="run"):
    return f"saved_model/{name}/last.pth"


def goes_on(*argv):
    """The run as --resume sets it up; raises where it refuses."""
    return main.set_up(parse_opts(["--resume", last(), "--epochs", "2", "--no-visdom", *argv]))


TRAIN, TEST = "data/tiny/trainlist01.json", "data/tiny/testlist01.json"


@pytest.mark.parametrize(
    "path, new, sentence",
    [
        (TRAIN, lambda e: e[::-1], "training videos in another order"),
        (TRAIN, lambda e: e[:-1], "1 of 6 training videos missing"),
        (TRAIN, lambda e: [e[0] | {"num_frames": 9}, *e[1:]], "another number of frames of 1 "),
        (TRAIN, lambda e: [e[0] | {"class_name": "up"}, *e[1:]], "another label of 1 of 6 train"),
        (TEST, lambda e: e[1:], "1 of 4 validation videos missing"),
    ],
)
def test_a_run_does_not_go_on_with_other_lists(in_trained, path, new, sentence):
    change(path, new)
    for action in ([], ["--plan"]):
        with pytest.raises(UserError, match=f"trained with other lists: {sentence}") as error:
            goes_on(*action)
        assert "--pretrained saved_model/run/last.pth with another --name" in str(error.value)
    with pytest.raises(UserError, match=sentence):
        main.main([*RUN, "--name", "run", "--epochs", "2"])  # --resume auto


def test_a_run_goes_on_with_data_that_have_moved_and_tells_files_that_have_changed(in_trained):
    Path("data").rename("moved")
    for path in ("moved/tiny/trainlist01.json", "moved/tiny/testlist01.json"):
        change(path, lambda e: [v | {"path": v["path"].replace("frames", "px36")} for v in e])
    Path("moved/tiny/frames").rename("moved/tiny/px36")
    run = goes_on("--data-root", "moved")
    trainer = SimpleNamespace(epoch=1, done=0, steps_per_epoch=2)
    assert [line for line in resumed_in_words(run, trainer) if "files" in line] == []
    frame = Path("moved/tiny/px36/up/train_1/image_00001.jpg")
    data = frame.read_bytes()
    frame.unlink()
    frame.write_bytes(data + b" ")
    said = "".join(resumed_in_words(goes_on("--data-root", "moved"), trainer))
    assert "the files of 1 of 6 videos looked at in the train list have changed" in said


def result_in(folder):
    return json.loads(Path("saved_model", folder, "result.json").read_text())


def test_only_the_last_weights_on_the_test_list_replace_the_result_of_a_run(in_trained, capsys):
    """Of the lists drawn again, videos that were trained on are counted."""
    first = result_in("run")
    assert first["num_trained_on"] == 0
    assert first["protocol"].endswith("trained on none of the 4 test videos")
    entries = json.loads(Path(TRAIN).read_text())
    Path("data/tiny/trainlist02.json").write_text(json.dumps(entries[3:]))
    Path("data/tiny/testlist02.json").write_text(json.dumps(entries[:3]))
    evaluate = ["--evaluate", "--device", "cpu"]
    assert main.main(["--resume", "saved_model/run/best.pth", *evaluate, "--split", "2"]) == 0
    assert result_in("run") == first
    other = result_in("run/results_best_tiny_2")
    assert other["num_trained_on"] == 3
    assert "trained on 3 of the 3 test videos" in other["protocol"]
    out = capsys.readouterr().out
    assert "go to saved_model/run/results_best_tiny_2; those of the run stay in saved_mo" in out
    change(TRAIN, lambda e: e[1:])
    change(TEST, lambda e: [*e[2:], entries[0]])
    assert main.main(["--resume", last(), *evaluate]) == 0
    assert result_in("run") == first
    assert result_in("run/results_last_tiny_1")["num_trained_on"] == 1
    assert "the test list has changed since saved_model/run/last.pth" in capsys.readouterr().out


def test_weights_of_a_run_start_another_with_other_classes_and_more_videos(in_trained, capsys):
    classes = Path("data/tiny/classes.txt")
    classes.unlink()
    classes.write_text("up\ndown\n")  # the same names, and yet another head
    train, test = (json.loads(Path(path).read_text()) for path in (TRAIN, TEST))
    change(TRAIN, lambda _: train[1:] + test[:2])
    change(TEST, lambda _: test[2:] + train[:1])
    with pytest.raises(UserError, match="other classes .*--pretrained saved_model/run/last.pth wi"):
        goes_on()
    best = "saved_model/run/best.pth"
    argv = ["--pretrained", best, "--dataset", "tiny", "--data-root", "data", "--no-visdom"]
    argv += ["--device", "cpu", "--batch-size", "3", "--epochs", "1", "--views", "1x1"]
    with pytest.raises(UserError, match="best.pth is a checkpoint of tsn, not of i3d"):
        main.main([*argv, "--arch", "i3d"])
    assert main.main([*argv, "--name", "next", "--workers", "0"]) == 0
    assert "the head for 2 classes is replaced by a new one for 2" in capsys.readouterr().out
    state, protocol = checkpoint_file.load(Path(last("next"))), result_in("next")["protocol"]
    assert state["preprocessing"] == checkpoint_file.load(Path(best))["preprocessing"]
    assert (state["arch_args"]["backbone"], state["origin"]) == ("resnet18", best)
    assert [len(one["names"]) for one in state["trained_on"]] == [6, 7]
    assert f"weights after epoch 1 of a training from {best}; {best} was chosen for its" in protocol
    assert "without looking" not in protocol
    assert result_in("next")["num_trained_on"] == 1


def test_a_head_stays_what_it_is_and_says_so_along_a_chain(in_trained, capsys):
    argv = ["--arch", "tsn", "--dataset", "tiny", "--data-root", "data", "--no-visdom"]
    argv += ["--head-only", "--resume", last(), "--head-lrs", "0.01", "0.1", "--views", "1x1"]
    assert main.main([*argv, "--name", "head"]) == 0
    chosen = "chosen for its accuracy on data/tiny/testlist01.json"
    assert f"head on frozen {last()}, {chosen}" in result_in("head")["protocol"]
    hint = f"--pretrained {last('head')} with another --name trains all of"
    assert hint in capsys.readouterr().out
    before = Path(last("head")).read_bytes()
    for argv in (["--resume", last("head"), "--no-visdom"], [*RUN, "--name", "head"]):
        with pytest.raises(UserError, match=f"is a head on a frozen network, .*{hint}"):
            main.main(argv)
    assert Path(last("head")).read_bytes() == before
    run = main.set_up(parse_opts([*SHORT, "--pretrained", last("head"), "--name", "whole"]))
    assert run.start.origin == last("head")
    assert run.choices() == [f"{last('head')} was {chosen}"]
    assert [len(one["names"]) for one in run.trained_on()] == [6, 6, 6]


def test_a_checkpoint_that_does_not_say_its_data_goes_on_and_says_that_once(in_trained, capsys):
    new = ("choices", "origin", "action", "data", "trained_on")
    state = checkpoint_file.load(Path(last()))
    Path(last()).unlink()
    torch.save({key: value for key, value in state.items() if key not in new}, last())
    sentence = "last.pth does not say which videos it was trained on"
    assert main.main(["--resume", last(), "--evaluate", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count(sentence) == 1
    assert result_in("run")["num_trained_on"] is None
    assert "trained on an unknown number of the 4 test videos" in result_in("run")["protocol"]
    assert "without looking" not in result_in("run")["protocol"]
    run = goes_on()
    said = resumed_in_words(run, SimpleNamespace(epoch=1, done=0, steps_per_epoch=2))
    assert "".join(said).count(sentence) == 1
    assert run.trained_on() is None
    run = main.set_up(parse_opts([*SHORT, "--pretrained", last(), "--name", "next"]))
    assert run.num_trained_on is None


def start_otherwise(argv, typed):
    """As main.py, but the second process is in the folder `other`, and `typed` is its own."""
    if os.environ["RANK"] == "1":
        os.chdir("other")
        argv = [*argv, *typed]
    try:
        main.main(argv)
    except UserError as error:
        Path("said.txt").write_text(str(error))
        sys.exit(1)


@pytest.mark.parametrize(
    "typed, difference",
    [([], "order of the train list: '6 videos, "), (["--seed", "1"], "command line: '--arch tsn")],
)
def test_processes_with_other_data_or_options_end_before_the_first_step(
    in_tiny_set, typed, difference
):
    shutil.copytree("data", "other/data")
    change("other/data/tiny/trainlist01.json", lambda e: e[::-1])
    assert finish(start_ranks(start_otherwise, [*SHORT, "--name", "two"], typed)) == [1, 1]
    host = os.uname().nodename
    message = f"process 1 on {host} and process 0 on {host} differ in the {difference}"
    for folder in (".", "other"):
        assert Path(folder, "said.txt").read_text().startswith(message)
        assert not list(Path(folder).glob("saved_model/*"))


def test_another_rate_is_another_test_list_where_clips_are_taken_at_one(in_trained):
    """Also other files of the same list: neither replaces the result of the run."""
    change(TEST, lambda e: [v | {"fps": 20} for v in e])
    run = goes_on("--evaluate")
    assert run.results_folder == Path("saved_model/run")
    run = main.set_up(parse_opts(["--resume", last(), "--no-visdom", "--evaluate"]))
    run.preprocessing = replace(run.preprocessing, target_fps=10)
    assert run.results_folder == Path("saved_model/run/results_last_tiny_1")
    assert "another frame rate of 4 of 4 test videos" in evaluation_in_words(run)[0]
    frame = Path("data/tiny/frames/up/test_1/image_00001.jpg")
    data = frame.read_bytes()
    frame.unlink()
    frame.write_bytes(data + b" ")
    run = goes_on("--evaluate")
    assert run.results_folder == Path("saved_model/run/results_last_tiny_1")


def test_of_flow_its_own_files_are_looked_at(tmp_path):
    flow = write_frames(tmp_path / "flow", 2, scheme="flow_x_{:05d}.jpg")
    write_frames(flow, 2, scheme="flow_y_{:05d}.jpg")
    lists = lists_of(NAMES)
    lists.train = VideoList(v._replace(flow_path=str(flow)) for v in lists.train)
    before, frames = (identify(lists, modality=m)["train"] for m in ("flow", "rgb"))
    for path in flow.iterdir():
        path.write_bytes(path.read_bytes() + b" ")
    now = identify(lists, modality="flow")["train"]
    assert changed_files(before, now) == (8, 8)
    assert changed_files(before, frames) == (0, 0)  # there are none


@pytest.mark.parametrize("kind", range(16))
@pytest.mark.parametrize("column", ["names", "labels", "num_frames", "fps", "files", "trained_on"])
def test_what_a_checkpoint_says_of_its_videos_is_columns(column, kind):
    lists = lists_of(NAMES)
    state = {"data": identify(lists), "trained_on": [{"names": identify(lists)["test"]["names"]}]}
    now = identify(lists)["train"]
    of_any_length = column in ("files", "trained_on")
    place = state["trained_on"][0] if column == "trained_on" else state["data"]["train"]
    key = "names" if column == "trained_on" else column
    old = place[key]
    place[key] = new = torch.from_numpy(
        np.array(changed_arrays(old.numpy(), random.Random(kind))[1])
    )
    fits = new.shape == old.shape or of_any_length and new.dim() == 1
    problem = checkpoint_file.columns_problem(state)
    assert bool(problem) != (fits and new.dtype == old.dtype), problem
    if not problem:  # then nothing fails that counts
        differences(state["data"]["train"], now, "training", rates=True)
        changed_files(state["data"]["train"], now)
        count_known(lists.test, [{"depth": 1, "names": state["trained_on"][0]["names"]}])


def test_a_plan_of_a_training_that_fails_says_why():
    error = NonFiniteLoss("the loss is nan at step 22")
    assert error_in_words(error).startswith("the loss is nan at step 22; try a lower --lr")
