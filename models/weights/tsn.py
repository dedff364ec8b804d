"""The public weights of TSN and TSM, of Kinetics-400, and those of their backbones as starts."""

import logging
from dataclasses import replace
from functools import partial

from config import Preprocessing
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
        r"\.net\.": ".",  # of TSM
        r"^cls_head\.fc_cls\.": "head.",
        r"downsample\.conv\.": "downsample.0.",
        r"downsample\.bn\.": "downsample.1.",
        r"conv(\d)\.conv\.": r"conv\1.",
        r"conv(\d)\.bn\.": r"bn\1.",
    }
    return rename_keys(state, rules)


def convert_mit(state: State) -> State:
    """The authors': `base_model.layer1.0.conv1.net.weight` -> `backbone.layer1.0.conv1.weight`."""
    rules = {r"^base_model\.": "backbone.", r"\.net\.": ".", r"^new_fc\.": "head."}
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
    return replace(
        entry,
        convert=partial(convert_backbone, entry=entry),
        adapt=adapt,
        arch_args={"backbone": name},
        head=("head.weight", "head.bias"),
        preprocessing=replace(entry.preprocessing, clip_len=3, snippet_len=1),
    )


def mmaction2(network: str, variant: str, sha256: str, **entry) -> Weights:
    name = f"{network}_imagenet-pretrained-r50_{variant}_kinetics400-rgb"
    return Weights(
        url="https://download.openmmlab.com/mmaction/v1.0/recognition/"
        f"{network}/{name}/{name}_{sha256}.pth",
        sha256=sha256.split("-")[1],
        convert=convert_mmaction2,
        adapt=adapt,
        license="Apache-2.0",
        source=f"https://github.com/open-mmlab/mmaction2/tree/main/configs/recognition/{network}",
        **entry,
    )


def mit(variant: str, accuracy: str, clip: Preprocessing) -> Weights:
    return Weights(
        url="https://hanlab18.mit.edu/projects/tsm/models/"
        f"TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment{variant}.pth",
        convert=convert_mit,
        adapt=adapt,
        arch_args=SHIFTED,
        preprocessing=clip,
        license="MIT",
        source="https://github.com/mit-han-lab/temporal-shift-module",
        accuracy=f"{accuracy} (Kinetics-400 validation)",
    )


def start_of_both(entry: Weights) -> Weights:
    """Of TSN, and of TSM, which has its own number of segments."""
    clip = replace(entry.preprocessing, clip_len=TSM.clip_len, fixed_segments=True)
    return replace(entry, shifted=replace(entry, preprocessing=clip))


SHIFTED = {"backbone": "resnet50", "shift": True}
TSM = replace(backbones.IMAGENET, clip_len=8, snippet_len=1, fixed_segments=True)
# eight of 64 frames in a row
DENSE = replace(TSM, stride=8, snippet_len=0)
TEN_CROPS = "(Kinetics-400 validation, 1 clip x 10 crops)"
WEIGHTS = {  # accuracies are top-1 / top-5, or top-1 alone
    "tsn_r50_mmaction2": start_of_both(
        mmaction2(
            "tsn",
            "8xb32-1x1x3-100e",
            "20220906-cd10898e",
            arch_args={"backbone": "resnet50"},
            preprocessing=replace(backbones.IMAGENET, clip_len=3, snippet_len=1),
            accuracy="72.83 / 90.65 (Kinetics-400 validation, 25 segments x 10 crops)",
        )
    ),
    "tsm_r50_mmaction2": mmaction2(
        "tsm",
        "8xb16-1x1x8-50e",
        "20220831-64d69186",
        arch_args=SHIFTED,
        preprocessing=TSM,
        accuracy=f"73.18 / 90.56 {TEN_CROPS}",
    ),
    "tsm_r50_16_mmaction2": mmaction2(
        "tsm",
        "8xb16-1x1x16-50e",
        "20220831-042b1748",
        arch_args=SHIFTED,
        preprocessing=replace(TSM, clip_len=16),
        accuracy=f"75.12 / 91.55 {TEN_CROPS}",
    ),
    "tsm_r50_dense_mmaction2": mmaction2(
        "tsm",
        "8xb16-dense-1x1x8-50e",
        "20220831-f55d3c2b",
        arch_args=SHIFTED,
        preprocessing=DENSE,
        accuracy=f"73.38 / 90.78 {TEN_CROPS}",
    ),
    "tsm_r50_mit": mit("8_e50", "71.2 with 1 crop, 72.8 with 10", TSM),
    "tsm_r50_16_mit": mit("16_e50", "72.6 with 1 crop, 73.7 with 10", replace(TSM, clip_len=16)),
    "tsm_r50_dense_mit": mit("8_e100_dense", "74.1 with 10 clips x 3 crops of 256", DENSE),
}
# the first one is the paper's, and what "imagenet" means unless another backbone is asked for
WEIGHTS |= {
    f"imagenet_{entry.arch_args['name']}": start_of_both(imagenet_weights(entry))
    for entry in backbones.WEIGHTS.values()
}
