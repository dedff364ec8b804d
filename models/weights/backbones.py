"""ImageNet weights of the 2-D networks, by which TSN starts."""

from dataclasses import replace

from torchvision.models import get_model_weights

from config import Preprocessing
from models.backbones import BACKBONES
from models.weights import State, Weights, rename_keys

IMAGENET = Preprocessing(clip_len=1, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# weights that Google trained; torchvision changes ImageNet's normalization into theirs inside
# (`transform_input`), which is off here, so that other inputs than RGB are possible
GOOGLE = replace(IMAGENET, mean=(0.5,) * 3, std=(0.5,) * 3)
PREPROCESSING = {  # of those that torchvision has; the others' is IMAGENET
    "inception_v3": replace(GOOGLE, short_side=341, crop_size=299),
    "googlenet": GOOGLE,
}


def convert_torchvision(state: State) -> State:
    """Their keys are ours, but for the auxiliary classifiers, which only training ever used."""
    return {
        key: value
        for key, value in state.items()
        if not key.startswith(("aux1.", "aux2.", "AuxLogits."))
    }


def convert_cadene(state: State) -> State:
    """`inception_3a_double_3x3_1_bn.weight` -> `features.mixed_3a.branch2.1.bn.weight`."""
    rules = {
        r"^last_linear\.": "head.",
        r"_bn\.(\w+)$": r".bn.\1",
        r"^((?:conv|inception)\w+)\.(\w+)$": r"\1.conv.\2",  # all that is no batch norm
        r"^conv1_7x7_s2\.": "features.conv_1.",
        r"^conv2_3x3_reduce\.": "features.conv_2_reduce.",
        r"^conv2_3x3\.": "features.conv_2.",
        r"^inception_(\d\w)_": r"features.mixed_\1.",
        r"\.1x1\.": ".branch0.",
        r"\.3x3_reduce\.": ".branch1.0.",
        r"\.3x3\.": ".branch1.1.",
        r"\.double_3x3_reduce\.": ".branch2.0.",
        r"\.double_3x3_1\.": ".branch2.1.",
        r"\.double_3x3_2\.": ".branch2.2.",
        r"\.pool_proj\.": ".branch3.1.",
    }
    converted = rename_keys(state, rules)
    return {  # batch norms are (1, C) in files of old versions
        key: value.squeeze(0) if ".bn." in key and value.dim() == 2 else value
        for key, value in converted.items()
    }


def torchvision_weights(name: str) -> Weights:
    """torchvision's first ImageNet weights of a network; their URL ends in the checksum's start."""
    theirs = get_model_weights(name)["IMAGENET1K_V1"]
    accuracy = theirs.meta["_metrics"]["ImageNet-1K"]
    backbone = BACKBONES[name]
    return Weights(
        url=theirs.url,
        sha256=theirs.url.rsplit("-", 1)[1].removesuffix(".pth"),
        convert=convert_torchvision,
        arch_args={"name": name},
        head=(f"{backbone.classifier}.weight", f"{backbone.classifier}.bias"),
        classes="imagenet",
        preprocessing=PREPROCESSING.get(name, IMAGENET),
        license="BSD-3-Clause",
        source="https://github.com/pytorch/vision",
        accuracy=f"{accuracy['acc@1']:.2f} / {accuracy['acc@5']:.2f} "
        "(ImageNet validation, 1 center crop)",
    )


WEIGHTS = {
    "bninception_cadene": Weights(
        url="http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
        sha256="52deb473314542a5c2f87e9e6f26f4ca42fe863d15f986414dbae8c2dfdd2353",
        convert=convert_cadene,
        arch_args={"name": "bninception"},
        classes="imagenet",
        preprocessing=replace(
            IMAGENET,
            channel_order="BGR",
            value_range=(0.0, 255.0),
            mean=(104.0, 117.0, 128.0),
            std=(1.0, 1.0, 1.0),
        ),
        license="BSD-3-Clause",
        source="https://github.com/Cadene/pretrained-models.pytorch",
        accuracy="73.52 / 91.56 (ImageNet validation, 1 center crop)",
    )
} | {
    f"{name}_torchvision": torchvision_weights(name) for name in BACKBONES if name != "bninception"
}
