"""Where recipes are, and that a run reads no more of them than it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from config import ARCHS, UserError
from utils import recipes

ROOT = Path(__file__).resolve().parents[1]
FILES = {path.stem for path in (ROOT / "utils" / "recipes").glob("*.py")} - {"__init__"}


def found(arch, dataset, start, modality):
    try:
        key = recipes.recipe_key(arch, dataset, start)
        return key, recipes.find_recipe(arch, dataset, start, modality)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("arch", [*ARCHS, "tsm", "toy"])
def test_what_has_been_read_before_changes_no_recipe(arch, monkeypatch):
    modalities = ARCHS[arch].modalities if arch in ARCHS else ["rgb", "flow"]
    runs = [
        (arch, dataset, start, modality)
        for dataset in ("demo", recipes.LITTLE_DATA, "ucf101", "hmdb51", "kinetics400", "x3d", "..")
        for start in ("scratch", "imagenet", "kinetics", "checkpoint")
        for modality in modalities
    ]
    all_read = {run: found(*run) for run in runs}
    shared = {k: v for k, v in recipes.MODALITIES.items() if k == ("any", "flow")}
    for run in runs:
        recipes.load.cache_clear()
        monkeypatch.setattr(recipes, "RECIPES", {})
        monkeypatch.setattr(recipes, "EXPECTED", {})
        monkeypatch.setattr(recipes, "MODALITIES", dict(shared))
        assert found(*run) == all_read[run]


def test_a_variant_is_found_before_anything_else_was_read(monkeypatch):
    recipes.load.cache_clear()
    monkeypatch.setattr(recipes, "RECIPES", {})
    options = {"arch": "x3d", "variant": "x3d_s", "dataset": "mine"}
    assert recipes.recipe_run(options) == ("x3d_s", "mine", "scratch")
    assert recipes.find_recipe("x3d_s", "mine", "scratch").clip_len == 13


@pytest.mark.parametrize(
    "argv, files",
    [
        ("--arch i3d --dataset demo", {"i3d", "demo"}),
        ("--arch i3d --dataset x --recipe small", {"i3d", "small", "tsn"}),
        ("--arch swin3d --dataset x", {"torchvision_video"}),
    ],
)
def test_a_run_reads_the_recipes_of_its_architecture(argv, files):
    code = "import sys, opts; opts.parse_opts(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *argv.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name for name in FILES if f"utils.recipes.{name}" in done.stdout.split()} == files


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_file_has_the_recipes_of_its_architectures_alone(file):
    """Others would be found only after a run that asked for this file."""
    module = vars(sys.modules[f"utils.recipes.{file}"])
    keys = [k for table in ("RECIPES", "EXPECTED", "MODALITIES") for k in module.get(table, {})]
    assert keys
    for arch, *rest in keys:
        arch = "x3d" if arch.startswith("x3d_") else arch
        assert file in (recipes.file_of(arch), recipes.file_of(rest[0]))
