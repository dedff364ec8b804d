import json
import pickle
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from golden import UCF101_LISTS, is_published, kinetics_entries, ucf101_entries

from config import DATASETS, UserError
from pt_dataset.datalist import (
    CLASS_FILES,
    load_array,
    provide_classes,
    read_classes,
    read_list,
    resolve,
    write_list,
)
from pt_dataset.video_list import Video, VideoList

GOOD = {"path": "frames/a", "class_name": "run", "label": 1, "num_frames": 9}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_list_comes_back_as_it_was_written(tmp_path):
    inside, outside = (
        str(tmp_path / "frames" / "a b"),
        str(tmp_path.parent / "elsewhere" / "\u00e9"),
    )
    flow = str(tmp_path / "flow" / "{}" / "a b")
    videos = [Video(inside, 0, "walk", 5, 29.97, flow), Video(outside, 1, "run", 7)]
    write_list(tmp_path / "list.json", videos)
    read, num_remapped = read_list(tmp_path / "list.json", ["walk", "run"])
    assert (list(read), num_remapped) == (videos, 0)
    entries = json.loads((tmp_path / "list.json").read_text())
    assert [entry["path"] for entry in entries] == ["frames/a b", outside]  # inside: can be moved
    assert entries[0]["flow_path"] == "flow/{}/a b"
    assert not {"fps", "flow_path"} & entries[1].keys()  # unknown: left out


def test_a_list_below_the_working_folder_can_move_with_its_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/mine").mkdir(parents=True)
    write_list(Path("data/mine/testlist01.json"), [Video("data/mine/frames/a", 0, "x", 9)])
    (entry,) = json.loads(Path("data/mine/testlist01.json").read_text())
    assert entry["path"] == "frames/a"


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
        ([GOOD, GOOD | {"num_frames": 2**31}], "entry 1: 'frames/a' has 2147483648 frames"),
        ([GOOD | {"path": None}], "'path' is None, which is no str"),
        ([GOOD | {"fps": 0}], "entry 0: 'fps' is 0, which is no number of frames a second"),
        ([GOOD | {"fps": True}], "'fps' is True"),
        ([GOOD, GOOD | {"fps": float("nan")}], "entry 1: 'fps' is nan"),
        ([GOOD | {"flow_path": 1}], "'flow_path' is 1, which is no str"),
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


def test_a_folder_is_neither_a_list_nor_a_class_file(tmp_path):
    for read in (read_classes, load_array):
        with pytest.raises(UserError, match=f"^{tmp_path} is a folder; name a file$"):
            read(tmp_path)


def test_paths_of_the_original_project_mean_the_data_root_in_any_case(tmp_path):
    (tmp_path / "ucf101").mkdir()
    (tmp_path / "KINETICS").mkdir()
    folder = tmp_path / "ucf101"
    paths = ["UCF101/jpegs_256/v_x", "Kinetics/v", "nowhere/v"]
    assert resolve([f"./videos_dataset/{path}" for path in paths], folder) == [
        f"{folder}/jpegs_256/v_x",
        f"{tmp_path}/KINETICS/v",
        f"{tmp_path}/nowhere/v",
    ]
    assert resolve(["./a", "a.zip/b", "/c", None], folder) == [
        f"{folder}/a",
        f"{folder}/a.zip/b",
        "/c",
        None,
    ]


VIDEOS = [
    Video("/data/a/\u00e9\udcff", 2, "run", 7, 25.0, None),  # \udcff: a byte that is not UTF-8
    Video("/data/a", 0, "walk", 1, None, "/flow/{}/a"),
    Video("/data/a/b.zip/c", 2, "run", 300, None, None),
]


@pytest.mark.parametrize("videos", [VIDEOS, VIDEOS[2:], []])
def test_a_list_of_videos_is_a_sequence_like_any_other(videos):
    compact = pickle.loads(pickle.dumps(VideoList(videos)))
    assert isinstance(compact, Sequence)
    assert list(compact) == videos and len(compact) == len(videos)
    for part in (slice(1, None), slice(None, None, -2), slice(5, 9)):
        assert isinstance(compact[part], VideoList) and list(compact[part]) == videos[part]
    assert [compact[-i - 1] for i in range(len(videos))] == videos[::-1]
    for index in (len(videos), -len(videos) - 1):
        with pytest.raises(IndexError):
            compact[index]


def test_240000_videos_are_read_fast_and_take_little_of_each_worker(tmp_path):
    names = [f"class {i}" for i in range(400)]
    count = 240_000
    start = "/somewhere/deep/on/a/disk/kinetics400/frames/train"
    with open(tmp_path / "l.json", "w") as file:
        for i in range(count):
            path = f"{start}/{names[i % 400]}/abcdefghijk_{i:06d}_{i:06d}"
            file.write("," if i else "[")
            file.write(f'{{"path": "{path}", "class_name": "{names[i % 400]}", ')
            file.write('"label": 0, "num_frames": 300}')
        file.write("]")
    start = time.process_time()
    json.loads((tmp_path / "l.json").read_text())
    parsing = time.process_time() - start
    start = time.process_time()
    videos, num_remapped = read_list(tmp_path / "l.json", names)
    assert time.process_time() - start < 8 * parsing + 1
    assert (len(videos), num_remapped) == (count, count - 600)
    assert videos[count - 1].path == path
    assert len(pickle.dumps(videos)) < 100 * count  # 24 MB: what a spawned worker gets
    tracemalloc.start()
    copy = VideoList(videos[i] for i in range(0, count, 100))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < 120 * len(copy) + 60_000  # the names of the classes come once


def test_a_new_data_root_gets_the_class_file_of_a_known_set(tmp_path):
    path = provide_classes(tmp_path / "new" / "hmdb51")
    assert path == tmp_path / "new" / "hmdb51" / "classes.txt"
    assert read_classes(path)[0] == "brush_hair"
    path.write_text("mine\n")
    assert read_classes(provide_classes(path.parent)) == ["mine"]  # what is there stays
    assert not provide_classes(tmp_path / "mine").exists()


def test_known_sets_have_the_class_names_of_their_networks():
    for name, spec in DATASETS.items():
        if spec.list_sizes:
            path = CLASS_FILES / name / "classes.txt"
            assert is_published(path.read_bytes(), f"{name}.txt")
            assert len(read_classes(path)) == spec.num_classes


@pytest.mark.parametrize("name", UCF101_LISTS)
def test_the_lists_of_the_original_project_parse(tmp_path, name):
    text = json.dumps(ucf101_entries(name))
    assert is_published(text.encode(), f"ucf101_{name}.json")
    (tmp_path / "list.json").write_text(text)
    class_names = read_classes(CLASS_FILES / "ucf101" / "classes.txt")
    videos, num_remapped = read_list(tmp_path / "list.json", class_names)
    assert (len(videos), num_remapped) == (DATASETS["ucf101"].list_sizes[name], 0)
    assert all(class_names[video.label] == video.class_name for video in videos)


@pytest.mark.parametrize("name", ["kinetics400", "kinetics200"])
def test_labels_in_another_order_than_the_classes_are_remapped(tmp_path, name):
    entries = kinetics_entries(f"{name}_val")  # which were numbered as directories came
    (tmp_path / "list.json").write_text(json.dumps(entries))
    class_names = read_classes(CLASS_FILES / name / "classes.txt")
    videos, num_remapped = read_list(tmp_path / "list.json", class_names)
    assert {video.class_name for video in videos} == set(class_names)
    assert [class_names[video.label] for video in videos] == [e["class_name"] for e in entries]
    changed = [v.label != e["label"] for v, e in zip(videos, entries, strict=True)]
    assert 0.9 * len(entries) < sum(changed) == num_remapped
