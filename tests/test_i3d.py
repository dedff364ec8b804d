import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import relative
from golden import reference_state
from torch import nn

from models import build_model
from models.i3d import I3D, ConvBnRelu3d, SameMaxPool3d
from models.layers import mean_over_windows


def pad_same(x, kernel, stride):
    """TensorFlow's SAME padding, written as its documentation has it."""
    pads = []
    for size, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


SIZES = [(8, 32, 32), (9, 33, 35), (17, 56, 57), (4, 7, 8)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel, stride", [(7, 2), (3, 1), (1, 1)])
def test_convolutions_pad_as_tensorflow_does(size, kernel, stride):
    block = ConvBnRelu3d(2, 3, kernel, stride).eval()
    x = torch.randn(2, 2, *size)
    expected = F.conv3d(pad_same(x, [kernel] * 3, [stride] * 3), block.conv.weight, stride=stride)
    expected = F.relu(block.bn(expected))
    assert expected.shape[2:] == tuple(math.ceil(n / stride) for n in size)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "kernel, stride",
    [
        ((1, 3, 3), (1, 2, 2)),
        ((3, 3, 3), (2, 2, 2)),
        ((2, 2, 2), (2, 2, 2)),
        ((3, 3, 3), (1, 1, 1)),
    ],
)
def test_pools_pad_as_tensorflow_does(size, kernel, stride):
    x = torch.randn(2, 3, *size).relu()
    expected = F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)
    assert torch.equal(SameMaxPool3d(kernel, stride)(x), expected)


@pytest.mark.parametrize("size", [(8, 32, 32), (9, 40, 33), (17, 112, 112), (16, 64, 96)])
def test_clips_of_any_size_give_the_mean_of_the_logits_of_their_steps(size):
    model = I3D(num_classes=5).eval()
    clip = torch.randn(2, 3, *size)
    with torch.inference_mode():
        logits, features, x = model(clip), model.forward_features(clip), model.features(clip)
        cut = [min(n, window) for n, window in zip(x.shape[2:], (2, 7, 7), strict=True)]
        steps = model.head(F.avg_pool3d(x, cut, stride=1).mean(dim=(3, 4)).transpose(1, 2))
    assert logits.shape == (2, 5)
    assert features.shape == (2, 1024)
    assert steps.shape == (2, max(math.ceil(size[0] / 8) - 1, 1), 5)
    torch.testing.assert_close(steps.mean(dim=1), logits, rtol=1e-4, atol=1e-5)


def pad_hassony2(x, kernel, stride, value=0):
    """hassony2's padding: rows and columns as if the stride divided them, time as TensorFlow."""
    remainder = x.shape[2] % stride[0]
    pads = []
    for i, (k, s) in enumerate(zip(kernel, stride, strict=True)):
        total = max(k - (remainder if i == 0 and remainder else s), 0)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads, value=value)


@pytest.mark.parametrize("size", SIZES)
def test_odd_sizes_can_be_padded_as_hassony2_does(size):
    block = ConvBnRelu3d(2, 3, 7, 2, as_if_even=True).eval()
    x = torch.randn(2, 2, *size).relu()
    expected = F.conv3d(pad_hassony2(x, [7] * 3, [2] * 3), block.conv.weight, stride=2)
    torch.testing.assert_close(block(x), F.relu(block.bn(expected)))
    for kernel, stride in [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))]:
        pool = SameMaxPool3d(kernel, stride, as_if_even=True)
        expected = F.max_pool3d(pad_hassony2(x, kernel, stride), kernel, stride, ceil_mode=True)
        assert torch.equal(pool(x), expected)


def test_a_network_pads_odd_sizes_as_tensorflow_does_unless_it_is_told_otherwise():
    for told in ({}, {"as_if_even": True}):
        with torch.device("meta"):
            layers = I3D(num_classes=2, **told).modules()
        padded = {m.as_if_even for m in layers if hasattr(m, "as_if_even")}
        assert True in padded if told else padded == {False}


def test_the_head_averages_windows_not_positions():
    x = torch.randn(1, 4, 3, 9, 8)
    windows = [
        x[:, :, t : t + 2, y : y + 7, z : z + 7].mean(dim=(2, 3, 4))
        for t in range(2)
        for y in range(3)
        for z in range(2)
    ]
    torch.testing.assert_close(mean_over_windows(x, (2, 7, 7)), torch.stack(windows).mean(dim=0))
    assert relative(mean_over_windows(x, (2, 7, 7)), x.mean(dim=(2, 3, 4))) > 0.05


def test_the_network_sees_the_order_of_frames():
    torch.manual_seed(0)
    model = I3D(num_classes=5).eval()
    clip = torch.randn(1, 3, 16, 48, 48)
    with torch.inference_mode():
        assert relative(model(clip.flip(2)), model(clip)) > 1e-3


def test_every_parameter_gets_a_gradient_and_batch_norm_is_set():
    model = I3D(num_classes=5, in_channels=2, bn_momentum=0.3)
    model(torch.randn(2, 2, 8, 48, 48)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(norms) == 57
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.3)}


def test_memory_format_does_not_change_the_logits():
    model = I3D(num_classes=5).eval()
    clip = torch.randn(2, 3, 8, 48, 48)
    with torch.inference_mode():
        plain = model(clip)
        last = model.to(memory_format=torch.channels_last_3d)(
            clip.to(memory_format=torch.channels_last_3d)
        )
    assert relative(last, plain) < 1e-5


def test_imagenet_weights_are_inflated(tmp_path):
    """On equal frames, away from the ends of the clip, a block computes what its 2-D one does."""
    flat = torchvision.models.googlenet(init_weights=False).eval()
    flat.load_state_dict(reference_state({k: v.shape for k, v in flat.state_dict().items()}))
    torch.save(flat.state_dict(), tmp_path / "file.pth")
    model = build_model(
        "i3d", 5, weights="imagenet", weights_file=str(tmp_path / "file.pth")
    ).eval()
    frame = torch.rand(1, 192, 8, 8)
    clip = frame[:, :, None].repeat(1, 1, 7, 1, 1)
    with torch.inference_mode():
        expected = flat.inception3b(flat.inception3a(frame))
        found = model.features.mixed_3c(model.features.mixed_3b(clip))[:, :, 3]
    assert relative(found, expected) < 1e-5
    kernel = model.features.conv_1a.conv.weight
    assert relative(kernel.sum(dim=2), flat.conv1.conv.weight) < 1e-6
