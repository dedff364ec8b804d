"""The documents name only what there is: commands and options, files, and the length of the path.

Every command line that stands in them is given to the parser that a user would meet. Words in
capitals are placeholders, and no file that a command names needs to be there.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import json
import re
import runpy
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from torch.distributed.run import get_args_parser

import opts

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("models", "pt_dataset", "utils")
FOLDERS = (*ROOMS, "benchmarks", "pretrained", "tests", "videos_dataset")
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md"))),
]
TOOLS = ("make_", "extract_", "check_", "pack_", "browse", "compare", "fuse_")  # names begin so
PROMISE = re.compile(r"[Pp]ath of one training(?: is|:) ([\d,]+) lines(?: in (\d+) files)?")
SLACK = 0.05  # the path may be shorter than promised by this share
RUN = ["--arch", "i3d", "--dataset", "NAME"]  # what a fragment of a command leaves out


class Command(NamedTuple):
    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"


class Understood(BaseException):
    """A parser has taken the whole command line."""


def name_of(document):
    return str(document.relative_to(ROOT))


def without_code_blocks(document):
    text = document.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(document):
    """Those marked `sh`, and indented lines."""
    text = document.read_text(encoding="utf-8")
    yield from re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"^    (.*)$", without_code_blocks(document), flags=re.MULTILINE)


def inline_code(document):
    for code in re.findall(r"`([^`]+)`", without_code_blocks(document)):
        yield " ".join(code.split())


def simple_commands(shell):
    """The words of each command, without what is set before it; of `bash -c`, those inside."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if not set(word) <= set(";&|"):
                words.append(word)
                continue
            if "bash" in words and "-c" in words:
                yield from simple_commands(words[words.index("-c") + 1])
            while words and (re.match(r"\w+=", words[0]) or words[0] == "exec"):
                del words[0]
            if words:
                yield tuple(words)
            words = []


def is_checked(words):
    program = words[0].removeprefix(".venv/bin/")
    script = program.endswith(".py") and len(words) > 1
    return script or re.fullmatch(r"python[\d.]*|torchrun|make", program) is not None


def commands():
    for document in DOCUMENTS:
        begins = re.compile(r"[\w./]*(python|torchrun|make|\.py) ")
        inline = filter(begins.match, inline_code(document))
        for shell in (*code_blocks(document), *inline):
            for words in filter(is_checked, simple_commands(shell)):
                yield Command(name_of(document), words)


COMMANDS = list(dict.fromkeys(commands()))
INLINE = sorted({code for document in DOCUMENTS for code in inline_code(document)})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_main(words, folder):
    """Gives the words to opts.py, with what a fragment leaves out."""
    words = [word.replace("ARCH", "i3d") for word in words if word != "..."]
    if "--resume" in words:
        checkpoint = folder / words[words.index("--resume") + 1]
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        run = {"arch": "i3d", "dataset": "NAME"}  # what the run of the checkpoint was
        checkpoint.with_name("options.json").write_text(json.dumps(run))
    elif not {"--arch", "--help", "--list-weights"} & set(words):
        words = RUN + words
    opts.parse_opts(words)


def find_script(name):
    """A script by its path, or by its name alone."""
    places = (ROOT, *(ROOT / folder for folder in FOLDERS))
    return next((str(place / name) for place in places if (place / name).is_file()), None)


def check_script(script, words):
    """Runs a script until its parser is through."""
    if "Parser(" not in Path(script).read_text(encoding="utf-8"):
        assert not words, f"{script} takes no arguments"
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise Understood

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Understood):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
        patch.setattr(sys, "argv", [script, *words])
        patch.setattr(sys, "path", [*sys.path])  # the scripts put their place there
        runpy.run_path(script, run_name="__main__")


def check_python(words, folder):
    """What follows `python`."""
    if words[0] == "-c":
        ast.parse(words[1])
    elif words[0] == "-m":
        spec = importlib.util.find_spec(words[1])
        assert spec, f"there is no module {words[1]}"
        if words[1].startswith(FOLDERS):
            check_script(spec.origin, words[2:])
        files = [word for word in words[2:] if word.endswith(".py")]
        assert all(map(find_script, files)), f"there is no {files}"
    elif words[0] == "main.py":
        check_main(words[1:], folder)
    else:
        script = find_script(words[0])
        assert script, f"there is no {words[0]}"
        check_script(script, words[1:])


def check(command, folder):
    """Raises an error if the command cannot be understood."""
    program, *words = command.words
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert set(words) <= set(targets)
    elif program == "torchrun":
        parsed = get_args_parser().parse_args(words)
        check_python([parsed.training_script, *parsed.training_script_args], folder)
    else:
        check_python([program, *words] if program.endswith(".py") else words, folder)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_is_understood(command, folder):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            check(command, folder)
    except SystemExit as ended:
        assert not ended.code, said.getvalue()  # 0 after --help


def test_commands_are_found_where_they_stand():
    found = {shlex.join(c.words) for c in COMMANDS}
    assert len(found) > 50
    assert {"make demo", "python -m utils.live_page.assets"} <= found
    # inside quotes, on the second line of a command
    assert "python main.py --arch i3d --dataset ucf101 --resume auto" in found


@pytest.mark.parametrize(
    "line",
    [
        "python main.py --arch i3d --dataset NAME --no-such-option",
        "python main.py --arch i3d --dataset NAME --crop nowhere",
        "python main.py --resume best.pth --predict a.mp4 --epochs 3",  # do not go together
        "torchrun --nproc_per_node=4 main.py --arch i3d --dataset NAME --no-such-option",
        "torchrun --no-such-option=4 main.py --arch i3d --dataset NAME",
        "python pt_dataset/make_json.py folder NAME FRAMES --no-such-option",
        "compare.py A/scores.npz",
        "python pt_dataset/no_such_tool.py",
        "python -m utils.no_such_module",
        "make nothing",
    ],
)
def test_a_command_that_is_wrong_is_found(line, folder):
    with pytest.raises(AssertionError):
        test_every_command_is_understood(Command("here", tuple(shlex.split(line))), folder)


@cache
def known_options():
    """All that the help of main.py, of the tools and of torchrun tells of."""
    helps = [opts.build_parser().format_help(), get_args_parser().format_help()]
    for folder in ("pt_dataset", "utils", "benchmarks"):
        for script in sorted((ROOT / folder).rglob("*.py")):
            if "Parser(" not in script.read_text(encoding="utf-8"):
                continue
            sets = [["folder"], ["hmdb51"]] if script.name == "make_json.py" else []
            for first in [[], *sets]:
                said = io.StringIO()
                with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
                    check_script(str(script), [*first, "--help"])
                helps.append(said.getvalue())
    return set(re.findall(r"--[\w-]+", "\n".join(helps)))


def test_every_option_that_is_named_exists():
    words = [word.partition("=")[0] for code in INLINE for word in code.split()]
    named = {word for word in words if re.fullmatch("--[a-z][a-z-]+", word)}
    foreign = {"--shm-size", "--no-build-isolation"}  # of docker and pip
    assert len(named) > 50
    assert named - foreign <= known_options()


@pytest.mark.parametrize("code", [c for c in INLINE if re.fullmatch(r"--[a-z-]+ [a-z0-9.x]+", c)])
def test_every_value_that_is_named_is_understood(code):
    flag, value = code.split()
    if flag in opts.build_parser().format_help():  # those of tools stand in whole commands
        opts.build_parser().parse_args([*RUN, flag, value])


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_and_every_file_that_is_named_exists(document):
    links = re.findall(r"\]\(([^)\s#]+)[^)]*\)", without_code_blocks(document))
    local = [link for link in links if not link.startswith("http")]
    missing = [link for link in local if not (document.parent / link).exists()]
    for name in inline_code(document):
        file = re.fullmatch(r"[\w./-]+\.(py|md|toml)|requirements[\w-]*\.txt|Makefile", name)
        folder = re.fullmatch(r"[\w./-]+/", name) and name.split("/")[0] in FOLDERS
        if (file or folder) and not re.search(r"\b[A-Z]{3,}\b(?!\.md)", name):  # no placeholder
            places = (document.parent / name, ROOT / name)
            if not any(place.exists() for place in places) and not find_script(name):
                missing.append(name)
    assert not missing


@pytest.mark.parametrize(
    "code",
    [c for c in INLINE if re.fullmatch(r"(config|models|pt_dataset|recipes|utils)(\.\w+)+", c)],
)
def test_every_name_that_is_given_with_its_module_exists(code):
    module, _, name = code.rpartition(".")
    assert name == "py" or hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_name_that_is_given_with_its_file_stands_there(document):
    text = " ".join(without_code_blocks(document).split())
    for name, whose, file in re.findall(r"`(\w+)`(?: in `(\w+)`)? (?:in|of) `([\w/]+\.py)`", text):
        for word in filter(None, (name, whose)):
            code = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"\b{word}\b", code), f"there is no {word} in {file}"


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


def test_each_way_to_add_something_is_told_in_ten_lines():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (Add .*)\n((?:(?!## ).*\n)*)", text, flags=re.MULTILINE)
    assert len(sections) >= 6
    for title, body in sections:
        assert len([line for line in body.splitlines() if line]) <= 10, title


@pytest.mark.parametrize("room", ROOMS)
def test_the_guide_of_a_room_names_all_of_its_files(room):
    named = set(inline_code(ROOT / room / "README.md"))
    for path in sorted((ROOT / room).rglob("*.py")):
        if path.stat().st_size:
            top = path.parent.name == room
            names = {path.name} if top else {path.stem, f"{path.parent.name}/"}
            assert names <= named, f"{path} is not named"


@pytest.mark.parametrize("room", ROOMS)
def test_the_subfolders_of_a_room_hold_what_its_guide_says(room):
    guide = (ROOT / room / "README.md").read_text(encoding="utf-8")
    names = re.compile("`(.+?)`")
    rows = re.findall(r"^\| `(\w+)/` \| (.*) \|$", guide, flags=re.MULTILINE)
    named = [Path(folder, f"{name}.py") for folder, row in rows for name in names.findall(row)]
    assert named
    assert not [str(path) for path in named if not (ROOT / room / path).exists()]


def stands_open(path, room):
    """Is it at the top of a room, and no command?"""
    return path.parent == Path(room) and not path.name.startswith(TOOLS)


@pytest.mark.slow
@pytest.mark.parametrize("room", ["", *ROOMS])
def test_the_path_of_one_training_is_as_long_as_promised(room, path_of_training):
    text = (ROOT / room / "README.md").read_text(encoding="utf-8")
    promise = PROMISE.search(" ".join(text.split()))
    assert promise, "it is not said"
    promised = int(promise[1].replace(",", ""))
    files = [p for p in path_of_training if not room or stands_open(p, room)]
    measured = sum(path_of_training[p] for p in files)
    assert promised * (1 - SLACK) <= measured <= promised, f"{measured} lines"
    assert promise[2] in (None, str(len(files))), f"{len(files)} files"


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_the_guide_of_a_room_lists_the_path_of_one_training_first(room, path_of_training):
    guide = (ROOT / room / "README.md").read_text(encoding="utf-8")
    first = re.search(r"path of one training:[^|]*\n\n((?:\|.*\n)+)", guide)
    listed = re.findall(r"^\| `([\w.]+)` \|", first[1], flags=re.MULTILINE)
    assert set(listed) == {path.name for path in path_of_training if stands_open(path, room)}
