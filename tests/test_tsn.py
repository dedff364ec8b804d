from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import relative
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from config import UserError
from models import build_model
from models.backbones import BACKBONES, build_backbone
from models.tsn import CONSENSUS, TSN, ShiftedConv2d, shift
from models.weights import backbones, find, load_exactly
from models.weights.tsn import WEIGHTS, adapt


def tiny(**args):
    """A small TSN whose logits are of ordinary size."""
    torch.manual_seed(0)
    model = TSN(**{"num_classes": 5, "backbone": "resnet18"} | args)
    nn.init.normal_(model.head.weight, std=0.1)
    return model


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_features_and_logits(name):
    backbone = BACKBONES[name]
    size = WEIGHTS[f"imagenet_{name}"].preprocessing.crop_size
    with torch.device("meta"):
        model = TSN(num_classes=5, backbone=name)
        clip = torch.empty(2, 3, 3, size, size)
    features = model.segment_features(clip)
    assert features.shape == (2, 3, backbone.num_features)
    logits = model.aggregate(model.head(features))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet50", "vgg16_bn", "inception_v3", "googlenet", "bninception"],
)  # the others differ in depth alone
def test_a_step_with_each_backbone_changes_every_parameter(name):
    torch.manual_seed(0)
    model = TSN(num_classes=5, backbone=name)
    before = [p.detach().clone() for p in model.parameters()]
    size = 75 if name == "inception_v3" else 32
    loss = F.cross_entropy(model(torch.randn(2, 3, 2, size, size)), torch.tensor([0, 3]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    changed = [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
    # a batch norm takes away what the bias of the convolution before it adds
    names = [name for name, _ in model.named_parameters()]
    assert {n for n, c in zip(names, changed, strict=True) if not c} <= {
        n for n in names if n.endswith("bias")
    }


@pytest.mark.parametrize("consensus", CONSENSUS)
def test_every_consensus_gives_logits_and_gradients(consensus):
    model = tiny(consensus=consensus)
    logits = model(torch.randn(2, 3, 4, 32, 32))
    assert logits.shape == (2, 5)
    F.cross_entropy(logits, torch.tensor([1, 4])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_consensus_is_what_its_definition_says():
    logits = torch.randn(2, 6, 5)
    for consensus, expected in {
        "avg": sum(logits[:, i] for i in range(6)) / 6,
        "max": logits.sort(dim=1).values[:, -1],
        "topk": logits.sort(dim=1).values[:, -2:].mean(dim=1),
        "rnn": logits[:, 5],
    }.items():
        model = tiny(consensus=consensus, top_k=2 if consensus == "topk" else None)
        torch.testing.assert_close(model.aggregate(logits), expected)
    model = tiny(consensus="cnn")
    weight, bias = model.temporal_conv.weight, model.temporal_conv.bias
    padded = F.pad(logits, (0, 0, 1, 1))
    total = 0
    for i in range(6):
        seen = sum(padded[:, i + j] @ weight[:, :, j].T for j in range(3)) + bias
        total = total + logits[:, i] + seen.clamp(min=0)
    torch.testing.assert_close(model.aggregate(logits), total / 6)


@pytest.mark.parametrize("num_segments", [1, 3, 8, 25])
def test_the_mean_of_the_segments_is_the_logits_of_the_average(num_segments):
    model = tiny().eval()
    clip = torch.randn(2, 3, num_segments, 32, 32)
    with torch.inference_mode():
        logits, segments = model(clip), model.segment_logits(clip)
        features = model.forward_features(clip)
        of_features = model.head(features)
        alone = model(clip[:, :, -1:])
    assert segments.shape == (2, num_segments, 5)
    assert features.shape == (2, 512)
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    close(segments.mean(dim=1), logits)
    close(of_features, logits)
    close(segments[:, -1], alone)


@pytest.mark.parametrize("consensus", CONSENSUS)
def test_only_rnn_and_cnn_see_the_order_of_segments(consensus):
    model = tiny(consensus=consensus).eval()
    clip = torch.randn(2, 3, 6, 32, 32)
    with torch.inference_mode():
        logits, shuffled = model(clip), model(clip[:, :, [0, 3, 2, 1, 4, 5]])
    if consensus in ("rnn", "cnn"):  # even where the first and the last stay
        assert relative(shuffled, logits) > 1e-4
    else:
        assert relative(shuffled, logits) < 1e-6


def test_the_rnn_says_its_logits_after_each_segment():
    model = tiny(consensus="rnn").eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        segments = model.segment_logits(clip)
        for i in (2, 3, 4):
            torch.testing.assert_close(
                segments[:, i - 1], model(clip[:, :, :i]), rtol=1e-4, atol=1e-5
            )


def test_a_shift_takes_channels_of_the_frames_after_and_before():
    """The authors' formula, one frame after the other."""
    x = torch.randn(3, 4, 16, 2, 5)  # three clips of four segments
    expected = x.clone()
    for t in range(4):
        expected[:, t, :2] = x[:, t + 1, :2] if t < 3 else 0
        expected[:, t, 2:4] = x[:, t - 1, 2:4] if t > 0 else 0
    assert torch.equal(shift(x.flatten(0, 1), 4), expected.flatten(0, 1))
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    assert torch.equal(shift(last, 4), expected.flatten(0, 1))
    assert shift(last, 4).is_contiguous(memory_format=torch.channels_last)
    assert shift(last[:4], 4).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "backbone, blocks",
    [
        ("resnet18", ("11", "11", "11", "11")),
        ("resnet34", ("111", "1111", "111111", "111")),
        ("resnet50", ("111", "1111", "111111", "111")),
        ("resnet101", ("101", "1010", "10101010101010101010101", "101")),
        ("resnet152", ("101", "10101010", "10" * 18, "101")),
    ],
)
def test_the_first_convolution_of_every_block_is_shifted(backbone, blocks):
    """Or of every second where there are many."""
    with torch.device("meta"):
        shifted, plain = (TSN(backbone=backbone, shift=on) for on in (True, False))
    found = {name for name, m in shifted.named_modules() if isinstance(m, ShiftedConv2d)}
    assert found == {
        f"backbone.layer{i}.{j}.conv1"
        for i, stage in enumerate(blocks, 1)
        for j, on in enumerate(stage)
        if on == "1"
    }
    assert list(shifted.state_dict()) == list(plain.state_dict())
    shapes = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "bias")
    for name in found:
        ours, theirs = shifted.get_submodule(name), plain.get_submodule(name)
        assert [getattr(ours, s) for s in shapes] == [getattr(theirs, s) for s in shapes]


def test_a_shifted_network_has_the_published_size_and_cost():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = TSN(shift=True).eval()
        model(torch.empty(1, 3, 8, 224, 224))
    assert sum(p.numel() for p in model.parameters()) == 24_327_632
    assert counter.get_total_flops() / 2e9 == pytest.approx(32.70, abs=0.01)


@pytest.mark.parametrize("modality, frames", [("rgb", 4), ("rgbdiff", 24)])
def test_a_shifted_network_sees_the_order_of_frames_within_each_clip(modality, frames):
    model = tiny(shift=True, modality=modality).eval()
    clips = torch.randn(3, 3, frames, 32, 32)
    with torch.inference_mode():
        logits = model(clips)
        assert relative(model(clips.flip(2)), logits) > 1e-3
        for i in range(3):  # neighbours in a batch are no neighbours in time
            torch.testing.assert_close(model(clips[i : i + 1])[0], logits[i], rtol=1e-4, atol=1e-5)
        # the number of segments is that of each clip
        assert model(torch.cat([clips, clips], dim=2)).shape == (3, 5)
        assert torch.equal(model(clips), logits)
    model.train()(clips).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_head_of_a_shifted_network_learns_five_times_as_fast():
    model = tiny(shift=True)
    of_head = {id(model.head.weight): (5, 1), id(model.head.bias): (10, 0)}
    for group in model.parameter_groups():
        for p in group["params"]:
            known = (group["lr_mult"], group["decay_mult"])
            assert (group["lr_mult"] >= 5) == (id(p) in of_head)
            assert of_head.get(id(p), known) == known


@pytest.mark.parametrize("name", ["imagenet", "imagenet_resnet50", "tsn_r50_mmaction2"])
def test_what_saw_no_time_starts_a_shifted_network_of_eight_segments(name):
    plain = find(name, "tsn", {"backbone": "resnet50"})
    start = find(name, "tsn", {"backbone": "resnet50", "shift": True})
    assert (plain.preprocessing.clip_len, start.preprocessing.clip_len) == (3, 8)
    assert start.preprocessing.fixed_segments and not plain.preprocessing.fixed_segments
    assert start.arch_args == {"backbone": "resnet50"}  # all batch norms are trained
    assert (start.url, start.convert) == (plain.url, plain.convert)
    assert find("tsm_r50_mit", "tsn", {"shift": True}) is WEIGHTS["tsm_r50_mit"]


def test_imagenet_weights_start_a_shifted_network(tmp_path):
    theirs, start = imagenet_file(tmp_path, "resnet18")
    model = build_model("tsn", 5, shift=True, **start)
    assert not model.partial_bn
    assert torch.equal(model.backbone.layer2[0].conv1.weight, theirs["layer2.0.conv1.weight"])
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.inference_mode():
        assert relative(model.eval()(clip.flip(2)), model(clip)) > 1e-3


def first_inputs(model, clip):
    """What the first convolution of the backbone gets."""
    inputs = []
    conv = model.backbone.get_submodule(model.first_conv)
    handle = conv.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    with torch.inference_mode():
        model(clip)
    handle.remove()
    return inputs[0]


@pytest.mark.parametrize(
    "modality, shape, channels",
    [
        ("rgb", (2, 3, 3, 32, 32), 3),
        ("flow", (2, 10, 3, 32, 32), 10),
        ("rgbdiff", (2, 3, 18, 32, 32), 15),
    ],
)
@pytest.mark.parametrize("backbone", ["resnet18", "bninception"])
def test_modalities(modality, shape, channels, backbone):
    model = tiny(modality=modality, backbone=backbone)
    clip = torch.randn(shape)
    assert model.segment_logits(clip).shape == (2, 3, 5)
    assert first_inputs(model, clip).shape == (6, channels, 32, 32)
    model(clip).sum().backward()
    assert model.backbone.get_submodule(model.first_conv).weight.grad.any()


def test_flow_stays_as_it_is_and_other_numbers_of_fields_are_possible():
    model = tiny(modality="flow", in_channels=4)
    clip = torch.randn(2, 4, 3, 32, 32)
    x = first_inputs(model, clip)
    for n in range(2):
        for t in range(3):
            assert torch.equal(x[3 * n + t], clip[n, :, t])


def test_rgbdiff_takes_differences_within_each_segment():
    model = tiny(modality="rgbdiff").eval()
    clip = torch.randn(2, 3, 12, 32, 32)
    x = first_inputs(model, clip)
    for n in range(2):
        for segment in range(2):
            for j in range(5):
                t = 6 * segment + j
                expected = clip[n, :, t + 1] - clip[n, :, t]
                assert torch.equal(x[2 * n + segment, 3 * j : 3 * j + 3], expected)


def test_rgbdiff_of_a_static_clip_is_zero():
    model = tiny(modality="rgbdiff").eval()
    clip = torch.randn(2, 3, 1, 32, 32).expand(-1, -1, 12, -1, -1)
    assert not first_inputs(model, clip).any()


def test_frames_of_a_channels_last_clip_are_a_free_view():
    model = tiny()
    clip = torch.randn(2, 3, 4, 32, 32).to(memory_format=torch.channels_last_3d)
    images = model.images(clip)
    assert images.data_ptr() == clip.data_ptr()
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[5], clip[1, :, 1])


@pytest.mark.parametrize("modality, frames", [("rgb", 3), ("rgbdiff", 12)])
def test_memory_format_does_not_change_the_logits(modality, frames):
    model = tiny(modality=modality).eval()
    clip = torch.randn(2, 3, frames, 32, 32)
    with torch.inference_mode():
        plain = model(clip)
        last = model.to(memory_format=torch.channels_last)(
            clip.to(memory_format=torch.channels_last_3d)
        )
    assert relative(last, plain) < 1e-5


def imagenet_file(tmp_path, name):
    """A file as torchvision publishes it, of random weights, and its state dict."""
    state = build_backbone(name).state_dict()
    torch.save(state, tmp_path / "file.pth")
    return state, {"weights": f"imagenet_{name}", "weights_file": str(tmp_path / "file.pth")}


@pytest.mark.parametrize("modality, channels", [("rgb", 3), ("flow", 10), ("rgbdiff", 15)])
def test_cross_modality_initialization(tmp_path, modality, channels):
    theirs, start = imagenet_file(tmp_path, "resnet18")
    model = build_model("tsn", 5, modality=modality, **start)
    weight = model.backbone.conv1.weight
    assert weight.shape == (64, channels, 7, 7)
    red, green, blue = theirs["conv1.weight"].unbind(dim=1)
    for i in range(channels):
        expected = (red + green + blue) / 3 if modality != "rgb" else (red, green, blue)[i]
        torch.testing.assert_close(weight[:, i], expected)
    for key, value in model.backbone.state_dict().items():
        assert key == "conv1.weight" or torch.equal(value, theirs[key]), key


def test_cross_modality_initialization_keeps_the_bias():
    model, flow = tiny(backbone="bninception"), tiny(backbone="bninception", modality="flow")
    nn.init.normal_(model.backbone.features.conv_1.conv.bias)
    load_exactly(flow, adapt(model.state_dict(), flow))
    ours, theirs = flow.backbone.features.conv_1.conv, model.backbone.features.conv_1.conv
    assert ours.weight.shape == (64, 10, 7, 7)
    assert torch.equal(ours.bias, theirs.bias)


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "bninception"])
def test_all_keys_of_a_backbone_become_ours(name):
    with torch.device("meta"):
        theirs, ours = build_backbone(name), TSN(num_classes=1000, backbone=name)
    converted = WEIGHTS[f"imagenet_{name}"].convert(theirs.state_dict())
    expected = {key: value.shape for key, value in ours.state_dict().items()}
    assert {key: value.shape for key, value in converted.items()} == expected


def test_a_start_from_imagenet_brings_a_new_head(tmp_path, caplog):
    _, start = imagenet_file(tmp_path, "resnet18")
    with caplog.at_level("INFO", logger="video"):
        model = build_model("tsn", 101, **start)
    assert "the head for 1000 classes is replaced by a new one for 101" in caplog.text
    assert model.head.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not model.head.bias.any()
    assert not model.partial_bn  # which is a recipe's, not of the weights
    assert build_model("tsn", 101, partial_bn=True, **start).partial_bn


@pytest.mark.parametrize("consensus", ["rnn", "cnn"])
def test_a_consensus_with_parameters_starts_anew_and_says_so(tmp_path, consensus, caplog):
    theirs, start = imagenet_file(tmp_path, "resnet18")
    with caplog.at_level("INFO", logger="video"):
        model = build_model("tsn", 5, consensus=consensus, **start)
    assert f"the consensus {consensus} starts anew" in caplog.text
    assert torch.equal(model.backbone.layer4[1].conv2.weight, theirs["layer4.1.conv2.weight"])


@pytest.mark.parametrize("consensus", ["avg", "rnn"])
@pytest.mark.parametrize("key", ["conv1.weight", "layer3.0.bn2.bias", "fc.weight"])
def test_a_file_that_lacks_a_tensor_is_an_error(tmp_path, key, consensus):
    theirs, start = imagenet_file(tmp_path, "resnet18")
    del theirs[key]
    torch.save(theirs, tmp_path / "file.pth")
    with pytest.raises(UserError, match="tensors: 1 missing"):
        build_model("tsn", 5, consensus=consensus, modality="flow", **start)


def test_each_backbone_has_an_entry_with_what_its_weights_expect():
    for backbone in backbones.WEIGHTS.values():
        name = backbone.arch_args["name"]
        entry = WEIGHTS[f"imagenet_{name}"]
        assert entry.arch_args["backbone"] == name
        assert entry.preprocessing.mean == backbone.preprocessing.mean
        assert entry.preprocessing.channel_order == backbone.preprocessing.channel_order
    assert WEIGHTS["imagenet_bninception"].preprocessing.channel_order == "BGR"
    assert WEIGHTS["imagenet_inception_v3"].preprocessing.crop_size == 299


def running_means(model):
    return [norm.running_mean.clone() for norm in model.batch_norms()]


def test_partial_batch_norm_on_off_and_on():
    model = tiny(partial_bn=True)
    norms = model.batch_norms()
    assert len(norms) == 20
    for frozen in (True, False, True):
        model.set_partial_bn(frozen)
        model.eval()
        assert not any(norm.training for norm in norms)
        model.train()
        assert [norm.training for norm in norms] == [True] + [not frozen] * 19
        for i, norm in enumerate(norms):
            trained = i == 0 or not frozen
            assert norm.weight.requires_grad == norm.bias.requires_grad == trained
        before = running_means(model)
        model(torch.randn(2, 3, 3, 32, 32))
        moved = [not torch.equal(a, b) for a, b in zip(before, running_means(model), strict=True)]
        assert moved == [True] + [not frozen] * 19
    before = running_means(model)
    model.eval()(torch.randn(2, 3, 3, 32, 32))
    assert all(torch.equal(a, b) for a, b in zip(before, running_means(model), strict=True))


@pytest.mark.parametrize("modality, first", [("rgb", (1, 2)), ("flow", (5, 10))])
@pytest.mark.parametrize("partial_bn", [False, True])
@pytest.mark.parametrize("backbone", ["resnet18", "bninception"])
@pytest.mark.parametrize("consensus", ["avg", "rnn", "cnn"])
def test_parameter_groups_have_the_multipliers_of_the_paper(
    modality, first, partial_bn, backbone, consensus
):
    with torch.device("meta"):
        model = TSN(
            num_classes=5,
            backbone=backbone,
            modality=modality,
            partial_bn=partial_bn,
            consensus=consensus,
        )
    found = {}
    for group in model.parameter_groups():
        assert group["params"]
        for parameter in group["params"]:
            assert id(parameter) not in found
            found[id(parameter)] = (group["lr_mult"], group["decay_mult"])
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == names.keys()
    conv = {"resnet18": "backbone.conv1.", "bninception": "backbone.features.conv_1.conv."}
    num_norms = 0
    for key, name in names.items():
        is_norm = "bn" in name or "downsample.1." in name
        num_norms += is_norm
        is_bias = ".bias" in name
        expected = (1, 0) if is_norm else (2, 0) if is_bias else (1, 1)
        if name.startswith(conv[backbone]):
            expected = (first[1], 0) if is_bias else (first[0], 1)
        assert found[key] == expected, name
    assert num_norms == 2 * (1 if partial_bn else {"resnet18": 20, "bninception": 69}[backbone])


def test_batch_norm_keeps_its_epsilon_and_takes_the_momentum():
    with torch.device("meta"):
        for backbone, eps in {"resnet50": 1e-5, "inception_v3": 1e-3, "bninception": 1e-5}.items():
            norms = TSN(backbone=backbone, bn_momentum=0.3).batch_norms()
            assert {(norm.eps, norm.momentum) for norm in norms} == {(eps, 0.3)}


@pytest.mark.parametrize("backbone", ["resnet18", "vgg16", "inception_v3", "googlenet"])
def test_one_dropout_alone_is_between_features_and_head(backbone):
    with torch.device("meta"):
        model = TSN(backbone=backbone, dropout=0.6)
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    expected = {"resnet18": [0.6], "vgg16": [0.5, 0.0, 0.6]}  # the first between two layers
    assert rates == expected.get(backbone, [0.0, 0.6])


@pytest.mark.parametrize(
    "args, message",
    [
        ({"backbone": "vgg11"}, "unknown backbone 'vgg11'; there are resnet18"),
        ({"modality": "depth"}, "unknown modality 'depth'; there are rgb, flow, rgbdiff"),
        ({"consensus": "sum"}, "unknown consensus 'sum'; there are avg, max, topk, rnn, cnn"),
        ({"top_k": 2}, "for the consensus topk"),
        ({"consensus": "topk", "top_k": 0}, "at least 1"),
        ({"modality": "flow", "in_channels": 3}, "flow comes in pairs"),
        (
            {"backbone": "googlenet", "shift": True},
            "residual blocks of a ResNet; resnet18, .* have",
        ),
    ],
)
def test_arguments_without_meaning_are_one_clear_error(args, message):
    with pytest.raises(UserError, match=message) as error, torch.device("meta"):
        TSN(**args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "args, frames, message",
    [
        ({"consensus": "rnn"}, 1, "rnn needs at least 2 segments, and the clip has 1"),
        ({"consensus": "cnn"}, 1, "cnn needs at least 2 segments, and the clip has 1"),
        ({"consensus": "topk"}, 2, "topk needs at least 3 segments, and the clip has 2"),
        ({"modality": "rgbdiff"}, 8, "rgbdiff takes 6 frames a segment, and the clip has 8"),
    ],
)
def test_clips_without_meaning_are_one_clear_error(args, frames, message):
    with torch.device("meta"):
        model = TSN(num_classes=5, backbone="resnet18", **args).eval()
        clip = torch.empty(1, 3, frames, 32, 32)
    with pytest.raises(UserError, match=message):
        model(clip)
