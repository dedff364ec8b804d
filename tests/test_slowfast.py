"""SlowFast: its two pathways, and the files of its public weights."""

import itertools
import pickle
import re
from operator import index

import numpy as np
import pytest
import torch
from golden import read_golden
from torch.utils.flop_counter import FlopCounterMode

from config import ARCHS, UserError
from models.slowfast import VARIANTS, SlowFast, slow_frames
from models.weights.slowfast import (
    convert_pyslowfast,
    convert_pytorchvideo,
    read_pyslowfast,
)


@pytest.fixture(scope="module")
def networks():
    """Of each variant, without memory for its weights."""
    with torch.device("meta"):
        return {variant: SlowFast(variant=variant).eval() for variant in VARIANTS}


@pytest.mark.parametrize(
    "variant, size, parameters, multiply_adds",
    [
        ("slowfast_r50_8x8", 256, 34_566_488, 65.71),
        ("slowfast_r50_4x16", 224, 34_480_216, 27.64),
        ("slowfast_r101_8x8", None, 62_830_000, None),
        ("slowfast_r101_16x8", None, 53_770_000, None),
    ],
)
def test_variants_have_the_published_size(networks, variant, size, parameters, multiply_adds):
    """In millions, with two digits, of those of PyTorchVideo's model zoo."""
    model = networks[variant]
    rounded = -4 if size is None else 0
    assert round(sum(p.numel() for p in model.parameters()), rounded) == parameters
    if size:
        with FlopCounterMode(display=False) as counter:
            assert model(torch.empty(1, 3, 32, size, size, device="meta")).shape == (1, 400)
        assert counter.get_total_flops() / 2e9 == pytest.approx(multiply_adds, abs=5e-3)


def test_the_variants_are_those_that_can_be_chosen():
    assert ARCHS["slowfast"].options == {"variant": tuple(VARIANTS)}
    with pytest.raises(UserError, match="slowfast has no variant 'x', but slowfast_r50_8x8, "):
        SlowFast(variant="x")


def test_the_slow_pathway_takes_the_frames_that_it_was_trained_with():
    assert slow_frames(32, 4).tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert slow_frames(32, 8).tolist() == [0, 10, 20, 31]
    assert slow_frames(64, 8).tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    for alpha in (4, 8):
        for num_frames in range(1, 300):
            frames = slow_frames(num_frames, alpha)
            assert len(frames) == -(-num_frames // alpha)
            assert frames[0] == 0 and frames[-1] == (num_frames - 1) * (len(frames) > 1)
            assert len(frames) < 2 or frames.diff().min() > 0
            if num_frames % alpha == 0:
                theirs = torch.linspace(0, num_frames - 1, num_frames // alpha).long()
                assert torch.equal(frames, theirs)


@pytest.mark.parametrize(
    "variant, shape",
    [("slowfast_r50_8x8", (1, 1, 1)), ("slowfast_r50_4x16", (31, 33, 47))],
)
def test_every_length_and_size_will_do(networks, variant, shape):
    model, clip = networks[variant], torch.empty(2, 3, *shape, device="meta")
    slow, fast = model.features((clip[:, :, slow_frames(shape[0], model.alpha)], clip))
    assert slow.shape[:3] == (2, 2048, -(-shape[0] // model.alpha))
    assert fast.shape[:3] == (2, 256, shape[0])
    assert model(clip).shape == (2, 400)


def test_the_frames_of_both_pathways_keep_channels_last(networks):
    """Or the first convolution would copy them."""
    clip = torch.empty(2, 3, 16, 32, 32, device="meta").to(memory_format=torch.channels_last_3d)
    model, seen = networks["slowfast_r50_8x8"], []
    hook = model.features.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    model(clip)
    hook.remove()
    assert [maps.shape[2] for maps in seen] == [4, 16]
    assert all(maps.is_contiguous(memory_format=torch.channels_last_3d) for maps in seen)


def test_compiled_it_takes_the_same_frames():
    def slow(clip):
        return clip[:, :, slow_frames(index(clip.shape[2]), 4)]

    torch._dynamo.reset()
    compiled = torch.compile(slow, fullgraph=True, backend="eager")
    for num_frames in (8, 95, 128):  # the second length is taken for any
        clip = torch.arange(num_frames).expand(1, 1, -1)
        assert torch.equal(compiled(clip), slow(clip))


def test_both_pathways_see_flow():
    with torch.device("meta"):
        features = SlowFast(5, in_channels=2).features
    stems = features.stem.slow.conv1, features.stem.fast.conv1
    assert [stem.conv.weight.shape[:3] for stem in stems] == [(64, 2, 1), (8, 2, 5)]


def test_weights_of_another_variant_are_named(networks):
    """As each has tensors of its own; see test_weights.py."""
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in networks.values()]
    assert all(one != other for one, other in itertools.combinations(shapes, 2))


def blob(key):
    """The name that PySlowFast's converter turns into `key`."""
    ends = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    *path, end = key.split(".")
    name = "_".join(path)
    name += f"_{ends[end]}" if name.endswith("bn") else f"_{end[0]}"
    rules = {
        r"^s1_fuse_conv_f2s": "t_pool1_subsample",
        r"^s1_fuse_bn": "t_pool1_subsample_bn",
        r"^s(\d)_fuse_conv_f2s": r"t_res\1_LAST_branch2c_bn_subsample",
        r"^s(\d)_fuse_bn": r"t_res\1_LAST_branch2c_bn_subsample_bn",
        r"^s1_pathway(\d)_stem_conv": r"P\1conv1",
        r"^s1_pathway(\d)_stem_bn": r"P\1res_conv1_bn",
        r"^s(\d)_pathway(\d)_res(\d)_branch(1|2_)": r"P\2res\1_\3_branch\4",
        "branch2_": "branch2",
        "P0": "",
        "P1": "t_",
        "^head_projection": "pred",
    }
    for theirs, name_of_blob in rules.items():
        name = re.sub(theirs, name_of_blob, name)
    return re.sub(r"res(\d)_LAST", lambda m: f"{m[0][:4]}_{(2, 3, 5)[int(m[1]) - 2]}", name)


def test_blobs_of_caffe2_are_the_tensors_that_pyslowfast_makes_of_them(tmp_path):
    keys = read_golden("slowfast_r50_8x8_pyslowfast").keys
    keys = [key for key in keys if not key.endswith("num_batches_tracked")]
    names = [blob(key) for key in keys]
    assert {"conv1_w", "t_res_conv1_bn_riv", "res4_5_branch2c_bn_b", "pred_b"} <= {*names}
    assert {"t_pool1_subsample_w", "t_res3_3_branch2c_bn_subsample_bn_rm"} <= {*names}
    assert len({*names}) == 552
    blobs = {name: np.full((1, 1), i, np.float32) for i, name in enumerate(names)}
    others = {"lr": np.zeros(1), "model_iter": 3, "conv1_w_momentum": np.ones(3)}
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs | others}, 2))
    ours = convert_pyslowfast(read_pyslowfast(path))
    by_torch = convert_pyslowfast({key: torch.full((1, 1), i) for i, key in enumerate(keys)})
    assert {k: v.item() for k, v in ours.items()} == {k: v.item() for k, v in by_torch.items()}


@pytest.mark.parametrize("in_zip", [True, False])
def test_a_file_of_torch_is_read_whatever_its_name(tmp_path, in_zip):
    state, path = {"s1.pathway0_stem.bn.bias": torch.ones(2)}, tmp_path / "a.pkl"
    content = {"model_state": state, "epoch": 1, "cfg": "SLOWFAST: ..."}
    torch.save(content, path, _use_new_zipfile_serialization=in_zip)
    assert read_pyslowfast(path).keys() == state.keys()
    path.write_bytes(b"\x1f\x8b" + bytes(9))
    with pytest.raises(UserError, match="is an archive; unpack it"):
        read_pyslowfast(path)


def test_blocks_of_deeper_networks_have_their_names(networks):
    """No reference logits are of these, and but for their number blocks are alike."""
    theirs = "blocks.3.multipathway_blocks.1.res_blocks.22.branch2.norm_b.bias"
    ours = "features.res4.22.fast.conv2.bn.bias"
    assert [*convert_pytorchvideo({theirs: torch.ones(1)})] == [ours]
    names = [
        {re.sub(r"\d+\.(slow|fast)", r"N.\1", key) for key in model.state_dict()}
        for model in networks.values()
    ]
    assert all(some == names[0] for some in names)
    assert ours in networks["slowfast_r101_8x8"].state_dict()
