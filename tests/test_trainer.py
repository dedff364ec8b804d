"""Steps of the optimizer against values worked out another way, on networks small enough for it."""

import copy
import math
import random

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode

from config import Optimization, Regularization, UserError
from pt_dataset.faults import Faults
from utils.averages import Averages, Sums
from utils.classifier import Normalize
from utils.optim import build_optimizer
from utils.options.activations import compute_activations_twice
from utils.options.ema import Ema
from utils.options.freeze import freeze_norms, freeze_until
from utils.options.mixup import draw_blend, draw_box, draw_mixup
from utils.options.precise_bn import measure_norms
from utils.resume.checkpoint_file import load_state, load_sums
from utils.trainer import NonFiniteLoss, Trainer, clip_loss

CPU = torch.device("cpu")


class Block(nn.Sequential):
    """No plain row of layers."""


class Net(nn.Module):
    """Three stages, two of them blocks with batch norm."""

    def __init__(self, num_classes=6):
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("stem", Block(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4)))
        block = Block(nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0)), nn.BatchNorm3d(4))
        self.features.add_module("res2", block)
        self.features.add_module("pool", nn.AvgPool3d((1, 2, 2)))
        self.head = nn.Linear(4, num_classes)

    def forward(self, clip):
        return self.head(self.features(clip).relu().mean(dim=(2, 3, 4)))


def classifier_of(model):
    return nn.Sequential(Normalize([0.5] * 3, [0.5] * 3), model).double()


def settings_of(lr=0.1, **changes):
    return Optimization(**{"epochs": 1, "batch_size": 8, "lr": lr, "schedule": "step"} | changes)


def make_trainer(model, *, micro_batch=8, frozen=(), device=CPU, steps_per_epoch=2, **settings):
    """`settings` are those of Optimization and Regularization."""
    names = Regularization.__dataclass_fields__.keys() & settings.keys()
    regularization = Regularization(**{name: settings.pop(name) for name in names})
    return Trainer(
        classifier_of(model),
        model,
        settings_of(**settings),
        regularization,
        Averages(device, num_classes=6, clip_len=2),
        Faults("training", 15, "stop", 0),
        steps_per_epoch=steps_per_epoch,
        precision="fp32",
        micro_batch=micro_batch,
        seed=0,
        frozen=frozen,
    )


def make_net(seed=0):
    torch.manual_seed(seed)
    return Net().double()


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    clips = torch.randint(0, 256, (15, 2, 4, 4, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 6, (15,), generator=generator)
    return clips, labels


def split(clips, labels, batch_size=8):
    """The batches of an epoch, in order."""
    indices = torch.arange(len(labels)).split(batch_size)
    return [(clips[i], labels[i], i, {}) for i in indices]


def train(trainer, batches, log_every=1):
    """The averages of what is left of an epoch."""
    for _ in trainer.steps(iter(batches[trainer.done :]), log_every):
        pass
    return trainer.end_epoch({"val/loss": 0.0})


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 7])
@pytest.mark.parametrize("joined", [{}, {"mixup": 0.4}, {"cutmix": 1.0}])
def test_micro_batches_add_up_to_the_whole_batch(batches, micro_batch, joined):
    """Uneven ones and a shorter last batch, too, with batch norm's statistics fixed."""
    weights, metrics = [], []
    for size in (8, micro_batch):
        model = make_net()
        frozen = freeze_norms(model)
        options = {"clip_grad": 0.5, "label_smoothing": 0.1, "frozen": frozen} | joined
        trainer = make_trainer(model, micro_batch=size, **options)
        metrics.append(train(trainer, split(*batches)))
        weights.append(model.state_dict())
    for key in weights[0]:
        torch.testing.assert_close(weights[0][key], weights[1][key], rtol=0, atol=1e-12)
    for key in ("train/loss", "train/top1", "train/top5"):
        assert metrics[0][key] == pytest.approx(metrics[1][key], abs=1e-12)


def test_the_gradient_is_that_of_the_mean_loss_and_clipped_as_a_whole(batches):
    clips, labels = batches[0][:7], batches[1][:7]
    expected, model = make_net(), make_net()
    freeze_norms(expected)
    logits = classifier_of(expected.eval())(clips)
    cross_entropy(logits, labels).backward()
    wanted = [p for p in expected.parameters() if p.requires_grad]
    norm = torch.stack([p.grad.norm() for p in wanted]).norm()
    trainer = make_trainer(
        model, lr=1, momentum=0, weight_decay=0, clip_grad=0.01, micro_batch=3,
        frozen=freeze_norms(model),
    )  # fmt: skip
    trainer.classifier.eval()
    # of fp16: the length that is cut is that of the gradients themselves
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=1024)
    trainer.train_batch(clips, labels)
    assert norm > 0.01
    for p, new in zip(wanted, trainer.parameters, strict=True):
        torch.testing.assert_close(new, p - 0.01 * p.grad / (norm + 1e-6), rtol=0, atol=1e-12)


def test_each_step_has_the_rate_of_its_own_number(batches):
    trainer = make_trainer(make_net(), lr=0.3, warmup_epochs=1, epochs=3, schedule="cosine")
    rates = []
    for _ in range(3):
        for metrics in trainer.steps(iter(split(*batches)), log_every=1):
            assert metrics["lr"] == trainer.optimizer.param_groups[0]["lr"]
            rates.append(metrics["lr"])
        assert trainer.end_epoch({"val/loss": 0.0})["lr"] == rates[-1]
    half = 0.3 * (1 + math.cos(math.pi / 4)) / 2
    assert rates == pytest.approx([0.1, 0.2, 0.3, half, 0.15, 0.3 - half])


def test_averaging_may_begin_or_end_where_a_run_goes_on():
    averaged, plain = make_trainer(make_net(), ema=0.9), make_trainer(make_net())
    states = averaged.state_dict(), plain.state_dict()
    load_state(plain, states[0])
    load_state(averaged, states[1])
    assert averaged.ema is not None and plain.ema is None


@pytest.mark.parametrize("done", [1, 2])  # of two steps
def test_an_epoch_that_goes_on_from_its_middle_ends_the_same(batches, done):
    whole, cut = (make_trainer(make_net()) for _ in range(2))
    expected = train(whole, split(*batches))
    steps = cut.steps(iter(split(*batches)), log_every=1)
    for _ in range(done):
        next(steps)
    steps.close()
    state = cut.state_dict()
    model = make_net(seed=5)
    model.load_state_dict(state["model"])
    resumed = make_trainer(model)
    load_state(resumed, state)
    metrics = train(resumed, split(*batches))
    assert resumed.step == 2
    for key in ("train/loss", "train/top1", "train/top5", "lr"):
        assert metrics[key] == expected[key]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_averages_are_those_of_all_clips(batches):
    model = make_net()
    trainer = make_trainer(model, lr=0, micro_batch=3, frozen=freeze_norms(model))
    logged = list(trainer.steps(iter(split(*batches)), log_every=1))
    metrics = trainer.end_epoch({"val/loss": 3.0, "val/top1": 4.0})
    logits = classifier_of(model.eval())(batches[0])
    assert metrics["train/loss"] == pytest.approx(cross_entropy(logits, batches[1]).item())
    hits = (logits.argmax(1) == batches[1]).double()
    assert metrics["train/top1"] == pytest.approx(100 * hits.mean().item())
    assert [(m["step"], m["epoch"]) for m in logged] == [(1, 0.5), (2, 1)]
    assert (metrics["step"], metrics["epoch"], metrics["val/top1"]) == (2, 1, 4)
    assert (trainer.epoch, trainer.done, trainer.schedule.losses) == (1, 0, [3])
    assert logged[1]["train/top1"] == pytest.approx(100 * hits[8:].mean().item())
    assert metrics["frames_per_s"] == pytest.approx(2 * metrics["clips_per_s"])
    parts = metrics["time/data"] + metrics["time/copy"] + metrics["time/compute"]
    assert parts == pytest.approx(metrics["time/step"])


@pytest.mark.parametrize(
    "batch_size, log_every, logged",
    [
        (5, 1, [1, 2, 3]),
        (7, 1, [1, 2]),  # of the third batch's one clip, 0 % or 100 % would say nothing
        (4, 2, [2, 4]),
        (3, 2, [2, 5]),  # the fifth step joins two others
        (2, 3, [3, 8]),
        (8, 10, [2]),  # fewer steps than that make an epoch
    ],
)
def test_no_point_stands_for_a_few_clips(batches, batch_size, log_every, logged):
    parts = split(*batches, batch_size)
    trainer = make_trainer(make_net(), steps_per_epoch=len(parts))
    points = list(trainer.steps(iter(parts), log_every))
    assert [point["step"] for point in points if point] == logged
    whole = trainer.end_epoch({"val/loss": 0.0})
    assert whole["train/top1"] * 15 % 100 == pytest.approx(0)  # and the epoch counts all of them


def test_the_memory_of_an_epoch_is_that_of_its_training(batches, monkeypatch):
    trainer = make_trainer(make_net())
    monkeypatch.setattr("utils.averages.peak_memory_gb", lambda device: 1.0)
    list(trainer.steps(iter(split(*batches)), log_every=1))
    monkeypatch.setattr("utils.averages.peak_memory_gb", lambda device: 2.0)  # a validation
    assert trainer.end_epoch({"val/loss": 0.0})["memory_gb"] == 1


def test_a_loss_that_is_not_finite_stops_at_the_next_logging_step(batches):
    clips, labels = batches
    trainer = make_trainer(make_net(), lr=1e308)
    with pytest.raises(NonFiniteLoss, match="at step 2"):
        train(trainer, split(clips, labels), log_every=2)
    with pytest.raises(NonFiniteLoss):
        trainer.check_finite()


class Waits(TorchFunctionMode):
    """Notes what would wait for a GPU, had the tensors been there.

    Integers do not count: indices and sizes are on the CPU in any run.
    """

    READS = ("item", "tolist", "cpu", "numpy", "nonzero", "equal", "__bool__", "__float__")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.READS and args[0].dtype != torch.long:
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


OFTEN_USED = {"mixup": 0.4, "clip_grad": 0.5, "label_smoothing": 0.1, "micro_batch": 3}


def test_only_logging_steps_read_from_the_device(batches):
    model = make_net()
    trainer = make_trainer(model, ema=0.9, steps_per_epoch=5, **OFTEN_USED)
    found = []
    with Waits() as waits:
        for metrics in trainer.steps(iter(split(*batches, batch_size=3)), log_every=2):
            found.append((len(waits.found) > 0, metrics is not None))
            waits.found.clear()
    assert found == [(logs, logs) for logs in (False, True, False, False, True)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_the_gpu(batches):
    device = torch.device("cuda")
    model = make_net().to(device)
    trainer = make_trainer(model, ema=0.9, device=device, **OFTEN_USED)
    trainer.classifier.to(device)
    trainer.train_batch(*batches)  # the first one may find kernels
    try:
        torch.cuda.set_sync_debug_mode("error")
        trainer.train_batch(*batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copies_beside_the_computing_arrive_whole(batches):
    device = torch.device("cuda")
    trainer = make_trainer(make_net().to(device), device=device)
    busy = torch.randn(4096, 4096, device=device)
    for i in range(20):
        large = torch.full((2**24,), i, dtype=torch.uint8)
        busy = (busy @ busy).tanh()
        (copied,) = trainer.transfer.copy(large)
        assert copied.sum(dtype=torch.long).item() == i * 2**24
        del copied
    trainer.wait()
    assert trainer.averages.total.counts["copy_time"] >= 0 and not trainer.transfer.waits


def test_ema_is_the_average_that_it_says(batches):
    model = make_net()
    ema = Ema(model, decay=0.3)
    average = {key: value.clone() for key, value in model.state_dict().items()}
    for step in range(4):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(1)
        ema.update()
        decay = min(0.3, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                average[key] = decay * average[key] + (1 - decay) * value
    own = {key: value.clone() for key, value in model.state_dict().items()}
    with ema.applied():
        for key, value in model.state_dict().items():
            expected = average[key] if value.is_floating_point() else own[key]
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    assert all(torch.equal(own[key], value) for key, value in model.state_dict().items())


def test_ema_comes_back_from_a_checkpoint():
    model = make_net()
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.head.weight.add_(1)
    ema.update()
    other = Ema(make_net(seed=3), 0.9)
    other.load_state_dict(ema.state_dict())
    assert other.steps == 1
    assert torch.equal(other.average["head.weight"], ema.average["head.weight"])


def test_activations_computed_twice_change_nothing(batches):
    """Batch norm's running statistics are updated once, and only once."""
    plain, saving = make_net(), make_net()
    compute_activations_twice(saving)
    assert plain.state_dict().keys() == saving.state_dict().keys()
    for model in (plain, saving):
        train(make_trainer(model), split(*batches))
    for key, value in plain.state_dict().items():
        assert torch.equal(value, saving.state_dict()[key]), key
    assert saving.features.stem[1].num_batches_tracked == 2


def test_activations_are_computed_twice(batches):
    model, calls = make_net(), []
    model.features.res2[0].register_forward_hook(lambda *_: calls.append(1))
    compute_activations_twice(model)
    trainer = make_trainer(model)
    trainer.train_batch(*(tensor[:4] for tensor in batches))
    assert len(calls) == 2
    with torch.no_grad():
        trainer.classifier(batches[0])
    assert len(calls) == 3


@pytest.mark.parametrize("copied", ["as DataParallel does", "deeply"])
def test_a_copy_that_computes_activations_twice_has_its_own_weights(batches, copied):
    plain, saving = make_net(), make_net()
    compute_activations_twice(saving)
    if copied == "deeply":
        block = copy.deepcopy(saving.features.res2)
    else:
        block = saving.features.res2._replicate_for_data_parallel()
        for name, child in copy.deepcopy(block._modules).items():
            block._modules[name] = child
    expected = plain.features.res2
    for one in (block, expected):
        with torch.no_grad():
            one[0].weight.mul_(2)
    clip = torch.rand(2, 4, 3, 4, 4, dtype=torch.double)
    for training in (True, False):
        found = [one.train(training)(clip) for one in (block, expected)]
        assert torch.equal(*found)
    assert not torch.equal(saving.features.res2.eval()(clip), found[0])
    block.train()(clip).sum().backward()
    assert block[0].weight.grad is not None
    assert saving.features.res2[0].weight.grad is None


def test_mixup_is_the_loss_of_soft_labels(batches):
    clips, labels = batches[0][:8], batches[1][:8]
    model = make_net()
    trainer = make_trainer(model, lr=0, mixup=0.5, label_smoothing=0.2, micro_batch=3)
    trainer.classifier.eval()
    trainer.train_batch(clips, labels)
    share, partners = draw_blend(0.5, 8, seed=0, step=0)
    mixed = share * clips.double() + (1 - share) * clips[partners].double()
    one_hot = nn.functional.one_hot(labels, 6).double()
    soft = share * one_hot + (1 - share) * one_hot[partners]
    expected = cross_entropy(trainer.classifier(mixed), soft, label_smoothing=0.2)
    assert trainer.averages.total.over_clips[0].item() / 8 == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_a_blend_is_a_function_of_seed_and_step_and_mostly_its_own_clip():
    blends = [draw_blend(0.2, 8, seed=1, step=step) for step in range(20)]
    again = draw_blend(0.2, 8, seed=1, step=7)
    assert again.share == blends[7].share
    assert torch.equal(again.partners, blends[7].partners)
    assert len({blend.share for blend in blends}) == 20
    assert all(0.5 <= blend.share <= 1 for blend in blends)
    assert all(sorted(blend.partners.tolist()) == list(range(8)) for blend in blends)
    assert len({tuple(blend.partners.tolist()) for blend in blends}) == 20


@pytest.mark.parametrize("step", range(8))
def test_cutmix_weighs_labels_by_the_pixels_that_a_clip_keeps(step):
    """Clip i is of gray level i, so that each pixel says whose it is."""
    trainer = make_trainer(make_net(), cutmix=1.0)
    trainer.step = step
    clips = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1, 1).repeat(1, 3, 12, 20, 3)
    labels = torch.arange(8)
    mixup = draw_mixup(trainer, clips, labels, [8])
    joined, others = mixup.blend(clips[2:7], slice(2, 7))
    assert joined.dtype == torch.uint8
    assert torch.equal(clips, torch.arange(8).view(8, 1, 1, 1, 1).expand(clips.shape))
    assert torch.equal(others, mixup.partners[2:7])
    assert (joined == joined[:, :1, :, :, :1]).all()  # one box for all frames and colors
    for i, (clip, other) in enumerate(zip(joined, others, strict=True), 2):
        own = (clip == i).float().mean().item()
        assert own == pytest.approx(mixup.share if other != i else 1, abs=1e-6)
        assert ((clip == i) | (clip == other)).all()


def test_boxes_of_cutmix_are_of_any_size_and_place_and_half_of_the_frame_at_most_is_lost():
    rng, kept, first = random.Random(0), set(), set()
    for i in range(300):
        box, share = draw_box(0.5 + i / 600, 12, 20, rng)
        area = (box.rows.stop - box.rows.start) * (box.columns.stop - box.columns.start) / 240
        assert share == (area if box.own else 1 - area) >= 0.5
        kept.add(box.own)
        first.add((box.rows.start, box.columns.start))
    assert kept == {True, False}
    assert len(first) > 50


def test_cutmix_with_mixup_takes_its_turn_and_leaves_the_blends_as_they_were(batches):
    both, alone = (make_trainer(make_net(), mixup=0.4, cutmix=c) for c in (1.0, 0))
    cut = 0
    for both.step in range(40):
        alone.step = both.step
        found, expected = (draw_mixup(t, *(b[:8] for b in batches), [8]) for t in (both, alone))
        cut += found.box is not None
        if found.box is None:
            assert found.share == expected.share
            assert torch.equal(found.partners, expected.partners)
    assert 10 < cut < 30


def test_cutmix_is_the_loss_of_soft_labels(batches):
    clips, labels = batches[0][:8], batches[1][:8]
    trainer = make_trainer(make_net(), lr=0, cutmix=1.0, label_smoothing=0.2, micro_batch=3)
    trainer.classifier.eval()
    trainer.train_batch(clips, labels)
    trainer.step = 0
    joined, others = draw_mixup(trainer, clips, labels, [8]).blend(clips, slice(0, 8))
    share = draw_mixup(trainer, clips, labels, [8]).share
    one_hot = nn.functional.one_hot(torch.stack([labels, others]), 6).double()
    soft = share * one_hot[0] + (1 - share) * one_hot[1]
    expected = cross_entropy(trainer.classifier(joined), soft, label_smoothing=0.2).item()
    assert trainer.averages.total.over_clips[0].item() / 8 == pytest.approx(expected, rel=1e-6)


def test_rates_fall_by_the_layer(batches):
    """The head has the rate itself, res2 half of it, the stem a quarter."""
    model = make_net()
    expected = {"head": 0.1, "features.res2": 0.05, "features.stem": 0.025}
    for decay_norm in True, False:
        settings = settings_of(layer_decay=0.5, decay_norm=decay_norm)
        optimizer = build_optimizer(model, settings)
        assert optimizer.param_groups[0]["initial_lr"] == 0.1  # which is the one that is logged
        rates = {p: g["initial_lr"] for g in optimizer.param_groups for p in g["params"]}
        for name, parameter in model.named_parameters():
            assert rates[parameter] == expected[name.rsplit(".", 2 if "." in name[5:] else 1)[0]]
    plain = build_optimizer(model, settings_of())
    assert len(plain.param_groups) == 1


def test_label_smoothing_takes_its_share_from_the_label():
    logits = torch.tensor([[2.0, 0, 0, 0, 0, 0]])
    log_p = logits.log_softmax(1)[0]
    expected = -(0.7 * log_p[0] + 0.3 * log_p.mean())
    loss = clip_loss(logits, torch.tensor([0]), Regularization(label_smoothing=0.3))
    assert loss.item() == pytest.approx(expected.item())


def test_freezing_up_to_a_stage_keeps_it_and_all_before_it(batches):
    model = make_net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = make_trainer(model, frozen=freeze_until(model, "res2"))
    train(trainer, split(*batches))
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"head.weight", "head.bias"}
    with pytest.raises(UserError, match="--freeze res9: the network's stages are stem, res2, pool"):
        freeze_until(model, "res9")


def test_frozen_batch_norm_keeps_statistics_scale_and_shift(batches):
    model = make_net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = make_trainer(model, frozen=freeze_norms(model))
    train(trainer, split(*batches))
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {
        *("features.stem.0.weight", "features.stem.0.bias", "features.res2.0.weight"),
        *("features.res2.0.bias", "head.weight", "head.bias"),
    }


def test_precise_batch_norm_has_the_statistics_of_its_batches(batches):
    model = make_net()
    classifier = classifier_of(model)
    seen = []
    model.features.stem[0].register_forward_hook(lambda m, i, output: seen.append(output))
    momentum = model.features.stem[1].momentum
    model.features.stem[1].running_mean.fill_(100)  # of long ago
    model.features.stem[1].num_batches_tracked.fill_(7)
    measure_norms(classifier, split(*batches, batch_size=5), 2, 5, CPU, frozen=[])
    means = torch.stack([output.mean(dim=(0, 2, 3, 4)) for output in seen])
    assert len(seen) == 2
    torch.testing.assert_close(model.features.stem[1].running_mean, means.mean(dim=0))
    assert model.features.stem[1].momentum == momentum
    assert not model.features.stem[1].training


def test_precise_batch_norm_leaves_frozen_parts_alone(batches):
    model = make_net()
    frozen = freeze_until(model, "stem")
    frozen[0].eval()
    measure_norms(classifier_of(model), split(*batches), 1, 8, CPU, frozen)
    assert model.features.stem[1].running_mean.abs().max() == 0
    assert model.features.res2[1].running_mean.abs().max() > 0


@pytest.mark.parametrize("decay_norm, decays", [(True, [0.1]), (False, [0.1, 0])])
def test_batch_norm_decays_or_does_not(decay_norm, decays):
    settings = settings_of(optimizer="adamw", weight_decay=0.1, decay_norm=decay_norm)
    optimizer = build_optimizer(make_net(), settings)
    groups = optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == decays
    assert sum(len(group["params"]) for group in groups) == 10
    if not decay_norm:
        assert [p.shape for p in groups[1]["params"]] == [torch.Size([4])] * 4


def test_nesterov_looks_ahead():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1)
    settings = settings_of(momentum=0.5, nesterov=True, weight_decay=0)
    optimizer = build_optimizer(model, settings)
    w, v = 1.0, 0.0
    for _ in range(3):
        optimizer.zero_grad()
        (model.weight**2 / 2).sum().backward()
        optimizer.step()
        v = 0.5 * v + w
        w -= 0.1 * (w + 0.5 * v)
    assert math.isclose(model.weight.item(), w, rel_tol=1e-6)


def test_a_network_without_a_weight_to_train_is_refused():
    model = torch.nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(UserError, match="--freeze leaves nothing to train"):
        build_optimizer(model, Optimization(epochs=1, batch_size=1, lr=0.1))


def test_a_number_that_is_new_leaves_the_others_of_a_resumed_epoch_as_they_are():
    saved = Sums(["loss", "top1"], CPU)
    saved.over_clips += torch.tensor([6.0, 2.0])
    before = saved.state_dict()
    sums = Sums(["top1", "entropy", "loss"], CPU)
    load_sums(sums, before)
    assert sums.over_clips[[0, 2]].tolist() == [2, 6]
    assert sums.over_clips[1].isnan()  # nobody knows its part that is over
    del before["names"]  # as older checkpoints are
    older = Sums(["loss", "top1"], CPU)
    load_sums(older, before | {"sums": torch.tensor([6.0, 2.0, 2.0])})
    assert older.over_clips.tolist() == [6, 2]
