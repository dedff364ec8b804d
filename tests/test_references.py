"""Every public checkpoint format against the logits of the implementation that it comes from."""

import json

import pytest
import torch
from conftest import reference_clip, reference_state, relative

from config import ARCHS
from models import build_model
from models.backbones import build_backbone
from models.weights import public_weights

MAKERS = ("_piergiaj", "_hassony2", "_kylemin", "_pytorchvideo", "_mmaction2", "_cadene")
ENTRIES = [
    (arch, name)
    for arch in (*ARCHS, "backbones")
    for name in public_weights(arch)
    if name.endswith(MAKERS)
]


def network_from(arch, name, file):
    if arch == "backbones":
        backbone = public_weights(arch)[name].arch_args["name"]
        return build_backbone(backbone, weights=name, weights_file=str(file))
    return build_model(arch, weights=name, weights_file=str(file))


@pytest.mark.parametrize("arch, name", ENTRIES, ids=str)
def test_logits_agree_with_the_reference_implementation(shared, tmp_path, arch, name):
    reference = json.loads((shared / "reference" / "checkpoints" / f"{name}.json").read_text())
    torch.save({"state_dict": reference_state(reference["keys"])}, tmp_path / "file.pt")
    model = network_from(arch, name, tmp_path / "file.pt").eval()
    assert sum(p.numel() for p in model.parameters()) == reference["parameters"]
    for golden in reference["golden"]:
        shape, images = golden["input_shape"], len(golden["input_shape"]) == 4
        shape = (*shape[:2], 1, *shape[2:]) if images else shape
        clip = reference_clip(shape, golden["input_seed"], golden["input_scale"])
        clips = {"clip": clip, "mirrored": clip.flip(-1), "reversed": clip.flip(2)}
        if images:  # of one frame; there is no order to reverse
            clips = {key: clips[key][:, :, 0] for key in ("clip", "mirrored")}
        with torch.inference_mode():
            ours = {key: model(x) for key, x in clips.items()}
        theirs = {key: torch.tensor(golden[f"logits_{key}"]) for key in clips}
        for key in clips:
            assert relative(ours[key], theirs[key]) < 1e-4
        # a network that saw time or space the wrong way round would pass the above
        for key in clips.keys() - {"clip"}:
            change, expected = ours[key] - ours["clip"], theirs[key] - theirs["clip"]
            if relative(theirs[key], theirs["clip"]) < 1e-5:  # no network but these is so blind
                assert key == "reversed" and name.startswith(("tsn", "resnet3d_c2d"))
                assert relative(ours[key], ours["clip"]) < 1e-5
            else:
                assert relative(change, expected) < 2e-3


def test_every_reference_has_its_entry(shared):
    files = (shared / "reference" / "checkpoints").glob("*.json")
    assert {file.stem for file in files} == {name for _, name in ENTRIES}
