"""torchvision's video networks: what is ours around them changes nothing that they say."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, get_model_weights
from torchvision.ops import StochasticDepth

from config import ARCHS, Evaluation, Optimization, UserError, Views
from models import build_model
from models.torchvision_video import resampled
from models.weights import load_exactly
from models.weights.torchvision_video import ARCHITECTURES, WEIGHTS
from opts import parse_opts
from pt_dataset.datalist import CLASS_FILES, read_classes
from pt_dataset.sampling import view_indices
from pt_dataset.transforms import training_crop, view_crops
from pt_dataset.video_list import Video
from utils.optim import build_optimizer, parameter_groups
from utils.options.activations import compute_activations_twice
from utils.options.freeze import freeze_until
from utils.options.layer_decay import layers
from utils.recipes.torchvision_video import VIDEORESNET_SCRATCH
from utils.results import protocol_in_words
from utils.resume import checkpoint_file
from utils.run import choose_preprocessing, starting_point

VARIANTS = {variant: arch for arch in ARCHITECTURES for variant in ARCHS[arch].options["variant"]}


@pytest.mark.parametrize("variant", ["r2plus1d_18", "mvit_v2_s", "mvit_v1_b", "swin3d_t"])
def test_logits_are_those_of_torchvision_to_the_bit(variant):
    torch.manual_seed(0)
    theirs = get_model(variant, weights=None, num_classes=7).eval()
    ours = build_model(VARIANTS[variant], 7, variant=variant).eval()
    load_exactly(ours, WEIGHTS[f"{variant}_torchvision"].convert(theirs.state_dict()))
    clip = torch.randn(2, 3, 4, 64, 64)
    with torch.inference_mode():
        said = ours(clip)
        if variant.startswith("mvit"):  # which takes 16 frames of 224 px as it is
            positions = theirs.pos_encoding
            positions.temporal_size, positions.spatial_size = 2, (16, 16)
        if variant == "mvit_v1_b":  # each place has what lies in the middle of those it stands for
            time, space = positions.temporal_pos, positions.spatial_pos.unflatten(0, (56, 56))
            positions.temporal_pos.data = (time[[1, 5]] + time[[2, 6]]) / 2
            rows = 1.25 + 3.5 * torch.arange(16)
            low, share = rows.long(), rows % 1
            space = torch.lerp(space[low], space[low + 1], share[:, None, None])
            space = torch.lerp(space[:, low], space[:, low + 1], share[:, None])
            positions.spatial_pos.data = space.flatten(0, 1)
            torch.testing.assert_close(said, theirs(clip), rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(said, theirs(clip))


def test_positions_stay_to_the_bit_at_the_size_of_training():
    for table, sides in (torch.randn(8, 96), [8]), (torch.randn(56 * 56, 96), [56, 56]):
        assert torch.equal(resampled(table, sides, sides), table)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_torchvision_publishes_of_its_networks(variant):
    arch = VARIANTS[variant]
    theirs, entry = get_model_weights(variant)["KINETICS400_V1"], WEIGHTS[f"{variant}_torchvision"]
    with torch.device("meta"):
        model = build_model(arch, 400, variant=variant).eval()
        state = entry.convert(get_model(variant, weights=None).state_dict())
        channels, _, *sides = entry.preprocessing.network_input()
        clip = torch.empty(1, channels, 16, *sides)  # for which it says "_ops", of swin3d, too
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert {key: value.shape for key, value in state.items()} == shapes
    assert sum(p.numel() for p in model.parameters()) == theirs.meta["num_params"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(clip)
    assert counter.get_total_flops() / 2e9 == pytest.approx(theirs.meta["_ops"], abs=6e-4)
    names = read_classes(CLASS_FILES / entry.classes / "classes.txt")
    assert names == theirs.meta["categories"]


@pytest.mark.parametrize(
    "arch, clip_len, fps, views",
    [("videoresnet", 16, 15, 5), ("mvit", 16, 7.5, 5), ("swin3d", 32, 15, 12)],
)
def test_weights_are_fed_and_evaluated_as_they_were_measured(arch, clip_len, fps, views):
    for name, entry in WEIGHTS.items():
        if entry.arch == arch:
            assert (entry.preprocessing.clip_len, entry.preprocessing.fps) == (clip_len, fps)
            assert (
                f"{views} clips x 1 center crop of {clip_len} frames at {fps:g}" in entry.accuracy
            )
            opts = parse_opts(["--arch", arch, "--dataset", "x", "--pretrained", name])
            clip = choose_preprocessing(opts, starting_point(opts))
            video = Video("v", 0, "a", num_frames=300, fps=30)
            (frames,) = view_indices(video, clip, 1)
            assert np.diff(frames).tolist() == [30 / fps] * (clip_len - 1)
            assert opts.views.clips == views
    assert "81.64 / 95.57" in WEIGHTS["swin3d_b_imagenet22k_torchvision"].accuracy


@pytest.mark.parametrize(
    "variant, size",
    [
        *(("r3d_18", size) for size in ((240, 320), (360, 270), (90, 200))),
        ("mvit_v2_s", (288, 512)),  # where both round sides and places alike
    ],
)
def test_pixels_are_those_of_torchvision(variant, size):
    """But for a gray level, since other software rounds in another way."""
    transform = get_model_weights(variant)["KINETICS400_V1"].transforms
    clip = WEIGHTS[f"{variant}_torchvision"].preprocessing
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(rows / 9 + k) * np.cos(columns / 13 - k) for k in range(3)]
    frame = np.uint8(127 + 100 * np.stack(waves, axis=-1))
    ours = np.empty((1, clip.crop_size, clip.crop_size, 3), np.uint8)
    view_crops(*size, clip, 1)(frame, ours)
    ours = (ours[0] / 255 - clip.mean) / clip.std
    theirs = transform()(torch.from_numpy(frame).permute(2, 0, 1)[None])[:, 0].permute(1, 2, 0)
    assert np.abs(ours - theirs.numpy()).max() * min(clip.std) * 255 < 1.5


def test_frames_of_any_shape_become_4_3():
    clip = WEIGHTS["r3d_18_torchvision"].preprocessing
    words = protocol_in_words(Evaluation(views=Views(5, 1)), clip)
    assert words.endswith("112 px out of 128 x 171")
    for height, width in (240, 320), (1080, 1920), (300, 200), (7, 9):
        assert view_crops(height, width, clip, 1).size == (128, 171)
        assert view_crops(height, width, replace(clip, short_side=240), 1).size == (240, 320)
    # like those of squares: shares of the side that each is part of
    corners = replace(VIDEORESNET_SCRATCH, crop="corners", crop_scales=(1.0,))
    whole = training_crop(1080, 1920, clip, corners, random.Random(0)).part
    assert whole == (slice(0, 1080), slice(0, 1920))


def test_weights_of_another_variant_are_named(tmp_path):
    torch.save(get_model("mc3_18", weights=None).state_dict(), tmp_path / "a.pth")
    file = str(tmp_path / "a.pth")
    # by the name of the weights, and where that is right, by the tensors
    with pytest.raises(UserError, match="these weights are of mc3_18, and --variant is r3d_18: ch"):
        build_model("videoresnet", variant="r3d_18", weights="mc3_18_torchvision")
    message = "a.pth is not of the network that is asked for: it fits --arch videoresnet "
    message += "--variant mc3_18 --pretrained mc3_18_torchvision$"
    with pytest.raises(UserError, match=message):
        build_model("videoresnet", 7, weights="r3d_18_torchvision", weights_file=file)
    with pytest.raises(UserError, match="no weights 'swin3d_t_torchvision' for videoresnet"):
        build_model("videoresnet", weights="swin3d_t_torchvision")
    with pytest.raises(UserError, match="mvit has no variant 'x', but mvit_v2_s, mvit_v1_b"):
        build_model("mvit", variant="x")


@pytest.mark.parametrize("arch", ["mvit", "swin3d"])
def test_vectors_and_tables_of_transformers_do_not_decay(arch):
    with torch.device("meta"):
        model = build_model(arch, 5)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decayed, free = ({names[p] for p in g["params"]} for g in parameter_groups(model, True))
    assert decayed | free == set(names.values()) and not decayed & free
    assert "head.weight" in decayed and {"head.bias", "backbone.norm.weight"} <= free
    assert not any("position_bias" in name for name in decayed)


@pytest.mark.parametrize("arch, usual", [("mvit", 0.2), ("swin3d", 0.1)])
def test_paths_are_dropped_as_often_as_asked(arch, usual):
    with torch.device("meta"):
        models = [build_model(arch, 3, drop_path=p) for p in (None, 0.6)]
    found = [[m.p for m in net.modules() if isinstance(m, StochasticDepth)] for net in models]
    for last, shares in zip((usual, 0.6), found, strict=True):
        count = len(shares) - 1
        assert shares == pytest.approx([last * i / count for i in range(count + 1)])
    with pytest.raises(UserError, match="--drop-path 1.5 is no probability"):
        build_model(arch, 3, drop_path=1.5)


def test_without_dropped_paths_training_is_evaluation_to_the_bit():
    model = build_model("mvit", 3, drop_path=0.0)
    clip = torch.randn(2, 3, 2, 32, 32)
    assert torch.equal(model.train()(clip), model.eval()(clip))


@pytest.mark.parametrize(
    "arch, count, names",
    [
        # the patches, then sixteen blocks, the last with the norm behind it
        ("mvit", 17, {0: "conv_proj", 1: "blocks.0.", 16: "blocks.15.", -1: "norm."}),
        # the patches, then 2 + 2 + 6 + 2 blocks and what halves the maps between them
        (
            "swin3d",
            16,
            {0: "patch_embed", 1: "features.0.0.", 3: "features.1.", 15: "features.6.1."},
        ),
        ("videoresnet", 9, {0: "stem", 1: "layer1.0", 2: "layer1.1", 8: "layer4.1"}),
    ],
)
def test_layers_are_the_blocks_in_their_order(arch, count, names):
    with torch.device("meta"):
        model = build_model(arch, 3)
    found = layers(model)
    assert len(found) == count
    all_names = {p: name for name, p in model.named_parameters()}
    for number, name in names.items():
        assert any(all_names[p].startswith(f"backbone.{name}") for p in found[number])
    in_layers = {all_names[p] for layer in found for p in layer}
    assert set(all_names.values()) - in_layers == {"head.weight", "head.bias"}
    rates = {
        all_names[p]: group["initial_lr"]
        for group in build_optimizer(
            model, Optimization(epochs=1, batch_size=1, lr=1, layer_decay=0.5)
        ).param_groups
        for p in group["params"]
    }
    assert all(
        rates[all_names[p]] == 0.5 ** (count - i) for i, layer in enumerate(found) for p in layer
    )
    assert rates["head.weight"] == rates["head.bias"] == 1


def test_activations_of_a_list_of_blocks_are_computed_twice_alike():
    torch.manual_seed(0)
    model = build_model("mvit", 3).train()
    clip = torch.randn(2, 3, 2, 32, 32)

    def gradient():
        torch.manual_seed(1)  # of the paths that are dropped
        return torch.autograd.grad(model(clip).square().sum(), model.backbone.conv_proj.weight)[0]

    plain = gradient()
    compute_activations_twice(model)
    assert all("forward" in vars(block) for block in model.backbone.blocks)
    torch.testing.assert_close(gradient(), plain)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_flow_has_a_first_convolution_of_its_own(arch):
    model = build_model(arch, 3, in_channels=2)
    logits = model(torch.randn(2, 2, 2, 32, 32))
    logits.sum().backward()
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("arch, stage", [("mvit", "blocks.9"), ("swin3d", "features.4.3")])
def test_a_part_of_the_blocks_can_be_frozen(arch, stage):
    with torch.device("meta"):
        model = build_model(arch, 3)
    frozen, trained = freeze_until(model, stage), model.backbone.get_submodule(stage)
    named = [(name.removeprefix("backbone."), p) for name, p in model.named_parameters()]
    fixed = [name for name, parameter in named if not parameter.requires_grad]
    assert fixed == [name for name, _ in named[: len(fixed)]]  # all up to there, in order
    assert fixed[-1].startswith(f"{stage}.") and trained in frozen
    assert not any(module is model.backbone.get_submodule(stage.split(".")[0]) for module in frozen)
    with pytest.raises(UserError, match=rf"{stage.split('.')[0]}.*; \w+\.0 is the first of a row"):
        freeze_until(model, "blocks.99")


@pytest.mark.parametrize(
    "saved, typed", [({}, "mvit_v1_b"), ({"variant": "mvit_v1_b"}, "mvit_v2_s")]
)
def test_a_checkpoint_of_another_variant_is_named(saved, typed, monkeypatch):
    """The first one is what a run has that was not asked for any."""
    state = {"arch": "mvit", "arch_args": saved}
    monkeypatch.setattr(checkpoint_file, "load", lambda *_: state)
    other = {"mvit_v1_b": "mvit_v2_s", "mvit_v2_s": "mvit_v1_b"}[typed]
    argv = ["--arch", "mvit", "--dataset", "x", "--variant", typed]
    for start in "--pretrained", "--resume":
        opts = parse_opts([*argv, start, "a/last.pth"])
        with pytest.raises(UserError, match=f"a/last.pth is of {other}: leave --variant to the"):
            starting_point(opts)


@pytest.mark.parametrize("variant", ARCHS["mvit"].options["variant"])
def test_clips_of_two_sizes_may_be_in_the_network_at_once(variant):
    """As threads have it that share one; here the second clip comes in the middle of the first."""
    torch.manual_seed(0)
    model = build_model("mvit", 3, variant=variant).eval()
    clip, other = torch.randn(1, 3, 4, 32, 32), torch.randn(1, 3, 7, 48, 40)
    with torch.inference_mode():
        alone, hooks = [model(clip), model(other)], []

        def interrupt(*_):
            hooks.pop().remove()
            assert torch.equal(model(other), alone[1])

        hooks.append(model.backbone.conv_proj.register_forward_pre_hook(interrupt))
        assert torch.equal(model(clip), alone[0]) and not hooks
