"""Trees and lists of videos as people have them become lists, or one sentence says why not."""

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from pt_dataset import make_json
from pt_dataset.datalist import read_classes
from pt_dataset.formats.measure import Measured
from pt_dataset.inputs import paths
from pt_dataset.listing import find_videos
from pt_dataset.sources import is_video_file
from pt_dataset.video_list import Video
from utils.actions.extract_features import feature_files

CLIPS = [f"class{c}/clip{k}" for c in range(3) for k in range(4)]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes files below FRAMES, of which videos are not opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find_videos, "measure", lambda path, any_numbers=False: Measured(7, 25.0))

    def add(*files):
        for file in files:
            path = tmp_path / "frames" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return add


def make(*options, frames="frames"):
    return make_json.main(["folder", "mine", frames, *map(str, options)])


def listed(side, split=1):
    """{path below FRAMES: class} of a list."""
    path = Path(f"videos_dataset/mine/{side}list{split:02}.json")
    entries = json.loads(path.read_text())
    classes = read_classes(path.with_name("classes.txt"))
    assert all(classes[entry["label"]] == entry["class_name"] for entry in entries)
    return {entry["path"].split("/frames/")[1]: entry["class_name"] for entry in entries}


def refused(capsys, *options, frames="frames"):
    assert make(*options, frames=frames) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and not Path("videos_dataset").exists()
    return error


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "test", "Testing"])
def test_top_folders_of_a_split_are_the_split(tree, train, val):
    tree(*(f"{val if clip[-1] == '3' else train}/{clip}.mp4" for clip in CLIPS))
    assert make() == 0
    assert listed("train") == {f"{train}/{c}.mp4": c[:6] for c in CLIPS if c[-1] != "3"}
    assert listed("test") == {f"{val}/{c}.mp4": c[:6] for c in CLIPS if c[-1] == "3"}


def test_folders_for_validation_and_for_test_are_two_splits(tree):
    sides = {"0": "train", "1": "train", "2": "val", "3": "test"}
    tree(*(f"{sides[clip[-1]]}/{clip}.mp4" for clip in CLIPS))
    assert make() == 0
    assert listed("train", 1) == listed("train", 2) and len(listed("train")) == 6
    assert sorted({path.split("/")[0] for path in listed("test", 1)}) == ["val"]
    assert sorted({path.split("/")[0] for path in listed("test", 2)}) == ["test"]


def test_classes_that_are_called_train_and_test_are_typed(tree):
    tree(*(f"{name}/{i}.mp4" for name in ("train", "test") for i in range(3)))
    assert make("--class-level", 1) == 0
    assert set(listed("train").values()) == {"train", "test"}


def test_the_split_of_the_folders_holds_where_the_level_of_the_classes_is_typed(tree):
    tree(*(f"{s}/p{k}/{c}/x{k}{s}.mp4" for s in ("train", "val") for c in "ab" for k in "12"))
    assert make("--class-level", 3) == 0
    assert {path.split("/")[0] for path in listed("train")} == {"train"}
    assert {path.split("/")[0] for path in listed("test")} == {"val"}
    assert set(listed("test").values()) == {"a", "b"}


@pytest.mark.parametrize("link", ["class0/again", "class2/again"])
def test_a_link_to_what_is_found_anyway_is_left_out_and_said(tree, capsys, link):
    tree(*(f"{clip}.mp4" for clip in CLIPS if clip[:6] != link[:6]), f"{link[:6]}/own1.mp4")
    tree(f"{link[:6]}/own2.mp4", "../elsewhere/x1.mp4", "../elsewhere/x2.mp4")
    Path("frames", link).symlink_to("../class1")
    Path("frames/linked").symlink_to(Path("elsewhere").absolute())  # links elsewhere are followed
    assert make() == 1
    both = listed("train") | listed("test")
    assert {path.split("/")[0] for path, name in both.items() if name == "class1"} == {"class1"}
    assert len(both) == 12 and "linked" in both.values()
    error = capsys.readouterr().err
    assert f"frames/{link}: a link to a folder that is in FRAMES itself" in error


def test_links_into_a_hidden_store_are_videos(tree):
    """As git-annex and DVC keep files."""
    tree(*(f".store/{i}/x.mp4" for i in range(4)))
    for i in range(4):
        tree(f"{'ab'[i % 2]}/other{i}.mp4")
        Path(f"frames/{'ab'[i % 2]}/v{i}").symlink_to(f"../.store/{i}")
    assert make() == 0
    assert len(listed("train") | listed("test")) == 8


@pytest.mark.parametrize("names", ["Walk walk", "caf\u00e9 cafe\u0301", "Ａ a"])
def test_classes_that_look_alike_are_said(tree, capsys, names):
    tree(*(f"{name}/{i}.mp4" for name in (*names.split(), "run") for i in range(2)))
    assert make() == 0
    assert "warning: classes that differ in their spelling alone: " in capsys.readouterr().out
    assert len(set(listed("train").values())) == 3


@pytest.mark.parametrize("label", ["1 7 0", "0.0", "-1 2", "0,1 2"])
def test_labels_of_several_numbers_are_refused(tree, capsys, label):
    """As lists of parts of videos have them, or those of several classes a video."""
    tree(*(f"{clip}.mp4" for clip in CLIPS))
    Path("train.txt").write_text("".join(f"{clip}.mp4 {label}\n" for clip in CLIPS[:3]))
    Path("val.txt").write_text(f"{CLIPS[3]}.mp4 {label}\n")
    error = refused(capsys, "--train-list", "train.txt", "--val-list", "val.txt")
    assert f"train.txt: line 1: the label is '{label}'" in error


def test_paths_in_quotation_marks_are_found(tree):
    tree(*(f"a/x, {i}.mp4" for i in range(2)), *(f"b/{i}.mp4" for i in range(2)))
    Path("train.txt").write_text('"a/x, 0.mp4",0\n"b/0.mp4",1\n')
    Path("val.txt").write_text('"a/x, 1.mp4",0\n"b/1.mp4",1\n')
    assert make("--train-list", "train.txt", "--val-list", "val.txt") == 0
    assert listed("train") == {"a/x, 0.mp4": "a", "b/0.mp4": "b"}


def test_a_video_with_a_line_break_in_its_name_is_said(tree, capsys):
    tree("a/x\n1.mp4", *(f"{c}/{i}.mp4" for c in "ab" for i in range(2)))
    assert make() == 1
    assert "a name that a text file cannot hold" in capsys.readouterr().err


@pytest.mark.parametrize(
    "files, words",
    [
        # recordings above classes: either may be meant
        (
            [f"p{k}/class{c}/clip{k}.mp4" for c in range(3) for k in range(4)],
            "class0, class1, class2 in several of p0, p1, p2 and 1 more; say which are the "
            "classes: --class-level 1 for p0, --class-level 2 for class0",
        ),
        (
            [f"{s}/p{k}/{c}/x.mp4" for s in ("train", "val") for c in "ab" for k in "12"],
            "a, b in several of p1, p2; say which are the classes: --class-level 2 for p1, "
            "--class-level 3 for a",
        ),
        # one folder too high
        ([f"frames/{clip}.mp4" for clip in CLIPS], "of one class, 'frames'; name the folder that"),
        ([f"frames/{clip}.mp4" for clip in CLIPS], "all class folders in it, perhaps "),
        (["a/x.mp4", "a/y.mp4"], "are of one class, 'a'; name the folder that has all class"),
        (["v1/frames/1.jpg", "v2/frames/1.jpg"], "v1/frames is a video where a class should be"),
        (["train/x.mp4", "val/y.mp4"], "train/x.mp4 is a video where a class should be"),
        (["train/x.mp4", "test/y.mp4"], ", or --class-level 1 if test and train are classes"),
        (["train/a/x.mp4", "train/b/x.mp4"], "has a folder train, but none to test on; name "),
        (["val/a/x.mp4", "test/b/x.mp4"], "but none to train on"),
        (["c0.mp4", "c1.mp4"], "or say with --labels which class each video has"),
    ],
)
def test_a_tree_without_sure_classes_is_refused_with_what_to_type(tree, capsys, files, words):
    tree(*files)
    assert words in refused(capsys)


def test_the_level_of_the_classes_is_typed(tree):
    tree(*(f"p{k}/class{c}/clip{k}.mp4" for c in range(3) for k in range(4)))
    assert make("--class-level", 2, "--group-regex", r"p\d") == 0
    assert set(listed("train").values()) == {"class0", "class1", "class2"}
    assert not {p[:2] for p in listed("train")} & {p[:2] for p in listed("test")}


def test_a_class_may_have_folders_in_it(tree):
    tree(*(f"class{c}/day{c}{k}/x.mp4" for c in range(3) for k in range(4)))
    tree("class0/clip1.mp4")
    tree(*(f"class{c}/day{c}{k}/frames/1.jpg" for c in range(3) for k in range(4)))
    assert make() == 0
    assert set(listed("train").values()) == {"class0", "class1", "class2"}


LISTS = {
    "labels from 1": "{c}/{k}.mp4 {n1}",
    "labels from 0": "{c}/{k}.mp4 {n}",
    "backslashes": "{c}\\{k}.mp4 {n}",
    "another machine, Windows": "D:\\data\\{c}\\{k}.mp4 {n}",
    "another machine": "/some/where/{c}/{k}.mp4 {n}",
    "commas": "{c}/{k}.mp4,{n}",
    "commas and frames": "{c}/{k}.mp4, 7, {n}",
    "semicolons": "{c}/{k}.mp4;{n}",
    "tabs": "{c}/{k}\t7\t{n}",
    "names": "{c}/{k}.mp4 {c}",
    "names after commas": "{c}/{k}.mp4,{c}",
    "paths alone": "{c}/{k}.mp4",
}


@pytest.mark.parametrize("header", ["", "path label\n", "video,label\n"])
@pytest.mark.parametrize("line", LISTS.values(), ids=LISTS)
def test_lists_of_every_kind_give_the_same(tree, capsys, line, header):
    tree(*(f"{clip}.mp4" for clip in CLIPS))
    text = {"train": header, "val": header}
    for n in range(3):
        for k in range(4):
            side = "val" if k == 3 else "train"
            text[side] += line.format(c=f"class{n}", k=f"clip{k}", n=n, n1=n + 1) + "\r\n"
    for side in text:
        Path(f"{side}.txt").write_text(text[side], newline="")
    assert make("--train-list", "train.txt", "--val-list", "val.txt") == 0
    assert listed("train") == {f"{c}.mp4": c[:6] for c in CLIPS if c[-1] != "3"}
    assert listed("test") == {f"{c}.mp4": c[:6] for c in CLIPS if c[-1] == "3"}
    out = capsys.readouterr().out
    assert ("begin with 1" in out) == ("n1" in line)
    assert "FRAMES does not have" not in out


def test_labels_from_1_of_missing_videos_count_too(tree, capsys):
    """Videos of label 0 that are not there do not make the others begin with 1."""
    tree("b/v1.mp4", "b/v2.mp4", "c/v1.mp4")
    Path("train.txt").write_text("a/v1.mp4 0\nb/v1.mp4 1\nc/v1.mp4 2\n")
    Path("val.txt").write_text("b/v2.mp4 1\n")
    lists = ["--train-list", "train.txt", "--val-list", "val.txt"]
    assert "are not one to one" in refused(capsys, *lists)
    Path("names.txt").write_text("a\nb\nc\n")
    assert make(*lists, "--classes", "names.txt") == 0
    assert listed("train") == {"b/v1.mp4": "b", "c/v1.mp4": "c"}


def test_class_names_may_have_spaces_and_paths_numbers(tree):
    tree("a/v 1.mp4", "a/v 2.mp4", "b/v1.mp4", "b/v2.mp4")
    Path("train.txt").write_text("b/v1.mp4 riding a bike\na/v 1.mp4,walking\n")
    Path("val.txt").write_text("b/v2.mp4 riding a bike\na/v 2.mp4,walking\n")
    assert make("--train-list", "train.txt", "--val-list", "val.txt") == 0
    assert listed("train") == {"b/v1.mp4": "riding a bike", "a/v 1.mp4": "walking"}
    assert listed("test") == {"b/v2.mp4": "riding a bike", "a/v 2.mp4": "walking"}


@pytest.mark.parametrize("header", ["video,label,split", "Path;Class;Subset", "filename\tlabel"])
def test_a_flat_folder_has_its_classes_in_a_csv(tree, header):
    tree(*(f"{clip.replace('/', '_')}.mp4" for clip in CLIPS))
    delimiter = header[len(header.split("label")[0].split("Class")[0]) - 1]
    rows = [header]
    for clip in CLIPS:
        row = [f"{clip.replace('/', '_')}.mp4", clip[:6], "val" if clip[-1] == "3" else "Train"]
        rows.append(delimiter.join(row[: header.count(delimiter) + 1]))
    Path("labels.csv").write_text("\n".join(rows))
    assert make("--labels", "labels.csv") == 0
    both = listed("train") | listed("test")
    assert both == {f"{clip.replace('/', '_')}.mp4": clip[:6] for clip in CLIPS}
    if header.count(delimiter) == 2:
        assert {path[-5] for path in listed("test")} == {"3"}


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "no file labels.csv"),
        ("a.mp4,run\n", "needs a first line that names the columns video and label"),
        ("video,label\na.mp4,\n", "line 2: the label is missing"),
        ("video,label,split\na.mp4,run,dev\n", "line 2: split is 'dev'"),
        ("video,label\na.mp4,run\na.mp4,walk\n", "line 3: a has another list or label above"),
        ("video,label\nz.mp4,run\n", "names no video of FRAMES"),
        ("video,label\na.mp4,1\nb.mp4,2\n", "are not one to one"),
    ],
)
def test_a_wrong_csv_of_labels_is_one_sentence(tree, capsys, text, words):
    tree("a.mp4", "b.mp4")
    if text is not None:
        Path("labels.csv").write_text(text)
    assert words in refused(capsys, "--labels", "labels.csv")


def test_files_that_differ_in_their_suffix_alone_are_two_videos(tree):
    tree(*(f"class{c}/clip{k}.{suffix}" for c in "01" for k in "01" for suffix in ("mp4", "avi")))
    rows = [
        f"class{c}/clip{k}.{s},{'val' if k == '1' else 'train'}"
        for c in "01"
        for k in "01"
        for s in ("avi", "mp4")
    ]
    Path("split.csv").write_text("\n".join(["path,split", *rows]))
    assert make("--split-file", "split.csv") == 0
    wanted = {f"class{c}/clip0.{s}": f"class{c}" for c in "01" for s in ("mp4", "avi")}
    assert listed("train") == wanted


@pytest.mark.parametrize("suffix", ["gif", "h264", "m2v", "mjpeg", "qt", "mxf", "dv", "MTS"])
def test_what_ffmpeg_reads_is_a_video(tree, suffix):
    tree(*(f"{name}/{i}.{suffix}" for name in "ab" for i in range(2)))
    assert make() == 0
    assert len(listed("train")) == 2


def test_videos_with_pictures_of_them_are_videos(tree):
    tree(*(f"{c}/clip{k}.mp4" for c in "ab" for k in "01"))
    tree(*(f"{c}/clip{k}_preview.jpg" for c in "ab" for k in "01"))
    assert make() == 0
    assert set(listed("train")) | set(listed("test")) == {
        f"{c}/clip{k}.mp4" for c in "ab" for k in "01"
    }


def test_packed_videos_are_one_sentence(tree, capsys):
    tree("a/x.mp4", "b/x.mp4")
    with zipfile.ZipFile("videos.zip", "w") as archive:
        archive.write("frames/a/x.mp4")
    with tarfile.open("videos.tar.gz", "w:gz") as archive:
        archive.add("frames")
    error = refused(capsys, frames="videos.zip")
    assert "no frames in this zip, but 1 video, which cannot be read packed; unpack it" in error
    error = refused(capsys, frames="videos.tar.gz")
    assert "videos.tar.gz cannot be read packed; unpack it first" in error
    (path, why), *others = paths.videos_at(["videos.zip"])[1]
    assert "1 video, which cannot be read packed; unpack it first" in why and not others
    Path("videos.tar.gz").rename("frames/a/more.tar")
    assert make("--val-fraction", 0.5) == 1
    assert "no video is left" in capsys.readouterr().err


def test_gaps_in_frames_are_taken_when_they_are_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a/v1", "a/v2", "b/v1", "b/v2"):
        (tmp_path / "frames" / name).mkdir(parents=True)
        for number in (1, 2, 7):
            (tmp_path / "frames" / name / f"{number}.jpg").touch()
    assert "frame 3 is missing or doubled before 7.jpg" in refused(capsys)
    assert make("--any-numbers") == 0
    assert len(listed("train")) == 2


def test_what_is_named_is_tried_whatever_its_suffix(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "measure", lambda path: Measured(7, 25.0))
    files = [tmp_path / name for name in ("clip", "clip.bin", "clip.tar")]
    for file in files:
        file.touch()
        assert is_video_file(str(file))
    videos, problems = paths.videos_at(map(str, files))
    assert [video.path for video in videos] == list(map(str, files[:2]))
    assert problems == [(str(files[2]), f"{files[2]} cannot be read packed; unpack it first")]


def test_features_of_videos_that_differ_in_their_suffix_alone_are_two_files(tmp_path):
    videos = [Video(f"{tmp_path}/a/clip.{suffix}", 0, "", 7) for suffix in ("avi", "mp4")]
    files, problems = feature_files(Path("out"), [str(tmp_path)], videos)
    assert not problems
    assert list(files.values()) == [Path("out/a/clip.npz"), Path("out/a/clip.mp4.npz")]
