"""Every public checkpoint format against the logits of the implementation that it comes from."""

import pytest
import torch
from conftest import relative
from golden import FORMATS, read_golden, reference_clip, reference_state

from config import ARCHS
from models import build_model
from models.backbones import build_backbone
from models.weights import public_weights

ENTRIES = {name: arch for arch in (*ARCHS, "backbones") for name in public_weights(arch)}
# proved in other ways, as those of ImageNet are: torchvision's networks are at hand, i3d_spatial is
# no network of others, and Caffe2's files are written and read back in test_resnet3d.py
PROVED_ELSEWHERE = ("_torchvision", "i3d_spatial", "_nlnet")
PROVED_ELSEWHERE += tuple(f"slowfast_{v}_pytorchvideo" for v in ("r101_8x8", "r101_16x8"))
PROVED_ELSEWHERE += ("slowfast_r50_4x16_pyslowfast",)  # the three of them in test_slowfast.py
# whose network computes the logits of another format, too, and is told by its keys alone
OTHER_KEYS = ("slowfast_r50_8x8_pyslowfast",)


@pytest.fixture
def load_network(tmp_path):
    """Makes the network of a public checkpoint, from a file of reference weights."""

    def load(name):
        file = tmp_path / "file.pt"
        torch.save({"state_dict": reference_state(read_golden(name).keys)}, file)
        arch = ENTRIES[name]
        if arch == "backbones":
            backbone = public_weights(arch)[name].arch_args["name"]
            return build_backbone(backbone, weights=name, weights_file=str(file)).eval()
        return build_model(arch, weights=name, weights_file=str(file)).eval()

    return load


def compare_with_golden(model, name):
    """Asserts that `model` computes the golden logits of the format `name`."""
    golden = read_golden(name)
    assert sum(p.numel() for p in model.parameters()) == golden.num_parameters
    shape, images = golden.input_shape, len(golden.input_shape) == 4
    shape = (*shape[:2], 1, *shape[2:]) if images else shape
    clip = reference_clip(shape, golden.input_seed, golden.input_scale)
    clips = {"clip": clip, "mirrored": clip.flip(-1), "reversed": clip.flip(2)}
    if images:  # of one frame; there is no order to reverse
        clips = {key: clips[key][:, :, 0] for key in ("clip", "mirrored")}
    theirs = golden.logits
    assert theirs.keys() == clips.keys()
    ours = {}
    if name in OTHER_KEYS:  # one clip says so, and seconds are saved
        clips = {"clip": clip}
    for key, x in clips.items():
        with torch.inference_mode():
            ours[key] = model(x)
        assert relative(ours[key], theirs[key]) < 1e-4
    # a network that saw time or space the wrong way round would pass the above
    for key in clips.keys() - {"clip"}:
        change, expected = ours[key] - ours["clip"], theirs[key] - theirs["clip"]
        if relative(theirs[key], theirs["clip"]) < 1e-5:  # no network but these is so blind
            assert key == "reversed" and name.startswith(("tsn", "resnet3d_c2d"))
            assert relative(ours[key], ours["clip"]) < 1e-5
        else:
            assert relative(change, expected) < 2e-3


@pytest.mark.parametrize("name", FORMATS)
def test_logits_agree_with_the_reference_implementation(load_network, name):
    compare_with_golden(load_network(name), name)


@pytest.mark.parametrize(
    "name, tensor, other",
    [
        # a tensor under the name of another one of its shape
        (
            "bninception_cadene",
            "features.mixed_3a.branch2.1.bn.weight",
            "features.mixed_3a.branch2.2.bn.weight",
        ),
        # None: backward in time
        ("s3d_kylemin", "features.mixed_5b.branch1.1.time.conv.weight", None),
    ],
)
def test_one_wrong_tensor_is_noticed(load_network, name, tensor, other):
    model = load_network(name)
    tensors = model.state_dict()  # which shares its memory with the network
    wrong = tensors[other] if other else tensors[tensor].flip(2)
    tensors[tensor].copy_(wrong)
    with pytest.raises(AssertionError):
        compare_with_golden(model, name)


def test_every_public_checkpoint_is_proved():
    def form(name):
        """What a golden set proves of an entry; head windows are as large as what it saw, and of
        X3D that is all that variants differ in but for the depth, which is PyTorchVideo's."""
        entry = public_weights(ENTRIES[name])[name]
        args = {k: v for k, v in entry.arch_args.items() if k not in ("head_window", "variant")}
        return entry.convert, args

    rest = {name for name in ENTRIES if not name.endswith(PROVED_ELSEWHERE)}
    rest = {
        name for name in rest if not name.startswith("imagenet")
    }  # 2-D, inflated or as they are
    assert set(FORMATS) <= rest
    proved = [form(name) for name in FORMATS]
    assert [name for name in rest if form(name) not in proved] == []
