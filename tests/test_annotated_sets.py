"""The lists of public sets whose own files name the classes, from a few made-up lines of them."""

import json
from pathlib import Path

import pytest

from config import DATASETS
from pt_dataset import make_json
from pt_dataset.datalist import read_classes, read_list
from pt_dataset.listing import annotated_sets


def add_frames(*folders):
    for folder in folders:
        path = Path("frames", folder)
        path.mkdir(parents=True)
        (path / "00001.jpg").touch()


def write(texts):
    Path("files").mkdir()
    for name, text in texts.items():
        text = text if isinstance(text, str) else json.dumps(text)
        Path("files", name).write_text(text, encoding="utf-8")


def make(name):
    return make_json.main([name, "frames", "--annotations", "files"])


def read(name, side):
    path = Path(f"videos_dataset/{name}/{side}list01.json")
    videos, num_remapped = read_list(path, read_classes(path.with_name("classes.txt")))
    assert num_remapped == 0
    return {video.path.split("/frames/")[1]: (video.class_name, video.label) for video in videos}


SSV2 = {
    "train.json": [
        {
            "id": "7",
            "label": "holding a pen",
            "template": "Holding [something]",
            "placeholders": ["a pen"],
        },
        {"id": "8", "template": "Lifting [one of many things], then [dropping it]"},
    ],
    "validation.json": [{"id": "9", "template": "Holding [something]", "label": "holding a cup"}],
    "test.json": [{"id": "10"}],
    "labels.json": {"Holding something": "1", "Lifting one of many things, then dropping it": "0"},
}
FILES = {
    "ssv2": SSV2,
    "jester": {
        "jester-v1-labels.csv": "Swiping Left\nDrumming Fingers\n",
        "jester-v1-train.csv": "7;Drumming Fingers\n8;Swiping Left\n",
        "jester-v1-validation.csv": "9;Drumming Fingers\n",
        "jester-v1-test.csv": "10\n",
    },
    "moments": {
        "moments_categories.txt": "b+c,1\na,0\n",
        "trainingSet.csv": "b+c/7.mp4,b+c,3,0\na/8.mp4,a,4,1\n",
        "validationSet.csv": "b+c/9.mp4,b+c,3,0\n",
    },
}
FRAMES = {
    "ssv2": ("{}",),
    "jester": ("{}",),
    "moments": ("training/b+c/{}", "training/a/{}", "validation/b+c/{}"),
}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_labels_and_lists_are_those_of_the_official_files(name, capsys):
    write(FILES[name])
    places = (FRAMES[name] * 3)[:3]
    videos = [place.format(number) for place, number in zip(places, "789", strict=True)]
    add_frames(*videos, "10", "other")
    assert make(name) == 0
    classes = read_classes(Path(f"videos_dataset/{name}/classes.txt"))
    assert read(name, "train") == {videos[0]: (classes[1], 1), videos[1]: (classes[0], 0)}
    assert read(name, "test") == {videos[2]: (classes[1], 1)}
    out = capsys.readouterr().out
    assert "trainlist01: 2 of the official 2 videos are there, of 2 of the 2 classes" in out
    assert "on no list: 2 other videos" in out
    assert "labels: 0 to 1, in the order of " in out


@pytest.mark.parametrize("name", ["kinetics600", "kinetics700"])
def test_labels_of_kinetics_are_the_sorted_names(name, capsys):
    head = "label,youtube_id,time_start,time_end,split\n"
    write(
        {
            "train.csv": f"{head}zumba,-bcdefghij7,1,11,train\nabseiling,-bcdefghij8,1,11,train\n",
            "validate.csv": f"{head}zumba,-bcdefghij9,1,11,validate\n",
            "test.csv": f"{head}zumba,-bcdefghi10,1,11,test\n",
        }
    )
    add_frames("zumba/-bcdefghij7_000001_000011", "x/-bcdefghij8", "-bcdefghij9", "-bcdefghi10")
    assert make(name) == 0
    assert read(name, "train") == {
        "zumba/-bcdefghij7_000001_000011": ("zumba", 1),
        "x/-bcdefghij8": ("abseiling", 0),
    }
    assert read(name, "test") == {"-bcdefghij9": ("zumba", 1)}
    assert "labels: 0 to 1, in the order of the sorted names" in capsys.readouterr().out


def test_jester_may_have_a_header_and_more_columns():
    write(
        FILES["jester"]
        | {
            "jester-v1-train.csv": "video_id,label,frames\n7,Drumming Fingers,37\n",
            "jester-v1-validation.csv": "video_id,label,frames\n9,Swiping Left,37\n",
        }
    )
    add_frames("7", "9")
    assert make("jester") == 0
    assert read("jester", "train") == {"7": ("Drumming Fingers", 1)}


@pytest.mark.parametrize(
    "name, files, words",
    [
        ("ssv2", {"labels.json": None}, "files has no *labels.json; name the folder of something"),
        ("ssv2", {"a-labels.json": {}}, "has a-labels.json and labels.json; name"),
        ("ssv2", {"train.json": "[{"}, "train.json is not JSON"),
        ("ssv2", {"train.json": {}}, "train.json does not hold a JSON list"),
        ("ssv2", {"train.json": [{"id": 3, "template": "Eating"}]}, "entry 0 has no id, or no"),
        ("ssv2", {"labels.json": {"Holding": "x"}}, "labels.json needs a number for each class"),
        ("jester", {"jester-v1-train.csv": "1;Drumming Fingers\n2;Eating\n"}, "line 2: 'Eating'"),
        (
            "kinetics600",
            {"train.csv": "label,youtube_id,split\n,a,train\n"},
            "split 'train', label ''",
        ),
        ("jester", {"jester-v1-train.csv": "1\n"}, "line 1 has 1 of at least 2 columns"),
        ("moments", {"trainingSet.csv": "x/1.mp4,x,3,0\n"}, "line 1: 'x' is not in moments_cat"),
        ("moments", {"moments_categories.txt": "a,b\n"}, "needs a number for each class"),
        ("kinetics600", {"train.csv": "a,b\n"}, "has no CSV file with the columns label, split"),
    ],
)
def test_wrong_files_are_one_sentence(name, files, words, capsys):
    texts = FILES.get(name, {}) | files
    write({file: text for file, text in texts.items() if text is not None})
    add_frames("7", "8")
    assert make(name) == 1
    error = capsys.readouterr().err
    assert words in error and error.startswith("error: ") and error.count("\n") == 1
    assert not Path("videos_dataset").exists()


def test_other_videos_are_one_sentence_that_says_what_is_looked_for(capsys):
    write({name: text for files in FILES.values() for name, text in files.items()})
    add_frames("a/b")
    for name in FILES:
        assert make(name) == 1
        assert annotated_sets.LOOKED_FOR[name] in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ssv2", "jester"])
def test_mirrored_labels_are_swapped_in_both_directions(name):
    swaps = DATASETS[name].flip_swaps
    assert len(swaps) == 6 and all(swaps[swaps[label]] == label for label in swaps)
