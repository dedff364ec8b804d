"""Runs that are killed, stopped or out of room, in processes of their own, and then go on."""

import errno
import json
import multiprocessing
import os
import random
import resource
import runpy
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch

import main
from config import INTERRUPTED, PREEMPTED, UserError
from utils.loggers import JsonLines, read_lines
from utils.resume import checkpoint_file
from utils.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
# its processes start in a moment: the server has imported already what takes seconds
forkserver = multiprocessing.get_context("forkserver")
PRELOADED = ["main", "torchvision", "matplotlib.figure"]
RUN = [
    *("--arch", "tsn", "--backbone", "resnet18", "--dataset", "tiny", "--data-root", "data"),
    *("--clip-len", "3", "--snippet-len", "1", "--crop-size", "32", "--short-side", "34", "40"),
    *("--no-visdom", "--device", "cpu", "--batch-size", "3", "--lr", "0.01", "--dropout", "0.5"),
    *("--precision", "fp32"),
    *("--views", "1x1", "--log-every", "2", "--resume", "auto", "--workers", "0"),
]
# everything that has a state of its own
ALL_AT_ONCE = [
    *("--ema", "0.9", "--mixup", "0.4", "--schedule", "cosine", "--warmup-epochs", "0.5"),
    *("--precise-bn", "2", "--micro-batch", "2", "--clip-grad", "1", "--checkpoint-steps", "3"),
]


def run(argv, limit=None):
    """main.py in a process of its own, as its last lines would run it."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loader processes, as usual
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        sys.exit(main.main(argv))
    except UserError as error:
        Path("error.txt").write_text(str(error))
        sys.exit(1)


def run_script(argv):
    """main.py from its first line to its last; what it says goes to out.txt and err.txt."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    os.setsid()  # as a terminal starts it
    for number, name in ((1, "out.txt"), (2, "err.txt")):
        os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    sys.argv = [str(ROOT / "main.py"), *argv]
    runpy.run_path(sys.argv[0], run_name="__main__")


def start(*args, target=run):
    forkserver.set_forkserver_preload(PRELOADED)
    process = forkserver.Process(target=_in_folder, args=(os.getcwd(), target, args))
    # the server looks for what it imports first nowhere else
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, PYTHONPATH=path):
        process.start()
    return process


def _in_folder(folder, target, args):
    os.chdir(folder)
    target(*args)


def finish(*args, target=run):
    process = start(*args, target=target)
    process.join(120)
    return process.exitcode


def lines(name, file="steps.jsonl"):
    path = Path("saved_model", name, file)
    return path.read_text().splitlines() if path.exists() else []


def wait_for(process, condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.is_alive(), f"ended with {process.exitcode}"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def without_times(text_lines):
    times = ("time/", "clips_per_s", "frames_per_s", "memory_gb")
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith(times)}
        for line in text_lines
    ]


def assert_same_run(name, other):
    first, second = (
        checkpoint_file.load(Path("saved_model", run_name, "last.pth"))
        for run_name in (name, other)
    )
    for key in ("model", "optimizer", "ema", "rng", "scheduler"):
        assert_same(first[key], second[key], key)
    for file in ("steps.jsonl", "metrics.jsonl"):
        assert without_times(lines(name, file)) == without_times(lines(other, file))


def assert_same(a, b, where):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


@pytest.fixture
def in_set_of_24(in_tiny_set):
    """Eight steps an epoch, of videos on the disk four times."""
    path = in_tiny_set / "data/tiny/trainlist01.json"
    path.write_text(json.dumps(json.loads(path.read_text()) * 4))


def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(in_set_of_24):
    kills, workers, epochs = 4, "2", "2"
    argv = [*RUN, *ALL_AT_ONCE, "--epochs", epochs]
    assert finish([*argv, "--name", "whole"]) == 0
    rng = random.Random(kills)
    for _ in range(kills):
        before = len(lines("killed"))
        process = start([*argv, "--name", "killed", "--workers", workers])
        wait_for(process, lambda: Path("saved_model/killed/log.txt").exists())
        if rng.random() < 0.7:  # else still at its start, the checkpoint of which may be missing
            wait_for(process, lambda n=before: len(lines("killed")) != n)  # dropped or added
            time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.join()
        if Path("saved_model/killed/last.pth").exists():
            checkpoint_file.load(Path("saved_model/killed/last.pth"))
    assert finish([*argv, "--name", "killed", "--workers", workers]) == 0
    assert_same_run("killed", "whole")
    assert [m["epoch"] for m in without_times(lines("killed", "metrics.jsonl"))] == list(
        range(1, int(epochs) + 1)
    )


def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(in_tiny_set, monkeypatch):
    argv = [*RUN, *ALL_AT_ONCE, "--epochs", "2", "--log-every", "1"]
    argv += ["--batch-size", "4", "--repeats", "2", "--cutmix", "1", "--layer-decay", "0.7"]
    argv += ["--augment", "randaugment", "--erasing", "0.5"]
    assert main.main([*argv, "--name", "whole"]) == 0
    step, state = Trainer.train_batch, Path("saved_model/stopped/last.pth")

    def stopped_at_5(self, clips, labels, waited=0):
        lr = step(self, clips, labels, waited)
        if self.step == 5:  # the second of three of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return lr

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_batch", stopped_at_5)
        assert main.main([*argv, "--name", "stopped"]) == 75
    assert (checkpoint_file.load(state)["epoch"], checkpoint_file.load(state)["step"]) == (1, 5)
    assert main.main([*argv, "--name", "stopped"]) == 0
    assert "resumed at step 2 of 3 of epoch 2" in "".join(lines("stopped", "log.txt"))
    assert_same_run("stopped", "whole")


@pytest.mark.slow
def test_signals_save_inside_an_epoch_and_the_run_goes_on_to_the_same_bits(in_set_of_24):
    argv = [*RUN, "--epochs", "1", "--log-every", "1"]
    signals = {signal.SIGTERM: PREEMPTED, signal.SIGUSR1: PREEMPTED, signal.SIGINT: INTERRUPTED}
    for signum, status in signals.items():
        before = len(lines("stopped"))
        process = start([*argv, "--name", "stopped"])
        wait_for(process, lambda n=before: len(lines("stopped")) > n)
        os.kill(process.pid, signum)
        process.join(60)
        assert process.exitcode == status
        state = checkpoint_file.load(Path("saved_model/stopped/last.pth"))
        assert before < state["step"] == len(lines("stopped"))
        last = lines("stopped", "log.txt")[-1]
        assert (
            f"stopped by {'Ctrl-C' if status == INTERRUPTED else signum.name}; go on with" in last
        )
    assert finish([*argv, "--name", "stopped"]) == 0
    assert finish([*argv, "--name", "whole"]) == 0
    assert_same_run("stopped", "whole")


def test_a_signal_to_all_processes_of_a_run_lets_it_save(in_set_of_24):
    """As SLURM sends it: to the loader processes, too."""
    argv = [*RUN, "--epochs", "50", "--workers", "2", "--name", "all", "--log-every", "1"]
    process = start(argv)
    wait_for(process, lambda: len(lines("all")) >= 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    for pid in (*children, process.pid):
        os.kill(int(pid), signal.SIGTERM)
    process.join(30)
    assert process.exitcode == PREEMPTED
    assert checkpoint_file.load(Path("saved_model/all/last.pth"))["step"] >= 2


@pytest.mark.parametrize("argv", [[], ["--probe-time"]], ids=["evaluate", "probe-time"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_evaluation_in_one_sentence(untrained, monkeypatch, capsys, argv, signum):
    def forward(self, clips):
        os.kill(os.getpid(), signum)
        return torch.zeros(len(clips), 2)

    monkeypatch.setattr("utils.classifier.ClipClassifier.forward", forward)
    before = signal.getsignal(signum)
    argv = ["--resume", str(untrained), "--evaluate", *argv, "--arch", "tsn", "--dataset", "tiny"]
    status = main.main([*argv, "--data-root", "data", "--device", "cpu", "--workers", "0"])
    assert status == {signal.SIGTERM: PREEMPTED, signal.SIGINT: INTERRUPTED}[signum]
    assert "nothing was written; the same command starts again" in capsys.readouterr().out
    assert [path.name for path in untrained.parent.iterdir()] == ["net.pth"]
    assert signal.getsignal(signum) == before


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(in_set_of_24):
    argv = [*RUN, "--epochs", "1", "--name", "full", "--checkpoint-steps", "2"]
    argv += ["--optimizer", "adamw"]  # whose state makes the second checkpoint larger
    assert finish(argv, 60_000_000) == 1
    message = Path("error.txt").read_text()
    assert "saved_model/full/last.pth cannot be written" in message
    assert "the one before it is kept" in message
    assert checkpoint_file.load(Path("saved_model/full/last.pth"))["step"] == 0
    assert not list(Path("saved_model/full").glob(".*"))
    assert finish(argv) == 0


def test_a_disk_too_full_for_the_numbers_of_a_step_is_one_sentence(in_tiny_set, monkeypatch):
    def full(self, name, metrics):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JsonLines, "_append", full)
    with pytest.raises(UserError, match="the disk of saved_model/f is full; make room there and"):
        main.main([*RUN, "--name", "f", "--epochs", "1"])
    assert checkpoint_file.load(Path("saved_model/f/last.pth"))["step"] == 0


def test_resume_auto_starts_a_run_that_has_no_checkpoint_yet(in_tiny_set):
    Path("saved_model/new").mkdir(parents=True)  # as if it had been killed before its first
    assert main.main([*RUN, "--name", "new", "--epochs", "1"]) == 0
    assert len(lines("new", "metrics.jsonl")) == 1
    assert main.main([*RUN, "--name", "new", "--epochs", "1"]) == 0
    assert "all epochs of this run (--epochs 1) are done" in "".join(lines("new", "log.txt"))


def test_a_list_that_has_changed_cannot_be_gone_on_with(in_tiny_set):
    assert main.main([*RUN, "--name", "new", "--epochs", "1"]) == 0
    path = in_tiny_set / "data/tiny/trainlist01.json"
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    with pytest.raises(UserError, match="12 training videos, not 6"):
        main.main([*RUN, "--name", "new", "--epochs", "2"])


def test_lines_of_what_is_done_again_go(tmp_path):
    """Of an epoch, too, whose steps are done and saved while its validation is not."""
    steps = [{"step": n, "epoch": n / 4} for n in range(1, 10)]
    epochs = [{"step": 4, "epoch": 1}, {"step": 8, "epoch": 2}]
    for name, rows in (("steps", steps), ("metrics", epochs)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text + '{"step": 1')  # cut off by a kill
    JsonLines(tmp_path, step=8, epoch=1)
    assert read_lines(tmp_path / "steps.jsonl") == steps[:8]
    assert read_lines(tmp_path / "metrics.jsonl") == epochs[:1]


def test_no_checkpoint_holds_a_weight_that_is_not_finite(in_tiny_set):
    argv = [*RUN, "--name", "bad", "--epochs", "3", "--workers", "0", "--lr", "1e38"]
    with pytest.raises(UserError, match="the last good checkpoint is saved_model/bad/last.pth"):
        main.main([*argv, "--log-every", "100", "--checkpoint-steps", "1"])
    state = checkpoint_file.load(Path("saved_model/bad/last.pth"))
    assert all(value.isfinite().all() for value in state["model"].values())
