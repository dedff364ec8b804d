"""X3D: its convolutions are torch's own, its windows PyTorchVideo's, its variants told apart."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import relative
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from config import Preprocessing, UserError
from models import build_model
from models.weights.x3d import WEIGHTS
from models.x3d import VARIANTS, X3D, DepthwiseConv3d, WindowMeans
from opts import parse_opts
from utils import checkpoint
from utils.recipes import LITTLE_DATA
from utils.resume import checkpoint_file
from utils.run import choose_preprocessing, network_arguments, starting_point


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize(
    "kernel_size, stride", [((5, 1, 1), 1), ((3, 3, 3), 1), ((3, 3, 3), 2)], ids=str
)
def test_depthwise_convolutions_are_those_of_torch(kernel_size, stride, frames, memory_format):
    torch.manual_seed(0)
    conv = DepthwiseConv3d(4, kernel_size, stride).double()
    clip = torch.randn(2, 4, frames, 7, 6, dtype=torch.double)
    clip = clip.contiguous(memory_format=memory_format).requires_grad_()
    found, expected = conv(clip), nn.Conv3d.forward(conv, clip)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (clip, conv.weight), gradient),
        torch.autograd.grad(expected, (clip, conv.weight), gradient),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("size", [(4, 5, 5), (3, 7, 9), (6, 2, 5), (1, 1, 1)])
def test_windows_are_cut_to_the_maps(size):
    maps = torch.randn(2, 3, *size)
    window = tuple(min(a, b) for a, b in zip(size, (4, 5, 5), strict=True))
    expected = F.avg_pool3d(maps, window, 1)
    torch.testing.assert_close(WindowMeans((4, 5, 5))(maps), expected)


def test_windows_are_averaged_behind_the_relu():
    """As PyTorchVideo computes larger clips than those of training, here with a bit of noise."""
    torch.manual_seed(0)
    model = build_model("x3d", 3, variant="x3d_xs").eval()
    clip = torch.randn(2, 3, 6, 182, 200)
    with torch.inference_mode():
        maps = model.features[:7](clip)
        assert maps.shape == (2, 432, 6, 6, 7)
        means = F.avg_pool3d(maps, (4, 5, 5), 1)
        logits = model.head(F.relu(model.features.conv6(means)).movedim(1, -1))
        torch.testing.assert_close(model(clip), logits.mean(dim=(1, 2, 3)))
        before = F.linear(means.mean((2, 3, 4)), model.features.conv6.weight.flatten(1)).relu()
        wrong = model.head(before)
    assert relative(wrong, logits.mean(dim=(1, 2, 3))) > 1e-3  # what the test would see


@pytest.mark.parametrize(
    "variant, blocks, parameters, multiply_adds",
    [
        ("x3d_s", [3, 5, 11, 7], 3_794_274, 1.96),
        ("x3d_l", [5, 10, 25, 15], 6_153_384, 18.37),
    ],
)
def test_networks_have_the_published_size_and_cost(variant, blocks, parameters, multiply_adds):
    clip = WEIGHTS[f"{variant}_pytorchvideo"].preprocessing
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        model = X3D(variant=variant).eval()
        model(torch.empty(1, *clip.network_input()))
        norm = X3D(variant=variant, shortcut_norm=True).features.res2[0].shortcut.bn
    assert [len(model.features.get_submodule(f"res{i}")) for i in range(2, 6)] == blocks
    for i in range(2, 6):  # in every second block
        stage = model.features.get_submodule(f"res{i}")
        squeezes = [not isinstance(block.squeeze, nn.Identity) for block in stage]
        assert squeezes == [j % 2 == 0 for j in range(len(stage))]
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(multiply_adds, abs=0.006)
    assert sum(p.numel() for p in norm.parameters()) == 48  # more, in PySlowFast


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_entry_tells_what_it_expects(name):
    """Frames, stride, short side and crop, typed a second time from PySlowFast's configurations."""
    size = name.split("_")[1]
    clip, (by, file) = WEIGHTS[name].preprocessing, WEIGHTS[name].url.rsplit("/", 2)[1:]
    assert (clip.clip_len, clip.stride, clip.short_side, clip.crop_size) == {
        "xs": (4, 12, 182, 160),
        "s": (13, 6, 182, 160),
        "m": (16, 5, 256, 224),
        "l": (16, 5, 356, 312),
    }[size]
    side = math.ceil(clip.crop_size / 32)  # one window
    assert VARIANTS[f"x3d_{size}"][1] == (clip.clip_len, side, side)
    assert (clip.mean, clip.std, clip.fps) == ((0.45,) * 3, (0.225,) * 3, 30)
    assert file.lower() == f"x3d_{size}.pyth" and (by == "x3d_models") == ("pyslowfast" in name)


def test_weights_of_another_variant_are_named(tmp_path):
    """XS, S and M have the same keys and shapes."""
    file = tmp_path / "m.pyth"
    torch.save({"model_state": {"a": torch.zeros(1)}}, file)
    with pytest.raises(UserError, match="these weights are of x3d_m, and --variant is x3d_s: choo"):
        build_model("x3d", weights="x3d_m_pytorchvideo", weights_file=str(file), variant="x3d_s")
    with pytest.raises(UserError, match="x3d has no variant 'x', but x3d_xs, x3d_s, x3d_m, x3d_l"):
        build_model("x3d", variant="x")


def test_a_checkpoint_stays_the_variant_that_it_is(tmp_path, monkeypatch):
    clip = Preprocessing(clip_len=8, mean=(0.45,) * 3, std=(0.225,) * 3)
    about = {"arch": "x3d", "arch_args": {"variant": "x3d_m"}, "preprocessing": vars(clip)}
    state = dict.fromkeys(checkpoint.KEYS) | about | {"model": {}, "choices": []}
    monkeypatch.setattr(checkpoint_file, "load", lambda path, goes_on: state)
    (tmp_path / "m.pth").touch()
    argv = ["--arch", "x3d", "--dataset", "x", "--pretrained", str(tmp_path / "m.pth")]
    opts = parse_opts(argv)
    assert network_arguments(opts, starting_point(opts), clip)["variant"] == "x3d_m"
    with pytest.raises(UserError, match="m.pth is of x3d_m: leave --variant to the checkpoint"):
        starting_point(parse_opts([*argv, "--variant", "x3d_s"]))


@pytest.mark.parametrize(
    "typed, key, clip",
    [
        ("", ("x3d", "scratch"), (16, 5, 224)),
        ("--variant x3d_m", ("x3d", "scratch"), (16, 5, 224)),
        ("--variant x3d_s", ("x3d_s", "scratch"), (13, 6, 160)),
        ("--variant x3d_l --recipe small", ("any", LITTLE_DATA, "scratch"), (16, 1, 96)),
        ("--pretrained x3d_s_pyslowfast", ("x3d", "kinetics"), (13, 6, 160)),
    ],
)
def test_a_variant_has_the_recipe_and_the_clips_of_its_size(typed, key, clip):
    opts = parse_opts(f"--arch x3d --dataset x {typed}".split())
    assert opts.sources["epochs"] == f"recipe {key}"
    start = starting_point(opts)
    seen = choose_preprocessing(opts, start)
    assert (seen.clip_len, seen.stride, seen.crop_size) == clip
    named = [word for word in ("x3d_s", "x3d_l") if word in typed] or ["x3d_m"]
    assert network_arguments(opts, start, seen)["variant"] == named[0]
