"""Who may import whom, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"main", "opts", "config", "models", "pt_dataset", "utils"}
# these join the layers
JOINTS = {ROOT / "main.py", *(ROOT / "utils" / name for name in ("resolve.py", "use.py"))}
FILES = [
    *ROOT.glob("*.py"),
    *(f for d in ("models", "pt_dataset", "utils") for f in (ROOT / d).rglob("*.py")),
]


def imported_roots(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_follow_the_layers(file):
    if file in JOINTS or file.parent == ROOT / "utils" / "actions":
        return
    layer = file.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = {
        "opts": {"config"},
        "config": set(),
        **{name: {"config", name} for name in ("models", "pt_dataset", "utils")},
    }[layer]
    assert set(imported_roots(file)) & OURS <= allowed


def test_opts_and_config_import_nothing_slow():
    slow = {"torch", "torchvision", "numpy", "PIL", "av", "matplotlib"}
    for name in ("opts.py", "config.py"):
        assert not set(imported_roots(ROOT / name)) & slow


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_below_main_takes_the_options_namespace(file):
    if file.parent == ROOT or file in JOINTS:
        return
    names = {
        a.arg
        for n in ast.walk(ast.parse(file.read_text()))
        if isinstance(n, ast.arguments)
        for a in n.args
    }
    assert "opts" not in names
