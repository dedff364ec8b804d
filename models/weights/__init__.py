"""Public checkpoints as data, and their exact loading.

A network's own are in the file of its name beside this one: the conversion of their keys, and
WEIGHTS, a table of them. A network without public checkpoints has no such file.
"""

import hashlib
import http.client
import importlib.util
import logging
import math
import re
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from config import ARCHS, Preprocessing, UserError, owned, refuse

State = dict[str, torch.Tensor]
FOLDER = Path(__file__).resolve().parents[2] / "pretrained"
log = logging.getLogger("video")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A public checkpoint: where it is, what it expects, how its keys become ours."""

    url: str
    sha256: str = ""  # of the file, or how it begins; empty where none was published
    read: Callable[[Path], State] | None = None  # reads a file that `files` does not
    convert: Callable[[State], State]  # their state dict -> ours
    # what is left to convert once the network is known (of the entry's own class), say inflation
    adapt: Callable[[State, Any], State] | None = None
    arch_args: dict = field(default_factory=dict)
    head: tuple[str, ...] = ("head.weight", "head.bias")  # replaced where the class count differs
    arch: str | None = None  # whose they are, in a file of several architectures
    classes: str = "kinetics400"  # what the labels of its head mean
    preprocessing: Preprocessing
    license: str
    source: str  # page that published the file
    accuracy: str  # published, in percent, with its protocol
    shifted: Any = None  # the entry as a start of a network with `shift`, if that is another one


def public_weights(arch: str) -> dict[str, Weights]:
    """The public checkpoints of an architecture, by name."""
    file = arch in ARCHS and ARCHS[arch].file or arch
    module = f"models.weights.{file}"
    known = importlib.import_module(module).WEIGHTS if importlib.util.find_spec(module) else {}
    return {name: entry for name, entry in known.items() if entry.arch in (None, arch)}


def find(name: str, arch: str, arch_args: dict | None = None) -> Weights:
    """The public checkpoint `name` of `arch`.

    "imagenet" has an entry a depth or backbone, each setting that in its `arch_args`: it is the
    entry of the network that the given `arch_args` ask for, or else that of the paper.
    """
    entries, arch_args = public_weights(arch), arch_args or {}
    if name == "imagenet":
        for other, entry in entries.items():
            sibling = {k: v for k, v in entry.arch_args.items() if k in ("depth", "backbone")}
            fits = all(arch_args.get(k, v) == v for k, v in sibling.items())
            if other.startswith("imagenet") and fits:
                name = other
                break
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise UserError(f"no weights '{name}' for {arch}; there are {known}")
    entry = entries[name]
    return entry.shifted or entry if arch_args.get("shift") else entry


def rename_keys(state: State, rules: dict[str, str]) -> State:
    """`state` with regular expressions replaced in its keys, one after the other.

    A head that was a 1 x 1 x 1 convolution becomes the linear layer that it is.
    """
    renamed = {}
    for key, value in state.items():
        for theirs, ours in rules.items():
            key = re.sub(theirs, ours, key)
        renamed[key] = value.flatten(1) if key == "head.weight" and value.ndim > 1 else value
    return renamed


def table() -> str:
    """All public checkpoints, a few lines each."""
    lines = []
    for arch in ARCHS:
        for name, entry in public_weights(arch).items():
            lines += [
                f"{name} ({arch}), {entry.license}",
                f"    accuracy: {entry.accuracy}",
                f"    file: {FOLDER.name}/{entry.url.rsplit('/', 1)[1]} from {entry.url}",
            ]
    return "\n".join(lines)


def load(model: nn.Module, entry: Weights, path: str | None = None, new_head: bool = False) -> None:
    """Loads a public checkpoint from `path`, or from pretrained/, where it is downloaded first.

    Exact: only a head of another class count is replaced, and nothing may be missing or left over.

    Args:
        new_head: replace it also where the class count is the same.

    Raises:
        UserError: they are of another network; it says which, if that is known.
    """
    # here, since a network without public weights reads no file of them
    from models.weights.files import read_state
    from models.weights.whose import check_variant, right_options

    check_variant(entry, model)
    file = Path(path) if path else fetch(entry)
    theirs = (entry.read or read_state)(file)
    state = entry.convert(theirs)
    if entry.adapt:
        state = entry.adapt(state, model)
    ours = model.state_dict()
    head = ours[entry.head[0]]
    before = state.get(entry.head[0], head)
    if before.ndim == head.ndim and (len(before) != len(head) or new_head):
        log.info(f"the head for {len(before)} classes is replaced by a new one for {len(head)}")
        state |= {key: ours[key] for key in entry.head}
    try:
        load_exactly(model, state)
    except UserError:
        what = right_options(theirs, entry, model)
        refuse(what, f"{file} is not of the network that is asked for: {what}")
        raise


def load_exactly(model: nn.Module, state: State) -> None:
    """load_state_dict that lists both sides; `num_batches_tracked` entries may be absent."""
    ours = model.state_dict()
    state = {key: ours[key] for key in ours if key.endswith("num_batches_tracked")} | state
    missing, left_over = sorted(ours.keys() - state.keys()), sorted(state.keys() - ours.keys())
    if missing or left_over:
        lists = (
            f"{len(keys)} {what} ({', '.join(keys[:3])}{' ...' if keys[3:] else ''})"
            for what, keys in (("missing", missing), ("left over", left_over))
            if keys
        )
        raise UserError(f"these weights are not of this network; tensors: {' and '.join(lists)}")
    for key, value in state.items():
        if value.shape != ours[key].shape:
            raise UserError(
                f"these weights are not of this network: {key} has the shape {tuple(value.shape)}, "
                f"here it is {tuple(ours[key].shape)}"
            )
    model.load_state_dict(state)


def place_of(entry: Weights) -> Path:
    """Where its file is, once it is downloaded."""
    return FOLDER / entry.url.rsplit("/", 1)[1]


def fetch(entry: Weights) -> Path:
    """The file of `entry` in pretrained/, downloaded if need be; never half a file by that name."""
    path = place_of(entry)
    if not path.exists():
        with owned(path, wait=math.inf):  # runs that start together share one download
            if not path.exists():
                fetch_to(path, entry)
    if not sha256(path).startswith(entry.sha256):
        raise UserError(
            f"{path} has another checksum than the published file; remove it, or name a file "
            "of your own with --pretrained-file"
        )
    return path


def fetch_to(path: Path, entry: Weights) -> None:
    """Downloads the file of `entry`, which appears at `path` when it is complete and checked."""
    # no `config.whole`, which takes away what is not complete: a download goes on with that
    partial = path.with_suffix(".part")
    try:
        complete = download(entry.url, partial)
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "code", None) == 416:  # nothing to go on with: another file by this name
            partial.unlink()
        raise UserError(f"cannot download {entry.url} ({error}); put the file at {path}") from None
    if not complete:
        raise UserError(
            f"the download of {entry.url} ended early; the same command goes on with it, "
            f"or put the file at {path}"
        )
    digest = sha256(partial)
    if not digest.startswith(entry.sha256):
        partial.unlink()
        raise UserError(
            f"{entry.url} has another checksum than the published one ({digest}); do not use it"
        )
    partial.replace(path)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download(url: str, path: Path) -> bool:
    """Downloads to `path`, behind what is there already; whether that is all, if one can tell."""
    have = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as reply:
        have = have if reply.status == 206 else 0  # or else the server sends all of it again
        length = int(reply.headers.get("Content-Length", 0))  # 0: it does not say
        total = have + length if length else None
        bar = tqdm(desc=path.stem, initial=have, total=total, unit="B", unit_scale=True)
        with bar, open(path, "ab" if have else "wb") as file:
            while chunk := reply.read(1 << 20):
                file.write(chunk)
                bar.update(len(chunk))
    return total in (None, path.stat().st_size)
