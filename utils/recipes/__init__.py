"""How each architecture is trained on each data set, and how a run finds its recipe.

One file for each architecture, `demo.py` for the demo set and `small.py` for --recipe small; a file
is read when a run first asks for it. Each number has its source or reason beside it.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from config import ARCHS, Recipe, UserError, start_of

# in the place of a data set in the tables below: with it, they are looked up for any
LITTLE_DATA = "--recipe small"
# (architecture, data set, start) before ("any", data set, start) before (architecture, start)
RECIPES: dict[tuple[str, ...], Recipe] = {}
# published accuracy with its protocol; of RGB
EXPECTED: dict[tuple[str, ...], str] = {}
# what another modality than RGB changes in a recipe, looked up as that is
MODALITIES: dict[tuple[str, ...], dict[str, Any]] = {
    ("any", "flow"): {"snippet_len": 0, "mean": (0.5,) * 2, "std": (0.5,) * 2}  # [-1, 1], as I3D's
    | {"augment": "none", "erasing": 0.0},
}


def file_of(name: str) -> str:
    """The file here, without .py, of what stands for an architecture or a data set in the keys."""
    entry = ARCHS.get(name)
    others = {"tsm": "tsn", LITTLE_DATA: "small"}
    return entry.file if entry and entry.file else others.get(name, name)


@cache
def load(name: str) -> None:
    """Adds to the tables what the file of an architecture or a data set has, if there is one."""
    file = file_of(name)
    if any(file == module.name for module in iter_modules(__path__)):
        tables = vars(import_module(f"utils.recipes.{file}"))
        RECIPES.update(tables["RECIPES"])
        EXPECTED.update(tables.get("EXPECTED", {}))
        MODALITIES.update(tables.get("MODALITIES", {}))


def recipe_data(recipe: str, dataset: str) -> str:
    """What stands for the data set in the keys of recipes, by the value of --recipe."""
    return LITTLE_DATA if recipe == "small" else dataset


def recipe_run(options: Mapping[str, Any]) -> tuple[str, str, str]:
    """What stands for a run in the keys of recipes; there, a shifted TSN is TSM, and a variant
    that has a recipe of its own is an architecture."""
    arch, pretrained = options["arch"], options.get("pretrained")
    load(arch)
    arch_args, start = options.get("arch_args") or {}, start_of(pretrained)
    theirs = arch_args.get("shift", (pretrained or "").startswith("tsm_"))
    if arch == "tsn" and options.get("shift", theirs):
        arch = "tsm"
    variant = options.get("variant", arch_args.get("variant"))
    if (variant, start) in RECIPES:
        arch = variant
    data = recipe_data(options.get("recipe", "paper"), options["dataset"])
    return arch, data, start


def recipe_key(arch: str, dataset: str, start: str) -> tuple[str, ...]:
    """The key in RECIPES of a run that starts from `start`: "scratch", "imagenet" or "kinetics".

    "checkpoint", one of this software, has seen videos like the weights of Kinetics, and is
    fine-tuned like those.

    Raises:
        UserError: nobody has written a recipe for the architecture.
    """
    load(arch)
    load(dataset)
    start = "kinetics" if start == "checkpoint" else start
    for key in (*keys(arch, dataset, start), (arch, "scratch")):
        if key in RECIPES:
            return key
    raise UserError(
        f"{arch} has no recipe: add ('{arch}', 'scratch') to RECIPES in "
        f"utils/recipes/{file_of(arch)}.py,"
        " or train on --dataset demo or with --recipe small, which need none"
    )


def keys(arch: str, dataset: str, last: str) -> list[tuple[str, ...]]:
    """From the particular to the general."""
    return [(arch, dataset, last), ("any", dataset, last), (arch, last), ("any", last)]


def find_recipe(arch: str, dataset: str, start: str, modality: str = "rgb") -> Recipe:
    """The recipe of `recipe_key`; what it expects is known for RGB alone."""
    key = recipe_key(arch, dataset, start)
    changes: dict[str, Any] = {"expected": EXPECTED.get((arch, dataset, start), "")}
    if key[0] == "any" and (arch, "scratch") in RECIPES:  # the network itself is its own recipe's
        changes["arch_args"] = RECIPES[arch, "scratch"].arch_args
    if modality != "rgb":
        known = next(MODALITIES[k] for k in keys(arch, dataset, modality) if k in MODALITIES)
        changes |= known | {"modality": modality, "expected": ""}
    return replace(RECIPES[key], **changes)
