"""What a run has written, for a page, a report, or TensorBoard that goes on with it."""

import json
import socket
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from config import (
    ARCHS,
    Loading,
    Machine,
    Recipe,
    UserError,
    first_misfit,
    in_form,
    misfit,
    refuse,
)
from utils.loggers import read_lines
from utils.recipes import find_recipe, recipe_run

# what the recipe of a run depends on, and the values of those that had no such option
WHICH = {
    "arch": str,
    "dataset": str,
    "split": int,
    "pretrained": str | None,
    "recipe": Literal["paper", "small"],
    "modality": str,
    "arch_args": dict,
}
EARLIER = {"pretrained": None, "recipe": "paper", "modality": "rgb", "arch_args": {}}


class Folder(NamedTuple):
    """What tells a run folder from those of the same name."""

    host: str
    inode: int
    path: str

    @classmethod
    def of(cls, run_dir: Path) -> "Folder":
        return cls(socket.gethostname(), run_dir.stat().st_ino, str(run_dir.resolve()))

    def is_same(self, other: "Folder") -> bool:
        # a run may go on on another host, and a folder may be made anew
        once_more = self.host == other.host or self.inode == other.inode
        return self.path == other.path and once_more


def step_names(run_dir: Path) -> set[str]:
    """The names of all that the steps of a run have logged."""
    return {name for metrics in read_lines(run_dir / "steps.jsonl") for name in metrics}


def read_validation(run_dir: Path) -> dict[str, Any]:
    """What ValidationFiles wrote; nothing if there is no such file; raises UserError for others."""
    return read_form(run_dir / "validation.json", Validation)


def read_form(path: Path, kind: type) -> dict[str, Any]:
    """A JSON file of the form of a dataclass; nothing if there is no such file.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # of text or of JSON
        raise UserError(f"{path} is damaged ({error}); delete it") from None
    problem = misfit("it", found, kind)
    refuse(problem, f"{path} is damaged: {problem}; delete it")
    return found


@dataclass
class KnownMistake:
    """A video that was taken for another class."""

    path: str
    class_name: str
    taken_for: str
    score: float  # of the wrong class, between 0 and 1


@dataclass
class Validation:
    """The content of validation.json."""

    epoch: int
    class_names: list[str]
    confusion: list[list[int]]  # a row of counts for each true class
    mistakes: list[KnownMistake] = field(default_factory=list)  # not in older files


def read_options(run_dir: Path) -> dict[str, Any]:
    """The options of a run that have a value."""
    found = _options(run_dir).items()
    return {name: value for name, value in found if value not in (None, {})}


def _options(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "options.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of text or of JSON
        raise UserError(f"{path} cannot be read: {error}") from None
    refuse(not isinstance(found, dict), f"{path} does not hold the options of a run")
    if "arch" not in found:
        return found
    found = EARLIER | found
    arch, modality = found["arch"], found["modality"]
    problem = first_misfit((name, found.get(name), form) for name, form in WHICH.items())
    if not problem and (arch not in ARCHS or modality not in ARCHS[arch].modalities):
        problem = f"{arch} with modality {modality} is not known"
    refuse(problem, f"{path} does not hold the options of a run: {problem}")
    return found


class Differing(NamedTuple):
    """An option that a run has otherwise than its recipe."""

    name: str
    value: Any
    usual: Any  # of the recipe, or the default where no recipe has one


def differing_options(run_dir: Path) -> list[Differing]:
    """Those that change a result, or how it is computed, in the order of --help.

    Raises:
        UserError: the file cannot be read, or there is no recipe for the run.
    """
    options = in_form(Recipe, _options(run_dir))
    if "arch" not in options:
        return []
    recipe = find_recipe(*recipe_run(options), options["modality"])
    usual = {
        f.name: getattr(recipe, f.name, f.default)
        for kind in (Recipe, Machine, Loading)
        for f in fields(kind)
        # what a resumed run has anew is a matter of the machine
        if "help" in f.metadata and f.metadata.get("resumed") != "own"
    }
    arch_args = options["arch_args"]
    usual |= dict.fromkeys(arch_args) | recipe.arch_args
    known = {name: value for name, value in (options | arch_args).items() if name in usual}
    return [Differing(n, v, usual[n]) for n, v in known.items() if v != usual[n]]


def as_typed(value: object) -> str:
    """An option; what has no value is `none`."""
    return "none" if value in (None, [], (), {}) else readable(value)


def readable(value: object) -> str:
    """Four digits of a number; the values of a list without brackets."""
    if value is None:  # JSON has no word for infinity
        return "no number"
    if isinstance(value, list | tuple):
        return " ".join(map(readable, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
