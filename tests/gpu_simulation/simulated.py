"""What a run does with two GPUs, on a machine without one; run by test_gpu_simulation.py.

Under the stub torch finds two devices. Fake tensors have a device, a layout and a dtype, and no
values: kernels are chosen as on a GPU, forward and backward, and nothing is computed.
"""

import sys
import traceback
import types
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from config import Augmentation, Loading, Optimization, Preprocessing, Regularization, UserError
from models import build_model
from pt_dataset.faults import Faults
from pt_dataset.loader import train_loader
from pt_dataset.video_list import Video
from utils import distributed, run
from utils.averages import Averages, peak_memory_gb
from utils.classifier import ClipClassifier, Normalize
from utils.options.compile import compiled
from utils.options.transfer import Transfer
from utils.trainer import Trainer, rng_state

CUDA = torch.device("cuda")
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Calls(TorchDispatchMode):
    """The operators that are called, each with its tensors, in and out."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = [*args, *(out if isinstance(out, tuple | list) else [out])]
        tensors = [t for t in given if isinstance(t, torch.Tensor)]
        self.found.append((function._schema.name.removeprefix("aten::"), tensors))
        return out


def to_fake(module, mode, device):
    """Gives the module parameters and buffers of the same layout on the device, without values."""
    for m in module.modules():
        for tensors in (m._parameters, m._buffers):
            for name, t in tensors.items():
                if t is None:
                    continue
                with mode:
                    fake = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=device)
                tensors[name] = nn.Parameter(fake) if isinstance(t, nn.Parameter) else fake


def fake_trainer(mode, device, optimizer="sgd", arch="i3d", **arch_args):
    model = build_model(arch, 7, **arch_args)
    classifier = ClipClassifier(model, Normalize((0.5,) * 3, (0.5,) * 3), "bf16")
    to_fake(classifier, mode, device)
    settings = Optimization(epochs=1, batch_size=4, optimizer=optimizer, lr=0.1, clip_grad=40)
    trainer = Trainer(
        classifier,
        model,
        settings,
        Regularization(ema=0.9, label_smoothing=0.1),
        Averages(device, 7, 8),
        Faults("training", 0, "stop", 0),
        steps_per_epoch=10,
        precision="bf16",
        micro_batch=2,
        seed=0,
    )
    trainer.transfer.copy = lambda *tensors, waited: [t.to(device) for t in tensors]
    trainer.to_training()
    return trainer


def step(trainer, frames=8):
    """The operators of the second step; in one thread, since others do not know fake tensors."""
    clips = torch.empty((4, frames, 32, 32, 3), dtype=torch.uint8)
    labels = torch.zeros(4, dtype=torch.long)
    one_thread = torch.autograd.set_multithreading_enabled(False)
    # a tensor on the CPU, whose values count
    with one_thread, mock.patch("utils.distributed.sizes", lambda count: [count]):
        trainer.train_batch(clips, labels)
        with Calls() as calls:
            trainer.train_batch(clips, labels)
    return calls.found


# --- the first two before torch has touched a GPU ---


def a_run_on_the_cpu_leaves_the_gpus_alone():
    assert torch.cuda.is_available()
    assert device_of("cpu").type == "cpu"
    assert "cuda" not in rng_state()
    assert not loader().batches.pin_memory
    assert not torch.cuda.is_initialized()


def another_gpu_than_the_first_is_the_current_one():
    device = device_of("cuda:1")
    assert device == torch.device("cuda:1") and torch.cuda.current_device() == 1
    assert loader().batches.pin_memory
    assert not distributed.uses_all_gpus(device)
    torch.cuda.set_device(0)


def device_of(name):
    return run.pick_device(types.SimpleNamespace(device=name, sync_bn=False))


def loader():
    videos = [Video(f"v{i}", 0, "a", 10) for i in range(4)]
    lists = types.SimpleNamespace(train=videos, train_list="list", flipped_labels=dict)
    clip = Preprocessing(clip_len=2, mean=(0.5,) * 3, std=(0.5,) * 3)
    return train_loader(lists, clip, Augmentation(), Loading(workers=0), batch_size=2, seed=0)


def one_process_uses_all_gpus():
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(5)
    module = nn.Linear(1, 1)
    module._parameters = {}  # nothing has to lie on a GPU
    assert distributed.uses_all_gpus(CUDA)
    with mock.patch("utils.options.all_gpus.log.info") as said:
        assert isinstance(distributed.wrapped(module, CUDA), nn.DataParallel)
    assert "2 GPUs in one process: torchrun --nproc_per_node=2" in said.call_args[0][0]
    assert not torch.backends.cudnn.benchmark
    assert [g.initial_seed() for g in torch.cuda.default_generators] == [5, 6]


def several_gpus_and_a_compiler_need_processes():
    try:
        compiled(nn.Identity(), CUDA)
    except UserError as error:
        assert "--compile on several GPUs needs torchrun" in str(error)
    else:
        raise AssertionError("it was compiled")


def one_launched_process_keeps_what_dropout_draws_from():
    assert len(rng_state()["cuda"]) == 2
    with mock.patch("utils.distributed.launched", lambda: True):
        with mock.patch("torch.distributed.get_world_size", lambda: 1):
            assert len(rng_state()["cuda"]) == 2
        with mock.patch("torch.distributed.get_world_size", lambda: 2):
            assert "cuda" not in rng_state()


def waits_are_those_of_the_device():
    transfer = Transfer(CUDA)
    for waited in (0.5, 0.25, 0.0004):  # all events are a millisecond apart
        transfer.copy(torch.zeros(4), waited=waited)
        transfer.copy(torch.zeros(4))  # as mixup's partners are
        transfer.end_step()
    data, copies = transfer.wait().values()
    # the device is free before the first, then waits no longer than for itself or for the host
    assert abs(data - (0.5 + 0.001 + 0.0004)) < 1e-9, data
    assert abs(copies - 6 * 0.001) < 1e-9, copies
    transfer.copy(torch.zeros(4), waited=0.125)
    assert transfer.wait()["data_time"] == 0.125


def the_peak_of_memory_is_that_of_the_epoch():
    averages = Averages(torch.device("cuda:0"), 7, 8)
    torch.empty(2**28, dtype=torch.uint8, device="cuda:0")  # by a trial, or an evaluation
    assert peak_memory_gb(averages.device) >= 0.25
    averages.start_epoch()
    assert peak_memory_gb(averages.device) < 0.01


def a_step_keeps_layouts_and_waits_for_nothing(optimizer="sgd", device="cuda:1", **network):
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        trainer = fake_trainer(mode, torch.device(device), optimizer, **network)
        found = step(trainer, frames=8 if not network else 3)
    names = [name for name, _ in found]
    assert not {"_local_scalar_dense", "nonzero", "equal"} & set(names)
    assert any("fused" in name for name in names)
    for name, tensors in found:
        assert {str(t.device) for t in tensors} <= {device, "cpu"}, name
        if name in ("convolution", "convolution_backward"):
            for t in tensors:
                large = t.dim() in FORMATS and t.numel() > 0
                assert not large or t.is_contiguous(memory_format=FORMATS[t.dim()]), name
    convolved = [t for name, tensors in found for t in tensors if name == "convolution"]
    assert {t.dtype for t in convolved} == {torch.bfloat16}
    for p, moments in trainer.optimizer.state.items():
        for value in (p.grad, *moments.values()):
            assert value.dim() == 0 or value.stride() == p.stride()


def a_step_of_tsn_with_adamw_does_so_too():
    network = {"arch": "tsn", "backbone": "resnet18"}
    a_step_keeps_layouts_and_waits_for_nothing("adamw", "cuda:0", **network)


CHECKS = (
    a_run_on_the_cpu_leaves_the_gpus_alone,
    another_gpu_than_the_first_is_the_current_one,
    one_process_uses_all_gpus,
    several_gpus_and_a_compiler_need_processes,
    one_launched_process_keeps_what_dropout_draws_from,
    waits_are_those_of_the_device,
    the_peak_of_memory_is_that_of_the_epoch,
    a_step_keeps_layouts_and_waits_for_nothing,
    a_step_of_tsn_with_adamw_does_so_too,
)

if __name__ == "__main__":
    torch.set_num_threads(1)
    failed = []
    for check in CHECKS:
        try:
            check()
        except Exception:
            failed.append(check.__name__)
            print(check.__name__, traceback.format_exc(limit=-4), sep="\n")
    print("failed:", *failed)
    sys.exit(len(failed))
