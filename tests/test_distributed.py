"""Runs of several processes, which must be one run: the same steps, one voice, one end."""

import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from test_loader import CLIP, flipping
from test_resume import (  # noqa: F401
    PRELOADED,
    ROOT,
    RUN,
    assert_same_run,
    in_set_of_24,
    lines,
    start,
    wait_for,
)
from test_trainer import CPU, Net, make_net, make_trainer, train
from torch.distributed import run as elastic
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

import main
from config import INTERRUPTED, PREEMPTED, Loading, UserError, Views
from pt_dataset.loader import EpochBatches, train_loader, view_loader
from pt_dataset.video_lists import read_dataset
from utils import distributed
from utils.interrupt import GracefulStop, Stop
from utils.options import processes
from utils.options.freeze import freeze_norms
from utils.options.precise_bn import measure_norms
from utils.options.processes import seed_dropout
from utils.resume import checkpoint_file

forkserver = multiprocessing.get_context("forkserver")
STEPS = 21
OPTIONS = {"clip_grad": 0.5, "label_smoothing": 0.1, "mixup": 0.4, "cutmix": 1.0}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ranks(target, *args, num_processes=2):
    """Processes as a scheduler starts them; each calls `target(*args)`."""
    forkserver.set_forkserver_preload(PRELOADED)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    port, processes = free_port(), []
    with mock.patch.dict(os.environ, PYTHONPATH=path):  # the server looks nowhere else
        for rank in range(num_processes):
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes}
            variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            process = forkserver.Process(
                target=_as_rank, args=(os.getcwd(), variables, target, args)
            )
            process.start()
            processes.append(process)
    return processes


def _as_rank(folder, variables, target, args):
    os.chdir(folder)
    os.environ |= {name: str(value) for name, value in variables.items()}
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    target(*args)


def run_main(argv):
    """main.py from its first line to its last; what it says goes to said_RANK.txt."""
    said = os.open(f"said_{os.environ['RANK']}.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = [str(ROOT / "main.py"), *argv]
    runpy.run_path(sys.argv[0], run_name="__main__")


def finish(processes, seconds=90):
    """The exit statuses; no process is left behind."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0.1))
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
        process.join()
    assert not hanging, said()
    return [process.exitcode for process in processes]


def said():
    return [path.read_text() for path in sorted(Path().glob("said_*.txt"))]


# one step after the other, at the level of the trainer


def fifteen_clips():
    """Of each epoch batches of 7, 7 and 1 clips: uneven shares, and one that is empty."""
    generator = torch.Generator().manual_seed(1)
    clips = torch.randint(0, 256, (15, 2, 4, 4, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 6, (15,), generator=generator)
    sampler = EpochBatches(15, 7, seed=3, shard=shard())
    epochs = []
    for sampler.epoch in range(STEPS // 3):
        shares = [torch.tensor([i for _, i in batch], dtype=torch.long) for batch in sampler]
        epochs.append([(clips[share], labels[share], share, {}) for share in shares])
    return epochs


def shard():
    return distributed.rank(), distributed.world_size()


def train_together():
    """Everything that the tests compare, of one process or of one among several."""
    model = make_net()
    options = OPTIONS | {"micro_batch": 2 if distributed.is_main() else 3}
    frozen = freeze_norms(model)
    trainer = make_trainer(model, frozen=frozen, ema=0.9, steps_per_epoch=3, **options)
    trainer.classifier = distributed.wrapped(trainer.classifier, CPU)
    trainer.class_weights = torch.linspace(0.5, 2, 6).double()
    gradients = []

    def note(optimizer, args, kwargs):
        if not gradients:
            gradients.extend(p.grad.clone() for p in trainer.parameters)

    trainer.optimizer.register_step_pre_hook(note)
    metrics = [train(trainer, batches) for batches in fifteen_clips()]
    assert trainer.step == STEPS
    return {
        "gradients": gradients,
        "weights": model.state_dict(),
        "average": trainer.ema.average,
        "metrics": metrics,
        "averages": trainer.state_dict()["averages"],
        "norms": measured_norms(),
    }


def measured_norms():
    model = Net().double()
    model.load_state_dict(make_net().state_dict())
    trainer = make_trainer(model)
    # parts of the same clips: each process has 3 or 4 of 7, and the last clip is a part
    batches = split_for_one(fifteen_clips()[0])
    measure_norms(trainer.classifier, batches, 5, 7, CPU, frozen=[])
    return model.state_dict()


def split_for_one(batches):
    """The batches; of a single process in the shares that two would have."""
    for batch in batches:
        if distributed.world_size() == 2:
            yield batch
            continue
        n = len(batch[1])
        parts = [0, n // 2, n] if n > 1 else [0, n]
        for i, j in zip(parts, parts[1:], strict=False):
            yield [tensor[i:j] for tensor in batch[:3]]


def more_of_a_pair():
    model = make_net()
    trainer = make_trainer(model, micro_batch=1, steps_per_epoch=3)
    trainer.classifier = distributed.wrapped(trainer.classifier, CPU)
    reductions = []

    def counted(_, bucket):
        reductions.append(1)
        return allreduce_hook(None, bucket)

    trainer.classifier.register_comm_hook(None, counted)
    train(trainer, fifteen_clips()[0])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    distributed.share_buffers(model)
    draws = []
    for trainer.step in (4, 5, 4):
        seed_dropout(trainer.seed, trainer.step)
        draws.append(torch.rand(3))
    stop, seen, status = GracefulStop(), [], None
    try:
        for item in stop.between(range(5)):
            seen.append(item)
            if distributed.rank() == 1 and item == 2:
                stop.requested = signal.SIGUSR1
    except Stop as request:
        status = request.status
    return {
        "reductions": len(reductions),
        "before": before,
        "shared": model.state_dict(),
        "draws": draws,
        "stopped": (seen, status),
        "gathered": distributed.gather({"rank": distributed.rank()}),
        "highest": distributed.highest(-distributed.rank()),
    }


def work_of_a_pair():
    with distributed.joined():
        result = train_together() | more_of_a_pair()
        torch.save(result, f"rank{distributed.rank()}.pt")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes come to, and one alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("pair"))
        assert finish(start_ranks(work_of_a_pair)) == [0, 0]
        ranks = [torch.load(f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]
    return *ranks, train_together()


def assert_close(a, b, tolerance):
    items = a.items() if isinstance(a, dict) else enumerate(a)
    for key, value in items:
        torch.testing.assert_close(value, b[key], rtol=0, atol=tolerance, msg=f"{key}")


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(pair):
    """Uneven shares, an empty one, micro-batches, mixup, CutMix and clipping included."""
    first, second, alone = pair
    assert_close(first["gradients"], alone["gradients"], 1e-12)
    assert_close(first["weights"], alone["weights"], 1e-9)
    assert_close(first["average"], alone["average"], 1e-9)
    assert_close(second["weights"], first["weights"], 0)
    assert not torch.equal(first["weights"]["head.weight"], make_net().head.weight)


@pytest.mark.slow
def test_gradients_are_reduced_once_a_step_whatever_the_micro_batches(pair):
    assert [part["reductions"] for part in pair[:2]] == [3, 3]


@pytest.mark.slow
def test_averages_of_training_are_over_the_clips_of_all_processes(pair):
    first, second, alone = pair
    for of_pair, of_one in zip(first["metrics"], alone["metrics"], strict=True):
        for key in ("train/loss", "train/top1", "train/top5", "lr"):
            assert of_pair[key] == pytest.approx(of_one[key], abs=1e-9)
    for key in ("train/loss", "train/top1"):
        assert second["metrics"][-1][key] == first["metrics"][-1][key]
    for i in (0, 1):
        saved, expected = first["averages"][i], alone["averages"][i]
        torch.testing.assert_close(saved["sums"], expected["sums"])
        assert (saved["clips"], saved["steps"]) == (expected["clips"], expected["steps"])


@pytest.mark.slow
def test_precise_batch_norm_is_measured_on_the_shares_of_all(pair):
    first, second, alone = pair
    assert_close(first["norms"], alone["norms"], 1e-12)
    assert_close(second["norms"], first["norms"], 0)


@pytest.mark.slow
def test_batch_norm_of_the_first_process_is_what_all_evaluate(pair):
    first, second, _ = pair
    key = "features.stem.1.running_mean"
    assert not torch.equal(first["before"][key], second["before"][key])
    assert_close(second["shared"], first["before"], 0)
    assert_close(first["shared"], first["before"], 0)


@pytest.mark.slow
def test_each_process_draws_its_own_dropout_and_the_same_one_after_a_resume(pair):
    first, second, _ = pair
    for draws in (first["draws"], second["draws"]):
        assert torch.equal(draws[0], draws[2])
        assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(first["draws"][0], second["draws"][0])


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(pair):
    assert [part["stopped"] for part in pair[:2]] == [([0, 1, 2], PREEMPTED)] * 2


@pytest.mark.slow
def test_values_of_all_processes_come_in_their_order(pair):
    for part in pair[:2]:
        assert part["gathered"] == [{"rank": 0}, {"rank": 1}]
        assert part["highest"] == 0


def test_one_process_needs_no_other():
    assert not distributed.launched()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.gather("x") == ["x"]
    assert distributed.sizes(3) == [3]
    assert distributed.from_main(lambda: 5) == 5
    assert processes.first_to_fail()


@pytest.mark.parametrize("rank, local_rank, turn", [(0, 0, 0), (4, 0, 1), (5, 1, 2)])
def test_the_first_process_comes_before_the_others_of_its_machine(
    monkeypatch, rank, local_rank, turn
):
    waited = []
    monkeypatch.setattr(distributed, "is_main", lambda: rank == 0)
    monkeypatch.setattr(distributed, "local_rank", lambda: local_rank)
    monkeypatch.setattr(distributed, "highest", waited.append)
    with distributed.in_turn():
        assert len(waited) == turn
    assert len(waited) == 3


def test_a_second_signal_is_not_for_the_run_as_the_first_one_says(monkeypatch, capfd):
    monkeypatch.setattr("os.isatty", lambda file: True)
    with GracefulStop() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == signal.SIGINT
        assert "Ctrl-C again quits at once\n" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert not capfd.readouterr().err


def test_a_loop_that_a_signal_ends_leaves_nothing_open():
    """Whoever catches Stop holds its traceback, and with it all that was looped over."""
    closed = []

    def steps():
        try:
            yield from range(3)
        finally:
            closed.append(True)

    stop = GracefulStop()
    with pytest.raises(Stop) as caught:
        for _ in stop.between(steps()):
            stop.requested = signal.SIGTERM
    assert closed and caught.value.status == PREEMPTED


# shares


@pytest.mark.parametrize("num_processes", [1, 2, 3, 4])
@pytest.mark.parametrize("num_videos, batch_size", [(7, 4), (9, 8), (24, 8), (11, 5), (1, 4)])
def test_shares_are_the_batches_of_one_process_without_doubles(
    num_videos, batch_size, num_processes
):
    def batches(shard):
        sampler = EpochBatches(num_videos, batch_size, seed=1, shard=shard)
        sampler.epoch = 2
        return list(sampler)

    whole = batches((0, 1))
    shares = [batches((rank, num_processes)) for rank in range(num_processes)]
    assert all(len(share) == len(whole) for share in shares)
    for i, batch in enumerate(whole):
        assert [key for share in shares for key in share[i]] == batch
        used = [len(share[i]) for share in shares if share[i]]
        assert max(used) - min(used) <= 1
        if batch_size >= 2 * num_processes and len(batch) > 1:
            assert min(used) > 1, "batch norm cannot train on one clip"


@pytest.mark.parametrize("num_videos, sizes", [(6, [2, 1]), (7, [2]), (8, [2, 2])])
def test_where_batch_norm_is_over_all_processes_their_shares_are_equal(num_videos, sizes):
    for rank in (0, 1):
        batches = EpochBatches(num_videos, 4, equal_shares=True, shard=(rank, 2))
        assert [len(batch) for batch in batches] == sizes


@pytest.mark.parametrize("workers", [0, 1])
def test_an_empty_share_is_a_batch_without_clips(tiny_set, workers):
    lists, clip = read_dataset("tiny", tiny_set), replace(CLIP, clip_len=2)
    loading, shard = Loading(workers=workers), (1, 2)
    loader = train_loader(lists, clip, flipping(0), loading, batch_size=4, seed=0, shard=shard)
    assert [tuple(batch.clips.shape) for batch in loader.epoch()] == [
        (2, 2, 32, 32, 3),
        (0, 2, 32, 32, 3),
    ]
    views = view_loader(lists.test, clip, Views(1, 1), loading, batch_size=3, shard=shard)
    assert [batch.labels.tolist() for batch in views.epoch()] == [[0, 1]]
    views = view_loader(lists.test[:1], clip, Views(1, 1), loading, batch_size=3, shard=shard)
    assert [len(batch.labels) for batch in views.epoch()] == [0]


# whole runs of main.py


@pytest.fixture
def in_set_of_7(in_tiny_set):
    """Seven test videos."""
    path = in_tiny_set / "data/tiny/testlist01.json"
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries + entries[:3]))
    return in_tiny_set


def result_of(name):
    return json.loads(Path("saved_model", name, "result.json").read_text())


@pytest.fixture
def torchrun():
    """Starts torchrun with main.py; whatever is left of it ends with the test."""
    started = []

    def start(*argv, folder=None):
        command = [sys.executable, "-m", "torch.distributed.run", *argv]
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()  # which ends its workers, too
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()


MAIN = str(ROOT / "main.py")
TWO = ["--standalone", "--nproc_per_node=2"]


@pytest.mark.slow
def test_two_processes_make_one_run_and_count_seven_of_seven_videos(in_set_of_7):
    assert finish(start_ranks(run_main, [*RUN, "--name", "two", "--epochs", "1"])) == [0, 0], said()
    assert [path.name for path in Path("saved_model").iterdir()] == ["two"]
    assert result_of("two")["num_videos"] == 7
    validation = json.loads(Path("saved_model/two/validation.json").read_text())
    assert sum(map(sum, validation["confusion"])) == 7
    log = Path("saved_model/two/log.txt").read_text()
    assert "2 processes, each with 2 of the clips at most" in log
    for line in ("epoch 1/1", "top-1", "checkpoint: saved_model/two/last.pth"):
        assert "".join(said()).count(f"\n{line}") == 1, said()
    scores = np.load("saved_model/two/scores.npz")["scores"]
    first = result_of("two")
    assert main.main(["--resume", "saved_model/two/last.pth", "--evaluate", "--device", "cpu"]) == 0
    alone = np.load("saved_model/two/scores.npz")
    np.testing.assert_allclose(scores, alone["scores"], atol=1e-5)
    assert result_of("two")["top1"] == first["top1"]
    validated = json.loads(lines("two", "metrics.jsonl")[0])
    of_true_class = alone["scores"][range(7), alone["labels"]]  # after the softmax of one view
    assert validated["val/loss"] == pytest.approx(-np.log(of_true_class).mean(), abs=1e-5)
    hits = (alone["scores"].argmax(1) == alone["labels"]).mean()
    assert validated["val/top1"] == pytest.approx(100 * hits)  # the same views, 1x1


def run_torchrun(*argv):
    """torchrun, whose workers are forks of it: they need not import torch anew."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    said = os.open("said_all.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(said, 1)
    os.dup2(said, 2)
    elastic.main(["--run-path", "--start-method=fork", *argv])


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_run_goes_on_to_the_same_bits(
    in_set_of_24,  # noqa: F811
):
    argv = [*RUN, "--epochs", "1", "--checkpoint-steps", "2", "--log-every", "1", "--ema", "0.9"]
    whole = start_ranks(run_main, [*argv, "--name", "whole"])
    assert finish(whole) == [0, 0], said()
    agent = start(*TWO, "--max-restarts=1", MAIN, *argv, "--name", "killed", target=run_torchrun)
    wait_for(agent, lambda: len(lines("killed")) >= 3)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)  # the second of two
    assert finish([agent]) == [0], said()
    assert "resumed at step" in Path("saved_model/killed/log.txt").read_text()
    assert_same_run("killed", "whole")


@pytest.mark.slow
def test_two_machines_make_one_run_whose_folder_is_on_the_first(in_set_of_7, torchrun):
    """Two agents that meet at an address of this machine; the second has the data and no run."""
    endpoint = f"--rdzv-endpoint=127.0.0.1:{free_port()}"
    meet = ["--nnodes=2", "--nproc_per_node=1", "--rdzv-backend=c10d", "--rdzv-id=x", endpoint]
    folders = [Path("a"), Path("b")]
    for folder in folders:
        folder.mkdir()
        (folder / "data").symlink_to(in_set_of_7 / "data")
    argv = [MAIN, *RUN, "--name", "two", "--epochs", "1"]
    agents = [torchrun(*meet, *argv, folder=folder) for folder in folders]
    outs = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outs
    runs = [folder / "saved_model/two/result.json" for folder in folders]
    (result,) = (run for run in runs if run.exists())  # whoever came first
    assert json.loads(result.read_text())["num_videos"] == 7
    assert sum(out.count("epoch 1/1") for out in outs) == 1


@pytest.mark.slow
def test_ctrl_c_at_torchrun_saves(in_set_of_24, torchrun):  # noqa: F811
    argv = [*RUN, "--epochs", "100", "--log-every", "1", "--name", "two"]
    process = torchrun(*TWO, MAIN, *argv)
    deadline = time.monotonic() + 60
    while len(lines("two")) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=40)
    assert "stopped by Ctrl-C; go on with --resume saved_model/two/last.pth" in out
    assert checkpoint_file.load(Path("saved_model/two/last.pth"))["step"] == len(lines("two"))


@pytest.mark.slow
@pytest.mark.parametrize("signum, status", [("SIGUSR1", PREEMPTED), ("SIGINT", INTERRUPTED)])
def test_a_signal_to_one_process_lets_all_save_and_end_with_its_status(
    in_set_of_24,  # noqa: F811
    signum,
    status,
):
    argv = [*RUN, "--epochs", "100", "--log-every", "1", "--name", "two", "--workers", "1"]
    processes = start_ranks(run_main, argv)
    wait_for(processes[0], lambda: len(lines("two")) >= 2)
    os.kill(processes[1].pid, getattr(signal, signum))
    assert finish(processes) == [status] * 2, said()
    assert checkpoint_file.load(Path("saved_model/two/last.pth"))["step"] == len(lines("two"))
    assert sum(text.count("go on with --resume") for text in said()) == 1
    assert "Traceback" not in "".join(said())


def break_a_frame():
    frame = Path("data/tiny/frames/up/train_1/image_00004.jpg")
    frame.write_bytes(frame.read_bytes()[:100])


def move_the_list():
    Path("data/tiny/trainlist01.json").rename("elsewhere.json")


@pytest.mark.parametrize(
    "fault, argv, message",
    [
        pytest.param(
            break_a_frame,
            ["--clip-len", "10"],
            "image_00004.jpg cannot be decoded",
            marks=pytest.mark.slow,
        ),
        (move_the_list, [], "no list data/tiny/trainlist01.json"),
        (None, ["--batch-size", "1"], "--batch-size 1 is less than a clip for each of 2 processes"),
        (None, ["--sync-bn"], "--sync-bn is for several processes with a GPU each"),
    ],
    ids=["frame", "list", "batch", "sync-bn"],
)
def test_an_error_ends_all_processes_and_is_said_once(in_tiny_set, fault, argv, message):
    if fault:
        fault()
    argv = [*RUN, "--epochs", "1", "--name", "two", "--workers", "1", *argv]
    assert finish(start_ranks(run_main, argv)) == [1, 1], said()
    text = "".join(said())
    assert text.count("error: ") == 1, text
    assert message in text
    assert "Traceback" not in text


def bad_share_of_a_pair(root):
    """Of six videos two are bad, and with this seed both in the share of the first process."""
    with distributed.joined():
        lists, said = read_dataset("tiny", root), []
        for share in (0.34, 0.33):
            loader = train_loader(
                lists,
                CLIP,
                flipping(0),
                Loading(workers=0, on_bad_frame="nearest", max_bad_share=share),
                batch_size=4,
                seed=6,
                shard=shard(),
            )
            faults = loader.new_faults()
            batches = distributed.sharing_faults(loader.epoch(), faults)
            try:
                seen = [indices.tolist() for _, _, indices, _ in batches]
            except UserError as error:
                seen = str(error)
            said.append((seen, sorted(faults.found)))
        torch.save(said, f"rank{distributed.rank()}.pt")


def test_the_share_of_bad_videos_is_that_of_all_processes(in_tiny_set):
    for name in ("down/train_2", "up/train_1"):
        for number in range(2, 11):
            Path(f"data/tiny/frames/{name}/image_{number:05d}.jpg").write_bytes(b"")
    assert finish(start_ranks(bad_share_of_a_pair, "data")) == [0, 0]
    first, second = (torch.load(f"rank{rank}.pt", weights_only=False) for rank in (0, 1))
    assert {1, 2} <= set(sum(first[0][0], []))  # the shares in which they are
    assert not {1, 2} & set(sum(second[0][0], []))
    assert first[0][1] == second[0][1] == [1, 2]
    assert first[1] == second[1]  # both end at once, with the same words
    assert "2 of 6 videos are bad, more than --max-bad-share 0.33, the first: " in first[1][0]


@pytest.mark.slow
def test_videos_that_any_process_leaves_out_are_said_and_counted_by_the_first(in_tiny_set):
    for name in ("train_0", "train_2", "test_2"):  # the last is in the share of the second
        for frame in Path("data/tiny/frames/down", name).iterdir():
            frame.write_bytes(b"")
    argv = [*RUN, "--epochs", "1", "--name", "two", "--batch-size", "4", "--view-batch", "2"]
    argv += ["--on-bad-frame", "skip", "--max-bad-share", "0.34"]
    assert finish(start_ranks(run_main, argv)) == [0, 0], said()
    log = Path("saved_model/two/log.txt").read_text()
    assert "training: 2 of 6 videos were left out: " in log
    assert log.count("evaluation: 1 of 4 videos were left out: ") == 2, log
    result = result_of("two")
    assert (result["num_videos"], result["num_skipped"]) == (3, 1)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_in_one_sentence(in_set_of_24):  # noqa: F811
    argv = [*RUN, "--epochs", "100", "--log-every", "1", "--name", "two"]
    processes = start_ranks(run_main, argv)
    wait_for(processes[0], lambda: len(lines("two")) >= 2)
    processes[1].kill()
    assert finish(processes) == [1, -signal.SIGKILL], said()
    text = "".join(said())
    assert "error: another process of this run has ended; torchrun --max-restarts" in text
    assert "Traceback" not in text


def test_processes_that_do_not_find_each_other_say_what_is_missing(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match="process 0 does not find the others .*MASTER_ADDR"):
        main.main(RUN)
