"""What config.py gives to every room beside its tables."""

from contextlib import ExitStack

import pytest

from config import whole


def test_a_file_is_replaced_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), whole(path) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_of_several_files_none_is_replaced_before_all_are_written(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with pytest.raises(UnicodeEncodeError), ExitStack() as stack:
        for path, text in zip(paths, ("new", "\udcff"), strict=True):
            stack.enter_context(whole(path)).write_text(text, encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_the_longest_length_can_be_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    with whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
