"""Channels stay last in memory through every layer, and no network breaks a compiled graph.

A tensor in another layout is copied by the layer that gets it, and a graph that breaks is compiled
in pieces; both only cost time, so that no other test would notice.
"""

import pytest
import torch

from models import build_model
from utils.classifier import ClipClassifier, Normalize

NETWORKS = {
    "i3d": ("i3d", {}),
    "i3d as if even": ("i3d", {"as_if_even": True}),
    "s3d": ("s3d", {}),
    "s3d with all": ("s3d", {"gating": True, "padding": "same"}),
    "resnet3d": ("resnet3d", {}),
    "resnet3d with all": ("resnet3d", {"head_window": (2, 1, 1), "non_local": 5}),
    "resnet3d slow": ("resnet3d", {"inflate": "slow"}),
    "slowfast": ("slowfast", {}),
    "r2plus1d": ("r2plus1d", {}),
    "x3d": ("x3d", {}),
    "tsn": ("tsn", {"backbone": "resnet18"}),
    "tsn shift": ("tsn", {"backbone": "resnet18", "shift": True}),
    "tsn bninception": ("tsn", {"backbone": "bninception"}),
}
# among them is a network for each branch of the code
BRANCHES = [
    "i3d",
    "i3d as if even",
    "s3d with all",
    "resnet3d with all",
    "tsn shift",
    "tsn bninception",
]
# torchvision's last pool, and what it pools under all its names
POOLED = ("backbone.layer4", "backbone.layer4.1", "backbone.layer4.1.relu")


def classifier_of(name):
    arch, arch_args = NETWORKS[name]
    torch.manual_seed(0)
    return ClipClassifier(build_model(arch, 5, **arch_args), Normalize((0.5,) * 3, (0.5,) * 3))


def clips_of(num_clips, frames, size):
    return torch.randint(0, 256, (num_clips, frames, size, size, 3), dtype=torch.uint8)


@pytest.fixture
def two_threads():
    """With one, or one clip, torch has a kernel for 1x1x1 convolutions with contiguous memory."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_stay_last_forward_and_backward(two_threads, name):
    classifier = classifier_of(name)
    seen, wrong = [], []

    def look(what, tensor):
        seen.append(what)
        if tensor.stride(1) != 1:  # a slice of the channels counts: no layout has to change
            wrong.append((what, tuple(tensor.shape), tensor.stride()))

    def watch(layer, inputs, output, path):
        # of two pathways, the layers of each are looked at
        if torch.is_tensor(output) and output.dim() > 3:
            look(f"{path} forward", output)
            if not path.startswith(POOLED) or name not in ("tsn", "tsn shift"):
                output.register_hook(lambda gradient: look(f"{path} backward", gradient))

    for path, layer in classifier.model.named_modules():
        if not path.endswith(("avgpool", "fc")):
            layer.register_forward_hook(lambda *args, path=path: watch(*args, path))
    classifier(clips_of(2, 16, 64)).square().sum().backward()
    assert wrong == []
    assert len(seen) > 50  # the hooks were called


@pytest.mark.parametrize("name", BRANCHES)
def test_a_network_is_one_graph(name):
    """The backend computes what it is given: this is about tracing alone."""
    classifier = classifier_of(name)
    clips = clips_of(2, 8, 48)
    torch._dynamo.reset()
    traced = torch.compile(classifier, fullgraph=True, backend="eager")
    torch.manual_seed(0)
    found = traced(clips)
    torch.manual_seed(0)
    torch.testing.assert_close(found, classifier(clips), rtol=1e-3, atol=1e-4)
