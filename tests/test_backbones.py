import re

import pytest
import torch
import torch.nn.functional as F
from conftest import relative
from torch import nn
from torchvision.models import get_model

from config import UserError
from models.backbones import BACKBONES, HalvingMaxPool, build_backbone
from models.weights.backbones import IMAGENET, WEIGHTS


def public_bninception():
    """A state dict with the names of the public file, made from our own network by hand."""
    torch.manual_seed(0)
    ours = build_backbone("bninception").state_dict()
    theirs = {}
    for key, value in ours.items():
        name, tensor = key.removeprefix("features.").rsplit(".", 1)
        name = name.replace("mixed_", "inception_").replace(".conv", "").replace(".bn", "_bn")
        for a, b in [
            ("conv_1", "conv1_7x7_s2"),
            ("conv_2_reduce", "conv2_3x3_reduce"),
            ("conv_2", "conv2_3x3"),
            (".branch0", "_1x1"),
            (".branch1.0", "_3x3_reduce"),
            (".branch1.1", "_3x3"),
            (".branch2.0", "_double_3x3_reduce"),
            (".branch2.1", "_double_3x3_1"),
            (".branch2.2", "_double_3x3_2"),
            (".branch3.1", "_pool_proj"),
            ("head", "last_linear"),
        ]:
            name = name.replace(a, b)
        theirs[f"{name}.{tensor}"] = value
    return theirs, ours


def test_batch_norms_of_old_files_are_squeezed(tmp_path):
    theirs, ours = public_bninception()
    for key, value in theirs.items():
        if "_bn." in key and value.dim() == 1:
            theirs[key] = value.unsqueeze(0)
    torch.save(theirs, tmp_path / "file.pt")
    model = build_backbone(
        "bninception", weights="bninception_cadene", weights_file=str(tmp_path / "file.pt")
    )
    for key, value in model.state_dict().items():
        assert torch.equal(value, ours[key]), key


@pytest.mark.parametrize("name, aux", [("resnet18", {}), ("googlenet", {"init_weights": True})])
def test_torchvision_files_load_and_their_auxiliary_classifiers_are_left_out(tmp_path, name, aux):
    public = get_model(name, weights=None, **aux)
    assert any(key.startswith("aux1.") for key in public.state_dict()) == (name == "googlenet")
    torch.save(public.state_dict(), tmp_path / "file.pth")
    file = {"weights": f"{name}_torchvision", "weights_file": str(tmp_path / "file.pth")}
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits = build_backbone(name, **file).eval()(image)
    assert torch.equal(logits, public.eval()(image))
    assert build_backbone(name, num_classes=5, **file).fc.weight.shape[0] == 5


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_normalization_by_one_half_is_torchvisions_transform_input(name):
    ours = build_backbone(name).eval()
    for m in ours.modules():  # as they are initialized, nothing of the image reaches the end
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)
    theirs = get_model(name, weights=None, init_weights=True, transform_input=True).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    pixels = torch.rand(2, 3, 80, 80)
    half = WEIGHTS[f"{name}_torchvision"].preprocessing

    def normalized(preprocessing):
        mean, std = torch.tensor([preprocessing.mean, preprocessing.std]).view(2, 1, 3, 1, 1)
        return (pixels - mean) / std

    with torch.inference_mode():
        expected = theirs(normalized(IMAGENET))
        assert relative(ours(normalized(half)), expected) < 1e-5
        assert relative(ours(normalized(IMAGENET)), expected) > 1e-3


@pytest.mark.parametrize("name", BACKBONES)
def test_what_tsn_needs_to_know_is_true(name):
    backbone = BACKBONES[name]
    with torch.device("meta"):
        model = build_backbone(name, num_classes=7)
        image = torch.empty(2, 3, 299, 299)  # which all can take
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert model.get_submodule(backbone.first_conv) is convs[0]
    assert model.get_submodule(backbone.classifier) is linears[-1]
    assert linears[-1].in_features == backbone.num_features
    if norms:  # the first in the table is the first that an image meets
        seen = []
        for norm in norms:
            norm.register_forward_pre_hook(lambda m, args: seen.append(m))
    assert model(image).shape == (2, 7)
    assert not norms or seen[0] is norms[0]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 14, 15, 28])
def test_the_max_pool_gives_the_size_of_the_convolution_beside_it(size):
    x = torch.randn(1, 2, size, size + 1)
    conv = F.conv2d(x, torch.zeros(2, 2, 3, 3), stride=2, padding=1)
    pooled = HalvingMaxPool()(x)
    assert pooled.shape == conv.shape
    even = torch.randn(1, 2, 2 * size, 2 * size)
    expected = F.max_pool2d(F.pad(even, (0, 1, 0, 1), value=-torch.inf), 3, stride=2)
    assert torch.equal(HalvingMaxPool()(even), expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (112, 112), (100, 64)])
def test_bninception_takes_images_of_any_size(size):
    with torch.inference_mode():
        assert build_backbone("bninception", 5).eval()(torch.randn(1, 3, *size)).shape == (1, 5)


def test_each_backbone_has_imagenet_weights_with_a_checksum():
    assert sorted(entry.arch_args["name"] for entry in WEIGHTS.values()) == sorted(BACKBONES)
    for entry in WEIGHTS.values():
        digits = re.search(r"-([0-9a-f]{8,9})\.pth$", entry.url)[1]
        assert entry.sha256.startswith(digits)


def test_bninception_sees_the_pixels_of_caffe():
    """Source: settings of bninception in Cadene's pretrained-models.pytorch."""
    pixels = WEIGHTS["bninception_cadene"].preprocessing
    assert (pixels.channel_order, pixels.value_range) == ("BGR", (0, 255))
    assert (pixels.mean, pixels.std) == ((104, 117, 128), (1, 1, 1))


@pytest.mark.parametrize(
    "name, weights, message",
    [
        ("resnet49", None, "unknown backbone 'resnet49'; there are resnet18, resnet34"),
        ("resnet50", "nothing", "no weights 'nothing' for backbones; there are bninception_cadene"),
        ("resnet50", "resnet18_torchvision", "weights resnet18_torchvision are of resnet18, not"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(name, weights, message):
    with pytest.raises(UserError, match=message):
        build_backbone(name, weights=weights)
