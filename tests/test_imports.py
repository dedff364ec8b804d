"""Who may import whom, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"main", "opts", "config", "recipes", "models", "pt_dataset", "utils"}
# these join the rooms, and only they import each other
JOINTS = ("utils.run", "utils.build", "utils.words", "utils.actions", "utils.resume.start")
JOINTS += ("utils.memory.of_run",)
FILES = [
    *ROOT.glob("*.py"),
    *(f for d in ("models", "pt_dataset", "utils") for f in (ROOT / d).rglob("*.py")),
]


def imported_modules(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module):
    """Its folder; recipes are data, as config is, and a room of their own."""
    return "recipes" if f"{module}.".startswith("utils.recipes.") else module.split(".")[0]


def imported_roots(file):
    return {room_of(module) for module in imported_modules(file)}


def module_of(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def joins(module):
    return any(module == joint or module.startswith(f"{joint}.") for joint in JOINTS)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_a_room_imports_config_recipes_and_itself(file):
    module = module_of(file)
    if module == "main" or joins(module):
        return
    room = room_of(module)
    allowed = {"opts": {"config", "recipes"}, "recipes": {"config", "recipes"}, "config": set()}
    anywhere = {"config", "recipes", room}
    assert imported_roots(file) & OURS <= allowed.get(room, anywhere)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_only_main_and_the_joints_import_joints(file):
    module = module_of(file)
    if module != "main" and not joins(module):
        assert not [found for found in imported_modules(file) if joins(found)]


def test_options_and_recipes_import_nothing_slow():
    slow = {"torch", "torchvision", "numpy", "PIL", "av", "matplotlib"}
    for file in (ROOT / "opts.py", ROOT / "config.py", *(ROOT / "utils" / "recipes").glob("*.py")):
        assert not set(imported_roots(file)) & slow


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_nothing_below_main_takes_the_options(file):
    if file.parent == ROOT or joins(module_of(file)):
        return
    names = {
        a.arg
        for n in ast.walk(ast.parse(file.read_text()))
        if isinstance(n, ast.arguments)
        for a in n.args
    }
    assert "opts" not in names
