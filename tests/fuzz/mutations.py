"""Seeded damage to what the project reads back: each reader refuses it, or reads what was there."""

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

# of the wrong type, or beyond what the right one allows, wherever they are put
STRANGERS: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**400, 2**63, 1.5, -1e300, math.nan, math.inf, "", "x", "\0"),
    *([], [[]], {}, {"x": 1}, [None], "1", b"x", (1, 2)),
)


def damaged(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A file after a fault of a disk or a copy, behind what was done to it."""
    at, length = rng.randrange(len(data)), rng.choice((1, 16, 512, 4096))
    flipped = bytes([data[at] ^ 1 << rng.randrange(8)])
    kinds = {
        "flip": data[:at] + flipped + data[at + 1 :],
        "cut": data[:at],
        "zeros": data[:at] + bytes(len(data[at : at + length])) + data[at + length :],
        "missing": data[:at] + data[at + length :],
        "twice": data[: at + length] + data[at:],
        "appended": data + data[at : at + length],
    }
    # most faults of disks are single bits
    kind = rng.choice(["flip"] * len(kinds) + list(kinds))
    return f"{kind} {length} at {at} of {len(data)}", kinds[kind]


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The keys and indices that lead to each value inside nested dicts, lists and tuples."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list | tuple) else items
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutated(content: Any, rng: random.Random, json_only: bool = False) -> tuple[str, Any]:
    """A copy of `content` with one value deleted, added, or replaced by one of another kind.

    Args:
        json_only: the copy must go into a JSON file.
    """
    content = copy.deepcopy(content)
    # a top-level key first, or all would fall upon the largest
    by_key: dict[Any, list[tuple]] = {}
    for path in places(content):
        by_key.setdefault(path[0], []).append(path)
    path = rng.choice(by_key[rng.choice(list(by_key))])
    parent, old = content, content
    for key in path:
        parent, old = old, old[key]
    kind = rng.choice(("delete", "add", "replace", "replace", "replace"))
    if isinstance(old, torch.Tensor | np.ndarray):
        kind = "replace"
    if kind == "delete" and isinstance(parent, dict | list):
        del parent[path[-1]]
    elif kind == "add" and isinstance(parent, dict | list):
        new = copy.deepcopy(old)
        parent.update({f"{path[-1]}_": new}) if isinstance(parent, dict) else parent.append(new)
    else:
        kind, new = stranger(old, rng, json_only)
        content = _with(content, path, new)
    return f"{'.'.join(map(str, path))}: {kind}", content


def stranger(old: Any, rng: random.Random, json_only: bool) -> tuple[str, Any]:
    """Something in the place of `old`, behind what it is."""
    if isinstance(old, torch.Tensor) and rng.random() < 0.8:
        changed = changed_arrays(old.numpy(), rng)
        return changed[0], torch.from_numpy(np.array(changed[1]))
    if isinstance(old, np.ndarray) and rng.random() < 0.8:
        return changed_arrays(old, rng)
    known = [new for new in STRANGERS if not (json_only and isinstance(new, bytes))]
    numbers = isinstance(old, int | float) and not isinstance(old, bool)
    if numbers and rng.random() < 0.3:
        known = [-old, old + 1, old * 1000, float(old), str(old), old + 0.5]
    if isinstance(old, list | tuple) and old and rng.random() < 0.5:
        known = [[*old, *old], old[1:], old[::-1], list(old), tuple(old)]
    new = rng.choice(known)
    return repr(new)[:60], new


def changed_arrays(old: np.ndarray, rng: random.Random) -> tuple[str, np.ndarray]:
    """Another shape, type or value in the place of an array."""
    flat = old.reshape(-1)
    kinds = {
        "longer": np.concatenate([flat, flat]),
        "shorter": flat[: len(flat) // 2],
        "empty": flat[:0],
        "a number": flat.sum() if flat.dtype.kind in "iuf" else flat[:1],
        "one more axis": old[None],
        "as float64": old.astype(np.float64) if old.dtype.kind in "iuf" else flat[:1],
        "as int64": flat.view(np.uint8).astype(np.int64),
        "negative": -old - 1 if old.dtype.kind in "if" else flat[:1],
    }
    if old.dtype.kind == "f" and len(flat):
        for value in (math.nan, math.inf, -math.inf):
            changed = flat.copy()
            changed[rng.randrange(len(flat))] = value
            kinds[f"one {value}"] = changed.reshape(old.shape)
    kind = rng.choice(list(kinds))
    return kind, kinds[kind]


def _with(content: Any, path: tuple, new: Any) -> Any:
    """`content` with `new` at `path`."""
    if not path:
        return new
    key, *rest = path
    inner = _with(content[key], tuple(rest), new)
    if isinstance(content, tuple):
        return (*content[:key], inner, *content[key + 1 :])
    content[key] = inner
    return content
