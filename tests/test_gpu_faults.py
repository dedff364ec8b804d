"""Faults of a GPU that the CPU's own kernels show, too; tests/gpu_simulation has others."""

from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import nn

from config import Evaluation, Optimization, UserError, Views
from models import build_model
from tests.test_trainer import CPU, make_net, make_trainer
from utils import build, distributed, run
from utils.optim import build_optimizer
from utils.options import processes
from utils.options.flops import peak_flops
from utils.options.fused import fit_moments
from utils.options.precise_bn import measure_norms
from utils.trainer import rng_state


def sgd(model, fused, momentum=0.9):
    """As on a GPU, where it is fused; the CPU has such a kernel, too."""
    settings = Optimization(epochs=1, batch_size=1, optimizer="sgd", lr=0.1, momentum=momentum)
    optimizer = build_optimizer(model, settings)
    for group in optimizer.param_groups:
        group["fused"] = fused
    optimizer._step_supports_amp_scaling = fused
    return optimizer


@pytest.mark.parametrize("momentum", [0.9, 0])
def test_a_first_step_that_overflows_leaves_fused_sgd_as_it_was(momentum):
    garbage = [torch.full((1000,), 7e4) for _ in range(64)]  # where momentum may lie next
    del garbage
    weights = []
    for fused in (False, True):
        model = nn.Linear(1000, 1, bias=False)
        nn.init.ones_(model.weight)
        optimizer, scaler = sgd(model, fused, momentum), torch.amp.GradScaler("cpu")
        for step in range(3):
            optimizer.zero_grad()
            scaler.scale(1e-3 * model.weight.sum()).backward()
            if step == 0:
                model.weight.grad[0, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
        weights.append(model.weight.detach())
    torch.testing.assert_close(*weights)
    assert weights[0].max() < 1


def test_momentum_from_zero_is_the_momentum_of_torch():
    weights = []
    for started in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(5, 3)
        optimizer = sgd(model, fused=False)
        assert len(optimizer.state) == 2
        if not started:
            optimizer.state.clear()
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.ones(2, 5)).square().sum().backward()
            optimizer.step()
        weights.append(model.weight.detach())
    assert torch.equal(*weights)


@pytest.mark.parametrize("partial_bn", [False, True])
def test_batch_norm_of_several_processes_is_batch_norm_for_tsn(partial_bn):
    def facts(model):
        groups = {group["name"]: len(group["params"]) for group in model.parameter_groups()}
        return groups, [norm.training for norm in model.train().batch_norms()]

    model = build_model("tsn", 5, backbone="resnet18", partial_bn=partial_bn)
    expected = facts(model)
    assert len(expected[1]) == 20
    assert facts(nn.SyncBatchNorm.convert_sync_batchnorm(model)) == expected


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


def test_precise_batch_norm_compiles_nothing():
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph

    classifier = torch.compile(Layer(), backend=backend)
    clips = torch.randn(4, 3, 2, 4, 4)
    classifier.train()(clips)
    measure_norms(classifier, [(clips,)] * 3, 3, 2, CPU, frozen=[])
    classifier.train()(clips)
    assert len(compiled) == 1
    torch.compiler.reset()


def test_a_process_without_clips_lets_recurrent_layers_train():
    """cuDNN's have no gradient in evaluation."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.gru = nn.BatchNorm3d(3), nn.GRU(3, 6, batch_first=True)

        def forward(self, clip):
            return self.gru(self.norm(clip).mean(dim=(3, 4)).transpose(1, 2))[0][:, -1]

    model = Recurrent().double()
    trainer = make_trainer(model)
    seen = []
    model.register_forward_hook(lambda m, *_: seen.append((m.norm.training, m.gru.training)))
    processes.take_part(trainer, torch.zeros(0, 2, 4, 4, 3, dtype=torch.uint8), total=3)
    assert seen == [(False, True)]
    assert all(p.grad.abs().max() == 0 for p in model.parameters())
    assert model.norm.training and model.norm.num_batches_tracked == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("steps", [0, 1])  # before the first one there may be no momentum yet
def test_what_the_cpu_left_goes_on_in_fused_kernels_and_another_layout(batches, optimizer, steps):
    saved = make_trainer(make_net(), optimizer=optimizer)
    if steps:
        saved.train_batch(*batches)
    state = saved.optimizer.state_dict()
    if not steps:
        state["state"] = {}  # as older checkpoints have it
    model = make_net()
    for p in model.parameters():
        if p.dim() == 5:
            p.data = p.data.contiguous(memory_format=torch.channels_last_3d)
    resumed = build_optimizer(model, saved.optimization)
    for group in resumed.param_groups:
        group["fused"] = True
    own = resumed.state_dict()["param_groups"]
    resumed.load_state_dict(state | {"param_groups": own})
    fit_moments(resumed)
    started = sum(map(len, resumed.state.values()))
    assert started == 10 * {"sgd": 1, "adamw": 3 * steps}[optimizer]
    for p, (_, before) in zip(model.parameters(), saved.optimizer.state.items(), strict=False):
        for name, value in resumed.state[p].items():
            assert value.dim() == 0 or value.stride() == p.stride()
            assert not steps or torch.equal(value, before[name])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(sum(p.sum() for p in model.parameters())).backward()
    scaler.step(resumed)  # asserts that the optimizer is the fused one


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return torch.randint(0, 256, (8, 2, 4, 4, 3), dtype=torch.uint8), torch.randint(0, 6, (8,))


@pytest.mark.parametrize("views, searched", [(Views(3, 1), True), (Views(None, 1), False)])
def test_kernels_are_not_searched_anew_for_each_length_of_video(monkeypatch, views, searched):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    for name in ("score_batches", "view_batches", "view_batch", "score_videos", "full_protocol"):
        monkeypatch.setattr(build, name, lambda *_, **__: None)
    run = mock.MagicMock()
    build.score(run, [], Evaluation(views=views), None, desc="", source="")
    assert torch.backends.cudnn.benchmark == searched


@pytest.mark.parametrize("world_size, kept", [(1, True), (2, False)])
@pytest.mark.parametrize("launched", [False, True])
def test_the_gpus_of_one_process_draw_what_they_would_have_drawn(
    monkeypatch, world_size, kept, launched
):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.zeros(16)])
    monkeypatch.setattr(distributed, "launched", lambda: launched)
    monkeypatch.setattr(distributed, "world_size", lambda: world_size)
    assert ("cuda" in rng_state()) == kept


@pytest.mark.parametrize(
    "name, peak",
    [
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),  # a seventh of it
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", None),  # another one
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L40", None),
        ("Tesla V100-PCIE-16GB", None),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA H200", 989e12),
    ],
)
def test_the_peak_is_that_of_the_very_gpu(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda"), "bf16") == peak


def test_each_task_of_a_scheduler_may_see_its_gpu_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="process 3 on this machine has no GPU of its own"):
        processes.own_gpu("cuda")
    monkeypatch.setenv("SLURM_GPUS_PER_TASK", "1")
    assert processes.own_gpu("cuda") == "cuda:0"


def test_devices_that_no_kernel_is_tested_on_are_refused(monkeypatch):
    """xpu might start, and nobody knows what it would compute."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: "xpu")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--device xpu cannot be used: networks train on CPUs and"):
        run.pick_device(SimpleNamespace(device="xpu"))
