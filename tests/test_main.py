"""Whole runs on a tiny data set, and every failure that a user can cause."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import test_resume
import torch
from conftest import SMALL_RUN, TINY_RUN, add_flow

from config import Preprocessing, UserError
from main import main
from models import build_model
from opts import parse_opts
from utils import checkpoint
from utils.actions.print_config import config_table, of_weights
from utils.resume.start import for_flow
from utils.run import (
    StartingPoint,
    choose_augmentation,
    choose_preprocessing,
    network_arguments,
    recipe_preprocessing,
    starting_point,
)
from utils.words import preprocessing_in_words

RUN = Path("saved_model/i3d_tiny_1")


def run(*argv):
    """main.py in a process of its own: exit status, stdout, stderr."""
    status = test_resume.finish(argv, target=test_resume.run_script)
    return status, Path("out.txt").read_text(), Path("err.txt").read_text()


def lines(name):
    return [json.loads(line) for line in (RUN / name).read_text().splitlines()]


def test_a_run_leaves_all_its_files(trained, capsys):
    names = {file.name for file in RUN.iterdir()}
    assert names == {
        *("options.json", "metrics.jsonl", "steps.jsonl", "log.txt", "curves.png", "last.pth"),
        *("best.pth", "predictions.json", "scores.npz", "result.json"),
        *("per_class.csv", "confusion.csv", "confusion.png"),
        *("validation.json", "mistakes.jpg", "mistakes_frames.jpg", "machine.json", "report.html"),
    }
    epochs, steps = lines("metrics.jsonl"), lines("steps.jsonl")
    assert [m["epoch"] for m in epochs] == [1, 2]
    assert [m["step"] for m in steps] == [1, 2, 3, 4]
    assert [m["epoch"] for m in steps] == [0.5, 1, 1.5, 2]
    for key in ("train/loss", "train/top1", "val/loss", "val/top1", "lr", "time/data", "time/step"):
        assert all(key in m for m in epochs), key
    assert "train/top5" not in epochs[0]  # two classes
    result = json.loads((RUN / "result.json").read_text())
    assert result["num_videos"] == 4
    assert result["num_skipped"] == 0
    assert result["top5"] is None
    assert "2 evenly spaced clips x 1 center crop of 8 frames" in result["protocol"]
    scores = np.load(RUN / "scores.npz")
    assert scores["scores"].shape == (4, 2)
    np.testing.assert_allclose(scores["scores"].sum(1), 1, rtol=1e-5)
    hits = (scores["scores"].argmax(1) == scores["labels"]).mean()
    assert result["top1"] == pytest.approx(100 * hits)
    predictions = json.loads((RUN / "predictions.json").read_text())
    assert [p["class_name"] for p in predictions] == ["down", "up", "down", "up"]
    assert result["protocol"] in (RUN / "log.txt").read_text()  # no number without it


def test_a_checkpoint_is_plain_and_complete(trained):
    state = torch.load(RUN / "last.pth", weights_only=True)
    assert set(state) == set(checkpoint.KEYS)
    assert state["arch"] == "i3d"
    assert state["class_names"] == ["down", "up"]
    assert (state["epoch"], state["step"]) == (2, 4)
    assert not any(key.startswith("module.") for key in state["model"])
    assert state["preprocessing"] == {
        "clip_len": 8,
        "stride": 1,
        "snippet_len": 0,
        "target_fps": None,
        "modality": "rgb",
        "crop_size": 32,
        "short_side": 36,
        "channel_order": "RGB",
        "value_range": (0.0, 1.0),
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "resize": "short_side",
        "interpolation": "bilinear",
        "antialias": True,
        "fps": None,
    }
    assert state["evaluation"] == {"views": "2x1", "average": "scores", "full_crop": False}


@pytest.mark.parametrize(
    "argv, channels, protocol",
    [
        (
            ["--arch", "i3d", "--views", "all"],
            2,
            "whole video as 1 clip x 1 center crop (stride 1)",
        ),
        (
            ["--arch", "tsn", "--clip-len", "15", "--backbone", "resnet18", "--views", "2x10"],
            10,
            "2 segments of 5 fields of flow as one input, softmax averaged over 10 crops",
        ),
    ],
    ids=["i3d", "tsn"],
)
def test_networks_train_on_flow(in_tiny_set, argv, channels, protocol):
    add_flow(in_tiny_set / "data" / "tiny")
    run = Path("saved_model/flow")
    argv = [*TINY_RUN, "--modality", "flow", "--epochs", "1", "--name", "flow", *argv]
    assert main([*argv, "--precision", "fp32"]) == 0
    state = torch.load(run / "last.pth", weights_only=True)
    assert state["preprocessing"]["modality"] == "flow"
    assert len(state["preprocessing"]["mean"]) == channels
    first = next(value for value in state["model"].values() if value.dim() > 3)
    assert first.shape[1] == channels
    assert protocol in json.loads((run / "result.json").read_text())["protocol"]
    with pytest.raises(UserError, match="are for --modality flow, not for rgb"):
        main(["--resume", str(run / "last.pth"), "--evaluate", "--modality", "rgb"])


def test_weights_of_rgb_that_start_flow_get_its_pixels():
    bninception = for_flow(
        Preprocessing(
            clip_len=15,
            snippet_len=5,
            channel_order="BGR",
            value_range=(0.0, 255.0),
            mean=(104.0, 117.0, 128.0),
            std=(1.0,) * 3,
        )
    )
    assert (bninception.mean, bninception.std) == ((128.0,) * 10, (1.0,) * 10)
    assert bninception.channel_order == "RGB"  # u and v must not be swapped
    torchvision = for_flow(
        Preprocessing(
            clip_len=15, snippet_len=5, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )
    )
    assert (torchvision.mean, torchvision.std) == ((0.5,) * 10, (0.226,) * 10)


def test_evaluation_repeats_the_number_of_the_run(trained):
    first = json.loads((RUN / "result.json").read_text())
    scores = np.load(RUN / "scores.npz")["scores"]
    (RUN / "result.json").unlink()
    assert main(["--resume", str(RUN / "last.pth"), "--evaluate", "--device", "cpu"]) == 0
    assert json.loads((RUN / "result.json").read_text()) == first
    np.testing.assert_allclose(np.load(RUN / "scores.npz")["scores"], scores, atol=1e-6)


def test_a_number_of_best_weights_says_that_they_were_chosen_on_the_test_list(trained):
    assert (
        main(["--resume", str(RUN / "best.pth"), "--evaluate", "--views", "1x3", "--device", "cpu"])
        == 0
    )
    result = json.loads((RUN / "results_best_tiny_1" / "result.json").read_text())
    protocol = result["protocol"]
    assert "chosen for their accuracy on data/tiny/testlist01.json" in protocol
    assert "1 center clip x 3 crops" in protocol


def test_a_protocol_reaches_the_network_in_batches_of_the_size_asked_for(trained, monkeypatch):
    """Ten clips x three crops of 36 px, as large as the short side, of four videos."""
    shapes = []

    def forward(self, clips):
        shapes.append(clips.shape)
        return clips.float().mean(dim=(1, 2, 3))[:, :2]

    monkeypatch.setattr("utils.classifier.ClipClassifier.forward", forward)
    argv = ["--resume", str(RUN / "last.pth"), "--evaluate", "--device", "cpu"]
    assert main([*argv, "--protocol", "nonlocal", "--view-batch", "8"]) == 0
    assert set(shapes) == {(8, 8, 36, 36, 3), (6, 8, 36, 36, 3)}
    assert sum(shape[0] for shape in shapes) == 4 * 30
    result = json.loads((RUN / "result.json").read_text())
    assert "36 px out of short side 36" in result["protocol"]
    assert main([*argv, "--protocol", "i3d", "--views", "2x1", "--crop-size", "20"]) == 0
    assert shapes[-1][2] == 20
    result = json.loads((RUN / "result.json").read_text())
    assert "logits averaged over 2 evenly spaced clips" in result["protocol"]  # typed: stronger
    assert result["average"] == np.load(RUN / "scores.npz")["average"] == "logits"


def test_more_epochs_go_on_where_the_first_ones_ended(trained):
    whole = torch.load(RUN / "last.pth", weights_only=True)["model"]
    assert main([*TINY_RUN, "--name", "one", "--epochs", "1"]) == 0
    argv = ["--resume", "saved_model/one/last.pth", "--epochs", "2", "--no-visdom"]
    assert main([*argv, "--device", "cpu"]) == 0
    resumed = torch.load("saved_model/one/last.pth", weights_only=True)["model"]
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)
    assert "from here on epochs is 2, not 1" in Path("saved_model/one/log.txt").read_text()


def test_the_same_run_twice_gives_the_same_weights(trained):
    assert main([*TINY_RUN, "--name", "again", "--workers", "2"]) == 0
    first, second = (
        torch.load(f, weights_only=True)["model"]
        for f in (RUN / "last.pth", "saved_model/again/last.pth")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_learns(in_tiny_set):
    assert (
        main(
            [*TINY_RUN, "--epochs", "8", "--optimizer", "adamw", "--lr", "0.001", "--dropout", "0"]
        )
        == 0
    )
    losses = [m["train/loss"] for m in lines("metrics.jsonl")]
    assert sum(losses[-3:]) / 3 < 0.3 < losses[0]


def test_a_run_folder_that_exists_is_not_touched(trained):
    before = (RUN / "last.pth").read_bytes()
    with pytest.raises(UserError, match=r"saved_model/i3d_tiny_1 exists; go on with --resume"):
        main(TINY_RUN)
    assert (RUN / "last.pth").read_bytes() == before


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--dataset", "nowhere"], "make_json.py folder nowhere"),
        (["--device", "cuda:77"], "--device cuda:77 cannot be used"),
        (["--device", "xpu"], "--device xpu cannot be used; torch finds cpu"),
        (["--device", "meta"], "--device meta cannot be used; torch finds cpu"),
        (["--device", "gpu"], "--device gpu cannot be used; torch finds cpu"),
        (["--device", "hpu:0"], "--device hpu:0 cannot be used; torch finds cpu"),
        (["--pretrained", "c3d"], "no weights 'c3d' for i3d; there are i3d_rgb_piergiaj"),
        (["--pretrained", "i3d_flow_piergiaj"], "are for --modality flow, not for rgb"),
        (
            ["--pretrained", "i3d_rgb_piergiaj", "--pretrained-file", "none.pt"],
            "no weight file none.pt",
        ),
        (["--split", "2"], "trainlist02.json; lists are there of --split 1; python pt_dataset/"),
    ],
)
def test_a_run_that_cannot_start_says_why_and_leaves_no_folder(in_tiny_set, argv, message):
    with pytest.raises(UserError) as error:
        main([*TINY_RUN, *argv])
    assert message in str(error.value)
    assert len(str(error.value)) < 300
    assert not Path("saved_model").exists()


def test_a_run_in_a_thread_works_without_signals(trained):
    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as threads:
        argv = ["--resume", str(RUN / "last.pth"), "--evaluate", "--device", "cpu"]
        assert threads.submit(main, argv).result() == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_a_checkpoint_of_another_architecture_or_of_other_classes_is_refused(trained):
    state = torch.load(RUN / "last.pth", weights_only=True)
    torch.save(state | {"arch": "s3d"}, "other.pth")
    with pytest.raises(UserError, match="other.pth is a checkpoint of s3d, not of i3d"):
        main([*TINY_RUN, "--resume", "other.pth", "--name", "x"])
    torch.save(state | {"class_names": ["up", "down"]}, "other.pth")
    with pytest.raises(UserError, match="was trained on other classes"):
        main([*TINY_RUN, "--resume", "other.pth", "--name", "x"])
    with pytest.raises(UserError, match="was not trained with --optimizer adamw"):
        main(
            [
                "--resume",
                str(RUN / "last.pth"),
                "--optimizer",
                "adamw",
                "--epochs",
                "3",
                "--no-visdom",
            ]
        )
    resume = ["--resume", str(RUN / "last.pth"), "--no-visdom"]
    with pytest.raises(UserError, match="not trained with --batch-size 2 but with 3"):
        main([*resume, "--batch-size", "2"])
    with pytest.raises(UserError, match="not trained with --seed 1 but with 0"):
        main([*resume, "--seed", "1"])
    with pytest.raises(UserError, match="no checkpoint missing.pth"):
        main([*TINY_RUN, "--resume", "missing.pth", "--name", "x"])


def test_a_broken_frame_in_a_worker_ends_in_one_sentence(in_tiny_set):
    frame = in_tiny_set / "data/tiny/frames/up/train_1/image_00004.jpg"
    frame.write_bytes(frame.read_bytes()[:100])
    status, _, err = run(*TINY_RUN, "--workers", "2", "--clip-len", "10")
    assert status == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "train_1/image_00004.jpg cannot be decoded" in last
    assert "Traceback" not in err


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_checkpoint(trained):
    argv = [
        "--resume",
        str(RUN / "last.pth"),
        "--epochs",
        "4",
        "--lr",
        "1e30",
        "--no-visdom",
        "--device",
        "cpu",
    ]
    before = torch.load(RUN / "last.pth", weights_only=True)["model"]
    with pytest.raises(UserError) as error:
        main(argv)
    assert "the loss is" in str(error.value)
    assert "the last good checkpoint is saved_model/i3d_tiny_1/last.pth" in str(error.value)
    after = torch.load(RUN / "last.pth", weights_only=True)
    assert all(value.isfinite().all() for value in after["model"].values())
    assert after["epoch"] >= 2
    assert before.keys() == after["model"].keys()


def test_ctrl_c_saves_a_checkpoint_that_goes_on(in_tiny_set):
    argv = [*SMALL_RUN, "--name", RUN.name, "--epochs", "2000", "--workers", "2"]
    process = test_resume.start(argv, target=test_resume.run_script)
    metrics = RUN / "metrics.jsonl"
    test_resume.wait_for(process, lambda: metrics.exists() and metrics.read_text())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the loader processes too
    process.join(60)
    assert process.exitcode == 130
    assert "go on with --resume saved_model/i3d_tiny_1/last.pth" in Path("out.txt").read_text()
    assert "Traceback" not in Path("err.txt").read_text()
    epoch = torch.load(RUN / "last.pth", weights_only=True)["epoch"]
    assert epoch >= 1
    argv = [
        "--resume",
        str(RUN / "last.pth"),
        "--epochs",
        str(epoch + 1),
        "--no-visdom",
        "--device",
        "cpu",
    ]
    assert main(argv) == 0


def test_a_clip_too_small_for_batch_norm_is_one_sentence(in_tiny_set):
    status, _, err = run(*TINY_RUN, "--batch-size", "1")
    assert status == 1
    assert err.strip().splitlines()[-1].startswith("error: batch norm cannot train on one clip")
    assert "Traceback" not in err


def test_the_exit_status_of_a_user_error_is_one_and_of_a_wrong_option_two(in_tiny_set):
    status, out, err = run(*TINY_RUN, "--dataset", "nowhere")
    assert (status, out.strip()) == (1, "")
    assert err.startswith("error: no list data/nowhere/trainlist01.json")
    assert len(err.strip().splitlines()) == 1
    assert run("--nonsense")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "argv, protocol",
    [
        (["--arch", "s3d", "--gating"], "2 evenly spaced clips x 1 center crop of 8 frames"),
        (["--arch", "resnet3d", "--non-local", "5"], "2 evenly spaced clips x 1 center crop"),
        (
            ["--arch", "tsn", "--backbone", "resnet18", "--clip-len", "3", "--snippet-len", "1"],
            "2 segments of 1 frame as one input",
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_every_architecture_trains_and_evaluates(in_tiny_set, argv, protocol):
    assert main([*TINY_RUN, *argv, "--name", "net", "--epochs", "1"]) == 0
    first = json.loads(Path("saved_model/net/result.json").read_text())
    assert protocol in first["protocol"]
    assert main(["--resume", "saved_model/net/last.pth", "--evaluate", "--device", "cpu"]) == 0
    assert json.loads(Path("saved_model/net/result.json").read_text()) == first


@pytest.mark.parametrize(
    "typed, crop_size, sides",
    [
        ([], 299, (341, 341)),  # as the weights were trained
        (["--crop-size", "224", "--short-side", "256", "320"], 224, (256, 320)),  # what is typed
    ],
)
def test_what_weights_expect_comes_before_the_recipe(typed, crop_size, sides):
    argv = ["--arch", "tsn", "--backbone", "inception_v3", "--pretrained", "imagenet"]
    opts = parse_opts([*argv, "--dataset", "x", *typed])
    start = starting_point(opts)
    preprocessing = choose_preprocessing(opts, start)
    assert preprocessing.crop_size == crop_size
    assert choose_augmentation(opts, preprocessing).short_side == sides
    assert preprocessing.mean == start.preprocessing.mean != opts.mean
    run = SimpleNamespace(opts=opts, start=start, preprocessing=preprocessing)
    sentence = "preprocessing: mean (0.5, 0.5, 0.5), as imagenet was trained"
    assert any(line.startswith(sentence) for line in preprocessing_in_words(run))


def test_a_plan_of_a_run_that_is_done_is_that(trained, capsys):
    assert main(["--resume", str(RUN), "--plan", "--data-root", "data", "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "all epochs of this run (--epochs 2) are done; --epochs N goes on" in out
    assert "plan:" not in out


@pytest.mark.parametrize(
    "argv, clip, partial_bn",
    [  # weights of pictures have no clip, and none says how another run trains
        ("i3d --dataset kinetics400 --pretrained imagenet", (32, 2, 0), None),
        ("i3d --dataset ucf101 --pretrained imagenet", (64, 1, 0), None),
        ("resnet3d --dataset ucf101 --pretrained imagenet", (32, 2, 0), None),
        ("resnet3d --dataset ucf101 --pretrained imagenet --stride 4", (32, 4, 0), None),
        ("tsn --dataset kinetics400 --pretrained imagenet", (3, 1, 1), None),
        ("tsn --dataset ucf101 --pretrained imagenet", (3, 1, 1), True),
        ("tsn --dataset ucf101 --pretrained imagenet --backbone vgg16", (3, 1, 1), True),
        ("tsn --dataset x --pretrained imagenet --recipe small", (8, 1, 1), True),
        ("tsn --dataset x --pretrained imagenet --shift --backbone resnet50", (8, 1, 1), None),
        ("tsn --dataset x --pretrained imagenet --modality flow", (15, 1, 5), True),
        # those of videos have one, which is the network's own
        ("resnet3d --dataset ucf101 --pretrained resnet3d_i3d50_pytorchvideo", (8, 8, 0), None),
        ("tsn --dataset ucf101 --pretrained tsm_r50_16_mit", (16, 1, 1), True),
    ],
)
def test_what_a_recipe_says_and_what_weights_say(argv, clip, partial_bn):
    opts = parse_opts(["--arch", *argv.split()])
    start = starting_point(opts)
    chosen = choose_preprocessing(opts, start)
    assert (chosen.clip_len, chosen.stride, chosen.snippet_len) == clip
    arguments = network_arguments(opts, start, chosen)
    assert arguments.get("partial_bn") == partial_bn
    with torch.device("meta"):
        assert getattr(build_model(opts.arch, 2, **arguments), "partial_bn", None) == (
            bool(partial_bn) if opts.arch == "tsn" else None
        )


def test_a_new_run_from_a_checkpoint_is_trained_as_its_recipe_says():
    opts = parse_opts(["--arch", "tsn", "--dataset", "kinetics400", "--pretrained", "a/best.pth"])
    theirs = {"backbone": "resnet18", "dropout": 0.1, "bn_momentum": 0.5, "partial_bn": False}
    start = StartingPoint(arch="tsn", arch_args=theirs)
    clip = recipe_preprocessing(opts)
    assert network_arguments(opts, start, clip) == {
        "backbone": "resnet18",
        "dropout": 0.8,
        "bn_momentum": 0.1,
        "partial_bn": True,
        "modality": "rgb",
    }
    same = StartingPoint(arch="tsn", arch_args=theirs, checkpoint={"arch": "tsn"})
    assert network_arguments(opts, same, clip) == theirs | {"modality": "rgb"}


def test_print_config_has_the_values_of_weights():
    name = "resnet3d_i3d50_pytorchvideo"
    argv = ["--arch", "resnet3d", "--dataset", "ucf101", "--pretrained", name, "--print-config"]
    first, _ = config_table(of_weights(parse_opts([*argv, "--crop-size", "112"]))).split("\n\n")
    found = {row[0]: (" ".join(row[1:-1]), row[-1]) for row in map(str.split, first.splitlines())}
    assert found["clip_len"] == ("8", name)
    assert found["target_fps"] == ("30", name)
    assert found["crop_size"] == ("112 command", "line")
    assert "lr" not in found


def test_multipliers_of_a_network_reach_the_optimizer(in_tiny_set, monkeypatch):
    """The paper of TSN trains biases at twice the rate and without weight decay."""
    argv = ["--arch", "tsn", "--backbone", "resnet18", "--clip-len", "3", "--snippet-len", "1"]
    assert main([*TINY_RUN, *argv, "--name", "net", "--epochs", "1", "--schedule", "cosine"]) == 0
    groups = torch.load("saved_model/net/last.pth", weights_only=True)["optimizer"]["param_groups"]
    assert groups[0]["initial_lr"] == 0.01
    biases = [g for g in groups if (g["lr_mult"], g["decay_mult"]) == (2, 0)]
    assert biases
    assert all(g["initial_lr"] == 0.02 and g["weight_decay"] == 0 for g in biases)
