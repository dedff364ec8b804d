"""What the options of training do to whole runs."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from test_resume import RUN, lines

from config import Preprocessing, UserError
from main import main
from utils import build
from utils.actions.plan import bottleneck, suggestions, total_hours
from utils.classifier import ClipClassifier, Normalize
from utils.options.compile import compiled
from utils.options.flops import forward_flops, peak_flops
from utils.precision import choose_precision
from utils.resume import checkpoint_file
from utils.trainer import Trainer

CPU = torch.device("cpu")
METRICS = {"clips_per_s": 20.0, "memory_gb": 30.0} | {
    f"time/{name}": seconds
    for name, seconds in (("data", 0.1), ("copy", 0.0), ("compute", 0.3), ("step", 0.4))
}


def log_of(name):
    return "\n".join(lines(name, "log.txt"))


def test_averaged_weights_are_evaluated_and_said_so(in_tiny_set, monkeypatch):
    score, evaluated = build.score, []

    def noted(run, *args, **how):
        evaluated.append(run.model.head.weight.clone())
        return score(run, *args, **how)

    monkeypatch.setattr("main.score", noted)
    assert main([*RUN, "--name", "ema", "--epochs", "1", "--ema", "0.5"]) == 0
    folder = Path("saved_model/ema")
    first = json.loads((folder / "result.json").read_text())
    assert "averaged weights after epoch 1" in first["protocol"]
    state = checkpoint_file.load(folder / "last.pth")
    key = "head.weight"
    assert not torch.equal(state["model"][key], state["ema"]["average"][key])
    assert main(["--resume", str(folder / "last.pth"), "--evaluate", "--device", "cpu"]) == 0
    assert json.loads((folder / "result.json").read_text()) == first
    # in the validation, in the report at the end, and with --evaluate
    assert len(evaluated) == 3
    assert all(torch.equal(weight, state["ema"]["average"][key]) for weight in evaluated)


def test_a_run_says_what_its_numbers_came_from(in_tiny_set):
    argv = [part for part in RUN if part not in ("--lr", "0.01")]
    options = ["--micro-batch", "2", "--freeze-bn", "--freeze", "layer1", "--clip-grad", "1"]
    assert main([*argv, *options, "--name", "said", "--epochs", "1"]) == 0
    log = log_of("said")
    assert "learning rate: 0.000234375 for 3 clips" in log
    assert "0.01 for 128 clips, scaled" in log
    assert "micro-batches of 2 clips at most" in log
    assert "frozen: 0.1" in log  # million parameters of the first stage and of batch norm
    epoch = json.loads(lines("said", "metrics.jsonl")[0])
    assert {"frames_per_s", "memory_gb", "time/copy"} <= epoch.keys()


def test_a_plateau_of_the_test_loss_is_a_choice_made_on_the_test_list(in_tiny_set):
    argv = [*RUN, "--name", "p", "--epochs", "2", "--schedule", "plateau"]
    assert main([*argv, "--plateau-patience", "1"]) == 0
    state = checkpoint_file.load(Path("saved_model/p/last.pth"))
    choice = "the learning rate of saved_model/p followed the loss on data/tiny/testlist01.json"
    assert state["choices"] == [choice]
    protocol = json.loads(Path("saved_model/p/result.json").read_text())["protocol"]
    assert f"weights after epoch 2; {choice}; trained on none" in protocol
    assert state["scheduler"]["losses"] == [
        json.loads(line)["val/loss"] for line in lines("p", "metrics.jsonl")
    ]


def test_a_plan_takes_20_steps_and_leaves_nothing_behind(in_tiny_set, monkeypatch, capsys):
    step, seen = Trainer.train_batch, []

    def counted(self, clips, labels, waited=0):
        seen.append(len(clips))
        return step(self, clips, labels, waited)

    monkeypatch.setattr(Trainer, "train_batch", counted)
    monkeypatch.setattr("utils.averages.peak_memory_gb", lambda device: None)  # as on Windows
    assert main([*RUN, "--epochs", "1000", "--plan"]) == 0
    assert seen == [3] * 20
    assert not Path("saved_model").exists()
    out = capsys.readouterr().out
    assert re.search(r"plan: about \d.* for 2000 steps and", out)
    assert "GiB" not in out


def test_hours_are_steps_and_a_third_of_the_work_for_evaluation():
    # 8 clips a step of 0.4 s
    assert total_hours(METRICS, 9000, 0) == pytest.approx(1)
    assert total_hours(METRICS, 0, 9000 * 8 * 3) == pytest.approx(1)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, ["--workers 16"]),
        ({"workers": 16}, ["smaller or fewer frames"]),
        ({"memory_limit_gb": 32.0, "workers": 16}, ["smaller", "--checkpoint-activations"]),
        ({"memory_limit_gb": 80.0, "whole_batch": False}, ["--workers", "--micro-batch auto"]),
        ({"memory_limit_gb": 80.0, "precision": "fp32"}, ["--workers", "--precision tf32"]),
    ],
)
def test_suggestions_name_options_and_reasons(changes, expected):
    usual = {"workers": 4, "cores": 16, "precision": "bf16", "memory_limit_gb": None}
    found = suggestions(METRICS, **usual | {"whole_batch": True} | changes)
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))
    assert bottleneck(METRICS) == "75 % of the time computing"


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--freeze", "res9"], "--freeze res9: the network's stages are conv1, bn1"),
        (["--precision", "fp16"], "--precision fp16 is for GPUs"),
        (["--precision", "tf32"], "--precision tf32 is for GPUs"),
    ],
)
def test_an_option_that_cannot_be_followed_says_so_and_leaves_no_folder(in_tiny_set, argv, message):
    with pytest.raises(UserError) as error:
        main([*RUN, "--epochs", "1", *argv])
    assert message in str(error.value)
    assert not Path("saved_model").exists()


def test_multiply_adds_are_counted_without_computing():
    conv = torch.nn.Conv3d(3, 8, 3, padding=1, bias=False)
    assert forward_flops(conv, (2, 3, 4, 5, 6)) == 2 * 2 * 8 * 3 * 27 * (4 * 5 * 6)


@pytest.mark.parametrize(
    "name, precision, peak",
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989e12),
        ("NVIDIA H100 PCIe", "bf16", 756e12),
        ("NVIDIA A100-SXM4-40GB", "tf32", 156e12),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("a GPU of tomorrow", "fp32", None),
    ],
)
def test_the_peak_of_a_gpu_is_found_by_its_name(monkeypatch, name, precision, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda"), precision) == peak


@pytest.mark.parametrize("processes, gpus, expected", [(1, 1, 50), (4, 1, 200), (1, 3, 150)])
def test_the_peak_of_a_run_is_that_of_all_its_devices(monkeypatch, processes, gpus, expected):
    monkeypatch.setattr("utils.options.flops.clips_per_s", lambda *_: 50)
    monkeypatch.setattr("utils.distributed.world_size", lambda: processes)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    model = torch.nn.Identity()
    run = SimpleNamespace(
        device=torch.device("cuda"),
        model=model,
        preprocessing=Preprocessing(clip_len=2, mean=(0.5,) * 3, std=(0.5,) * 3),
        precision="bf16",
        classifier=mock.Mock(spec=torch.nn.DataParallel) if gpus > 1 else model,
    )
    assert build.clips_per_s_at_peak(run) == expected


@pytest.fixture
def tf32():
    """What torch may round, read in the older way, too, as torch.compile does; put back after."""
    yield lambda: {
        torch.backends.cuda.matmul.fp32_precision == "tf32",
        torch.backends.cudnn.conv.fp32_precision == "tf32",
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision() == "high",
    }
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize(
    "requested, has_bf16, precision, rounds",
    [
        ("auto", True, "bf16", True),
        ("auto", False, "fp32", False),
        ("fp32", True, "fp32", False),
        ("tf32", True, "tf32", True),
        ("fp16", False, "fp16", True),
    ],
)
def test_a_gpu_computes_in_what_was_asked_for(
    monkeypatch, tf32, requested, has_bf16, precision, rounds
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    monkeypatch.setattr("utils.options.half_layers.wrong_layers", lambda *_: [])
    net = torch.nn.Conv3d(3, 1, 1)
    assert choose_precision(requested, torch.device("cuda"), net, (1, 3, 2, 4, 4)) == precision
    assert tf32() == {rounds}


def test_float16_computes_in_half_precision_inside_the_wrapped_forward():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 5))
    seen = []
    net.register_forward_hook(lambda m, i, output: seen.append(output.dtype))
    classifier = ClipClassifier(net, Normalize([0.5] * 3, [0.5] * 3), "fp16")
    logits = classifier(torch.zeros(2, 2, 2, 2, 3, dtype=torch.uint8))
    assert (seen, logits.dtype) == ([torch.float16], torch.float32)


@pytest.mark.slow
def test_a_compiled_network_has_the_gradients_of_the_plain_one():
    net = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 1), torch.nn.Flatten(), torch.nn.Linear(32, 5))
    plain = ClipClassifier(net, Normalize([0.5] * 3, [0.5] * 3))
    clips = torch.randint(0, 256, (2, 2, 2, 2, 3), dtype=torch.uint8)
    gradients = []
    for classifier in (plain, compiled(plain, CPU)):
        net.zero_grad()
        classifier(clips).square().sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize(
    "channels_last, strides", [(True, (6, 1, 6, 6, 6)), (False, (6, 1, 1, 1, 1))]
)
def test_the_compiler_finds_small_kernels_in_the_layout_of_the_others(channels_last, strides):
    """Else I3D compiled takes 1.9 times as long."""
    net = torch.nn.Sequential(torch.nn.Conv3d(3, 6, 3), torch.nn.Conv3d(6, 4, 1))
    plain = ClipClassifier(net, Normalize([0.5] * 3, [0.5] * 3, channels_last=channels_last))
    compiled(plain, CPU)
    assert net[1].weight.stride() == strides


def test_a_machine_that_cannot_compile_says_why(monkeypatch):
    def broken(function):
        raise RuntimeError("No working C++ compiler found\nand a traceback")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UserError, match="--compile does not work on this machine: No working C"):
        compiled(torch.nn.Identity(), CPU)
