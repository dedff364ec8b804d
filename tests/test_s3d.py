import json
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import reference_clip, reference_state
from torch import nn

from config import UserError
from models import build_model, i3d
from models.s3d import S3D, WEIGHTS, FlatConv3d, Gate, from_i3d


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def randomize(model):
    """Weights and batch norm statistics that no symmetry hides, without the shared data."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(reference_state(shapes))
    return model.eval()


def save(tmp_path, state):
    torch.save(state, tmp_path / "file.pt")
    return str(tmp_path / "file.pt")


def test_logits_agree_with_the_reference_implementation(shared, tmp_path):
    reference = json.loads((shared / "reference/checkpoints/s3d_kylemin.json").read_text())
    file = save(tmp_path, reference_state(reference["keys"]))
    model = build_model("s3d", weights="s3d_kylemin", weights_file=file).eval()
    assert sum(p.numel() for p in model.parameters()) == reference["parameters"]
    for golden in reference["golden"]:
        clip = reference_clip(golden["input_shape"], golden["input_seed"], golden["input_scale"])
        inputs = {"clip": clip, "reversed": clip.flip(2), "mirrored": clip.flip(-1)}
        with torch.inference_mode():
            ours = {name: model(clip) for name, clip in inputs.items()}
        theirs = {name: torch.tensor(golden[f"logits_{name}"]) for name in inputs}
        for name in inputs:
            assert relative(ours[name], theirs[name]) < 1e-4
        for name in ("reversed", "mirrored"):  # time the wrong way round would pass the above
            assert relative(ours[name] - ours["clip"], theirs[name] - theirs["clip"]) < 2e-3


@pytest.fixture(scope="module")
def theirs_and_ours(tmp_path_factory):
    """torchvision's network and ours with the same random weights, by way of a file."""
    theirs = randomize(torchvision.models.video.s3d())
    file = save(tmp_path_factory.mktemp("torchvision"), theirs.state_dict())
    return theirs, build_model("s3d", weights="s3d_torchvision", weights_file=file).eval()


@pytest.mark.parametrize(
    "size",
    [
        (14, 224, 224),  # the least that torchvision takes
        (17, 224, 256),
        (16, 256, 240),  # 8 x 7 positions: windows of the head overlap
        (64, 208, 208),  # 6.5 x 6.5 positions, which torchvision cannot average
        (17, 112, 112),
    ],
)
def test_logits_agree_with_torchvision(theirs_and_ours, size):
    theirs, ours = theirs_and_ours
    clip = reference_clip((1, 3, *(math.ceil(n / 16) * 16 for n in size)), seed=1, scale=1.0)
    clip = clip[:, :, : size[0], : size[1], : size[2]]
    with torch.inference_mode():
        features = theirs.features(clip)
        window = [min(w, n) for w, n in zip((2, 7, 7), features.shape[2:], strict=True)]
        theirs.avgpool.kernel_size = window  # (2, 7, 7) wherever that fits
        assert relative(ours(clip), theirs(clip)) < 1e-4
