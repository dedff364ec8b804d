import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import relative
from golden import read_golden, reference_clip, reference_state
from torch import nn

from models import build_model
from models.i3d import I3D
from models.s3d import S3D, ConvBnRelu3d, FlatConv3d, Gate
from models.weights import load_exactly
from models.weights.s3d import WEIGHTS, from_i3d


def randomize(model):
    """Weights and batch norm statistics that no symmetry hides."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(reference_state(shapes))
    return model.eval()


def save(tmp_path, state):
    torch.save(state, tmp_path / "file.pt")
    return str(tmp_path / "file.pt")


@pytest.fixture(scope="module")
def theirs_and_ours(tmp_path_factory):
    """torchvision's network and ours with the same random weights, by way of a file."""
    theirs = randomize(torchvision.models.video.s3d())
    file = save(tmp_path_factory.mktemp("torchvision"), theirs.state_dict())
    return theirs, build_model("s3d", weights="s3d_torchvision", weights_file=file).eval()


@pytest.mark.parametrize(
    "size",
    [
        (16, 224, 256),  # 7 x 8 positions: the windows of the head overlap
        (64, 64, 80),  # fewer than 7 x 7 positions, as in all that follow
        (17, 112, 112),
        (14, 96, 64),  # the shortest that torchvision takes
    ],
)
def test_logits_agree_with_torchvision(theirs_and_ours, size):
    theirs, ours = theirs_and_ours
    whole = tuple(math.ceil(n / 16) * 16 for n in size)
    clip = reference_clip((1, 3, *whole), seed=1, scale=1.0)[:, :, : size[0]]
    with torch.inference_mode():
        steps, rows, columns = theirs.features(clip).shape[2:]
        theirs.avgpool.kernel_size = (2, min(rows, 7), min(columns, 7))  # theirs is never cut
        assert relative(ours(clip), theirs(clip)) < 1e-4


def test_preprocessing_is_what_torchvision_says():
    entry, theirs = WEIGHTS["s3d_torchvision"], torchvision.models.video.S3D_Weights.KINETICS400_V1
    ours, transform = entry.preprocessing, theirs.transforms()
    assert entry.url == theirs.url
    assert [ours.crop_size] * 2 == transform.crop_size
    assert [ours.short_side] * 2 == transform.resize_size
    assert (list(ours.mean), list(ours.std)) == (transform.mean, transform.std)
    frame = torch.randint(0, 256, (1, 3, 300, 400), dtype=torch.uint8)
    resized = F.interpolate(frame.float(), (256, 256), mode="bilinear", antialias=ours.antialias)
    clip = resized[:, :, 16:-16, 16:-16].round() / 255 - torch.tensor(ours.mean).view(3, 1, 1)
    clip = clip / torch.tensor(ours.std).view(3, 1, 1)
    assert (transform(frame)[:, 0] - clip[0]).abs().max() < 0.02  # one level of 255


def test_the_file_of_every_entry_has_a_name_of_its_own():
    names = {name: entry.url.rsplit("/", 1)[1] for name, entry in WEIGHTS.items()}
    assert names["s3d_kylemin"] == "S3D_kinetics400.pt"
    assert all(name.endswith((".pt", ".pth")) for name in names.values())


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("size", [(1, 5, 4), (8, 7, 9), (9, 12, 12)])
@pytest.mark.parametrize(
    "kernel, stride",
    [
        ((1, 7, 7), (1, 2, 2)),
        ((7, 1, 1), (2, 1, 1)),
        ((1, 3, 3), (1, 1, 1)),
        ((3, 1, 1), (1, 1, 1)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_convolutions_in_two_dimensions_are_those_in_three(kernel, stride, size, memory):
    padding = tuple(k // 2 for k in kernel)
    conv = FlatConv3d(5, 6, kernel, stride, padding, bias=False).to(memory_format=memory)
    plain = nn.Conv3d(5, 6, kernel, stride, padding, bias=False)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 5, *size).to(memory_format=memory)
    outcomes = []
    for module in (conv, plain):
        clip = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = module(clip)
        (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        outcomes.append((y, clip.grad, module.weight.grad))
    for ours, theirs in zip(*outcomes, strict=True):
        assert ours.shape == theirs.shape
        assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize("size", [(8, 32, 32), (9, 33, 35), (17, 46, 47)])
@pytest.mark.parametrize("kernel, stride", [((1, 7, 7), (1, 2, 2)), ((7, 1, 1), (2, 1, 1))])
def test_same_padding_is_that_of_tensorflow(size, kernel, stride):
    block = ConvBnRelu3d(2, 3, kernel, stride, padding="same").eval()
    x = torch.randn(2, 2, *size)
    pads = []
    for length, k, s in zip(size, kernel, stride, strict=True):
        total = max(k - s, 0) if length % s == 0 else max(k - length % s, 0)
        pads = [total // 2, total - total // 2, *pads]
    expected = F.conv3d(F.pad(x, pads), block.conv.weight, stride=stride)
    torch.testing.assert_close(block(x), F.relu(block.bn(expected)))


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("size", [(8, 32, 32), (9, 33, 47), (17, 65, 64), (16, 64, 96)])
def test_clips_of_any_size_give_logits(size, padding):
    model = S3D(num_classes=5, padding=padding).eval()
    clip = torch.randn(2, 3, *size)
    with torch.inference_mode():
        logits, features = model(clip), model.forward_features(clip)
        torch.testing.assert_close(model.head(features), logits)
    assert logits.shape == (2, 5)
    assert features.shape == (2, 1024)


def test_a_padding_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="padding is 'valid'; it can be 'symmetric' or 'same'"):
        S3D(padding="valid")


def test_the_head_averages_windows_or_whole_frames():
    model = S3D(num_classes=5)
    model.features, model.least = nn.Identity(), (1, 1)
    x = torch.randn(1, 1024, 3, 9, 8)
    windows = [x[:, :, :, y : y + 7, z : z + 7] for y in range(3) for z in range(2)]
    steps = torch.tensor([0.25, 0.5, 0.25]).view(1, 1, 3)  # two windows of two: 0, 1 and 1, 2
    frames = torch.stack([w.mean(dim=(3, 4)) for w in windows]).mean(dim=0)
    torch.testing.assert_close(model.forward_features(x), (frames * steps).sum(dim=2))
    model.whole_frame = True
    torch.testing.assert_close(model.forward_features(x), (x.mean(dim=(3, 4)) * steps).sum(dim=2))


@pytest.mark.parametrize(
    "gating, num_parameters",
    [
        (False, 8_320_048),  # torchvision's own count
        (True, 9_539_376),  # and the squares of the widths of conv_2c and of 36 branches
    ],
)
def test_the_number_of_parameters(gating, num_parameters):
    assert sum(p.numel() for p in S3D(gating=gating).parameters()) == num_parameters


def test_gates_are_in_the_places_of_s3d_g_and_weigh_channels_by_the_whole_clip():
    plain, gated = randomize(S3D(num_classes=5)), S3D(num_classes=5, gating=True)
    gates = {name for name, module in gated.named_modules() if isinstance(module, Gate)}
    mixed = [name for name, _ in gated.features.named_children() if name.startswith("mixed")]
    branches = {f"features.{name}.gates.{i}" for name in mixed for i in range(4)}
    assert gates == {"features.gate_2c"} | branches
    state = gated.state_dict() | plain.state_dict()
    assert {key for key in state if key not in plain.state_dict()} == {
        f"{name}.linear.weight" for name in gates
    }
    gated.load_state_dict(state)
    clip = torch.randn(1, 3, 8, 48, 48)
    with torch.inference_mode():
        assert relative(gated.eval()(clip), plain(clip)) > 1e-3

    gate, x = Gate(3), torch.randn(2, 3, 4, 5, 6)
    nn.init.normal_(gate.linear.weight)
    for n in range(2):
        means = torch.stack([x[n, c].mean() for c in range(3)])
        for c in range(3):
            weight = 1 / (1 + math.exp(-(gate.linear.weight[c] @ means).item()))
            torch.testing.assert_close(gate(x)[n, c], x[n, c] * weight)


@pytest.mark.parametrize("gating", [False, True])
def test_every_parameter_gets_a_gradient_and_batch_norm_is_set(gating):
    model = S3D(num_classes=5, in_channels=2, bn_momentum=0.3, gating=gating)
    model(torch.randn(2, 2, 8, 48, 48)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(norms) == 77
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.3)}


def test_the_network_sees_the_order_of_frames():
    model = randomize(S3D(num_classes=5))
    clip = torch.randn(1, 3, 16, 48, 48)
    with torch.inference_mode():
        assert relative(model(clip.flip(2)), model(clip)) > 1e-3


def test_memory_format_does_not_change_the_logits():
    model = randomize(S3D(num_classes=5))
    frames = torch.randn(2, 9, 48, 40, 3)  # as loaders have them
    clip = frames.permute(0, 4, 1, 2, 3)
    with torch.inference_mode():
        plain = model(clip.contiguous())
        assert relative(model(clip), plain) < 1e-5
        assert relative(model.to(memory_format=torch.channels_last_3d)(clip), plain) < 1e-5


# On a still clip I3D sees the zeros around it in time: from each end its layers carry that up to 6
# of the 16 steps inward, which S3D with temporal identities does not.
STILL_FRAMES, UNPADDED_STEPS = 128, slice(6, 10)


def still_clip(count, size):
    return torch.randn(count, 3, 1, *size).expand(-1, -1, STILL_FRAMES, -1, -1)


@pytest.mark.parametrize("size", [(32, 32), (45, 38)])
def test_from_i3d_it_computes_on_a_still_clip_what_i3d_computes(size):
    ancestor, model = randomize(I3D(num_classes=5)), S3D(num_classes=5, padding="same").eval()
    load_exactly(model, from_i3d(ancestor.state_dict()))
    clip = still_clip(1, size)
    with torch.inference_mode():
        ours, theirs = model.features(clip), ancestor.features(clip)
    assert ours.shape == theirs.shape == (1, 1024, 16, *(math.ceil(n / 32) for n in size))
    middle = UNPADDED_STEPS
    assert relative(ours[:, :, middle], theirs[:, :, middle]) < 1e-5
    assert all(relative(a, b) < 1e-5 for a, b in pairwise(ours[:, :, middle].unbind(2)))
    assert torch.equal(model.head.weight, ancestor.head.weight)


def test_from_i3d_training_starts_close_to_i3d_too():
    ancestor, model = randomize(I3D(num_classes=5)).train(), S3D(num_classes=5, padding="same")
    load_exactly(model, from_i3d(ancestor.state_dict()))
    x = y = still_clip(4, (32, 32))
    for name in ("conv_1a", "pool_2a", "conv_2b", "conv_2c"):  # normalized by this very batch
        x, y = model.features.get_submodule(name)(x), ancestor.features.get_submodule(name)(y)
        # without the statistics that from_i3d expects it is more than 0.25 at every layer
        assert relative(x[:, :, 24:40], y[:, :, 24:40]) < 0.1


@pytest.mark.parametrize("source", ["i3d_rgb_piergiaj", "imagenet"])
def test_the_public_files_of_i3d_are_starts(tmp_path, source):
    keys = read_golden("i3d_rgb_piergiaj").keys
    if source == "imagenet":
        googlenet = torchvision.models.googlenet(init_weights=False)
        keys = {name: value.shape for name, value in googlenet.state_dict().items()}
    file = save(tmp_path, reference_state(keys))
    ancestor = build_model("i3d", weights=source, weights_file=file).eval()
    start = "imagenet" if source == "imagenet" else "i3d_spatial"
    model = build_model("s3d", weights=start, weights_file=file).eval()
    clip = still_clip(1, (32, 32))
    with torch.inference_mode():
        ours, theirs = model.features(clip), ancestor.features(clip)
    assert relative(ours[:, :, UNPADDED_STEPS], theirs[:, :, UNPADDED_STEPS]) < 1e-5
