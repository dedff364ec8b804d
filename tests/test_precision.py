"""bfloat16 on a CPU is used only where it is right: a wrong convolution is planted."""

import pytest
import torch
import torch.nn.functional as F

from config import Preprocessing
from models.i3d import I3D, ConvBnRelu3d
from utils import precision
from utils.classifier import ClipClassifier, Normalize
from utils.options import half_layers
from utils.options.half_layers import convolution_shapes, wrong_layers
from utils.precision import choose_precision

CPU = torch.device("cpu")
CLIP = (2, 3, 8, 32, 32)


@pytest.fixture
def net():
    return torch.nn.Sequential(
        ConvBnRelu3d(3, 8, 3), ConvBnRelu3d(8, 8, 3), ConvBnRelu3d(8, 8, 1, 2)
    )


@pytest.fixture
def right_conv(monkeypatch):
    """A conv3d that is right in bfloat16, whatever this machine's own does."""
    plain = F.conv3d

    def right(x, weight, bias=None, *args, **how):
        bias = None if bias is None else bias.float()
        return plain(x.float(), weight.float(), bias, *args, **how).to(x.dtype)

    monkeypatch.setattr(F, "conv3d", right)
    return right


@pytest.fixture
def wrong_conv(right_conv, monkeypatch):
    """A conv3d with wrong bfloat16 weight gradients for kernels of 3 with 8 inputs."""

    def wrong(x, weight, *args, **how):
        out = right_conv(x, weight, *args, **how)
        if x.dtype == torch.bfloat16 and weight.shape[1:3] == (8, 3):
            weight.register_hook(lambda grad: grad * 1.5)
        return out

    monkeypatch.setattr(F, "conv3d", wrong)


def test_distinct_shapes_are_found_without_computing(net):
    same = ((1, 1, 1), 1)  # dilation and groups
    assert convolution_shapes(net, CLIP) == [
        ("conv3d", (2, 3, 8, 32, 32), (8, 3, 3, 3, 3), (1, 1, 1), (1, 1, 1), *same),
        ("conv3d", (2, 8, 8, 32, 32), (8, 8, 3, 3, 3), (1, 1, 1), (1, 1, 1), *same),
        ("conv3d", (2, 8, 8, 32, 32), (8, 8, 1, 1, 1), (2, 2, 2), (0, 0, 0), *same),
    ]
    assert len(convolution_shapes(I3D(5), (8, 3, 64, 224, 224))) > 30  # at once, whatever the size


def test_two_dimensional_convolutions_are_found_and_compared_too(monkeypatch):
    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, clip):
            return self.conv(clip.flatten(2, 3))

    found = convolution_shapes(Flat(), CLIP)
    assert found == [("conv2d", (2, 3, 256, 32), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1)]
    plain = F.conv2d
    in_float = lambda x, w, *how: plain(x.float(), w.float(), *how).to(x.dtype)  # noqa: E731
    monkeypatch.setattr(F, "conv2d", in_float)
    assert wrong_layers(Flat(), CLIP, CPU) == []
    monkeypatch.setattr(
        F, "conv2d", lambda x, *how: in_float(x, *how) * (1 + (x.dtype.itemsize == 2))
    )
    monkeypatch.setattr(half_layers, "cpu_name", lambda: "another one")  # not what is kept above
    assert wrong_layers(Flat(), CLIP, CPU) == ["conv2d of (2, 3, 256, 32) with (4, 3, 3, 3)"]


def test_right_gradients_pass(net, right_conv):
    assert wrong_layers(net, CLIP, CPU) == []


def test_a_wrong_gradient_is_found_and_float32_is_used_and_said(net, wrong_conv, caplog):
    with caplog.at_level("INFO", logger="video"):
        assert choose_precision("bf16", CPU, net, CLIP) == "fp32"
    assert "bfloat16 gives wrong gradients on this CPU in 1 convolution shape of" in caplog.text
    assert "(8, 8, 3, 3, 3)" in caplog.text


def test_infinite_gradients_count_as_wrong(net, monkeypatch):
    monkeypatch.setattr(
        half_layers, "_gradients", lambda f, x, *how: [torch.full((2,), float("inf"))]
    )
    assert len(wrong_layers(net, CLIP, CPU)) == 3


def test_the_comparison_is_made_once(net, wrong_conv, monkeypatch):
    first = wrong_layers(net, CLIP, CPU)
    monkeypatch.setattr(half_layers, "_agrees", lambda *how, **where: pytest.fail("compared again"))
    assert wrong_layers(net, CLIP, CPU) == first != []


def test_auto_uses_bfloat16_only_where_the_cpu_has_it(net, right_conv, monkeypatch):
    monkeypatch.setattr(precision, "cpu_is_fast_in_bf16", lambda: False)
    assert choose_precision("auto", CPU, net, CLIP) == "fp32"
    monkeypatch.setattr(precision, "cpu_is_fast_in_bf16", lambda: True)
    assert choose_precision("auto", CPU, net, CLIP) == "bf16"
    assert choose_precision("fp32", CPU, net, CLIP) == "fp32"


@pytest.mark.parametrize(
    "amx, avx512, name, fast",
    [
        (True, True, "Intel(R) Xeon(R) Platinum 8488C", True),
        (True, False, "Intel(R) Xeon(R)", True),
        (False, True, "AMD EPYC 9R14", True),
        (False, True, "INTEL(R) XEON(R) PLATINUM 8581C", False),
        (False, False, "AMD EPYC 7763", False),
    ],
)
def test_cpus_that_are_fast_in_bfloat16(monkeypatch, amx, avx512, name, fast):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr("utils.report.machine.cpu_name", lambda: name)
    assert precision.cpu_is_fast_in_bf16() == fast


def test_normalization_is_a_channels_last_view():
    clips = torch.randint(0, 256, (2, 4, 6, 5, 3), dtype=torch.uint8)
    x = Normalize((0.5, 0.4, 0.3), (0.1, 0.2, 0.5))(clips)
    assert x.shape == (2, 3, 4, 6, 5)
    assert x.is_contiguous(memory_format=torch.channels_last_3d)
    expected = (clips[1, 2, 3, 4].double() / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor(
        [0.1, 0.2, 0.5]
    )
    torch.testing.assert_close(x[1, :, 2, 3, 4].double(), expected, rtol=1e-5, atol=1e-5)
    assert Normalize((0.5,) * 3, (0.5,) * 3, channels_last=False)(clips).is_contiguous()


def test_normalization_knows_bgr_and_pixels_up_to_255():
    clips = torch.randint(0, 256, (1, 2, 4, 4, 3), dtype=torch.uint8)
    pixels = {"mean": (104, 117, 128), "std": (1, 1, 1), "value_range": (0, 255)}
    x = Normalize.matching(Preprocessing(clip_len=2, channel_order="BGR", **pixels))(clips)
    expected = clips.flip(-1).permute(0, 4, 1, 2, 3) - torch.tensor([104, 117, 128]).view(
        3, 1, 1, 1
    )
    torch.testing.assert_close(x, expected.float())
    black = torch.zeros(1, 1, 1, 1, 3, dtype=torch.uint8)
    normalize = Normalize((0.5,) * 3, (0.5,) * 3, (-1.0, 1.0))
    for value, pixel in ((-3.0, black), (1.0, black + 255)):
        torch.testing.assert_close(normalize(pixel), torch.full((1, 3, 1, 1, 1), value))


def test_bfloat16_logits_are_float32_and_close(net):
    torch.manual_seed(0)
    model = I3D(num_classes=5).eval()
    clips = torch.randint(0, 256, (1, 8, 32, 32, 3), dtype=torch.uint8)
    logits = {
        p: ClipClassifier(model, Normalize((0.5,) * 3, (0.5,) * 3), p)(clips)
        for p in ("fp32", "bf16")
    }
    assert logits["bf16"].dtype == torch.float32
    error = (logits["bf16"] - logits["fp32"]).norm() / logits["fp32"].norm()
    assert 0 < error < 3e-2


def test_autocast_is_entered_in_other_threads_too(net):
    """DataParallel calls forward in threads, which do not inherit autocast."""
    import threading

    seen = []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4 * 4, 2))
    model[1].register_forward_hook(lambda m, args, out: seen.append(out.dtype))
    classifier = ClipClassifier(
        model, Normalize((0.5,) * 3, (0.5,) * 3, channels_last=False), "bf16"
    )
    thread = threading.Thread(
        target=classifier, args=(torch.zeros(2, 4, 4, 4, 3, dtype=torch.uint8),)
    )
    thread.start()
    thread.join()
    assert seen == [torch.bfloat16]
