"""What is trained, evaluated, predicted, extracted and exported sees the same frames."""

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import read_table, write_frames
from torch import nn

from config import Clip, Evaluation, Preprocessing, UserError, Views, part
from main import main
from models import build_model
from models.weights import public_weights
from models.weights.slowfast import WEIGHTS as SLOWFAST
from opts import parse_opts
from pt_dataset import sampling
from pt_dataset.video_list import Video
from pt_dataset.video_lists import read_dataset
from utils import checkpoint, confusion, run, words
from utils.actions.export import as_one_input, frames_in_numbers
from utils.actions.network import choose_evaluation
from utils.resume import checkpoint_file
from utils.resume.start import from_checkpoint, resumed_in_words
from utils.run import (
    StartingPoint,
    as_evaluated,
    choose_preprocessing,
    network_arguments,
    start_run_folder,
    starting_point,
)

CPU = ["--device", "cpu", "--workers", "0", "--precision", "fp32"]
CLASSES = ["a", "b", "c"]
LENGTHS = {3: 10, 7: 15, 12: 29.97, 25: 30}  # of the test videos, and their rates
CLIP = Preprocessing(clip_len=4, short_side=22, crop_size=16, mean=(0.5,) * 3, std=(0.2,) * 3)
FLOW = replace(CLIP, modality="flow", mean=(0.5,) * 2, std=(0.2,) * 2)
SPREAD_FLOW = replace(FLOW, snippet_len=1)
STACKED = replace(FLOW, clip_len=6, snippet_len=2, mean=(0.5,) * 4, std=(0.2,) * 4)
SEGMENTS = replace(CLIP, snippet_len=1)


class Small(nn.Module):
    """Sees when and where something is, and on which side."""

    def __init__(self, num_classes, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(4)
        self.head = nn.Linear(channels * 64, num_classes)
        nn.init.normal_(self.head.weight, std=0.1)

    def forward_features(self, clips):
        return self.pool(clips).flatten(1)

    def forward(self, clips):
        return self.head(self.forward_features(clips))


@pytest.fixture
def varied_set(tmp_path, monkeypatch):
    """The working folder has data/tiny, whose test videos differ in length and rate."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(confusion, "draw_confusion", lambda *_: None)  # it takes longer than all
    folder = Path("data/tiny")
    for side, lengths in (("train", {5: 10, 9: 10}), ("test", LENGTHS)):
        entries = []
        for length, fps in lengths.items():
            path, flow = f"frames/{side}_{length}", f"flow/{side}_{length}"
            write_frames(folder / path, length, (40, 24))
            for of in "xy":
                scheme = f"flow_{of}_{{:05d}}.jpg"
                write_frames(folder / f"{flow}{'y' * (of == 'y')}", length - 1, (40, 24), scheme)
            for picture in (folder / f"{flow}y").iterdir():
                picture.rename(folder / flow / picture.name)
            label = len(entries) % 2
            entry = {"path": path, "flow_path": flow, "num_frames": length, "fps": fps}
            entries.append(entry | {"class_name": CLASSES[label], "label": label})
        (folder / f"{side}list01.json").write_text(json.dumps(entries))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder


def write_checkpoint(arch, model, clip, evaluation, arch_args=None, **keys):
    """A checkpoint alone in the working folder."""
    state = dict.fromkeys(checkpoint.KEYS) | {
        "arch": arch,
        "arch_args": arch_args or {},
        "class_names": CLASSES,
        "preprocessing": vars(clip),
        "evaluation": evaluation.plain() if evaluation else None,
        "model": model.state_dict(),
        "epoch": 1,
        "choices": [],
        "action": "train",
    }
    checkpoint.save(state | keys, Path("net.pth"))
    return "net.pth"


def scores_of_evaluation(arch, path, modality, *typed):
    """Softmax scores (videos, classes) of --evaluate, and its protocol."""
    typed += ("--modality", modality)  # for there is no options.json
    Path("saved_model/x").mkdir(parents=True, exist_ok=True)
    argv = ["--arch", arch, "--dataset", "tiny", "--data-root", "data", "--name", "x", *CPU]
    assert main([*argv, "--resume", path, "--evaluate", *typed]) == 0
    found = np.load("saved_model/x/scores.npz")
    scores = torch.from_numpy(found["scores"])
    result = json.loads(Path("saved_model/x/result.json").read_text())
    return (scores.softmax(1) if result["average"] == "logits" else scores), result["protocol"]


def scores_of_prediction(path, *typed):
    """Scores (videos, classes) of --predict of the test list, and its protocol."""
    assert main(["--resume", path, "--predict", "data/tiny/testlist01.json", *typed, *CPU]) == 0
    rows, by_class = read_table(Path("predictions/predictions.csv"))
    scores = torch.tensor([[scores[name] for name in CLASSES] for scores in by_class])
    return scores, rows[0]["protocol"]


def check_prediction(arch, path, modality):
    evaluated, protocol = scores_of_evaluation(arch, path, modality)
    predicted, the_same = scores_of_prediction(path)
    torch.testing.assert_close(predicted, evaluated.float(), rtol=0, atol=2e-5)  # as it is rounded
    assert protocol.startswith(f"video accuracy, {the_same}")
    assert len(set(map(tuple, predicted.tolist()))) == len(LENGTHS), (
        predicted
    )  # not the same anyway


@pytest.mark.parametrize(
    "clip",
    [
        CLIP,
        replace(CLIP, stride=3),
        replace(CLIP, stride=2, target_fps=20),
        replace(CLIP, target_fps=12, fps=12),
        replace(CLIP, resize="square"),
        FLOW,
        replace(FLOW, stride=2, target_fps=10),
        SEGMENTS,
        replace(SEGMENTS, clip_len=24, snippet_len=3),
        SPREAD_FLOW,
        STACKED,
    ],
    ids=lambda clip: (
        f"{clip.modality}-{clip.clip_len}-{clip.stride}-{clip.target_fps}-{clip.snippet_len}"
    ),
)
@pytest.mark.parametrize("views", ["2x3", "5x10", "all"])
def test_predicting_the_test_list_gives_the_scores_of_its_evaluation(
    varied_set, monkeypatch, clip, views
):
    if views == "all" and clip.snippet_len:
        views = "1x1"  # as in training
    channels = clip.network_input()[0]
    monkeypatch.setattr(run, "build_model", lambda _, classes, **args: Small(classes, channels))
    average, full_crop = ("scores", False) if views == "2x3" else ("logits", views == "5x10")
    evaluation = Evaluation(views=Views.parse(views), average=average, full_crop=full_crop)
    arch = "tsn" if clip.snippet_len else "i3d"
    path = write_checkpoint(arch, Small(3, channels), clip, evaluation)
    check_prediction(arch, path, clip.modality)


@pytest.mark.parametrize(
    "arch, clip, arch_args",
    [
        ("i3d", CLIP, {}),
        ("i3d", FLOW, {"in_channels": 2}),
        ("s3d", replace(CLIP, clip_len=16), {}),
        ("resnet3d", CLIP, {}),
        ("tsn", SEGMENTS, {"backbone": "resnet18", "modality": "rgb"}),
        ("tsn", STACKED, {"backbone": "resnet18", "modality": "flow", "in_channels": 4}),
        (
            "tsn",
            replace(SEGMENTS, clip_len=9, snippet_len=3),
            {"backbone": "resnet18", "modality": "rgbdiff"},
        ),
    ],
    ids=lambda value: value.modality if isinstance(value, Clip) else None,
)
def test_every_network_predicts_what_it_evaluates(varied_set, monkeypatch, arch, clip, arch_args):
    clip = replace(clip, short_side=36, crop_size=32)
    kept = {}  # in memory: files of a hundred megabytes take longer than all the rest
    monkeypatch.setattr(checkpoint, "save", lambda state, path: kept.update({path: state}))
    monkeypatch.setattr(checkpoint_file, "load", lambda path, to_train: kept[path])
    model = build_model(arch, len(CLASSES), **arch_args)
    nn.init.normal_(model.head.weight, std=0.1)
    evaluation = Evaluation(views=Views(2, 3), average="logits")
    path = write_checkpoint(arch, model, clip, evaluation, arch_args)
    check_prediction(arch, path, clip.modality)


def options(text):
    return parse_opts(text.split())


def test_a_run_from_a_checkpoint_alone_is_evaluated_as_its_run_was(varied_set):
    evaluation = Evaluation(views=Views(7, 3), average="logits", full_crop=True)
    path = write_checkpoint("i3d", Small(3, 3), CLIP, evaluation)
    command = f"--resume {path} --arch i3d --dataset tiny"
    for action in ("--evaluate", "--head-only", "--plan --optimizer sgd"):
        opts = options(f"{command} {action}")
        state = checkpoint_file.load(Path(path))
        start = from_checkpoint(path, state, opts.action)
        assert part(Evaluation, as_evaluated(opts, start)) == evaluation
        opts = options(f"{command} {action} --views 1x1 --no-full-crop")
        chosen = part(Evaluation, as_evaluated(opts, start))
        assert chosen == replace(evaluation, views=Views(1, 1), full_crop=False)
    opts = options(f"{command} --evaluate --protocol clip")
    assert part(Evaluation, as_evaluated(opts, start)) == Evaluation(views=Views(1, 1))


@pytest.mark.parametrize(
    "clip, usual", [(CLIP, "10 evenly spaced clips"), (SEGMENTS, "4 segments")]
)
def test_an_older_checkpoint_says_once_what_is_taken(varied_set, monkeypatch, capsys, clip, usual):
    monkeypatch.setattr(run, "build_model", lambda *_, **args: Small(3, 3))
    path = write_checkpoint("i3d", Small(3, 3), clip, None)
    assert usual in scores_of_prediction(path)[1]
    assert capsys.readouterr().out.count("does not say how its run was evaluated") == 1
    Path("options.json").write_text(json.dumps({"views": "3x3", "average": "logits"}))
    protocol = scores_of_prediction(path)[1]
    assert "logits averaged over 3" in protocol
    assert "3 segments" in protocol or "3 evenly spaced clips x 3 crops" in protocol


def test_a_whole_video_is_not_for_segments(varied_set):
    path = write_checkpoint("tsn", Small(3, 3), SEGMENTS, Evaluation(views=Views(1, 1)))
    with pytest.raises(UserError, match="--views all is for consecutive clips"):
        scores_of_prediction(path, "--views", "all")
    with pytest.raises(UserError, match="--target-fps is for consecutive clips"):
        scores_of_prediction(path, "--target-fps", "20")


def test_features_are_those_of_the_crops_of_evaluation(varied_set, monkeypatch):
    monkeypatch.setattr(run, "build_model", lambda *_, **args: Small(3, 3))
    evaluation, found = Evaluation(views=Views(5, 3), full_crop=True), {}
    path = write_checkpoint("i3d", Small(3, 3), CLIP, evaluation)
    command = ["--resume", path, "--videos", "data/tiny/frames/test_12", *CPU, "--extract-features"]
    for out, typed in {"run": (), "one": ("--views", "1"), "same": ("--views", "1x3")}.items():
        assert main([*command, out, *typed]) == 0
        with np.load(f"{out}/test_12.npz") as file:
            found[out] = file["features"]
    assert found["run"].shape == found["one"].shape == (3, 192)
    assert np.array_equal(found["run"], found["same"])
    assert not np.allclose(found["run"], found["one"], atol=0.01)
    assert json.loads(Path("run/settings.json").read_text())["preprocessing"]["crop_size"] == 22


@pytest.mark.parametrize(
    "clip",
    [
        CLIP,
        replace(CLIP, clip_len=8, stride=3),
        replace(CLIP, stride=2, target_fps=25),
        replace(CLIP, target_fps=29.97),
        FLOW,
        SEGMENTS,
        replace(SEGMENTS, fixed_segments=True),
        replace(CLIP, clip_len=24, snippet_len=3),
        replace(CLIP, clip_len=24, snippet_len=3, fixed_segments=True),
        SPREAD_FLOW,
        STACKED,
    ],
)
@pytest.mark.parametrize("views", ["1x1", "2x1", "9x3"])
def test_the_file_beside_an_export_says_which_frames(clip, views):
    clip, evaluation = as_one_input(clip, Evaluation(views=Views.parse(views)))
    num_clips = evaluation.views.clips
    frames = json.loads(json.dumps(frames_in_numbers(clip, num_clips)))
    for num_frames in (*range(2, 30, 3), 64):
        for fps in (Fraction(30000, 1001), Fraction(10), None):
            found = []
            for numbers in itertools.product(*map(range, frames["counts"].values())):
                known = {"num_frames": num_frames, "fps": fps or 0}
                known |= dict(zip(frames["counts"], numbers, strict=True))
                for name, expression in frames["expressions"].items():
                    known[name] = eval(expression, known)
                found.append(known["frame"])
            video = Video("x", 0, "", num_frames, fps=float(fps) if fps else None)
            clips = sampling.view_indices(video, clip, num_clips)
            assert found == [index for indices in clips for index in indices]


def test_an_export_takes_what_evaluation_sees(varied_set, monkeypatch, capsys):
    monkeypatch.setattr(run, "build_model", lambda *_, **args: Small(3, 3))
    cases = {
        (SEGMENTS, "9x10"): ([3, 9, 22, 22], "1x10", 9),
        (CLIP, "allx3"): ([3, 4, 22, 22], "10x3", 10),
        (CLIP, "5x3"): ([3, 4, 22, 22], "5x3", 5),
    }
    for (clip, views), (shape, written, count) in cases.items():
        evaluation = Evaluation(views=Views.parse(views), average="logits", full_crop=True)
        path = write_checkpoint("i3d", Small(3, 3), clip, evaluation)
        assert main(["--resume", path, "--export", "net.pt2"]) == 0
        about = json.loads(Path("net.json").read_text())
        assert about["input"]["shape"] == ["batch", *shape]
        assert about["evaluation"]["views"] == written
        assert about["evaluation"]["average"] == "logits"
        assert about["frames"]["counts"]["i"] == count
    assert capsys.readouterr().out.count("no whole video") == 1


RATES = {"i3d_rgb_piergiaj": 25, "i3d_flow_piergiaj": 25, "i3d_rgb_hassony2": 25} | {
    "s3d_kylemin": 25,
    "s3d_torchvision": 15,
    "resnet3d_c2d50_pytorchvideo": 30,
    "resnet3d_i3d50_pytorchvideo": 30,
    "slow_r50_pytorchvideo": 30,
    "slow_r50_4x16_pytorchvideo": 30,
    **dict.fromkeys(SLOWFAST, 30),
    "r2plus1d_r50_pytorchvideo": 30,
    **dict.fromkeys(public_weights("x3d"), 30),
}


@pytest.mark.parametrize("arch", ["i3d", "s3d", "resnet3d", "slowfast", "tsn", "x3d", "r2plus1d"])
def test_public_weights_are_fed_at_the_rate_that_they_were_trained_at(arch):
    for name, entry in public_weights(arch).items():
        rate = RATES.get(name)
        assert entry.preprocessing.fps == rate
        for command in ("--predict x", "--extract-features x --videos y", "--dataset y"):
            command = f"--arch {arch} --pretrained {name} {command}"
            if "flow" in name and "dataset" in command:
                command += " --modality flow"
            if "dense" in name and "dataset" in command:
                command += " --snippet-len 0"  # as the weights, and not as the recipe has it
            opts = options(command)
            if "--dataset" in command:
                assert opts.target_fps is None
            clip = choose_preprocessing(opts, starting_point(opts))
            assert clip.target_fps == rate
            assert not clip.needs_rates()
            if "--dataset" not in command:
                as_usual = Views(1 if clip.snippet_len else 10, 1)  # 1: segments as in training
                assert choose_evaluation(opts, starting_point(opts), clip).views == as_usual
            opts = options(f"{command} --target-fps 0")
            if not clip.snippet_len:
                assert not choose_preprocessing(opts, starting_point(opts)).target_fps
                opts = options(f"{command} --target-fps 25")
                assert choose_preprocessing(opts, starting_point(opts)).needs_rates()


def test_a_checkpoint_of_public_weights_keeps_their_rate_and_an_older_one_its_own():
    resumed = options("--resume absent --predict x")
    for rate, needed in ((25, False), (30, True), (None, False)):
        theirs = replace(CLIP, fps=25, target_fps=rate)
        start = run.StartingPoint(arch="i3d", preprocessing=theirs, checkpoint={"epoch": 1})
        clip = choose_preprocessing(resumed, start)
        assert (clip.target_fps, clip.needs_rates()) == (rate, needed)


def test_unknown_rates_are_said_once_and_typed_ones_refused(varied_set, monkeypatch, capsys):
    monkeypatch.setattr(run, "build_model", lambda *_, **args: Small(3, 3))
    entries = json.loads((varied_set / "testlist01.json").read_text())
    del entries[2]["fps"]
    (varied_set / "testlist01.json").write_text(json.dumps(entries))
    clip, evaluation = replace(CLIP, target_fps=15, fps=15), Evaluation(views=Views(2, 1))
    path = write_checkpoint("i3d", Small(3, 3), clip, evaluation)
    check_prediction("i3d", path, "rgb")
    out = capsys.readouterr().out
    assert out.count("frame rates: that of 1 of 6 videos is not known") == 1
    assert out.count("frame rates: that of 1 of 4 videos is not known") == 1
    assert "(stride 1 at 15 frames/s where known)" in out
    with pytest.raises(UserError, match="--target-fps needs the frame rate"):
        scores_of_evaluation("i3d", path, "rgb", "--target-fps", "15")
    assert main(["--resume", path, "--predict", "data/tiny/frames", "--target-fps", "15"]) == 1
    assert "give it with --fps" in capsys.readouterr().out
    native, protocol = scores_of_prediction(path, "--target-fps", "0")
    assert "frame rates" not in capsys.readouterr().out
    assert "(stride 1)" in protocol
    usual, _ = scores_of_prediction(path)
    same = [bool((a == b).all()) for a, b in zip(native, usual, strict=True)]
    assert same == [False, True, True, False]  # rates of 10, 15, unknown and 30


@pytest.mark.parametrize(
    "clip, views, line",
    [
        (
            CLIP,
            "10x1",
            "0 of 2 training and 1 of 4 test videos are shorter than a clip; clips loop",
        ),
        (replace(CLIP, stride=3), "all", "2 of 2 training and 2 of 4 test videos are shorter"),
        (FLOW, "1x1", "0 of 2 training and 1 of 4 test videos are shorter"),
        (replace(CLIP, target_fps=5), "1x1", "1 of 2 training and 3 of 4 test videos are shorter"),
        (SEGMENTS, "25x10", "0 of 2 training and 3 of 4 test videos are shorter than a clip; segm"),
        (replace(CLIP, clip_len=2), "5x1", None),
    ],
)
def test_short_videos_are_counted_for_every_kind_of_sampling(varied_set, clip, views, line):
    lists = read_dataset("tiny", "data")
    said = words.data_in_words(lists, clip, Views.parse(views))
    assert len(said) == (line is not None)
    assert not line or line in said[0]


def test_a_shifted_network_sees_as_many_segments_as_its_weights_did():
    for typed, segments, views in (
        ("--pretrained tsm_r50_mmaction2", 8, "1x10"),
        ("--pretrained tsm_r50_16_mit", 16, "1x10"),
        ("--pretrained tsn_r50_mmaction2 --shift", 8, "1x10"),
        ("--pretrained imagenet --shift --views 5x1", 8, "5x1"),
        ("--shift", 8, "1x10"),
    ):
        opts = parse_opts(f"--arch tsn --dataset ucf101 {typed}".split())
        start = starting_point(opts)
        clip = choose_preprocessing(opts, start)
        assert (clip.clip_len, str(opts.views), clip.fixed_segments) == (segments, views, True)
        assert network_arguments(opts, start, clip)["shift"]
    plain = parse_opts(
        ["--arch", "tsn", "--dataset", "ucf101", "--pretrained", "tsn_r50_mmaction2"]
    )
    assert not choose_preprocessing(plain, starting_point(plain)).fixed_segments


def test_weights_of_a_shifted_network_and_of_another_are_told_apart():
    """They have the same keys."""
    opts = parse_opts(
        ["--arch", "tsn", "--dataset", "x", "--pretrained", "tsm_r50_mit", "--no-shift"]
    )
    with pytest.raises(UserError, match="tsm_r50_mit is of a network with --shift: leave that"):
        choose_preprocessing(opts, starting_point(opts))
    opts = parse_opts(["--arch", "tsn", "--dataset", "x", "--shift"])
    start = StartingPoint(arch="tsn", name="x.pth", checkpoint={"epoch": 1})
    with pytest.raises(UserError, match="x.pth is of a network without --shift: leave that"):
        choose_preprocessing(opts, start)


def test_a_shifted_network_sees_no_whole_video_at_once():
    """Neither segments nor frames in a row, of which `tsm_dense` shows several clips."""
    for clip in "", "--snippet-len 0 --stride 8":
        opts = options(f"--arch tsn --dataset x --shift {clip} --protocol tsm_dense")
        assert choose_preprocessing(opts, starting_point(opts)).fixed_segments
    opts = options(f"--arch tsn --dataset x --shift {clip} --views all")
    with pytest.raises(UserError, match="--views all: a shifted network sees 8 frames; try"):
        choose_preprocessing(opts, starting_point(opts))


def test_options_of_a_run_are_those_of_the_clips_that_its_weights_bring(tmp_path):
    opts = options("--arch resnet3d --dataset ucf101 --pretrained slow_r50_pytorchvideo")
    start, device = starting_point(opts), torch.device("cpu")
    clip = choose_preprocessing(opts, start)
    arch_args = network_arguments(opts, start, clip)
    assert (opts.clip_len, clip.clip_len, arch_args["inflate"]) == (32, 8, "slow")
    one = SimpleNamespace(
        opts=opts,
        folder=tmp_path,
        start=start,
        preprocessing=clip,
        arch_args=arch_args,
        device=device,
        precision="fp32",
    )
    start_run_folder(one)
    resume = f"--resume {tmp_path}/last.pth"
    (tmp_path / "last.pth").touch()
    assert options(resume).arch_args["inflate"] == "slow"
    assert options(f"{resume} --clip-len 8 --target-fps 30").changed == {}
    assert options(f"{resume} --clip-len 32").changed == {"clip_len": (8, 32)}
    # older runs have the options of the recipe beside the checkpoint, which knows better
    one.start = SimpleNamespace(
        checkpoint={"preprocessing": clip.in_files(), "precision": "fp32", "data": None}
    )
    one.opts = replace(opts, changed={"clip_len": (32, 8), "epochs": (1, 2)})
    trainer = SimpleNamespace(epoch=1, done=0, steps_per_epoch=2)
    assert resumed_in_words(one, trainer)[1] == "from here on epochs is 2, not 1"
    one.opts, one.preprocessing = opts, replace(clip, clip_len=32)
    assert resumed_in_words(one, trainer)[1] == "from here on clip_len is 32, not 8"


def test_what_was_computed_before_there_were_fixed_segments_is_still_known():
    clip = Preprocessing(clip_len=8, mean=(0.0,), std=(1.0,))
    assert "fixed_segments" not in clip.in_files()
    assert replace(clip, fixed_segments=True).in_files()["fixed_segments"]
