"""The rules of CONTRIBUTING.md that keep the path of one training short and open."""

import ast

import pytest

from benchmarks import structure

FILES = structure.product_files()
# what a training enters of a subfolder, each with the reason
ENTERED_ALL_THE_SAME = {
    "utils/recipes/__init__.py": "every run finds its recipe there",
    "utils/recipes/demo.py": "the recipe of the demo",
    "utils/recipes/i3d.py": "what stands for another data set",
    "pt_dataset/formats/frame_folder.py": "the demo set is kept as folders of frames",
    "pt_dataset/formats/frame_names.py": "which are in the order of their numbers",
}
# calls with which the code speaks to people; what they say is made elsewhere, see SPEAKERS
SAYING = {"info", "warning", "error", "print"}
# where sentences are made, beside the commands, the actions and the options
SPEAKERS = {
    "config.py": "who holds a lock, or that a disk knows none, and it alone knows",
    "utils/words.py": "of a run",
    "utils/results.py": "of an evaluation",
    "utils/precision.py": "why it is not the precision that was asked for, and it alone knows",
    "pt_dataset/loader.py": "how many processes fit into memory; it cannot see words.py",
}


def name_of(path):
    return str(path.relative_to(structure.ROOT))


def is_command(path):
    return '__name__ == "__main__"' in path.read_text(encoding="utf-8")


@pytest.fixture
def entered(path_of_training):
    return set(map(str, path_of_training))


@pytest.mark.slow
def test_what_stands_at_the_top_is_the_path_of_one_training_or_a_command(entered):
    tops = [path for path in FILES if path.parent.name in ("pt_dataset", "utils")]
    others = [name_of(p) for p in tops if p.name != "__init__.py" and not is_command(p)]
    assert [name for name in others if name not in entered] == []
    assert len(others) > 20


@pytest.mark.slow
def test_a_training_enters_no_subfolder(entered):
    rooms = [path for path in FILES if len(path.relative_to(structure.ROOT).parts) > 2]
    assert {name_of(path) for path in rooms} & entered == set(ENTERED_ALL_THE_SAME)


@pytest.mark.slow
def test_the_network_is_five_calls_from_the_command(watched_run):
    assert watched_run[1] <= 5


@pytest.mark.parametrize(("name", "most"), [("main.py", 250), ("opts.py", 420)])
def test_the_first_files_stay_short(name, most):
    assert structure.num_lines(structure.ROOT / name) <= most


def test_main_imports_few_modules():
    assert len(structure.imported_modules(structure.ROOT / "main.py")) <= 18


def test_no_function_is_longer_than_a_page():
    spans = {
        f"{name_of(p)}:{f.name}": structure.span(f) for p in FILES for f in structure.functions(p)
    }
    assert [name for name, span in spans.items() if len(span) > structure.LONG] == []


def test_no_list_of_option_names_is_kept_by_hand():
    assert list(structure.tuples_of_options()) == []


def test_data_is_pulled_and_not_pushed():
    assert structure.count_annotations("Callable") <= 12
    for path in FILES:
        assert not [n for n in ast.walk(structure.syntax_tree(path)) if isinstance(n, ast.Nonlocal)]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_state_of_a_loader_is_not_set_from_outside(path):
    if name_of(path) == "pt_dataset/loader.py":
        return
    for node in ast.walk(structure.syntax_tree(path)):
        for target in getattr(node, "targets", []):
            if isinstance(target, ast.Attribute):
                assert "loader" not in ast.unparse(target.value), f"line {target.lineno}"


def sentences_said(path):
    """Lines in which a text of several words is made inside a call that says it."""
    for call in ast.walk(structure.syntax_tree(path)):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in SAYING:
            texts = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant)]
            if len(" ".join(t for t in texts if isinstance(t, str)).split()) > 8:
                yield call.lineno


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sentences_are_made_in_few_places(path):
    top = len(path.relative_to(structure.ROOT).parts) < 3
    if top and not is_command(path) and name_of(path) not in SPEAKERS:
        assert list(sentences_said(path)) == []
