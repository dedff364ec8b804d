"""The public weights of TSN: MMAction2's of Kinetics-400, and those of its backbones as starts."""

import logging
from dataclasses import replace
from functools import partial

from models.backbones import BACKBONES
from models.tsn import TSN
from models.weights import State, Weights, backbones, rename_keys

log = logging.getLogger("video")


def adapt(state: State, model: TSN) -> State:
    """Weights of RGB and averages, in our keys -> those of this modality and consensus.

    Cross-modality initialization, arXiv:1608.00859 sec. 3.2: where the first convolution has other
    inputs, each of them gets the mean over theirs. What only this consensus has stays new.
    """
    state = dict(state)
    ours = model.state_dict()
    key = f"backbone.{model.first_conv}.weight"
    theirs, num_inputs = state.get(key), ours[key].shape[1]
    if theirs is not None and theirs.dim() == 4 and theirs.shape[1] != num_inputs:
        log.info(
            f"cross-modality initialization: each of {num_inputs} inputs gets the mean weight of "
            f"{theirs.shape[1]}"
        )
        state[key] = theirs.mean(dim=1, keepdim=True).repeat(1, num_inputs, 1, 1)
    new = [name for name in ours if name.startswith(("gru.", "temporal_conv."))]
    if model.consensus == "rnn":  # its head reads other features
        new += [name for name in ("head.weight", "head.bias") if name in state]
    if new:
        log.info(f"the consensus {model.consensus} starts anew: {', '.join(new)}")
    return state | {name: ours[name] for name in new}


def convert_mmaction2(state: State) -> State:
    """`backbone.layer1.0.conv1.bn.weight` -> `backbone.layer1.0.bn1.weight`."""
    rules = {
        r"^cls_head\.fc_cls\.": "head.",
        r"downsample\.conv\.": "downsample.0.",
        r"downsample\.bn\.": "downsample.1.",
        r"conv(\d)\.conv\.": r"conv\1.",
        r"conv(\d)\.bn\.": r"bn\1.",
    }
    return rename_keys(state, rules)


def convert_backbone(state: State, entry: Weights) -> State:
    """A backbone's own state dict -> ours, with its classifier as the head."""
    prefix = entry.head[0].removesuffix("weight")  # "fc." or deeper
    return {
        f"head.{key.removeprefix(prefix)}" if key.startswith(prefix) else f"backbone.{key}": value
        for key, value in entry.convert(state).items()
    }


def imagenet_weights(entry: Weights) -> Weights:
    """The start from a backbone's ImageNet weights."""
    name = entry.arch_args["name"]
    partial_bn = {"partial_bn": True} if BACKBONES[name].has_batch_norm else {}
    return replace(
        entry,
        convert=partial(convert_backbone, entry=entry),
        adapt=adapt,
        arch_args={"backbone": name} | partial_bn,
        head=("head.weight", "head.bias"),
        preprocessing=replace(entry.preprocessing, clip_len=3, snippet_len=1),
    )


WEIGHTS = {
    "tsn_r50_mmaction2": Weights(
        url="https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/"
        "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb/"
        "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth",
        sha256="cd10898e",
        convert=convert_mmaction2,
        adapt=adapt,
        arch_args={"backbone": "resnet50"},
        preprocessing=replace(backbones.IMAGENET, clip_len=3, snippet_len=1),
        license="Apache-2.0",
        source="https://github.com/open-mmlab/mmaction2/tree/main/configs/recognition/tsn",
        accuracy="72.83 / 90.65 (Kinetics-400 validation, 25 segments x 10 crops)",
    )
}
# the first one is the paper's, and what "imagenet" means unless another backbone is asked for
WEIGHTS |= {
    f"imagenet_{entry.arch_args['name']}": imagenet_weights(entry)
    for entry in backbones.WEIGHTS.values()
}
