"""What every architecture and every entry of WEIGHTS must keep; a new one is tested by existing."""

import itertools
import sys
from types import ModuleType

import pytest
import torch

from config import ARCHS, Arch, Preprocessing, UserError
from main import main
from models import arguments_problem, build_model
from models.weights import find, public_weights

ENTRIES = [(arch, name) for arch in ARCHS for name in public_weights(arch)]


@pytest.mark.parametrize("arch", ARCHS)
def test_a_network_keeps_the_contract(arch):
    torch.manual_seed(0)
    model = build_model(arch, 5, in_channels=3, dropout=0.0, bn_momentum=0.1)
    clip = torch.randn(2, 3, 8, 48, 48)
    logits = model(clip)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    logits.sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)
    model.dropout.p = 1.0  # of all features the head sees nothing
    assert torch.equal(model(clip), model.head.bias.expand(2, 5))
    features = model.eval().forward_features(clip)
    assert features.shape == (2, model.head.in_features)
    assert not any(key.startswith("module.") for key in model.state_dict())


def test_an_argument_of_a_checkpoint_may_be_zero_where_no_option_has_another_limit():
    assert arguments_problem("resnet3d", {"pool1_padding": 0}) == ""
    assert "pool1_padding" in arguments_problem("resnet3d", {"pool1_padding": -1})


@pytest.mark.parametrize(
    "arch, momentum",
    [("i3d", 0.01), ("s3d", 0.001), ("resnet3d", 0.1), ("tsn", 0.1), ("videoresnet", 0.1)],
)
def test_batch_norm_follows_as_fast_as_that_of_the_releases(arch, momentum):
    with torch.device("meta"):
        layers = build_model(arch, 5).modules()
    assert {m.momentum for m in layers if hasattr(m, "running_mean")} == {momentum}


@pytest.mark.parametrize("arch", ARCHS)
def test_usual_and_odd_sizes_give_logits(arch):
    with torch.device("meta"):  # shapes without computing
        model = build_model(arch, 5).eval()
        for frames, size in itertools.product([8, 17, 64], [112, 224, 256]):
            assert model(torch.empty(2, 3, frames, size, size)).shape == (2, 5)


@pytest.mark.parametrize(
    "arch, arch_args, frames, side",
    [
        ("resnet3d", {"inflate": "none"}, 2, 1),
        ("resnet3d", {"non_local": 5}, 2, 17),
        ("resnet3d", {"conv1_stride": 2, "pool1_kernel": 3, "pool1_stride": 2}, 9, 1),
        ("resnet3d", {"pool1_padding": 0, "pool2": False, "non_local": 5}, 1, 21),
        ("s3d", {}, 5, 17),
        ("tsn", {"backbone": "vgg16"}, 1, 32),
        ("tsn", {"backbone": "inception_v3"}, 1, 75),
        ("tsn", {"backbone": "googlenet"}, 1, 15),
    ],
)
def test_of_a_clip_too_short_or_too_small_it_is_said_what_works(arch, arch_args, frames, side):
    with torch.device("meta"):
        model = build_model(arch, 5, **arch_args).eval()
        assert model(torch.empty(1, 3, frames, side, side + 1)).shape == (1, 5)
        least = f"takes clips of at least {frames} frames? and {side} px"
        for shape in (frames - 1, side, side), (frames, side + 9, side - 1):
            if 0 not in shape:
                with pytest.raises(UserError, match=f"{least}, and this one has {shape[0]} of"):
                    model(torch.empty(1, 3, *shape))


@pytest.mark.parametrize("arch", ARCHS)
def test_every_option_of_an_architecture_is_an_argument_of_its_network(arch):
    for name, values in ARCHS[arch].options.items():
        values = (False, True) if values is bool else values
        for value in values if isinstance(values, tuple) else ():
            if arch == "resnet3d" and name.startswith("non_local_"):
                args = {"non_local": 5, name: value}
            elif (arch, name, value) == ("tsn", "partial_bn", True):
                args = {"backbone": "resnet18", name: value}
            else:
                args = {name: value}
            with torch.device("meta"):
                build_model(arch, 5, **args)


@pytest.mark.parametrize("arch, name", ENTRIES, ids=str)
def test_a_public_checkpoint_is_complete(arch, name):
    entry = public_weights(arch)[name]
    assert entry.url.startswith("http")
    assert isinstance(entry.preprocessing, Preprocessing)
    assert len(entry.preprocessing.mean) == len(entry.preprocessing.std)
    assert entry.license
    assert entry.source.startswith("http")
    assert entry.accuracy
    with torch.device("meta"):
        model = build_model(arch, 5, **entry.arch_args)
    assert set(entry.head) <= model.state_dict().keys()


def test_public_weights_can_be_listed(capsys):
    assert main(["--list-weights"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for _, name in ENTRIES)


@pytest.fixture
def plain(monkeypatch):
    """A network as one file in models/ and its entry in ARCHS: it has no public weights."""
    module = ModuleType("models.plain")
    module.Plain = lambda num_classes: torch.nn.Linear(3, num_classes)
    monkeypatch.setitem(sys.modules, "models.plain", module)
    monkeypatch.setitem(ARCHS, "plain", Arch(network="Plain"))


def test_a_network_without_public_weights_needs_no_file_of_them(plain, capsys):
    assert build_model("plain", 5)(torch.zeros(2, 3)).shape == (2, 5)
    assert public_weights("plain") == {}
    for name in ("imagenet", "i3d_rgb_piergiaj"):
        with pytest.raises(UserError, match=f"^no weights '{name}' for plain; there are none$"):
            find(name, "plain")
    with pytest.raises(UserError, match="there are none"):
        build_model("plain", weights="imagenet")
    assert main(["--list-weights"]) == 0
    assert "plain" not in capsys.readouterr().out
