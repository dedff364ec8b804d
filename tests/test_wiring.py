"""What is typed arrives where it acts: each option of main.py, in the objects of a run."""

import shutil
import sys
import time
from collections import OrderedDict
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import add_flow
from torch import nn

import main
from config import ARCHS, Arch, Curves, Evaluation, Recipe, Views, flag, part
from opts import OPTIONS, parse_opts
from utils import build
from utils.interrupt import GracefulStop
from utils.live_page import logger as live_page
from utils.recipes import RECIPES

# options that tests of whole runs see act, by the file in which they are typed
ELSEWHERE = {
    "main": ("evaluate", "resume", "device", "pretrained", "pretrained_file"),
    "features": ("head_only", "head_lrs", "extract_features", "videos", "window", "step"),
    "predict": ("predict", "out", "sliding_window", "annotate", "fps"),
    "heatmap": ("heatmap",),
    "probe_time": ("probe_time",),
    "training": ("plan",),
    "resume": ("log_every",),
    "opts": ("print_config",),
    "splits": ("splits",),
    "groups": ("val_groups",),
    "export": ("export",),
    "imbalance": ("patience",),
    "networks": ("list_weights",),
}


class Block(nn.Sequential):
    """Its activations can be computed twice."""


class Toy(nn.Module):
    """The least of a network that all options can change."""

    def __init__(
        self,
        num_classes: int,
        dropout: float = 0.5,
        bn_momentum: float = 0.1,
        in_channels: int = 3,
        depth: int = 18,
    ):
        super().__init__()
        norm = nn.BatchNorm3d(4, momentum=bn_momentum)
        first = Block(OrderedDict(conv=nn.Conv3d(in_channels, 4, 1), norm=norm))
        self.features = nn.Sequential(OrderedDict(first=first))
        self.dropout, self.head, self.depth = nn.Dropout(dropout), nn.Linear(4, num_classes), depth

    def forward(self, clip):
        return self.head(self.dropout(self.features(clip).mean(dim=(2, 3, 4))))


class Toy2(Toy):
    """Another one."""


class Built:
    """A run, and what main.py makes of it."""

    def __init__(self, argv):
        self.run = main.set_up(parse_opts(argv))
        self.opts, self.evaluation = self.run.opts, part(Evaluation, self.run.opts)
        self.torch_seed = torch.initial_seed()
        self.norm = self.run.model.features.first.norm

    @cached_property
    def loader(self):
        return build.training_loader(self.run)

    @cached_property
    def views(self):
        return build.view_loader_for(self.run, self.run.lists.test, self.evaluation)

    @cached_property
    def loaders(self):
        return self.loader, self.views

    @cached_property
    def trainer(self):
        return build.build_trainer(self.run, self.loader)

    @cached_property
    def saver(self):
        return build.build_saver(self.run, self.trainer)

    @cached_property
    def loggers(self):
        self.run.folder.mkdir(parents=True, exist_ok=True)
        (self.run.folder / "options.json").write_text("{}")
        found = build.build_logger(self.run.folder, 0, 0, part(Curves, self.opts))
        if "tensorboard" in self.opts.logger:
            found[-1].close()  # its thread would miss the folder
        shutil.rmtree(self.run.folder)
        return found

    @property
    def groups(self):
        return self.trainer.optimizer.param_groups

    @property
    def page(self):
        """The arguments of visdom's page."""
        (found,) = (logger for logger in self.loggers if isinstance(logger, tuple))
        return found

    def num_measured(self):
        with build.evaluated_weights(self.run, self.trainer, self.loader):
            return int(self.norm.num_batches_tracked)

    def average(self):
        """Of scores, softmaxes of the views, the sum over all classes is 1."""
        with GracefulStop() as stop:
            how = {"desc": "", "source": ""}
            scores = build.score(self.run, self.run.lists.test, self.evaluation, stop, **how)
        return "scores" if abs(scores.scores.sum(axis=1) - 1).max() < 1e-5 else "logits"


def clip(name):
    return lambda it: [getattr(loader.clips.clip, name) for loader in it.loaders]


def augmentation(name):
    return lambda it: [getattr(it.loader.clips.augmentation, name)]


def optimization(name):
    return lambda it: [
        getattr(o, name) for o in (it.trainer.optimization, it.trainer.schedule.settings)
    ]


def regularization(name):
    return lambda it: [getattr(it.trainer.regularization, name)]


def weights_of(trainer):
    return None if trainer.class_weights is None else trainer.class_weights.tolist()


def groups(name):
    return lambda it: [group[name] for group in it.groups]


def faults(name):
    return lambda it: [getattr(loader.new_faults(), name) for loader in it.loaders]


# name: what is typed, what that comes to, and where: a function of Built to all places
WIRES = {
    "arch": ("toy2", "Toy2", lambda it: [type(it.run.model).__name__]),
    "dataset": ("other", "other", lambda it: [it.run.lists.folder.name]),
    "recipe": ("small", 16, clip("clip_len")),
    "split": ("2", "data/tiny/trainlist02.json", lambda it: [str(it.run.lists.train_list)]),
    "data_root": ("data2", "data2", lambda it: [str(it.run.lists.folder.parent)]),
    "name": ("x", "saved_model/x", lambda it: [str(it.run.folder), str(it.saver.folder)]),
    "modality": ("flow", "flow", clip("modality")),
    "clip_len": ("4", 4, lambda it: [*clip("clip_len")(it), it.trainer.averages.clip_len]),
    "stride": ("2", 2, clip("stride")),
    "target_fps": ("5", 5, clip("target_fps")),
    "snippet_len": ("2", 2, clip("snippet_len")),
    "resize": ("square", "square", clip("resize")),
    "crop_size": ("16", 16, clip("crop_size")),
    "short_side": ("34 40", (34, 40), augmentation("short_side")),
    "crop": ("corners", "corners", augmentation("crop")),
    "crop_area": ("0.5 0.7", (0.5, 0.7), augmentation("crop_area")),
    "crop_ratio": ("0.5 0.7", (0.5, 0.7), augmentation("crop_ratio")),
    "crop_scales": ("0.5 0.7", (0.5, 0.7), augmentation("crop_scales")),
    "flip_prob": ("0.1", 0.1, augmentation("flip_prob")),
    "color_jitter": ("0.1 0.2 0.3 0.4", (0.1, 0.2, 0.3, 0.4), augmentation("color_jitter")),
    "augment": ("trivialaugment", "trivialaugment", augmentation("augment")),
    "rand_augment": ("3 12", (3, 12), augmentation("rand_augment")),
    "erasing": ("0.2", 0.2, augmentation("erasing")),
    "dropout": ("0.1", 0.1, lambda it: [it.run.model.dropout.p]),
    "bn_momentum": ("0.2", 0.2, lambda it: [it.norm.momentum]),
    "epochs": ("3", 3, optimization("epochs")),
    "batch_size": ("2", 2, lambda it: [it.loader.sampler.batch_size, it.trainer.micro_batch]),
    "repeats": ("3", 18, lambda it: [it.loader.sampler.num_clips]),
    "optimizer": ("adamw", torch.optim.AdamW, lambda it: [type(it.trainer.optimizer)]),
    "lr": ("0.3", 0.3, groups("initial_lr")),
    "momentum": ("0.4", 0.4, groups("momentum")),
    "nesterov": ("", True, groups("nesterov")),
    "weight_decay": ("0.3", 0.3, groups("weight_decay")),
    "decay_norm": ("no", [1e-4, 0], lambda it: [groups("weight_decay")(it)]),
    "clip_grad": ("7", 7, optimization("clip_grad")),
    "schedule": ("cosine", "cosine", optimization("schedule")),
    "lr_steps": ("3 4", (3, 4), optimization("lr_steps")),
    "plateau_patience": ("3", 3, optimization("plateau_patience")),
    "warmup_epochs": ("2", 2, optimization("warmup_epochs")),
    "layer_decay": ("0.5", [1, 0.5], lambda it: [groups("initial_lr")(it)]),
    "ema": ("0.9", 0.9, lambda it: [it.trainer.ema and it.trainer.ema.decay]),
    "class_weights": ("balanced", [1, 1], lambda it: [weights_of(it.trainer)]),
    "label_smoothing": ("0.2", 0.2, regularization("label_smoothing")),
    "mixup": ("0.2", 0.2, regularization("mixup")),
    "cutmix": ("0.2", 0.2, regularization("cutmix")),
    "freeze": (
        "first",
        ["first"],
        lambda it: [
            [n for n, m in it.run.model.features.named_children() if m in it.trainer.frozen]
        ],
    ),
    "freeze_bn": ("", True, lambda it: [it.norm in it.trainer.frozen]),
    "precise_bn": ("1", 1, lambda it: [it.num_measured()]),
    "views": ("2x3", Views(2, 3), lambda it: [it.views.clips.views]),
    "average": (
        "logits",
        "logits",
        lambda it: [it.average(), it.saver.facts["evaluation"]["average"]],
    ),
    "full_crop": ("", 36, lambda it: [it.views.clips.clip.crop_size]),
    "protocol": ("s3d", Views(None, 1), lambda it: [it.views.clips.views]),
    "view_batch": ("20", 2, lambda it: [it.views.sampler.batch_size]),
    "precision": (
        "bf16",
        "bf16",
        lambda it: [it.run.classifier.precision, it.saver.facts["precision"]],
    ),
    "micro_batch": ("2", 2, lambda it: [it.trainer.micro_batch]),
    "checkpoint_activations": (
        "",
        True,
        lambda it: ["forward" in vars(it.run.model.features.first)],
    ),
    "sync_bn": (
        "",
        (nn.SyncBatchNorm, True),
        lambda it: [(type(it.norm), it.loader.sampler.least == 1)],
    ),
    "compile": ("", True, lambda it: [getattr(it.run.classifier, "is_compiled", False)]),
    "channels_last": ("no", False, lambda it: [it.run.classifier.normalize.channels_last]),
    "seed": (
        "5",
        5,
        lambda it: [it.loader.clips.seed, it.loader.sampler.seed, it.trainer.seed, it.torch_seed],
    ),
    "workers": ("1", 1, lambda it: [loader.batches.num_workers for loader in it.loaders]),
    "on_bad_frame": (
        "skip",
        "skip",
        lambda it: [
            *faults("on_bad_frame")(it),
            *(loader.clips.on_bad_frame for loader in it.loaders),
        ],
    ),
    "max_bad_share": ("0.5", 0.5, faults("max_bad_share")),
    "checkpoint_minutes": ("4", 4, lambda it: [it.saver.minutes]),
    "checkpoint_steps": ("4", 4, lambda it: [it.saver.steps]),
    "visdom_server": ("host", "host", lambda it: [it.page[1]]),
    "visdom_port": ("99", 99, lambda it: [it.page[2]]),
    "visdom_env": ("page", "page", lambda it: [it.page[3]]),
    "no_visdom": ("", [], lambda it: [[x for x in it.loggers if isinstance(x, tuple)]]),
    "logger": ("tensorboard", "TensorBoard", lambda it: [type(it.loggers[-1]).__name__]),
}


@pytest.fixture
def start(in_tiny_set, monkeypatch):
    """Words that start a training of Toy on data/tiny, which has flow and rates."""
    add_flow(in_tiny_set / "data" / "tiny", fps=25)
    for name in ("toy", "toy2"):
        module = ModuleType(f"models.{name}")
        module.Toy, module.Toy2 = Toy, Toy2
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(
            ARCHS, name, Arch(network=name.capitalize(), options={"depth": (18, 50)})
        )
        recipe = Recipe(clip_len=8, epochs=9, batch_size=3, lr=1, crop_size=32, short_side=(36, 36))
        monkeypatch.setitem(RECIPES, (name, "scratch"), recipe)
    return [
        "--arch",
        "toy",
        "--dataset",
        "tiny",
        "--data-root",
        "data",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--workers",
        "0",
    ]


def test_every_option_is_wired_here_or_elsewhere():
    """Or a new option would be without a test."""
    elsewhere = {name: file for file, names in ELSEWHERE.items() for name in names}
    assert WIRES.keys() ^ elsewhere.keys() == OPTIONS.keys()
    for name, file in elsewhere.items():
        assert flag(name) in Path(__file__).with_name(f"test_{file}.py").read_text(), name


@pytest.fixture
def without_machine(monkeypatch):
    """Without GPUs, a compiler and a server of visdom."""

    def compiled(classifier, device):
        classifier.is_compiled = True
        return classifier

    monkeypatch.setattr("utils.options.compile.compiled", compiled)
    monkeypatch.setattr("utils.options.processes.check_shares", lambda *_: None)
    monkeypatch.setattr(live_page, "Visdom", lambda *args: args)
    monkeypatch.setattr(build, "Loggers", lambda *loggers: loggers)


def test_what_is_typed_arrives_where_it_acts(start, without_machine, tmp_path):
    shutil.copytree("data/tiny", "data/other")
    shutil.copytree("data", "data2")
    for side in ("train", "test"):
        shutil.copy(f"data/tiny/{side}list01.json", f"data/tiny/{side}list02.json")
    plain = Built(start)
    for name, (words, value, places) in WIRES.items():
        typed = (
            [flag(name).replace("--", "--no-")] if words == "no" else [flag(name), *words.split()]
        )
        arrived = places(Built([*start, *typed]))
        assert arrived and all(one == value for one in arrived), (name, arrived)
        assert not any(one == value for one in places(plain)), f"{name} is {value} anyway"


def test_each_way_to_see_videos_has_a_loader_of_its_own_and_only_one(start):
    it = Built([*start, "--views", "2x1"])
    videos, seen = it.run.lists.test, {}
    ways = [(main.ONE_CLIP, "normal"), (it.evaluation, "normal"), (it.evaluation, "reversed")]
    ways += [(replace(it.evaluation, full_crop=True), "normal")]
    for _ in range(2):
        for evaluation, order in ways:
            loader = build.view_loader_for(it.run, videos, evaluation, order)
            clips = loader.clips
            assert (clips.views, clips.order) == (evaluation.views, order)
            assert clips.clip.crop_size == (36 if evaluation.full_crop else 32)
            assert seen.setdefault((evaluation, order), loader) is loader
    assert len({id(loader) for loader in seen.values()}) == 4


def test_checkpoints_are_saved_when_they_are_due_and_the_best_stays_the_best(start, monkeypatch):
    it = Built([*start, "--checkpoint-minutes", "4", "--checkpoint-steps", "6"])
    it.run.folder.mkdir(parents=True)
    lines = [
        f'{{"epoch": {i}, "step": {i}, "val/top1": {top1}}}\n' for i, top1 in ((1, 75), (2, 50))
    ]
    (it.run.folder / "metrics.jsonl").write_text("".join(lines))
    last, best = it.run.folder / "last.pth", it.run.folder / "best.pth"
    it.trainer.step = 5
    it.saver.save_if_due()
    it.saver.save_epoch({"val/top1": 60})
    assert last.exists() and not best.exists()
    last.unlink()
    it.saver.save_epoch({"val/top1": 80})
    assert best.exists()
    last.unlink()
    it.saver.save_if_due()
    assert not last.exists()
    it.trainer.step = 6
    it.saver.save_if_due()
    assert last.exists()
    last.unlink()
    it.trainer.step, now = 7, time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 239)
    it.saver.save_if_due()
    assert not last.exists()
    monkeypatch.setattr(time, "monotonic", lambda: now + 241)
    it.saver.save_if_due()
    assert last.exists()
