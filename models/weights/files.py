"""A file of weights, as people have them: its state dict, or what the file is instead."""

import argparse
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config import UserError, refuse
from models.weights import State

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module")
# of DataParallel, of a module that holds the network, and anywhere of torch.compile
PREFIXES = re.compile(r"^(?:(?:module|model|net|network|_orig_mod)\.)+|\b_orig_mod\.")
OWN_KEYS = {"arch", "class_names", "preprocessing", "model"}  # of a checkpoint of ours, at least
# what training scripts leave beside the tensors: no more than values
np_scalar = np.float64().__reduce__()[0]
HARMLESS: list[Any] = [
    argparse.Namespace,
    *((np_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
]
KERAS = "a file of Keras; only a file of PyTorch can be read, so look for one or convert it"
ARCHIVE = "an archive; unpack it and give the weight file that is in it"
PAGE = "a web page or a server's answer in place of the file; open the address in a browser"
BEGINNINGS = {  # of other files
    b"version https://git-lfs": "only Git LFS's pointer to the file; fetch that: git lfs pull",
    b"<": PAGE,
    b"{": PAGE,
    b"\x89HDF": KERAS,
    **dict.fromkeys((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!"), ARCHIVE),
}
MEMBERS = {  # how files in other zips end
    "/constants.pkl": "TorchScript, a program; save what it holds: "
    "torch.save(torch.jit.load(FILE).state_dict(), NEW)",
    "/archive_format": "a program of torch.export; save what it holds: "
    "torch.save(torch.export.load(FILE).state_dict, NEW)",
    ".weights.h5": KERAS,
    ".npy": "an archive of numpy; only a file of PyTorch can be read",
}
DTYPES = {  # of safetensors
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_state(path: Path) -> State:
    """The state dict in a file, whatever wraps it and stands before its keys.

    Raises:
        UserError: there is no such file, it is damaged, or something else.
    """
    beginning = check_form(path)
    try:
        if is_safetensors(beginning):
            content = read_safetensors(path)
        else:
            with torch.serialization.safe_globals(HARMLESS):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no common error for files that are not its own
        if named := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} holds {named[1]}, which only its own code can read, such as a whole "
                "model; save the weights alone there: torch.save(model.state_dict(), NEW)"
            ) from None
        raise UserError(
            f"{path} is cut off or damaged, or no file of tensors ({type(error).__name__})"
        ) from None
    return unwrap(content, path)


def check_form(path: Path) -> bytes:
    """How the file begins.

    Raises:
        UserError: it is missing or empty, known to be something else, or a zip, as torch writes
            it, with a wrong checksum, which torch itself does not look at.
    """
    refuse(path.is_dir(), f"{path} is a folder; name a file")
    try:
        with open(path, "rb") as file:
            beginning = file.read(512)
    except FileNotFoundError:
        raise UserError(f"no weight file {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not beginning:
        raise UserError(f"{path} is empty; download it again")
    if is_safetensors(beginning):
        return beginning
    for begins, what in BEGINNINGS.items():
        if beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(begins):
            raise UserError(f"{path} is {what}")
    if beginning[257:262] == b"ustar":
        raise UserError(f"{path} is {ARCHIVE}")
    if beginning.startswith(b"PK"):
        check_zip(path)
    return beginning


def check_zip(path: Path) -> None:
    """Raises UserError if it is damaged or not one that torch.save has written."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, damaged = archive.namelist(), archive.testzip()
    except Exception as error:  # of damaged files zipfile raises many things
        raise UserError(
            f"{path} is cut off or damaged ({type(error).__name__}); download or copy it again"
        ) from None
    if damaged:
        raise UserError(
            f"{path} is damaged: {damaged} in it has a wrong checksum; download or copy it again"
        )
    for ends, what in MEMBERS.items():
        if any(name.endswith(ends) for name in names):
            raise UserError(f"{path} is {what}")
    if not any(name.endswith("data.pkl") for name in names):
        raise UserError(f"{path} is {ARCHIVE}: {', '.join(names[:3]) or 'nothing at all'}")


def is_safetensors(beginning: bytes) -> bool:
    """Does a file begin with the size of a header, 100 MB at most, and the header in JSON?"""
    return beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") <= 100_000_000


def read_safetensors(path: Path) -> State:
    """The tensors of a file of Hugging Face's safetensors.

    Source: its format, https://github.com/huggingface/safetensors: the size of the header in 8
    bytes, the header in JSON with the place of each tensor behind it, and the tensors, little
    endian and without gaps.
    """
    content = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    raw = torch.frombuffer(content, dtype=torch.uint8)[begin:]
    places = {name: slice(*entry["data_offsets"]) for name, entry in header.items()}
    if sum(place.stop - place.start for place in places.values()) != len(raw):
        raise ValueError("it is longer or shorter than its tensors")
    return {  # clone: a dtype wants its address aligned
        name: raw[places[name]].clone().view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


def unwrap(content: Any, path: Path) -> State:
    """The state dict inside, with keys as the network itself has them."""
    if isinstance(content, dict) and content.keys() >= OWN_KEYS:
        raise UserError(
            f"{path} is a checkpoint of this software; start from it with --pretrained {path} and "
            "without --pretrained-file"
        )
    while isinstance(content, dict):
        inner = [content[name] for name in WRAPPERS if isinstance(content.get(name), dict)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no state dict but {type(content).__name__}")
    if other := [str(name) for name, value in content.items() if not torch.is_tensor(value)]:
        raise UserError(
            f"{path} holds no state dict, or one by an unknown name: {', '.join(other[:5])}; "
            "save that alone: torch.save(STATE_DICT, NEW)"
        )
    state = {PREFIXES.sub("", str(name)): value for name, value in content.items()}
    if len(state) < len(content):
        raise UserError(f"{path} holds two networks in one state dict; save one of them alone")
    return state
