"""How many clips the memory has room for: what is free, what a clip takes, and what is said."""

import math
import os
import platform
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import utils.build
import utils.checkpoint
import utils.run
import utils.trainer
from config import Clip, Evaluation, Preprocessing, UserError, Views, part
from main import main
from opts import parse_opts
from pt_dataset.clip_dataset import ViewClips
from pt_dataset.processes import memory, slots
from pt_dataset.video_lists import read_dataset
from tests.conftest import SMALL_RUN
from tests.test_trainer import CPU, classifier_of, make_net, make_trainer
from utils import words
from utils.actions.errors import error_in_words
from utils.actions.plan import quicker_in_words
from utils.memory import fit, of_run
from utils.memory.fit import Load, fit_on_cpu, fit_views
from utils.memory.on_cpu import measured
from utils.memory.on_gpu import largest_that_fits, sizes_to_try
from utils.memory.simulated import Cost, simulated
from utils.memory.trial import is_out_of_memory, step, without_trace
from utils.options.activations import compute_activations_twice

GB = 10**9
NO_LIMIT = 9223372036854771712  # as version 1 writes it


# what is free


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes files below /proc and /sys/fs/cgroup of a machine with 20 GB free."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    write({"proc/meminfo": f"MemTotal: 30 kB\nMemAvailable: {20 * GB // 1024} kB"})
    return write


def version_2(folder, limit, used, files=0):
    stat = f"anon 5\ninactive_file {files}\nactive_file 0"
    values = {"max": limit, "current": used, "stat": stat}
    return {f"cgroup/{folder}memory.{name}": value for name, value in values.items()}


def version_1(folder, limit, used, files=0):
    stat = f"inactive_file 3\ntotal_inactive_file 0\ntotal_active_file {files}"
    values = {"limit_in_bytes": limit, "usage_in_bytes": used, "stat": stat}
    return {f"cgroup/memory/{folder}memory.{name}": value for name, value in values.items()}


IN_2 = {"proc/self/cgroup": "0::/user/job"}
IN_1 = {"proc/self/cgroup": "9:cpu:/\n4:memory,pids:/docker/7\n0::/"}


@pytest.mark.parametrize(
    "files, free",
    [
        ({}, 20),
        (IN_2 | version_2("user/job/", 6 * GB, 2 * GB), 4),
        (IN_2 | version_2("user/job/", 6 * GB, 5 * GB, files=3 * GB), 4),  # pages of files can go
        (IN_2 | version_2("user/job/", "max", 2 * GB) | version_2("user/", 9 * GB, 4 * GB), 5),
        (IN_2 | version_2("", 3 * GB, 2 * GB), 1),  # as seen from inside of a container
        (IN_2 | version_2("unified/user/job/", 3 * GB, GB), 2),
        (IN_2 | version_2("user/job/", 90 * GB, GB), 20),
        (IN_1 | version_1("docker/7/", 6 * GB, 3 * GB, files=GB), 4),
        (IN_1 | version_1("", 6 * GB, 5 * GB), 1),  # its own folder is not seen
        (IN_1 | version_1("docker/7/", NO_LIMIT, 3 * GB), 20),
        ({"proc/meminfo": "MemTotal: 30 kB"}, math.inf),  # nobody says
    ],
)
def test_free_is_the_least_of_the_machine_and_its_containers(machine, files, free):
    machine(files)
    assert memory.free_memory() == pytest.approx(free * GB, rel=1e-6)


def test_a_limit_of_addresses_counts(machine, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (7 * GB, 9 * GB))
    machine({"proc/self/statm": f"{4 * GB // resource.getpagesize()} 5 6"})
    assert memory.free_memory() == pytest.approx(3 * GB, abs=resource.getpagesize())


def test_without_proc_nothing_is_known(monkeypatch):
    monkeypatch.setattr(memory, "PROC", Path("/nowhere"))
    assert memory.free_memory() == math.inf


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others keep no freed memory")
def test_memory_that_was_freed_goes_back_to_the_system():
    pages = Path("/proc/self/statm")
    held = [bytearray(100_000) for _ in range(2000)]
    held = held[::100]  # the rest is free, between what is not
    before = int(pages.read_text().split()[1])
    memory.give_freed_memory_back()
    given = before - int(pages.read_text().split()[1])
    assert given * os.sysconf("SC_PAGE_SIZE") > 0.7 * 200e6 and len(held) == 20


# what a clip takes


class Keeps(nn.Module):
    """Layers whose activations can be counted by hand."""

    def __init__(self, layers=3):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv3d(3, 3, 1, bias=False) for _ in range(layers)))

    def forward(self, clip):
        return self.layers(clip)


def test_a_pass_is_counted_without_computing():
    shape = 3, 4, 16, 16
    clip = 4 * math.prod(shape)
    evaluation = simulated(Keeps(5), shape, training=False)
    assert evaluation.clip == 2 * clip + clip  # in and out of a layer, and the clip, which is held
    training = simulated(Keeps(5), shape, training=True)
    assert 6 * clip <= training.clip <= 9 * clip  # the clip and five outputs; some gradients
    assert training.fixed < 5000


def test_counting_leaves_the_network_alone_and_sees_activations_that_are_computed_twice():
    model = make_net().float()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plain = simulated(model, (3, 2, 16, 16), training=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.device == CPU for p in model.parameters())
    compute_activations_twice(model)
    assert simulated(model, (3, 2, 16, 16), training=True).clip < plain.clip


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can")
def test_the_peak_of_the_process_is_that_of_a_clip():
    """4 MB a clip and layer, three layers, and no peak of before."""
    torch.ones(100_000_000).sum()
    network = nn.Sequential(nn.Flatten(0, 0), Keeps())
    clips = (4, 288, 288, 3)

    class FromPixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, clips):
            return self.network(clips.movedim(-1, 1).float())

    expected = Cost(0, 16e6)
    cost, seconds = measured(FromPixels(), clips, expected, share=100, room=4e9, mixup=False)
    layer = 4 * math.prod(clips)
    assert 4 * layer < cost.clip < 20 * layer  # kernels have workspaces
    assert 0 < seconds < 10


# by trying on a GPU, which a hook stands for


@pytest.mark.parametrize("fitting, size", [(1, 1), (2, 2), (5, 4), (7, 6), (16, 16), (100, 16)])
def test_the_largest_of_equal_parts_that_fits_is_found(fitting, size):
    assert next(s for s in sizes_to_try(16) if s <= fitting) == size


@pytest.mark.parametrize("mixup", [False, True])
def test_the_size_that_fits_is_found_by_running_out_of_memory_and_leaves_no_trace(mixup):
    """Beside the whole batch of 12, and floats where clips are blended."""
    trainer = make_trainer(make_net())
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    random_state, tried = torch.get_rng_state(), []

    def room_for_four(classifier, inputs, logits):
        (clips,) = inputs
        assert clips.dtype == (torch.float32 if mixup else torch.uint8)
        assert mixup or len(clips.untyped_storage()) == 12 * 2 * 4 * 4 * 3
        tried.append(len(clips))
        torch.rand(1)  # as dropout
        if len(clips) > 4:
            raise torch.OutOfMemoryError

    trainer.classifier.register_forward_hook(room_for_four)
    how = {"batch_size": 12, "mixup": mixup, "num_copies": 2}
    assert largest_that_fits(trainer.classifier, (2, 4, 4, 3), 12, CPU, **how) == 4
    assert tried == [12, 6, 4]
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(p.grad is None for p in trainer.parameters)


FULL = "FIND was unable to find an engine to execute this computation"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(FULL),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_what_libraries_say_of_a_full_memory_is_understood(error):
    assert is_out_of_memory(error)
    assert "the memory does not suffice" in error_in_words(error)


def test_another_error_is_not_taken_for_a_full_memory():
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))

    def broken(classifier, inputs):
        raise RuntimeError("shapes do not fit")

    classifier = classifier_of(make_net())
    classifier.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="shapes"):
        largest_that_fits(classifier, (2, 4, 4, 3), 4, CPU, batch_size=4, mixup=False, num_copies=1)


def test_no_size_may_fit():
    def no_room(classifier, inputs):
        raise RuntimeError(FULL)

    classifier = classifier_of(make_net())
    classifier.register_forward_pre_hook(no_room)
    how = {"batch_size": 12, "mixup": False, "num_copies": 1}
    assert largest_that_fits(classifier, (2, 4, 4, 3), 12, CPU, **how) == 0


def test_a_trial_compiles_nothing_and_waits_for_no_other_process():
    net = classifier_of(nn.SyncBatchNorm.convert_sync_batchnorm(make_net()))
    compiled = nn.Module()
    compiled._orig_mod = net  # as torch.compile does, whose forward would compile
    with without_trace(compiled, CPU) as plain:
        assert plain is net
        assert net.training
        norms = [m for m in net.modules() if isinstance(m, nn.SyncBatchNorm)]
        assert norms
        assert not any(norm.training for norm in norms)  # in training they would gather, and wait
        step(plain, torch.zeros((2, 2, 4, 4, 3), dtype=torch.uint8), mixup=False)


# the choice on a CPU


@pytest.fixture
def one_clip_takes(monkeypatch):
    """A tenth of a GB is measured, 0.08 are counted."""
    monkeypatch.setattr(fit, "measured", lambda *args, **how: (Cost(0, GB / 10), 2.0))

    def counted(model, shape, training):  # what computes activations twice is a copy
        return Cost(0, (0.04 if model.head.weight.is_meta else 0.08) * GB)

    monkeypatch.setattr(fit, "simulated", counted)


LOAD = Load(
    clip_shape=(64, 224, 224, 3),
    batch_size=24,
    share=24,
    batches=3,
    others=0,
    copies=1,
    mixup=False,
)
READ = 3 * 24 * 64 * 224 * 224 * 3  # bytes, 0.69 GB


def choose(free, load=LOAD, typed=None, before=None, twice=True, precision="fp32"):
    model = make_net()
    load = replace(load, before=before, advise_twice=twice)
    how = {"precision": precision, "typed": typed, "free": free}
    return fit_on_cpu(classifier_of(model), model, load, **how)


@pytest.mark.parametrize(
    "clips, before, size",
    [
        (24.5, None, 24),
        (23.5, None, 12),
        (11.5, None, 8),
        (2.5, None, 2),
        (1.5, None, 1),
        (30, 8, 8),  # a run that goes on keeps its own
        (7.5, 8, 8),  # also where a little less is free
        (5, 8, 6),  # and not where it cannot
        (30, 99, 24),
    ],
)
def test_as_many_clips_as_fit_in_equal_parts(one_clip_takes, clips, before, size):
    free = (READ + clips * GB / 10) / fit.USED + 1e5
    found, why, seconds = choose(free, before=before)
    assert (found, seconds) == (size, 2.0)
    assert bool(why) == (size < min(before or 24, 24))
    if why:
        assert "a clip takes 0.1 GiB" in why


def test_where_the_system_does_not_say_the_whole_batch_is_taken(one_clip_takes):
    assert choose(math.inf) == (24, "", 2.0)


def test_a_typed_size_is_taken_and_still_timed(one_clip_takes):
    assert choose(GB, typed=7) == (7, "", 2.0)


def test_a_clip_that_is_measured_may_fit_where_the_most_that_is_foreseen_would_not(one_clip_takes):
    beside = READ + 0.11 * GB  # 0.12 are foreseen of the 0.08 that are counted
    assert choose(beside / fit.USED)[0] == 1
    with pytest.raises(UserError, match="what fits: "):
        choose((READ + 0.09 * GB) / fit.USED)  # more than is counted, and less than is measured
    with pytest.raises(UserError, match="what fits: "):
        choose((READ + 0.06 * GB) / fit.USED)
    with pytest.raises(UserError, match="takes about 0.7 GiB"):  # as bfloat16 might have had room
        choose((READ + 0.06 * GB) / fit.USED, precision="bf16")


def test_where_no_clip_fits_the_sentence_says_what_would(one_clip_takes):
    with pytest.raises(UserError) as error:
        choose(GB * 0.9)
    said = str(error.value)
    assert "it takes about 0.8 GiB, and it may take 0.7 GiB of the 0.8 GiB that are free; " in said
    # two thirds of the free memory are for what is read, of which a shorter clip has less
    assert "what fits: --checkpoint-activations (0.7 GiB), " in said
    with pytest.raises(UserError) as error:
        choose(GB * 0.5, twice=False)
    assert "--checkpoint-activations" not in str(error.value)
    assert "--clip-len 32" in str(error.value)
    with pytest.raises(UserError, match="still too much: --"):
        choose(1e6)
    with pytest.raises(UserError, match=r"about 1.0 GiB.*what fits: --workers 0 \(0.8 GiB\), "):
        choose(GB, load=replace(LOAD, others=0.3 * GB))


@pytest.mark.parametrize("free", [0.1, 0.15, 0.2, 0.3, 0.5, 0.9])
def test_nothing_is_said_to_fit_that_does_not(one_clip_takes, free):
    with pytest.raises(UserError) as error:
        choose(GB * free)
    _, fits, ways = str(error.value).partition("what fits: ")
    needs = [float(number) for number in re.findall(r"\((.*?) GiB\)", ways)]
    assert bool(needs) == bool(fits)
    assert all(need <= free for need in needs)


HOW = {"processes": 0, "least": 1, "shorter": "a smaller --clip-len"}


def test_views_that_fit_are_fewer_where_less_is_free():
    model = make_net().float()
    cost = simulated(model, (3, 8, 32, 32), training=False)
    view = 1.5 * cost.clip + 2 * 3 * 8 * 32 * 32
    free = (5.5 * view + cost.fixed) / fit.USED
    assert fit_views(model, (3, 8, 32, 32), 64, free, batches=2, together=1, **HOW) == 5
    assert fit_views(model, (3, 8, 32, 32), 3, free, batches=2, together=1, **HOW) == 3
    with pytest.raises(UserError, match="for a single clip: .*; take a smaller --clip-len"):
        fit_views(model, (3, 8, 32, 32), 3, free / 20, batches=2, together=1, **HOW)


def test_all_views_of_a_video_are_read_however_few_the_network_is_asked_about():
    model = make_net().float()
    cost, view = simulated(model, (3, 8, 32, 32), training=False), 3 * 8 * 32 * 32
    read = 4 * 30 * view
    free = (3.5 * 1.5 * cost.clip + read + cost.fixed) / fit.USED
    assert fit_views(model, (3, 8, 32, 32), 64, free, batches=4, together=30, **HOW) == 3
    free = (45.5 * (1.5 * cost.clip + 4 * view) + cost.fixed) / fit.USED
    assert fit_views(model, (3, 8, 32, 32), 64, free, batches=4, together=30, **HOW) == 45


@pytest.mark.parametrize(
    "processes, batches, views, least, advice",
    [
        (1e6, 8, 30, 1, "--workers 0"),
        (1e6, 8, 5.5, 1, "--workers 0 --views 5x1"),
        (0, 2, 5.5, 1, "--views 5x1"),
        (0, 2, 0.5, 1, "a smaller --clip-len"),
        (1e6, 8, 30, 30, "--workers 0"),  # windows, which --views do not make fewer
        (1e6, 8, 5.5, 30, "a smaller --clip-len"),
    ],
)
def test_what_is_advised_where_no_view_fits_fits(processes, batches, views, least, advice):
    model, shape = make_net().float(), (3, 8, 32, 32)
    cost, view = simulated(model, shape, training=False), 3 * 8 * 32 * 32
    free = (1.5 * cost.clip + cost.fixed + 2 * (views + 0.01) * view) / fit.USED
    how = HOW | {"processes": processes, "least": least}
    with pytest.raises(UserError, match=f"they may take .*; take {advice}$"):
        fit_views(model, shape, 8, free, batches=batches, together=30, **how)
    if views >= 1:
        assert fit_views(model, shape, 8, free, batches=2, together=int(views), **HOW) == 1


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("snippet_len", [0, 1])
def test_the_bytes_of_the_views_of_a_video_are_those_that_are_read(tiny_set, snippet_len, fixed):
    how = {"clip_len": 4, "short_side": 36, "crop_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    clip = Preprocessing(**how, snippet_len=snippet_len, fixed_segments=fixed and snippet_len > 0)
    views = Views(7, 3)  # of segments, all of them are one clip unless their number is fixed
    clips = ViewClips(read_dataset("tiny", tiny_set).test, clip, views)
    read = clips[0, 0].clip
    channels, *size = views.of_video(clip)[1]
    assert read.shape == (views.of_video(clip)[0], *size, channels)
    assert read.numel() == clips.sample_bytes()


@pytest.mark.parametrize(
    "workers, batch_bytes, most",
    [
        (0, 200, 2),  # in use, and the next
        (2, 25, 4 + 2 + 2),  # two wait for each process, which makes another
        (2, 100, 2 + 2 + 2),  # a quarter of the memory is for those that wait
        (2, 900, 1 + 1 + 2),  # one of them always
    ],
)
def test_batches_in_memory_are_those_that_wait_that_are_made_and_in_use(
    monkeypatch, workers, batch_bytes, most
):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    assert memory.most_in_memory(workers, batch_bytes) == most


# a whole run


@pytest.fixture
def not_small(monkeypatch):
    for module in (utils.build, of_run, utils.run):
        monkeypatch.setattr(module, "is_small", lambda *args: False)


def test_a_run_that_goes_on_keeps_its_micro_batches(in_tiny_set, monkeypatch, not_small):
    sizes = iter([(2, "a clip is large", 0.1), (1, "less is free", 0.1)])
    seen = []

    def chosen(classifier, model, load, **how):
        seen.append(load.before)
        return next(sizes)

    monkeypatch.setattr(fit, "fit_on_cpu", chosen)
    monkeypatch.setattr(fit, "fit_views", lambda *args: 1)
    assert main([*SMALL_RUN, "--batch-size", "4", "--name", "kept", "--epochs", "1"]) == 0
    log, last = Path("saved_model/kept/log.txt"), "saved_model/kept/last.pth"
    assert "micro-batches of 2 clips at most, since a clip is large: gradients" in log.read_text()
    assert torch.load(last, weights_only=True)["micro_batch"] == 2
    assert main(["--resume", last, "--workers", "0", "--no-visdom"]) == 0
    assert seen == [None, 2]
    assert "micro-batches of 1 clip at most, since less is free" in log.read_text()


def test_all_the_batches_that_a_run_keeps_room_for_are_counted(in_tiny_set, monkeypatch, not_small):
    made, counted = [], []

    class Counted(slots.Slots):
        def __init__(self, count, size):
            super().__init__(count, size)
            made.append(self.memory.nbytes)

    def chosen(classifier, model, load, **how):
        counted.append(load.batches * load.share * math.prod(load.clip_shape))
        return 2, "a clip is large", 0.1

    monkeypatch.setattr(slots, "Slots", Counted)
    monkeypatch.setattr(fit, "fit_on_cpu", chosen)
    monkeypatch.setattr(fit, "fit_views", lambda *args: 1)
    assert main([*SMALL_RUN, "--batch-size", "4", "--epochs", "1", "--workers", "2"]) == 0
    assert made == counted


@pytest.mark.parametrize(
    "start, workers, copies, weights, processes",
    [
        ("fork", 0, 1, 0, 0),
        # before the first step, and after the first epoch with gradients and momentum
        ("fork", 2, 1, 1 + 3, 3 * (75e6 + 2 * 45e6)),
        ("fork", 4, 3, 1 + 5, 3 * (75e6 + 4 * 45e6)),
        ("spawn", 2, 1, 0, 3 * (75e6 + 2 * 300e6)),  # they import all anew, and keep no weights
        ("forkserver", 1, 1, 0, 3 * (75e6 + 300e6)),
    ],
)
def test_the_processes_of_three_loaders_are_counted_with_what_a_fork_keeps(
    monkeypatch, start, workers, copies, weights, processes
):
    monkeypatch.setattr(of_run.multiprocessing, "get_start_method", lambda: start)
    model = nn.Linear(1000, 1000, bias=False)
    model.bias = nn.Parameter(torch.zeros(10**6), requires_grad=False)  # frozen: it stays shared
    assert of_run.of_loaders(model, workers, copies) == weights * 4e6 + processes


@pytest.mark.parametrize("weights, free, tried", [(1, 1, False), (200, 100, False), (200, 3, True)])
def test_a_small_step_of_a_large_network_is_counted_where_little_is_free(
    monkeypatch, weights, free, tried
):
    """Its weights alone, and those that loader processes keep, may be more than the step."""
    found = []

    def chosen(classifier, model, load, **how):
        found.append(load.bytes_beside(model))
        return 2, "", 0.1

    monkeypatch.setattr(memory, "free_memory", lambda: free * GB)
    monkeypatch.setattr(of_run, "of_loaders", lambda *args: 1.2 * GB)
    monkeypatch.setattr(fit, "fit_on_cpu", chosen)
    run = SimpleNamespace(
        opts=parse_opts([*SMALL_RUN, "--batch-size", "4"]),
        start=SimpleNamespace(checkpoint={}),
        preprocessing=SimpleNamespace(network_input=lambda: (3, 8, 32, 32)),
        classifier=None,
        model=nn.Linear(weights * 10**6 // 4, 1, device="meta"),
        device=CPU,
        precision="fp32",
    )
    loader = SimpleNamespace(batches=SimpleNamespace(num_workers=2, prefetch_factor=2))
    assert utils.build.training_fit(run, loader).clips == (2 if tried else 4)
    assert found == ([pytest.approx(1.6 * GB, rel=0.01)] if tried else [])


def test_whole_videos_that_do_not_fit_are_refused_before_the_system_ends_the_process(monkeypatch):
    clip = Preprocessing(clip_len=8, crop_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    free = 1 * GB
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    num_bytes = 4000 * 32 * 32 * 3
    clips = SimpleNamespace(clip=clip, sample_bytes=lambda: num_bytes)

    def check(workers):
        run = SimpleNamespace(model=Keeps(), device=CPU, opts=SimpleNamespace(workers=workers))
        of_run.check_whole_videos(run, clips, crops=1)

    check(0)  # three of 0.05 GB, and what is not seen
    free = 0.25 * GB
    with pytest.raises(UserError, match="take --views 10x1: all 4000 frames of the longest"):
        check(0)
    free = 0.35 * GB
    check(0)
    with pytest.raises(UserError, match="take --workers 0$"):
        check(1)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others keep no freed memory")
def test_of_large_tensors_no_piece_stays_where_memory_is_tight():
    code = """if 1:
        import torch
        from pathlib import Path
        from pt_dataset.processes import memory
        torch.ones(7_000_000)  # freed: the C library keeps what is smaller from here on
        memory.give_freed_memory_back(from_now_on=True)
        resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
        before = resident()
        held = [torch.ones(5_000_00 + 1000 * i) for i in range(60)]  # of 2 MB each
        held = held[::10]  # the rest is free, between what is not
        print(resident() - before)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40  # and not all 120


@pytest.mark.parametrize(
    "options, before, expected",
    [
        ({}, None, 5),
        ({}, 3, 3),  # as in training
        ({"view_batch": 7}, 3, 7),
        ({"micro_batch": 2}, None, 2),
        ({"micro_batch": 99}, None, 8),
    ],
)
def test_views_at_once_are_typed_or_as_in_training_or_as_fit(
    monkeypatch, not_small, options, before, expected
):
    monkeypatch.setattr(fit, "fit_views", lambda model, shape, most, *_: most - 3)
    opts = {"batch_size": 8, "view_batch": None, "micro_batch": "auto", "workers": 0}
    opts |= {"views": Views(1, 1), "average": "scores", "full_crop": False} | options
    run = SimpleNamespace(
        opts=SimpleNamespace(**opts),
        fit=before and utils.run.Fit(before),
        preprocessing=SimpleNamespace(network_input=lambda: (3, 8, 32, 32), snippet_len=0),
        model=None,
        device=CPU,
    )
    assert utils.build.view_batch(run) == expected


@pytest.mark.parametrize("views, typed, expected", [("all", None, 1), ("all", 2, 2), ("5", 2, 2)])
def test_of_a_whole_video_one_view_is_seen_at_once_unless_more_are_typed(
    monkeypatch, views, typed, expected
):
    seen = []
    monkeypatch.setattr(utils.build, "view_batches", lambda *args, **how: ())
    monkeypatch.setattr(utils.build, "full_protocol", lambda *args: "")
    monkeypatch.setattr(utils.build, "score_videos", lambda *args, **how: None)
    see = lambda *args, view_batch, **how: seen.append(view_batch)  # noqa: E731
    monkeypatch.setattr(utils.build, "score_batches", see)
    opts = SimpleNamespace(batch_size=8, view_batch=typed, micro_batch="auto")
    lists = SimpleNamespace(class_names=[])
    run = SimpleNamespace(opts=opts, fit=utils.run.Fit(8), classifier=None, device=CPU, lists=lists)
    utils.build.score(run, (), Evaluation(views=Views.parse(views)), None, desc="", source="")
    assert seen == [expected]


# how long it will take


def forecast_of(seconds=None, epochs=10, views="3x1", snippet_len=0, device=CPU):
    opts = SimpleNamespace(batch_size=4, views=Views.parse(views), micro_batch="auto")
    clip = Clip(clip_len=3, snippet_len=snippet_len)
    lists, fit = SimpleNamespace(test=[0] * 8), utils.run.Fit(4, "", seconds)
    run = SimpleNamespace(opts=opts, lists=lists, device=device, fit=fit, preprocessing=clip)
    trainer = make_trainer(make_net(), steps_per_epoch=100, epochs=epochs)
    trainer.validation_steps = 20.0
    return words.Forecast(run, trainer)


def test_the_end_is_said_once_after_three_steps(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 11.0])
    monkeypatch.setattr(words.time, "perf_counter", lambda: next(clock))
    forecast = forecast_of()
    assert forecast.before() == []
    said = [forecast.lines() for _ in range(5)]
    assert [len(lines) for lines in said] == [0, 0, 1, 0, 0]
    # 1000 steps, 10 validations of 20 and the test of 24 views, 2 steps; the first prepares things
    assert "time: about 20 min to the end of the run, " in said[2][0]


def test_segments_of_the_evaluation_are_counted_as_parts_of_a_clip(monkeypatch):
    """Of TSN 25 segments and 10 crops, where a clip of training has 3 segments."""
    clock = iter([0.0, 9.0, 10.0, 11.0])
    monkeypatch.setattr(words.time, "perf_counter", lambda: next(clock))
    forecast = forecast_of(epochs=1, views="25x10", snippet_len=1)
    (line,) = [line for _ in range(3) for line in forecast.lines()]
    # 100 steps, the validation of 20, and 8 * 25 / 3 * 10 clips, of which 4 are a third of a step
    assert "about 3 min to the end" in line


def test_or_after_a_minute(monkeypatch):
    monkeypatch.setattr("utils.actions.plan.quicker_in_words", lambda *args: "")
    clock = iter([0.0, 30.0, 61.0])
    monkeypatch.setattr(words.time, "perf_counter", lambda: next(clock))
    forecast = forecast_of(epochs=1)
    said = [forecast.lines() for _ in range(3)]
    assert [len(lines) for lines in said] == [0, 1, 0]
    assert "about 1.1 h" in said[1][0]


def test_or_before_the_first_step_where_steps_are_long(monkeypatch):
    monkeypatch.setattr("utils.actions.plan.quicker_in_words", lambda *args: "; with this 2 min")
    forecast = forecast_of(seconds=10)
    (line,) = forecast.before()
    assert "about 11.4 h to the end of the run, on " in line or "at " in line
    assert line.endswith("; with this 2 min")
    assert forecast.lines() == []
    assert forecast_of(seconds=1).before() == []


@pytest.mark.parametrize(
    "typed, said",
    [
        # 16 of 64 frames, 96 of 224 px, 80 of 100 epochs
        ([], "; with --recipe small about 22 min"),
        (["--arch", "s3d", "--gating"], "; with --recipe small about 49 min"),  # of 45 epochs
        (["--crop-size", "224"], ""),  # which it cannot do
        (["--recipe", "small"], ""),
        # an option of the network: 8 frames in both, 96 of 224 px, 60 in the place of 50 epochs
        (["--arch", "tsn", "--shift"], "; with --recipe small about 2.2 h"),
    ],
)
def test_what_takes_less_is_named_with_its_time(typed, said):
    opts = parse_opts(["--arch", "i3d", "--dataset", "x", *typed])
    seen, network = part(Clip, opts), nn.Conv3d(3, 1, 1, bias=False)
    run = SimpleNamespace(opts=opts, preprocessing=seen, model=network)
    trainer = make_trainer(make_net(), epochs=opts.epochs)
    assert quicker_in_words(run, trainer, 10) == said


def test_the_bar_shows_the_time_left_of_the_run(monkeypatch):
    bars = []
    monkeypatch.setattr("tqdm.tqdm.set_postfix", lambda bar, shown, refresh: bars.append(shown))
    trainer = make_trainer(make_net(), epochs=3)
    trainer.validation_steps = 1
    monkeypatch.setattr(trainer.averages, "seconds_a_step", lambda: 600)
    clips = torch.zeros((8, 2, 4, 4, 3), dtype=torch.uint8)
    labels = torch.zeros(8, dtype=torch.long)
    for _ in trainer.steps(iter([(clips, labels, labels, {})] * 2), log_every=2):
        pass
    # of 6 steps and 3 validations as long as one
    assert [bar["run"] for bar in bars] == ["1.3 h left", "1.2 h left"]
    assert [len(bar) for bar in bars] == [1, 3]
