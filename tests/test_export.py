"""Networks as files for other software."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from config import ARCHS, UserError
from main import main
from models import build_model
from utils.actions import export as exporting

SHAPE = (3, 4, 12, 12)
ABOUT = {"class_names": ["down", "up"], "preprocessing": {"mean": (0.5,) * 3}}
CLIP = (3, 8, 48, 48)
ARCH_ARGS = {
    "s3d": {"gating": True},
    "resnet3d": {"non_local": 5},
    "tsn": {"backbone": "resnet18", "shift": True},
    "mvit": {"variant": "mvit_v1_b"},  # its tables are resized by us, those of v2 by torchvision
}
# blocks that are like others of the network, and how many features it has without them
REPEATED = {
    "i3d": (r"features\.mixed_(3c|4.|5.)", 256),
    "s3d": (r"features\.mixed_(3c|4.|5.)", 256),
    "resnet3d": (
        r"features\.(res2\.2|res3\.(2|3|non_local_3)|res4\.([2-5]|non_local_[35])|res5\..)",
        1024,
    ),
    "slowfast": (r"features\.res\d\.[1-9]", 2304),
    "r2plus1d": (r"features\.res\d\.[1-9]", 2048),
    "x3d": (r"features\.res\d\.([2-9]|1\d)", 2048),
    "videoresnet": (r"backbone\.layer[2-4]\.1", 512),
    "tsn": (r"backbone\.layer[2-4]\.1", 512),
    "mvit": (r"backbone\.blocks\.([4-9]|1[0-25])", 768),
    "swin3d": (r"backbone\.features\.([26]\.1|4\.[1-9])", 768),
}
HAS_ONNX = all(importlib.util.find_spec(name) for name in exporting.PACKAGES[".onnx"])
ENDINGS = ["pt2", "onnx"] if HAS_ONNX else ["pt2"]


def small_network():
    torch.manual_seed(0)
    layers = nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(4, 2)).eval()


def run_file(path, clips):
    """What other software would get from the file."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()(clips)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["clips"]
    assert [o.name for o in session.get_outputs()] == ["logits"]
    return torch.from_numpy(session.run(["logits"], {"clips": clips.numpy()})[0])


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_exported_network_says_the_same_for_batches_of_any_size(tmp_path, ending):
    path, model = tmp_path / f"net.{ending}", small_network()
    assert exporting.export_network(path, model, SHAPE, ABOUT) < 1e-5
    for n in (1, 2, 5):
        clips = torch.randn(n, *SHAPE)
        torch.testing.assert_close(run_file(path, clips), model(clips), rtol=1e-4, atol=1e-5)


def test_input_preprocessing_and_classes_stand_beside_the_network(tmp_path):
    exporting.export_network(tmp_path / "net.pt2", small_network(), SHAPE, ABOUT)
    about = json.loads((tmp_path / "net.json").read_text())
    assert about["input"]["shape"] == ["batch", 3, 4, 12, 12]
    assert about["output"]["shape"] == ["batch", 2]
    assert about["class_names"] == ["down", "up"]
    assert about["preprocessing"] == {"mean": [0.5, 0.5, 0.5]}


def test_a_network_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    right = exporting.to_pt2

    def wrong(program, clips):
        content, run = right(program, clips)
        return content, lambda clips: run(clips) * 1.01

    monkeypatch.setattr(exporting, "to_pt2", wrong)
    with pytest.raises(UserError, match="differs from the original by 1.0e-02"):
        exporting.export_network(tmp_path / "net.pt2", small_network(), SHAPE, ABOUT)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install onnx onnxscript onnxruntime"):
        main(["--resume", "absent.pth", "--export", str(tmp_path / "a.onnx")])


def test_a_checkpoint_is_exported_with_what_it_knows(untrained, capsys):
    path = Path("new/out/net.pt2")
    assert main(["--resume", str(untrained), "--export", str(path), "--device", "cpu"]) == 0
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["class_names"] == ["down", "up"]
    assert about["preprocessing"]["crop_size"] == 32
    assert about["input"]["shape"] == ["batch", 3, 3, 32, 32]
    assert "for batches of 1, 2 and 3 clips" in capsys.readouterr().out


def shortened(model, pattern, num_features):
    """The network without some blocks: all of them would take a minute and say no more."""
    for name, _ in list(model.named_modules()):
        if re.fullmatch(pattern, name):
            parent, _, child = name.rpartition(".")
            delattr(model.get_submodule(parent), child)
    model.head = nn.Linear(num_features, 5)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_is_exported(tmp_path, arch, monkeypatch):
    """To every format, from one trace, which takes longest."""
    torch.manual_seed(0)
    model = build_model(arch, 5, **ARCH_ARGS.get(arch, {})).eval()
    if arch in REPEATED:
        model = shortened(model, *REPEATED[arch])
    program = torch.export.export(
        model, (torch.randn(2, *CLIP),), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    monkeypatch.setattr(torch.export, "export", lambda *args, **how: program)
    for ending in ENDINGS:  # each compares what it says with the network
        assert exporting.export_network(tmp_path / f"net.{ending}", model, CLIP, ABOUT) < 1e-4
