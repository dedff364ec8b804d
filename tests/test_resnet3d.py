import copy
import io
import itertools
import pickle
import random
import re
import struct

import numpy as np
import pytest
import torch
import torchvision
from conftest import relative
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from config import UserError
from models import build_model
from models.resnet3d import MODES, SUBSAMPLE, NonLocal, ResNet3D, start_as_identity
from models.weights.caffe2 import read_caffe2_pickle
from models.weights.resnet3d import WEIGHTS, convert_mmaction2, inflate_2d

LAST = torch.channels_last_3d  # twice as fast as contiguous memory on a CPU
# what the three releases set, and a stem with all of it
STEMS = {
    "pytorchvideo": {"head_window": (4, 7, 7)},
    "mmaction2": {"conv1_stride": 2, "pool1_stride": 2},
    "nlnet": {"conv1_stride": 2, "pool1_kernel": 2, "pool1_stride": 2, "pool1_padding": 0},
    "no pool2": {"pool2": False, "inflate": "none"},
}


def randomize_batch_norms(model):
    """Statistics and factors as after some training; those of last batch norms start at zero."""
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(m.weight, 0.7, 1.1)
            nn.init.normal_(m.bias, std=0.1)
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.8, 1.2)
    return model


# the inflated blocks of res2 to res5, written out
BLOCKS = {
    50: ("111", "1010", "101010", "010"),
    101: ("111", "1010", "10101010101010101010101", "010"),
    152: ("111", "10101010", "10" * 18, "010"),
}


@pytest.mark.parametrize("depth", BLOCKS)
@pytest.mark.parametrize("inflate", ["none", "3x1x1", "3x3x3"])
def test_inflation_adds_the_parameters_of_its_kernels(depth, inflate):
    with torch.device("meta"):
        model = ResNet3D(depth=depth, inflate=inflate)
        flat = getattr(torchvision.models, f"resnet{depth}")(num_classes=400)
    expected = sum(p.numel() for p in flat.parameters())
    if inflate != "none":
        expected += (5 - 1) * 3 * 64 * 7 * 7  # of conv1
        for i, blocks in enumerate(BLOCKS[depth]):
            width = 64 * 2**i
            for j, inflated in enumerate(blocks):
                inputs = 4 * width if j else max(2 * width, 64) if i else 64
                kernel = inputs * width if inflate == "3x1x1" else 9 * width * width
                expected += 2 * kernel * int(inflated)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    "arch_args, millions",
    [
        ({"inflate": "none"}, 24.33),  # PyTorchVideo's model zoo
        ({}, 28.04),
        ({"non_local": 5}, 35.40),  # MMAction2's
        ({"non_local": 5, "non_local_mode": "dot_product"}, 35.40),
        ({"non_local": 5, "non_local_mode": "gaussian"}, 31.7),
        ({"inflate": "none", "depth": 101}, 43.32),
        ({"depth": 101}, 1.2 * 43.2),  # Table 2e of the paper, to two digits
        ({"depth": 101, "inflate": "3x3x3"}, 1.5 * 43.2),
        ({"depth": 101, "inflate": "none", "non_local": 5}, 1.2 * 43.2),
    ],
)
def test_networks_have_the_published_size(arch_args, millions):
    with torch.device("meta"):
        model = ResNet3D(**arch_args)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.04)


def test_slow_only_sees_time_in_its_last_stages_alone():
    with torch.device("meta"):
        model = ResNet3D(inflate="slow").eval()
        clip = torch.empty(1, 3, 8, 224, 224)
        with FlopCounterMode(display=False) as counter:
            assert model(clip).shape == (1, 400)
        assert model.features(clip).shape == (1, 2048, 8, 7, 7)
    assert sum(p.numel() for p in model.parameters()) == 32_454_096
    assert counter.get_total_flops() / 2e9 == pytest.approx(41.74, abs=0.01)
    over_time = {
        name
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv3d | nn.MaxPool3d) and m.kernel_size[0] > 1
    }
    assert over_time == {
        f"features.res{i}.{j}.conv1.conv" for i, n in ((4, 6), (5, 3)) for j in range(n)
    }


@pytest.mark.parametrize(
    "depth, number, res3, res4",
    [
        (50, 5, (1, 3), (1, 3, 5)),
        (50, 10, range(4), range(6)),
        (101, 5, (1, 3), (6, 13, 20)),
        (101, 10, range(4), (2, 6, 10, 14, 18, 22)),
        (152, 5, (3, 7), (11, 23, 35)),
        (152, 10, (1, 3, 5, 7), range(5, 36, 6)),
    ],
)
def test_non_local_blocks_follow_their_residual_blocks(depth, number, res3, res4):
    with torch.device("meta"):
        model = ResNet3D(depth=depth, non_local=number)
    for stage, after in ((2, ()), (3, res3), (4, res4), (5, ())):
        names = list(dict(getattr(model.features, f"res{stage}").named_children()))
        assert [n for n in names if "non_local" in n] == [f"non_local_{j}" for j in after]
        for j in after:
            assert names.index(f"non_local_{j}") == names.index(f"{j}") + 1


def non_local_by_hand(block, x, mode, scale, subsample):
    """One position after the other, as the formulas of the paper have it."""
    channels = x.shape[1]

    def embed(name, position):
        if name == "phi" and mode == "gaussian":
            return position
        layer = getattr(block, name)
        return layer.weight.flatten(1) @ position + layer.bias

    def flat(frames):
        return [p for frame in frames for row in frame for p in row]

    def pool(frames):  # the maximum of 2x2 positions, without a remainder
        return [
            torch.stack([frame[y + dy][z + dz] for dy in (0, 1) for dz in (0, 1)]).amax(dim=0)
            for frame in frames
            for y in range(0, len(frame) - 1, 2)
            for z in range(0, len(frame[0]) - 1, 2)
        ]

    def embed_and_pool(name, frames):
        if subsample == "after":
            return pool([[[embed(name, p) for p in row] for row in frame] for frame in frames])
        return [embed(name, p) for p in (pool if subsample == "before" else flat)(frames)]

    result = torch.empty_like(x)
    for n in range(len(x)):
        rows = x[n].permute(1, 2, 3, 0)  # (T, H, W, C)
        phis, gs = embed_and_pool("phi", rows), embed_and_pool("g", rows)
        for (t, frame), y, z in itertools.product(
            enumerate(rows), range(x.shape[3]), range(x.shape[4])
        ):
            position = frame[y][z]
            theta = position if mode == "gaussian" else embed("theta", position)
            if mode == "concatenation":
                pairs = [block.pair.weight[0] @ torch.cat([theta, p]) for p in phis]
                weights = torch.stack(pairs).relu() / len(phis)
            else:
                weights = torch.stack([theta @ p for p in phis])
                if mode == "dot_product":
                    weights = weights / len(phis)
                else:
                    weights = (weights * ((channels // 2) ** -0.5 if scale else 1)).softmax(dim=0)
            total = sum(w * v for w, v in zip(weights, gs, strict=True))
            total = block.out.conv.weight.flatten(1) @ total
            bn = block.out.bn
            total = (total - bn.running_mean) / (bn.running_var + bn.eps).sqrt()
            result[n, :, t, y, z] = position + total * bn.weight + bn.bias
    return result


@pytest.mark.parametrize("subsample", SUBSAMPLE)
@pytest.mark.parametrize(
    "mode, scale", [*((mode, False) for mode in MODES), ("embedded_gaussian", True)]
)
def test_a_non_local_block_is_the_sum_over_all_pairs(mode, scale, subsample):
    torch.manual_seed(0)
    block = randomize_batch_norms(NonLocal(6, mode, scale, subsample)).eval()
    x = torch.randn(2, 6, 2, 4, 5)  # the odd width loses a column to the pool
    with torch.inference_mode():
        expected = non_local_by_hand(block, x, mode, scale, subsample)
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(block(x.to(memory_format=LAST)), expected, rtol=1e-4, atol=1e-5)
    assert relative(expected, x) > 0.05


@pytest.mark.parametrize("mode", MODES)
def test_a_non_local_block_starts_as_the_identity(mode):
    block = NonLocal(8, mode, False, "before")
    x = torch.randn(2, 8, 2, 4, 4)
    assert relative(block(x), x) > 0.01
    start_as_identity(block)
    assert torch.equal(block(x), x)


def test_a_network_starts_as_it_would_without_non_local_blocks():
    plain, model = ResNet3D(5), ResNet3D(5, non_local=5)
    model.load_state_dict(model.state_dict() | plain.state_dict())
    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model.eval()(clip), plain.eval()(clip))
    x = torch.randn(2, 1024, 2, 4, 4).relu()
    assert torch.equal(plain.features.res4[1](x), x)  # so do residual blocks


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_of_a_non_local_block_gets_a_gradient(mode):
    torch.manual_seed(0)
    block = randomize_batch_norms(NonLocal(8, mode, False, "before"))
    (block(torch.randn(2, 8, 2, 4, 4)) * torch.randn(2, 8, 2, 4, 4)).sum().backward()
    for name, p in block.named_parameters():
        # a softmax does not see what the bias of phi adds to all products of a position
        if not (name == "phi.bias" and mode == "embedded_gaussian"):
            assert p.grad.abs().max() > 1e-6, name


def test_every_parameter_of_the_network_gets_a_gradient():
    torch.manual_seed(0)
    model = ResNet3D(5, in_channels=2, non_local=5, bn_momentum=0.3).to(memory_format=LAST)
    randomize_batch_norms(model)(torch.randn(2, 2, 8, 48, 48)).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), name
        assert p.grad.any() or name.endswith("phi.bias"), name
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(norms) == 53 + 5
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.3)}


@pytest.mark.parametrize("stem", STEMS)
def test_clips_of_any_size_give_logits(stem):
    model = ResNet3D(5, non_local=5, **STEMS[stem]).eval().to(memory_format=LAST)
    for size in [(8, 32, 32), (17, 33, 47), (64, 32, 40)]:
        clip = torch.randn(1, 3, *size).to(memory_format=LAST)
        with torch.inference_mode():
            assert model(clip).shape == (1, 5)
            assert model.forward_features(clip).shape == (1, 2048)


def test_usual_crops_give_logits():
    model = ResNet3D(5, non_local=10, non_local_subsample="after").eval().to(memory_format=LAST)
    for size in (112, 224, 256):
        with torch.inference_mode():
            logits = model(torch.randn(1, 3, 2, size, size).to(memory_format=LAST))
        assert logits.shape == (1, 5)
        assert logits.isfinite().all()


def test_the_head_averages_the_logits_of_windows():
    torch.manual_seed(0)
    with torch.device("meta"):
        model = ResNet3D(5, head_window=(4, 2, 3))
    model.features, model.head = nn.Identity(), nn.Linear(2048, 5)
    x = torch.randn(1, 2048, 6, 3, 4)
    logits = [
        model.head(x[:, :, t : t + 4, y : y + 2, z : z + 3].mean(dim=(2, 3, 4)))
        for t in range(3)
        for y in range(2)
        for z in range(2)
    ]
    model.eval()
    torch.testing.assert_close(model(x), torch.stack(logits).mean(0), rtol=1e-4, atol=1e-5)
    model.head_window = None
    torch.testing.assert_close(model(x), model.head(x.mean(dim=(2, 3, 4))))
    assert relative(model(x), torch.stack(logits).mean(0)) > 0.1


@pytest.fixture(scope="module")
def non_local_model():
    torch.manual_seed(0)
    return randomize_batch_norms(ResNet3D(5, non_local=5)).eval()


def test_memory_format_does_not_change_the_logits(non_local_model):
    clip, last = torch.randn(2, 3, 8, 64, 64), copy.deepcopy(non_local_model).to(memory_format=LAST)
    with torch.inference_mode():
        assert relative(last(clip.to(memory_format=LAST)), non_local_model(clip)) < 1e-5


@pytest.mark.parametrize(
    "arch_args, message",
    [
        ({"depth": 18}, r"no depth 18; there are \[50, 101, 152\]"),
        (
            {"inflate": "1x1x3"},
            r"no inflate '1x1x3'; there are \['none', .* 'slow'\]",
        ),
        ({"non_local": 4}, r"no number of non-local blocks 4; there are \[0, 5, 10\]"),
        ({"non_local": 5, "non_local_mode": "softmax"}, "no non_local_mode 'softmax'; there are"),
        ({"non_local": 5, "non_local_subsample": "twice"}, "no non_local_subsample 'twice'"),
        (
            {"non_local": 5, "non_local_mode": "dot_product", "non_local_scale": True},
            "dot_product has no non_local_scale",
        ),
        ({"non_local_mode": "gaussian"}, "need non_local 5 or 10"),
    ],
)
def test_arguments_without_a_meaning_are_refused(arch_args, message):
    with pytest.raises(UserError, match=message) as error:
        ResNet3D(**arch_args)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def resnet50():
    """torchvision's 2-D network with random weights, biases and statistics."""
    torch.manual_seed(0)
    return randomize_batch_norms(torchvision.models.resnet50()).eval()


def feature_map_2d(resnet, picture):
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(picture))))
    return resnet.layer4(resnet.layer3(resnet.layer2(resnet.layer1(x))))


def inflated(resnet50, **arch_args):
    model = ResNet3D(1000, **arch_args)
    model.load_state_dict(model.state_dict() | inflate_2d(resnet50.state_dict(), model))
    return model.eval().to(memory_format=LAST)


@pytest.mark.parametrize("inflate", ["none", "3x1x1", "3x3x3"])
def test_an_inflated_network_sees_a_still_clip_as_the_picture(resnet50, inflate):
    model = inflated(resnet50, inflate=inflate, non_local=5)
    picture = torch.randn(1, 3, 48, 48)
    clip = picture.unsqueeze(2).expand(-1, -1, 40, -1, -1).contiguous(memory_format=LAST)
    with torch.inference_mode():
        expected, ours = feature_map_2d(resnet50, picture), model.features(clip)
    assert ours.shape[2] == 20
    # conv1 reaches 2 frames far and res2 3 more, then res3 to res5 6 of every second: 17 of 40
    for t in (9, 10):
        torch.testing.assert_close(ours[:, :, t], expected, rtol=1e-4, atol=1e-4)
    if inflate != "none":
        assert relative(ours[:, :, 0], expected) > 0.01


@pytest.mark.parametrize("inflate", ["none", "3x1x1", "3x3x3"])
def test_kernels_of_one_frame_see_each_frame_as_a_picture(resnet50, inflate):
    model = inflated(resnet50, inflate=inflate, pool2=False)
    for m in model.modules():
        if isinstance(m, nn.Conv3d):  # all of the kernel to the frame in the middle
            t = m.kernel_size[0]
            m.weight.data *= t * (torch.arange(t) == t // 2).view(t, 1, 1)
    clip = torch.randn(1, 3, 8, 48, 48)
    with torch.inference_mode():
        expected = feature_map_2d(resnet50, clip[0].transpose(0, 1))  # (T, 2048, 2, 2)
        ours = model.features(clip.to(memory_format=LAST))
        torch.testing.assert_close(ours[0].transpose(0, 1), expected, rtol=1e-4, atol=1e-4)
        still = model(clip[:, :, :1].expand(-1, -1, 8, -1, -1))
        torch.testing.assert_close(still, resnet50(clip[:, :, 0]), rtol=1e-4, atol=1e-4)


def test_imagenet_weights_leave_the_head_and_the_non_local_blocks_new(resnet50, tmp_path, caplog):
    path = str(tmp_path / "file.pt")
    torch.save(resnet50.state_dict(), path)
    with caplog.at_level("INFO", logger="video"):
        model = build_model("resnet3d", 7, weights="imagenet", weights_file=path, non_local=5)
    assert "the head for 1000 classes is replaced by a new one for 7" in caplog.text
    theirs, conv = resnet50.state_dict(), model.features.res3[0].conv1.conv
    kernel = theirs["layer2.0.conv1.weight"]
    assert conv.kernel_size == (3, 1, 1)
    torch.testing.assert_close(conv.weight, kernel.unsqueeze(2).expand(-1, -1, 3, -1, -1) / 3)
    assert torch.equal(model.features.stem.bn.running_var, theirs["bn1.running_var"])
    assert not model.features.res3.non_local_1.out.bn.weight.any()


@pytest.mark.parametrize(
    "name, depth", [("imagenet", 50), ("imagenet101", 101), ("imagenet152", 152)]
)
def test_imagenet_weights_bring_their_depth(name, depth):
    entry = WEIGHTS[name]
    with torch.device("meta"):
        model = ResNet3D(1000, **entry.arch_args)
        flat = getattr(torchvision.models, f"resnet{depth}")()
    state = entry.adapt(flat.state_dict(), model)
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    weights = getattr(torchvision.models, f"ResNet{depth}_Weights").IMAGENET1K_V1
    assert entry.url == weights.url


def test_imagenet_weights_of_another_depth_are_refused(resnet50, tmp_path):
    torch.save(resnet50.state_dict(), tmp_path / "file.pt")
    with pytest.raises(UserError, match="not of this network; tensors: .* missing"):
        build_model("resnet3d", weights="imagenet101", weights_file=str(tmp_path / "file.pt"))


def released_names(model, rng):
    """Our own state named as video-nonlocal-net does, with what else is in its files."""
    bn = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    blobs = {"model_iter": 400001, "lr": np.array([1e-4], dtype=np.float32)}
    for key, value in model.state_dict().items():
        *path, part = key.split(".")
        if part == "num_batches_tracked":
            continue
        if path == ["head"]:
            name = f"pred_{part[0]}"
        elif path[1] == "stem":
            name = "conv1_w" if path[2] == "conv" else f"res_conv1_bn_{bn[part]}"
        elif path[2].startswith("non_local"):
            name = f"nonlocal_conv{path[1][-1]}_{path[2].split('_')[-1]}_"
            if path[3:] == ["out", "bn"]:
                name += f"bn_{bn[part]}"
            else:
                name += f"{path[3]}_{part[0]}"
        else:
            branch = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "shortcut": "1"}[path[3]]
            name = f"{path[1]}_{path[2]}_branch{branch}_"
            name += "w" if path[4] == "conv" else f"bn_{bn[part]}"
        blobs[name] = value.numpy().copy()
        if not name.endswith(("rm", "riv")):
            blobs[f"{name}_momentum"] = np.zeros(3, dtype=np.float32)
    for name in [n for n in blobs if n.endswith("_out_w")]:  # a bias, though batch norm follows
        bias = np.array([rng.gauss(0, 1) for _ in range(len(blobs[name]))], dtype=np.float32)
        blobs[name.replace("_w", "_b")] = bias
        blobs[name.replace("out_w", "bn_rm")] += bias
    return blobs


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and its numpy wrote: bytes are strings, and the old module names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, text):
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    def save_global(self, obj, name=None):
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[bytes] = dispatch[str] = save_string
    dispatch[type(np.empty(0).__reduce__()[0])] = save_global
    dispatch[type] = save_global


@pytest.mark.parametrize(
    "name, python",
    [
        ("resnet3d_i3d50_nl5_nlnet", 2),
        ("resnet3d_c2d50_nlnet", 3),
    ],
)
def test_a_file_of_the_authors_gives_the_network_it_was_made_from(tmp_path, name, python):
    torch.manual_seed(0)
    model = randomize_batch_norms(ResNet3D(4, **WEIGHTS[name].arch_args))
    content, path = {"blobs": released_names(model, random.Random(0))}, tmp_path / "file.pkl"
    with open(path, "wb") as file:
        (Python2Pickler if python == 2 else pickle.Pickler)(file, 2).dump(content)
    loaded = build_model("resnet3d", 4, weights=name, weights_file=str(path))
    for key, value in model.state_dict().items():
        if key.endswith(".out.bn.running_mean"):  # it took the bias up and gave it back
            torch.testing.assert_close(loaded.state_dict()[key], value, atol=1e-6, rtol=1e-5)
        else:
            assert torch.equal(loaded.state_dict()[key], value), key


class Danger:
    def __reduce__(self):
        return (open, ("i_was_here", "w"))


class EvalDanger:
    def __reduce__(self):
        return (eval, ("open('i_was_here', 'w')",))


@pytest.mark.parametrize(
    "danger, name",
    [
        (Danger(), "io.open|_io.open"),
        (EvalDanger(), "eval"),
        (nn.Linear, "torch.nn.modules.linear.Linear"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_names_anything_but_arrays_is_refused(
    tmp_path, monkeypatch, danger, name, protocol
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": np.ones(3), "x": danger}}, protocol))
    with pytest.raises(UserError, match=rf"it names \S*({name}), which is no part of an array"):
        read_caffe2_pickle(path)
    assert not (tmp_path / "i_was_here").exists()


@pytest.mark.parametrize("content", ["html", "nothing", "list", "objects", "missing", "cut"])
def test_a_file_without_arrays_is_one_clear_error(tmp_path, content):
    path, file = tmp_path / "file.pkl", io.BytesIO()
    pickle.dump({"blobs": {"conv1_w": np.ones((64, 3))}}, file, 2)
    data = {
        "html": b"<html>404</html>",
        "nothing": b"",
        "list": pickle.dumps([1, 2], 2),
        "objects": pickle.dumps({"blobs": {"x": np.array([{}, "a"], dtype=object)}}, 2),
        "cut": file.getvalue()[:-50],
    }
    if content != "missing":
        path.write_bytes(data[content])
    with pytest.raises(UserError) as error:
        read_caffe2_pickle(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_blobs_of_another_network_are_listed(tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(
        pickle.dumps({"blobs": {"fc": np.ones(2), "nonlocal_conv3_1_out_b": np.ones(3)}}, 2)
    )
    with pytest.raises(UserError, match="missing .* and 2 left over"):
        build_model("resnet3d", weights="resnet3d_i3d50_nlnet", weights_file=str(path))


def test_tensors_of_mmaction2_are_those_of_the_network():
    with torch.device("meta"):
        known = ResNet3D(
            **WEIGHTS["resnet3d_i3d50_nl_dot_product_mmaction2"].arch_args
        ).state_dict()
    block = "backbone.layer2.1.non_local_block"
    theirs = ["backbone.conv1.conv.weight", "backbone.layer1.0.conv2.bn.bias"]
    theirs += ["cls_head.fc_cls.weight", f"{block}.phi.0.conv.weight", f"{block}.conv_out.bn.bias"]
    ours = convert_mmaction2(dict.fromkeys(theirs, torch.zeros(3, 3)))
    assert len(ours) == 5 and ours.keys() <= known.keys()


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_entry_builds_its_network_and_tells_what_it_expects(name):
    entry = WEIGHTS[name]
    with torch.device("meta"):  # the head sees one window
        clip = torch.empty(1, 3, entry.preprocessing.clip_len, 224, 224)
        window = entry.arch_args.get("head_window", (4, 7, 7))
        assert ResNet3D(**entry.arch_args).features(clip).shape[2:] == window
    has_checksum = not entry.url.startswith("https://dl.fbaipublicfiles.com")
    assert len(entry.sha256) == 8 * has_checksum and entry.sha256 in entry.url
    if said := re.search(r"[_-](8x8|32x2)", entry.url):  # frames x stride
        assert said[1] == f"{entry.preprocessing.clip_len}x{entry.preprocessing.stride}"
    assert entry.url not in {WEIGHTS[n].url for n in WEIGHTS if n != name}
    pixels = entry.preprocessing
    for mean, std in zip(pixels.mean, pixels.std, strict=True):
        white = (pixels.value_range[1] - mean) / std
        assert 2 < white < 3  # so mean, std and range belong together
    assert ("NC" in entry.license) == name.endswith("_nlnet")
