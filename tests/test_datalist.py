import json

import pytest

from config import UserError
from pt_dataset.datalist import Video, read_classes, read_list, resolve, write_list

GOOD = {"path": "frames/a", "class_name": "run", "label": 1, "num_frames": 9}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_list_comes_back_as_it_was_written(tmp_path):
    inside, outside = (
        str(tmp_path / "frames" / "a b"),
        str(tmp_path.parent / "elsewhere" / "\u00e9"),
    )
    videos = [Video(inside, 0, "walk", 5), Video(outside, 1, "run", 7)]
    write_list(tmp_path / "list.json", videos)
    assert read_list(tmp_path / "list.json", ["walk", "run"]) == (videos, 0)
    entries = json.loads((tmp_path / "list.json").read_text())
    assert [entry["path"] for entry in entries] == ["frames/a b", outside]  # inside: can be moved


def test_the_class_name_decides_and_disagreeing_labels_are_counted(tmp_path):
    entries = [GOOD, GOOD | {"label": 0}, GOOD | {"class_name": "walk", "label": 7}]
    videos, num_remapped = read_list(write(tmp_path / "l.json", entries), ["walk", "run"])
    assert [video.label for video in videos] == [1, 1, 0]
    assert num_remapped == 2


@pytest.mark.parametrize(
    "content, message",
    [
        ("[{", "is not JSON"),
        ("\xff\xfe", "is not JSON"),
        ({"videos": []}, "does not hold a JSON array"),
        ([], "holds no videos"),
        (["a"], "entry 0 is not an object"),
        (
            [GOOD, {k: v for k, v in GOOD.items() if k != "num_frames"}],
            "entry 1 has no 'num_frames'",
        ),
        ([GOOD | {"num_frames": "9"}], "entry 0: 'num_frames' is '9', which is no int"),
        ([GOOD | {"label": True}], "'label' is True, which is no int"),
        ([GOOD | {"num_frames": 0}], "'frames/a' has 0 frames"),
        (
            [GOOD | {"class_name": "swim"}],
            "entry 0: class 'swim' is not among the 2 of classes.txt",
        ),
    ],
)
def test_a_bad_list_is_one_clear_error(tmp_path, content, message):
    path = write(tmp_path / "l.json", content)
    with pytest.raises(UserError) as error:
        read_list(path, ["walk", "run"])
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_class_names_may_hold_anything_but_line_breaks(tmp_path):
    names = ["air drumming", "don't", "a/b", "caf\u00e9"]
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\n\n", encoding="utf-8")
    assert read_classes(tmp_path / "classes.txt") == names


@pytest.mark.parametrize(
    "content, message",
    [(None, "is missing"), (b"caf\xe9", "is not UTF-8"), (b"a\nb\na\n", "'a' more than once")],
)
def test_a_bad_class_file_is_one_clear_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_classes(tmp_path / "classes.txt")


def test_paths_of_the_original_project_mean_the_data_root_in_any_case(tmp_path):
    (tmp_path / "ucf101").mkdir()
    (tmp_path / "KINETICS").mkdir()
    folder = tmp_path / "ucf101"
    assert resolve("./videos_dataset/UCF101/jpegs_256/v_x", folder) == f"{folder}/jpegs_256/v_x"
    assert resolve("./videos_dataset/Kinetics/v", folder) == f"{tmp_path}/KINETICS/v"
    assert resolve("./videos_dataset/nowhere/v", folder) == f"{tmp_path}/nowhere/v"


@pytest.mark.parametrize(
    "name, classes, entries, remapped",
    [
        ("ucf101_trainlist01", "ucf101", 9537, 0),
        ("ucf101_testlist01", "ucf101", 3783, 0),
        ("ucf101_trainlist02", "ucf101", 9586, 0),
        ("ucf101_testlist02", "ucf101", 3734, 0),
        ("ucf101_trainlist03", "ucf101", 9624, 0),
        ("ucf101_testlist03", "ucf101", 3696, 0),
        ("kinetics400_val_datalist", "kinetics400", 18512, None),  # labels in directory order
        ("kinetics200_val_datalist_200", "kinetics200", 4730, None),
    ],
)
def test_the_lists_of_the_original_project_parse(shared, name, classes, entries, remapped):
    class_names = read_classes(shared / "reference" / "classes" / f"{classes}.txt")
    path = shared / "reference" / "datalists" / f"{name}.json"
    videos, num_remapped = read_list(path, class_names)
    if remapped is None:
        own = {entry["class_name"]: entry["label"] for entry in json.loads(path.read_text())}
        remapped = sum(own[video.class_name] != video.label for video in videos)
        assert remapped > 0.9 * entries
    assert (len(videos), num_remapped) == (entries, remapped)
    assert all(class_names[video.label] == video.class_name for video in videos)
