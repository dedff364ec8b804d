import json
import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from config import INTERRUPTED
from pt_dataset import make_json
from pt_dataset.datalist import CLASS_FILES, read_classes, read_list
from pt_dataset.listing.find_videos import Names, find_videos
from pt_dataset.listing.list_files import read_label_file
from pt_dataset.listing.splits import split_folds, split_groups

ROOT = Path(__file__).resolve().parents[1]
UT_MANIFEST = ROOT.parent / "shared" / "real" / "ut_interaction" / "manifest.csv"


def add_frames(folder, count=3, scheme="image_{:05d}.jpg", first=1):
    """A folder of frames; the tool counts their names and reads none."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / scheme.format(first + i)).touch()
    return folder


def add_class(frames, name, count):
    for i in range(count):
        add_frames(frames / name / f"v{i:02d}")


def top_folders(names):
    return {name: name.split("/")[0] for name in names}


@pytest.fixture
def frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "frames"


def make(*args):
    return make_json.main(["folder", "mine", "frames", *map(str, args)])


def paths(side, split=1, folder=Path("videos_dataset/mine")):
    """Paths below FRAMES of the videos of a list, which the reader of training accepts."""
    videos, num_remapped = read_list(
        folder / f"{side}list{split:02}.json", read_classes(folder / "classes.txt")
    )
    assert num_remapped == 0
    return [video.path.split("/frames/")[1] for video in videos]


def test_lists_hold_every_video_with_its_class_and_frames_on_disk(frames, capsys):
    add_class(frames, "walk", 5)
    add_class(frames, "\u00fcben gern", 5)  # sorted by code points: after walk
    add_class(frames, "Zoo", 5)  # and before it
    add_frames(frames / "walk" / "day 1" / "deep", 7, "{:03d}.png", first=0)
    (frames / "extract_frames.json").write_text("{}")
    (frames / "walk" / ".v99.partial").mkdir()
    assert make() == 0
    classes = read_classes(Path("videos_dataset/mine/classes.txt"))
    assert classes == ["Zoo", "walk", "\u00fcben gern"]
    assert len(paths("train")) + len(paths("test")) == 16
    entries = json.loads(Path("videos_dataset/mine/trainlist01.json").read_text())
    entries += json.loads(Path("videos_dataset/mine/testlist01.json").read_text())
    by_path = {entry["path"]: entry for entry in entries}
    deep = by_path[str(frames / "walk" / "day 1" / "deep")]
    assert (deep["class_name"], deep["label"], deep["num_frames"]) == ("walk", 1, 7)
    out = capsys.readouterr().out
    assert re.search(r"^walk +5 +1$", out, re.MULTILINE)
    assert out.endswith("next: python main.py --arch i3d --dataset mine\n")


@pytest.mark.parametrize("name", ["demo", "ucf101", "UCF101", "kinetics400"])
def test_the_class_file_of_a_public_set_is_not_replaced_by_classes_of_others(frames, capsys, name):
    add_class(frames, "walk", 5)
    add_class(frames, "run", 5)
    assert make_json.main(["folder", name, "frames"]) == 1
    assert "choose another NAME" in capsys.readouterr().err
    assert not Path("videos_dataset").exists()


def test_other_videos_of_the_classes_of_a_public_set_may_have_its_name(frames):
    for name in read_classes(CLASS_FILES / "hmdb51" / "classes.txt"):
        add_class(frames, name, 2)
    assert make_json.main(["folder", "hmdb51", "frames"]) == 0


def test_a_set_of_ones_own_without_the_word_folder_is_told_of_it(capsys):
    with pytest.raises(SystemExit):
        make_json.main(["mine", "frames"])
    assert capsys.readouterr().err.endswith("of your own videos: make_json.py folder NAME FRAMES\n")


def test_frames_below_the_lists_are_named_relative_to_them(frames):
    folder = frames.parent / "data" / "mine"
    add_class(folder / "frames", "a", 2)
    add_class(folder / "frames", "b", 1)
    args = ["folder", "mine", str(folder / "frames"), "--data-root", "data"]
    assert make_json.main(args) == 0
    entry = json.loads((folder / "testlist01.json").read_text())[0]
    assert entry["path"] in ("frames/a/v00", "frames/a/v01")


@pytest.mark.parametrize(
    "count, fraction, num_test",
    [
        (1, 0.5, 0),  # a single video is for training
        (2, 0.01, 1),  # one at least on each side
        (2, 0.99, 1),
        (10, 0.2, 2),
        (9, 0.5, 4),
    ],
)
def test_each_class_is_split_by_the_fraction(frames, capsys, count, fraction, num_test):
    add_class(frames, "many", 30)
    add_class(frames, "this", count)
    assert make("--val-fraction", fraction) == 0
    assert sum(path.startswith("this/") for path in paths("test")) == num_test
    assert ("testlist01 has no video of: this" in capsys.readouterr().out) == (num_test == 0)


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_a_folder():
    groups = {f"{name}/v{i}": f"{name}/v{i}" for name in "abc" for i in range(10)}
    backwards = dict(reversed(groups.items()))
    split = split_groups(groups, top_folders(groups), 0.2, seed=0)
    assert split == split_groups(backwards, top_folders(groups), 0.2, seed=0)
    assert split != split_groups(groups, top_folders(groups), 0.2, seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_a_group_stays_on_one_side_across_classes(frames, seed):
    for name, sizes in (("a", [4, 2, 2, 2, 2]), ("b", [1, 3, 3, 2, 3]), ("c", [9, 1, 0, 0, 0])):
        for source, count in enumerate(sizes):
            for i in range(count):
                add_frames(frames / name / f"s{source}_{i}")
    assert make("--group-regex", r"/s(\d)", "--val-fraction", 0.25, "--seed", seed) == 0
    sides = {side: {path[3] for path in paths(side)} for side in ("train", "test")}
    assert not sides["train"] & sides["test"]
    for side in sides:
        assert {path[0] for path in paths(side)} == set("abc")


def test_classes_of_large_groups_keep_a_video_on_both_sides():
    # 2 groups of 10 each: to put one in test is far from 20 %, but none would be no test at all
    groups = {f"{name}/{g}_{i}": f"{name}{g}" for name in "ab" for g in "xy" for i in range(10)}
    split = split_groups(groups, top_folders(groups), 0.2, seed=0)
    assert Counter((path[0], side) for path, side in split.items()) == {
        (name, side): 10 for name in "ab" for side in ("train", "test")
    }


@pytest.mark.parametrize("seed", range(3))
def test_each_video_is_in_one_of_the_test_lists_of_a_cross_validation(frames, seed, capsys):
    for name, sizes in (("a", [4, 2, 2, 2, 2]), ("b", [1, 3, 3, 2, 3])):
        for source, count in enumerate(sizes):
            for i in range(count):
                add_frames(frames / name / f"s{source}_{i}")
    assert make("--group-regex", r"/s(\d)", "--folds", 3, "--seed", seed) == 0
    tests = [paths("test", split) for split in (1, 2, 3)]
    everything = {path for split in tests for path in split}
    assert sum(map(len, tests)) == len(everything) == 24
    for i, test in enumerate(tests):
        train = paths("train", i + 1)
        assert sorted([*train, *test]) == sorted(everything)
        assert not {path[3] for path in train} & {path[3] for path in test}  # the groups
        assert 5 <= len(test) <= 10
    out = capsys.readouterr().out
    assert "testlist01.json, up to number 03\n" in out and "--splits 1 2 3" in out


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_are_dealt_out_first(seed):
    groups = {f"a/{i}": "large" if i < 3 else f"single {i}" for i in range(6)}
    folds = split_folds(groups, top_folders(groups), 2, seed)
    assert [[*fold.values()].count("test") for fold in folds] == [3, 3]


def test_a_path_that_two_videos_end_with_is_none_of_them():
    names = Names(["one/a/v1", "two/a/v1", "two/b/v1"])
    assert names.find("b/v1") == names.find("data/two/b/v1") == "two/b/v1"
    assert names.find("a/v1") is names.find("v1") is None


def test_folds_have_as_many_videos_of_each_class_as_can_be():
    groups = {f"{name}/v{i}": f"{name}/v{i}" for name in "abc" for i in range(11)}
    folds = split_folds(groups, top_folders(groups), 4, seed=0)
    for fold in folds:
        counts = Counter(path[0] for path, side in fold.items() if side == "test")
        assert set(counts.values()) <= {2, 3}
        assert counts.total() in (8, 9)
    assert folds == split_folds(dict(reversed(groups.items())), top_folders(groups), 4, seed=0)
    assert folds != split_folds(groups, top_folders(groups), 4, seed=1)


def test_lists_of_more_folds_before_are_told(frames, capsys):
    add_class(frames, "a", 6)
    add_class(frames, "b", 6)
    assert make("--folds", 3) == 0
    assert "warning" not in capsys.readouterr().out
    assert make() == 0
    older = "testlist02.json, testlist03.json, trainlist02.json, trainlist03.json"
    assert f"warning: {older} are left from an earlier call" in capsys.readouterr().out


def test_more_folds_than_groups_are_an_error(frames, capsys):
    add_class(frames, "a", 3)
    assert make("--folds", 4) == 1
    assert "--folds 4 needs as many groups of videos; 3 are there" in capsys.readouterr().err
    assert not Path("videos_dataset/mine").exists()


@pytest.mark.parametrize("start", ["", "\ufeff"])  # the mark that Excel writes
def test_a_split_file_decides(frames, capsys, start):
    add_class(frames, "a", 4)
    add_frames(frames / "b" / "v1.2")
    rows = ["id,path,split", "0,a/v00.avi,train", "1,a/v01,val", "2,./a/v02.mp4, Test"]
    rows += ["3,a/gone.avi,train", "4,b/v1.2,train", "5,a/v00.avi,train"]
    Path("split.csv").write_text(start + "\r\n".join(rows), encoding="utf-8")
    assert make("--split-file", "split.csv") == 0
    assert paths("train") == ["a/v00", "b/v1.2"]
    assert paths("test") == ["a/v01", "a/v02"]
    out = capsys.readouterr().out
    assert "\nFRAMES lacks the video of 1 line of split.csv" in f"\n{out}"
    assert "warning: not in split.csv, so in no list: 1 video\n" in out


def test_videos_are_listed_as_they_are(shared, frames):
    for name in ("hugging", "kicking"):
        source = shared / "real" / "ut_interaction" / name
        (frames / name).mkdir(parents=True)
        for video in sorted(source.glob("*.avi"))[:2]:
            (frames / name / video.name).symlink_to(video)
    assert make() == 0
    entries = json.loads(Path("videos_dataset/mine/trainlist01.json").read_text())
    assert [entry["class_name"] for entry in entries] == ["hugging", "kicking"]
    for entry in entries:
        assert entry["path"].endswith(".avi") and 52 <= entry["num_frames"] <= 183
        assert entry["fps"] == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize("top", ["", "packed/"])
def test_one_zip_is_a_folder_of_classes_too(frames, top):
    with zipfile.ZipFile("frames.zip", "w") as archive:
        for name in ("a/v1", "a/v2", "b/day 1/v1", "b/v2"):
            for i in range(3):
                archive.writestr(f"{top}{name}/image_{i:05d}.jpg", "")
    assert make_json.main(["folder", "mine", "frames.zip"]) == 0
    entries = json.loads(Path("videos_dataset/mine/trainlist01.json").read_text())
    entries += json.loads(Path("videos_dataset/mine/testlist01.json").read_text())
    assert {(e["path"], e["class_name"], e["num_frames"]) for e in entries} == {
        (f"{frames}.zip/{top}{name}", name[0], 3) for name in ("a/v1", "a/v2", "b/day 1/v1", "b/v2")
    }


@pytest.mark.parametrize("top", ["", "packed/"])
def test_only_a_folder_that_all_of_a_zip_lies_in_is_no_part_of_names(frames, top):
    frames.mkdir()
    with zipfile.ZipFile(frames / "all.zip", "w") as archive:
        for name in ("train/a/v0", "val/a/v1", "val/b/v0"):
            archive.writestr(f"{top}{name}/image_00001.jpg", "")
    assert sorted(find_videos(frames / "all.zip").paths) == ["train/a/v0", "val/a/v1", "val/b/v0"]


def test_lines_of_a_file_of_labels_without_a_video_are_counted(frames, capsys):
    frames.parent.joinpath("labels.csv").write_text("video,label\na/v1,x\nv2,y\nv3,y\n")
    listed = read_label_file(Path("labels.csv"), ["a/v1", "a/v2"])
    assert listed.labels == {"a/v1": "x", "a/v2": "y"}
    assert capsys.readouterr().out.startswith("FRAMES lacks the video of 1 line of labels.csv")


def test_a_zip_a_video_is_listed_and_a_broken_one_named(frames, capsys):
    for name in ("a/v0", "a/v1", "b/v0"):
        (frames / name).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(frames / f"{name}.zip", "w") as archive:
            archive.writestr("1.jpg", "")
    (frames / "a" / "broken.zip").write_bytes((frames / "a" / "v0.zip").read_bytes()[:-30])
    assert make() == 1
    assert sorted(paths("train") + paths("test")) == ["a/v0.zip", "a/v1.zip", "b/v0.zip"]
    assert "left out: " in (error := capsys.readouterr().err) and "a/broken.zip" in error


def test_links_in_a_circle_are_named_and_end(frames, capsys):
    add_class(frames, "a", 2)
    (frames / "a" / "again").symlink_to(frames)
    (frames / "a" / "self").symlink_to("self")
    add_class(frames.parent, "elsewhere", 2)
    (frames / "b").symlink_to(frames.parent / "elsewhere")  # a link is no circle
    assert make() == 1
    assert sorted(paths("train") + paths("test")) == ["a/v00", "a/v01", "b/v00", "b/v01"]
    error = capsys.readouterr().err
    assert "frames/a/again: a link to a folder that it lies in" in error
    assert "frames/a/self: Too many levels of symbolic links" in error
    assert error.count("\n") == 2


def write_lists(train, val, classes=None):
    Path("train.txt").write_text("\r\n".join(train), encoding="utf-8")
    Path("val.txt").write_text("\n".join(val) + "\n\n", encoding="utf-8")
    options = ["--train-list", "train.txt", "--val-list", "val.txt"]
    if classes:
        Path("names.txt").write_text("\r\n".join(classes), encoding="utf-8-sig")
        options += ["--classes", "names.txt"]
    return options


@pytest.mark.parametrize("line", ["/old/place/{} 7 {}", "{} {}", "{}.avi {}", "./{}/ 9 {}"])
def test_lists_of_tsn_and_mmaction2_decide_on_split_and_labels(frames, line, capsys):
    for name in ("run/v 1", "run/v2", "caf\u00e9 'au' lait/v1", "caf\u00e9 'au' lait/v3"):
        add_frames(frames / name)
    rows = [line.format("run/v 1", 1), line.format("caf\u00e9 'au' lait/v1", 0)]
    assert make(*write_lists(rows, [line.format("run/v2", 1), line.format("run/gone", 1)])) == 0
    assert paths("train") == ["caf\u00e9 'au' lait/v1", "run/v 1"]
    assert paths("test") == ["run/v2"]
    assert read_classes(Path("videos_dataset/mine/classes.txt")) == ["caf\u00e9 'au' lait", "run"]
    assert capsys.readouterr().out.startswith(
        "FRAMES lacks the video of 1 line of train.txt and val.txt"
    )


def test_a_class_file_names_the_labels_of_lists(frames):
    for i in range(3):
        add_frames(frames / f"v{i}")  # no class folders are needed then
    options = write_lists(["v0 3 1", "v1 3 0"], ["v2 3 1"], ["push/pull", 'say "no"', "rest"])
    assert make(*options) == 0
    classes = read_classes(Path("videos_dataset/mine/classes.txt"))
    assert classes == ["push/pull", 'say "no"', "rest"]
    videos, _ = read_list(Path("videos_dataset/mine/trainlist01.json"), classes)
    assert [(video.label, video.class_name) for video in videos] == [
        (1, 'say "no"'),
        (0, "push/pull"),
    ]


@pytest.mark.parametrize(
    "train, val, classes, message",
    [
        (["a/v00 x"], ["a/v01 0"], None, "some labels are numbers and others names: 0, x"),
        (["a/v00 0", "a/v01 0"], ["a/v01 0"], None, "val.txt: line 1: a/v01 has another list"),
        (["a/v00 0", "a/v00 1"], ["a/v01 0"], None, "train.txt: line 2: a/v00 has another list"),
        (["a/v00 1"], ["b/v01 3"], None, "are not one to one; give the names of all classes"),
        (["a/v00 0", "b/v00 0"], ["b/v01 0"], None, "are not one to one"),
        (["a/v00 0", "a/v01 1"], ["b/v01 2"], None, "are not one to one"),
        (["a/v00 0"], ["b/v01 2"], ["a", "b"], "labels 0 to 2, names.txt has names for 0 to 1"),
        (["c/v00 0"], ["c/v01 1"], None, "train.txt and val.txt names no video of FRAMES"),
        (["a/v00 0"], [], None, "no video is left for the test list"),
        ([], [], None, "names no video of FRAMES"),
    ],
)
def test_wrong_lists_are_one_sentence(frames, capsys, train, val, classes, message):
    add_class(frames, "a", 2)
    add_class(frames, "b", 2)
    assert make(*write_lists(train, val, classes)) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not Path("videos_dataset").exists()


@pytest.mark.parametrize("delimiter", ",;\t")
def test_a_split_file_may_have_the_delimiters_of_any_country(frames, delimiter):
    add_class(frames, "\u00fc, 'b'", 1)
    add_class(frames, "c", 1)
    text = "path,split\n\"\u00fc, 'b'/v00\",train\nc/v00,val\n"
    lines = [line.rpartition(",") for line in text.splitlines()]
    Path("split.csv").write_text("\r\n".join(f"{a}{delimiter}{b}" for a, _, b in lines))
    assert make("--split-file", "split.csv") == 0
    assert paths("train") == ["\u00fc, 'b'/v00"]


def test_a_data_root_that_is_not_ours_is_one_sentence(frames, capsys, monkeypatch):
    add_class(frames, "a", 2)
    (frames.parent / "file").touch()
    read_only = frames.parent / "read_only"
    read_only.mkdir()
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: path != read_only and access(path, mode))
    for place in ("file", "read_only", "read_only/data"):
        assert make("--data-root", place) == 1
        error = capsys.readouterr().err
        assert "cannot be written to; name another place with --data-root" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    "text, message",
    [
        ("path,part\na/v00,train\n", "needs a first line that names the columns path and split"),
        ("", "needs a first line"),
        ("path,split\na/v00,dev\n", "line 2: split is 'dev', not one of train, val,"),
        ("path,split\na/v00\n", "line 2: split is ''"),
        ("path,split\na/v00,train\na/v00.avi,val\n", "line 3: a/v00 is in train and in test"),
        ("path,split\nv09,train\n", "names no video of FRAMES, where a path is like a/v00"),
        ("path,split\na/v00,train\n", "no video is left for the test list"),
        (b"path,split\n\xff\xfe,train\n", "is no CSV file in UTF-8"),
        (None, "no file split.csv"),
    ],
)
def test_a_wrong_split_file_is_one_sentence(frames, capsys, text, message):
    add_class(frames, "a", 2)
    if text is not None:
        Path("split.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert make("--split-file", "split.csv") == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not Path("videos_dataset").exists()


def test_damaged_folders_are_named_and_the_others_listed(frames, capsys):
    add_class(frames, "a", 3)
    (add_frames(frames / "a" / "gap", 5) / "image_00003.jpg").unlink()
    add_frames(add_frames(frames / "a" / "mixed"), scheme="frame_{}.jpg")
    (frames / "a" / "empty").mkdir()
    (frames / "b").mkdir()
    (frames / "a" / "video").mkdir()
    (frames / "a" / "video" / "x.mp4").touch()
    (frames / "a" / "notes").mkdir()
    (frames / "a" / "notes" / "x.txt").touch()
    add_frames(frames / "a" / "two\nlines")
    add_class(frames, "c", 1)
    assert make() == 1
    assert sorted(paths("train") + paths("test")) == ["a/v00", "a/v01", "a/v02", "c/v00"]
    assert read_classes(Path("videos_dataset/mine/classes.txt")) == ["a", "c"]
    errors = sorted(capsys.readouterr().err.splitlines())
    assert all(line.startswith("left out: ") for line in errors)
    reasons = (
        "two\\nlines': a name that a text file cannot hold",
        "a/empty: no frames and no video in this folder",
        "a/gap: frame 3 is missing",
        "a/mixed: frames of different names",
        "a/notes: no frames and no video, but 1 other file",
        "a/video/x.mp4",
        "/b: no frames and no video",
    )
    assert [sum(reason in line for line in errors) for reason in reasons] == [1] * len(errors)


@pytest.mark.parametrize(
    "files, message",
    [
        (
            [],
            "frames is no folder and no zip; it should have folders of numbered pictures",
        ),
        (["a/x.txt"], "frames/a: no frames and no video, but 1 other file); FRAMES needs a folder"),
        (["v1/001.jpg"], "frames/v1 is a video where a class should be"),
        (["001.jpg"], "frames is a video where a class should be"),
        (["x.mp4"], "frames/x.mp4 is a video where a class should be"),
        (["a/v1/001.jpg", "a/v1.avi"], "a/v1.avi are the same video by their names; name a FRAMES"),
        (["a/v1/001.jpg", "b/v1/001.jpg"], "no video is left for the test list"),
    ],
)
def test_a_wrong_layout_is_one_sentence(frames, capsys, files, message):
    for file in files:
        (frames / file).parent.mkdir(parents=True, exist_ok=True)
        (frames / file).touch()
    assert make() == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not Path("videos_dataset").exists()


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", ".hidden", "a\\b", "/tmp"])
def test_the_name_is_that_of_a_folder(frames, capsys, name):
    assert make_json.main(["folder", name, "frames"]) == 1
    assert "plain name of a folder" in capsys.readouterr().err


@pytest.mark.parametrize("regex", [r"s\d", r"v(x)?"])
def test_a_path_without_group_is_named(frames, capsys, regex):
    add_class(frames, "a", 2)
    assert make("--group-regex", regex) == 1
    assert "finds nothing in 'a/v00'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--val-fraction", "0"],
        ["--val-fraction", "1"],
        ["--folds", "1"],
        ["--folds", "2", "--val-fraction", "0.5"],
        ["--group-regex", "("],
        ["--group-regex", "x", "--split-file", "x"],
    ],
)
def test_impossible_options_are_usage_errors(options):
    with pytest.raises(SystemExit, match="2"):
        make(*options)


def test_new_lists_replace_the_old_ones(frames):
    add_class(frames, "a", 4)
    add_class(frames, "b", 4)
    assert make() == 0
    add_class(frames, "c", 4)
    assert make("--seed", 1) == 0
    assert {path[0] for path in paths("train")} == {"a", "b", "c"}
    folder = Path("videos_dataset/mine")
    assert {path.name for path in folder.iterdir()} == {
        *("classes.txt", "trainlist01.json", "testlist01.json")
    }


@pytest.mark.parametrize(
    "args, status, words",
    [
        ([], 1, "looked for ucf101/ with folders"),
        (["nosuchset"], 2, "choose from"),
        (["folder", "mine", "nowhere"], 1, "error: "),
        (["folder", "mine", "frames"], 0, "next: python main.py"),
    ],
)
def test_the_exit_status_from_any_folder(frames, args, status, words):
    add_class(frames, "a", 2)
    add_class(frames, "b", 2)
    tool = [sys.executable, str(ROOT / "pt_dataset" / "make_json.py")]
    done = subprocess.run([*tool, *args], capture_output=True, text=True)
    assert done.returncode == status
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_is_one_sentence(frames, capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    add_class(frames, "a", 2)
    monkeypatch.setattr(make_json, "measure_videos", interrupt)
    assert make() == INTERRUPTED
    assert capsys.readouterr().err == "stopped; no list is left half written\n"
    assert not Path("videos_dataset").exists()


@pytest.mark.parametrize(
    "tool",
    [
        *("make_json", "extract_frames", "extract_flow", "check_json", "pack_frames"),
        *("make_demo", "browse"),
    ],
)
def test_tools_are_modules_too(tool):
    args = [sys.executable, "-m", f"pt_dataset.{tool}", "--help"]
    assert subprocess.run(args, cwd=ROOT, capture_output=True).returncode == 0


@pytest.fixture
def ut_frames(frames):
    """Folders as extract_frames.py makes them of the UT-Interaction videos; no frame is decoded."""
    if not UT_MANIFEST.exists():
        pytest.skip("the real videos are not on this machine")
    for video in UT_MANIFEST.parent.glob("*/*.avi"):
        add_frames(frames / video.parent.name / video.stem, 1)
    return frames


def test_the_manifest_of_ut_interaction_is_a_split_file(ut_frames):
    assert make("--split-file", UT_MANIFEST) == 0
    assert (len(paths("train")), len(paths("test"))) == (89, 31)


def test_ut_interaction_is_split_by_sequence(ut_frames):
    assert make("--group-regex", r"seq\d+") == 0
    groups = [{re.search(r"seq\d+", path)[0] for path in paths(side)} for side in ("train", "test")]
    assert not groups[0] & groups[1]
    assert Counter(path.split("/")[0] for path in paths("test")).total() == 24
