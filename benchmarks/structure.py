"""How the code is laid out: how long the path of one training is, and what lies beside it.

    python benchmarks/structure.py

The path is what a run of the demo set enters (two epochs, without the live page), as coverage.py
sees it. tests/test_house.py keeps what is promised of it.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("models", "pt_dataset", "utils")
LONG = 60  # lines of a function
# what only the page needs that a run leaves about itself; its steps need none of it
AFTERWARDS = ("utils/report", "utils/live_page/run_files.py")
DEMO = [
    *("--arch", "i3d", "--dataset", "demo", "--name", "path", "--no-visdom", "--device", "cpu"),
    *("--epochs", "2", "--workers", "0", "--batch-size", "32", "--clip-len", "8"),
    *("--crop-size", "32", "--short-side", "32", "--views", "1x1", "--precision", "fp32"),
]
# main.py on a demo set of few videos; it writes the functions of ours between the command and the
# first call of the network into the file HOPS, and the lines executed into LINES
RUN = """
import json, runpy, sys, traceback
import coverage
from torch import nn  # while nothing is traced, which takes twice the time
root = sys.argv.pop(1)
sys.argv[0] = f"{root}/main.py"
sys.path.insert(0, root)
trace = coverage.Coverage(data_file=None, source=[root])
trace.start()
from pt_dataset import make_demo
make_demo.NUM_VIDEOS = {"train": 32, "test": 8}
call = nn.Module.__call__
def told(module, *args, **kwargs):
    if type(module).__name__ == "ClipClassifier" and module.training:
        frames = [f for f in traceback.extract_stack() if f.filename.startswith(root)]
        frames = [f for f in frames if "site-packages" not in f.filename]  # of a .venv in the root
        with open("HOPS", "w") as file:
            file.write(" ".join(f.name for f in frames))
        nn.Module.__call__ = call
    return call(module, *args, **kwargs)
nn.Module.__call__ = told
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    trace.stop()
    data = trace.get_data()
    with open("LINES", "w") as file:
        json.dump({name: data.lines(name) for name in data.measured_files()}, file)
"""


def product_files(root: Path = ROOT) -> list[Path]:
    """All code but tests and benchmarks."""
    rooms = (path for room in ROOMS for path in sorted((root / room).rglob("*.py")))
    return [*sorted(root.glob("*.py")), *rooms]


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def num_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(path: Path) -> list[ast.FunctionDef]:
    """Of a file, methods and functions inside functions among them."""
    return [node for node in ast.walk(syntax_tree(path)) if isinstance(node, ast.FunctionDef)]


def span(function: ast.FunctionDef) -> range:
    """The lines of a function, decorators included."""
    first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
    return range(first, (function.end_lineno or first) + 1)


def enters(function: ast.FunctionDef, executed: set[int]) -> bool:
    """Was a line below its `def` executed?"""
    return any(line in executed for line in range(function.body[0].lineno, span(function).stop))


@dataclass(frozen=True)
class Entered:
    """What a run executed of a file of which it entered a function, or that has tables alone."""

    path: Path
    num_lines: int  # all of the file
    num_entered: int  # without the functions that were not entered


def lines_entered(path: Path, executed: set[int]) -> Entered | None:
    """None where nothing but the top level was executed, unless there is nothing else."""
    found = functions(path)
    left = [f for f in found if not enters(f, executed)]
    has_tables = executed and not found and num_lines(path)
    if len(left) == len(found) and not has_tables:
        return None
    lines = {line for function in left for line in span(function)}
    return Entered(path, num_lines(path), num_lines(path) - len(lines))


@cache
def watched_run(root: Path = ROOT) -> tuple[dict[Path, set[int]], int]:
    """The lines that a run of main.py executes, by file, and the calls from the command to the
    network, on the way of one training step; in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "run.py"
        script.write_text(RUN)
        command = [sys.executable, str(script), str(root), *DEMO]
        env = os.environ | {"COVERAGE_CORE": "ctrace"}
        subprocess.run(command, check=True, cwd=folder, env=env, capture_output=True)
        found = json.loads(Path(folder, "LINES").read_text())
        lines = {Path(name): set(executed) for name, executed in found.items()}
        return lines, len(Path(folder, "HOPS").read_text().split()) - 1  # without the command


def path_of_training(root: Path = ROOT) -> list[Entered]:
    """The files that a training of the demo set enters, in the order of `product_files`."""
    executed, _ = watched_run(root)
    left_out = [root / name for name in AFTERWARDS]
    files = [p for p in product_files(root) if not any(map(p.is_relative_to, left_out))]
    found = (lines_entered(path, executed.get(path, set())) for path in files)
    return [entered for entered in found if entered]


def hops(root: Path = ROOT) -> int:
    """Calls from the command to the network, on the way of one training step."""
    return watched_run(root)[1]


def imported_modules(path: Path) -> set[str]:
    """The modules of ours that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if is_module(name)}
            found |= modules
            if len(modules) < len(inside):
                found.add(node.module)
    return {name for name in found if is_module(name)}


def is_module(name: str) -> bool:
    """Is there a file of ours of this dotted name?"""
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def tuples_of_options(root: Path = ROOT) -> Iterator[str]:
    """Where three or more names of options stand in a row as texts."""
    names = option_names()
    for path in product_files(root):
        for node in ast.walk(syntax_tree(path)):
            if not isinstance(node, ast.Tuple | ast.List | ast.Set):
                continue
            texts = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            if len(texts) > 2 and all(text in names for text in texts):
                yield f"{path.relative_to(root)}:{node.lineno}"


def option_names() -> set[str]:
    import config

    parts = [kind for kind in vars(config).values() if isinstance(kind, type)]
    recipe = {f.name for kind in parts if kind is config.Recipe for f in fields(kind)}
    return recipe | {"workers", "on_bad_frame", "max_bad_share", "seed", "resume", "pretrained"}


def count_annotations(word: str, root: Path = ROOT) -> int:
    """How often `word[` stands in main.py, pt_dataset and utils."""
    files = [
        p for p in product_files(root) if p.relative_to(root).parts[0] in ("main.py", *ROOMS[2:])
    ]
    return sum(path.read_text(encoding="utf-8").count(f"{word}[") for path in files)


def measured(path: list[Entered], root: Path = ROOT) -> dict[str, int]:
    """The table of the layout; `path` is the one of a training."""
    files = product_files(root)
    lengths = [len(span(f)) for file in files for f in functions(file)]
    return {
        "path of one training: files": len(path),
        "path of one training: lines of these files": sum(e.num_lines for e in path),
        "path of one training: lines entered": sum(e.num_entered for e in path),
        "lines of all code": sum(map(num_lines, files)),
        "files of all code": len(files),
        "lines of main.py": num_lines(root / "main.py"),
        "lines of opts.py": num_lines(root / "opts.py"),
        "modules of ours that main.py imports": len(imported_modules(root / "main.py")),
        f"functions over {LONG} lines": sum(length > LONG for length in lengths),
        "longest function": max(lengths),
        "hops from the command to the network": hops(root),
        "tuples of option names": len(list(tuples_of_options(root))),
        "annotations Callable[...]": count_annotations("Callable", root),
    }


def main() -> None:
    how = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=how).parse_args()
    sys.path.insert(0, str(ROOT))
    path = path_of_training()
    for entered in path:
        name = entered.path.relative_to(ROOT)
        print(f"{entered.num_lines:6} {entered.num_entered:6}  {name}")
    for name, value in measured(path).items():
        print(f"{value:6}  {name}")


if __name__ == "__main__":
    main()
