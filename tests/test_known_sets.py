"""The lists of the public data sets, from made-up frames under their real names."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from golden import UCF101_LISTS, is_published, kinetics_entries, ucf101_entries

from config import DATASETS
from pt_dataset import make_json
from pt_dataset.datalist import CLASS_FILES, read_classes, read_list
from pt_dataset.listing.known_sets import RULES, Labels
from tests.conftest import write_frames


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_frames(folder, count=2, scheme="image_{:05d}.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / scheme.format(i + 1)).touch()
    return folder


def make(*args):
    return make_json.main([str(arg) for arg in args])


def read(name, list_name="trainlist01", root=Path("videos_dataset")):
    """{video: (class, label, frames)} of a list, which the reader of training accepts."""
    classes = read_classes(root / name / "classes.txt")
    videos, num_remapped = read_list(root / name / f"{list_name}.json", classes)
    assert num_remapped == 0
    return {
        Path(video.path).stem: (video.class_name, video.label, video.num_frames) for video in videos
    }


@pytest.fixture
def ucf101():
    """{list: {video: (class, label)}} of the published lists."""
    lists = {}
    for name in UCF101_LISTS:
        entries = ucf101_entries(name)
        assert is_published(json.dumps(entries).encode(), f"ucf101_{name}.json")
        lists[name] = {Path(e["path"]).name: (e["class_name"], e["label"]) for e in entries}
    return lists


def test_ucf101_from_one_zip_gives_the_published_lists_by_the_group_rule(ucf101, root, capsys):
    with zipfile.ZipFile("ucf101.zip", "w") as archive:
        for video in ucf101["trainlist01"] | ucf101["testlist01"]:
            archive.writestr(f"jpegs_256/{video}/frame000001.jpg", "")
    assert make("ucf101", "ucf101.zip") == 0
    for name in UCF101_LISTS:
        assert {k: v[:2] for k, v in read("ucf101", name).items()} == ucf101[name]
    out = capsys.readouterr().out
    assert "trainlist02: 9586 of the official 9586 videos are there, of 101 of the 101" in out
    assert f"lists: in {root}/videos_dataset/ucf101, split by the groups in the names" in out
    assert out.endswith("next: python main.py --arch i3d --dataset ucf101\n")


def test_ucf101_by_official_files_or_by_groups_is_the_same(ucf101, root):
    for name, videos in ucf101.items():
        suffix = " 1" if name.startswith("train") else ""
        lines = [f"{label}/{video}.avi{suffix}" for video, (label, _) in videos.items()]
        (root / f"{name}.txt").write_text("\r\n".join(lines))
    classes = read_classes(CLASS_FILES / "ucf101" / "classes.txt")
    names = [f"{label}/{video}" for video, (label, _) in ucf101["trainlist01"].items()]
    # as some archives of frames have it
    names = [name.replace("v_HandStandPushups", "v_HandstandPushups") for name in names]
    by_files = RULES["ucf101"](names, classes, root, root)
    by_groups = RULES["ucf101"](names, classes, None, root / "nowhere")
    assert by_files.split_by == str(root) != by_groups.split_by
    assert by_files.lists == by_groups.lists
    for name, size in DATASETS["ucf101"].list_sizes.items():
        assert len(ucf101[name]) == size
    assert len(by_files.lists["trainlist01"]) == 9537 and not by_files.lists["testlist01"]


def test_the_sizes_of_official_lists_are_those_of_the_published_ones():
    assert DATASETS["ucf101"].list_sizes == {n: len(ucf101_entries(n)) for n in UCF101_LISTS}
    sizes = {name: set(DATASETS[name].split_sizes) for name in ("hmdb51", "kinetics200")}
    assert sizes == {"hmdb51": {(51 * 70, 51 * 30)}, "kinetics200": {(200 * 400, 200 * 25)}}


@pytest.mark.parametrize(
    "layout", ["jpegs_256/{}/frame000001.jpg", "{class}/{}/image_00001.jpg", "{class}/{}/1.jpg"]
)
def test_ucf101_from_folders_in_any_layout(root, layout):
    for video in ("v_HandstandPushups_g08_c01", "v_HandStandPushups_g01_c01", "v_YoYo_g25_c02"):
        path = Path("frames", layout.format(video, **{"class": video.split("_")[1]}))
        path.parent.mkdir(parents=True)
        path.touch()
    assert make("ucf101", "frames") == 0
    assert read("ucf101") == {
        "v_HandstandPushups_g08_c01": ("HandstandPushups", 36, 1),  # one frame is a video
        "v_YoYo_g25_c02": ("YoYo", 100, 1),
    }
    assert read("ucf101", "testlist01") == {
        "v_HandStandPushups_g01_c01": ("HandstandPushups", 36, 1)
    }
    # of a list without videos there is no file
    assert sorted(path.name for path in Path("videos_dataset/ucf101").glob("test*")) == [
        "testlist01.json",
        "testlist02.json",
    ]


def test_real_frames_of_ucf101_make_lists(shared, root):
    for i in range(8):
        link = root / "frames" / f"v_ApplyEyeMakeup_g{i + 1:02d}_c01"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(shared / "real" / "ucf101_frames" / f"v_{i + 1:06d}")
    assert make("ucf101", "frames", "--data-root", "data") == 0
    videos = read("ucf101", "testlist01", Path("data"))
    assert set(videos.values()) == {("ApplyEyeMakeup", 0, 25)} and len(videos) == 7


def test_videos_and_zips_of_one_video_are_listed_with_what_they_measure(shared, root):
    video = shared / "real" / "videos" / "test.avi"
    folder = root / "videos" / "Archery"
    folder.mkdir(parents=True)
    (folder / "v_Archery_g01_c01.avi").symlink_to(video)
    with zipfile.ZipFile(folder / "v_Archery_g09_c01.zip", "w") as archive:
        for i in range(7):
            archive.writestr(f"{i}.jpg", "")
    (folder / "v_Archery_g10_c01.avi").write_bytes(b"no video")
    assert make("ucf101", "videos") == 1
    assert read("ucf101") == {"v_Archery_g09_c01": ("Archery", 2, 7)}
    assert read("ucf101", "testlist01") == {"v_Archery_g01_c01": ("Archery", 2, 164)}
    entry = json.loads(Path("videos_dataset/ucf101/testlist01.json").read_text())[0]
    assert entry["fps"] == 25


def write_hmdb51(folder, missing=()):
    """The official split files, of one train, one test and one unused clip a class."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = read_classes(CLASS_FILES / "hmdb51" / "classes.txt")
    for name in classes:
        for split in (1, 2, 3):
            # what is trained on in one split is tested on in the next
            codes = [(1, 2, 0)[(i + split) % 3] for i in range(3)]
            lines = [f"{name}_#{i}_(a).avi {code} " for i, code in enumerate(codes)]
            if (name, split) not in missing:
                (folder / f"{name}_test_split{split}.txt").write_text("\n".join(lines) + "\n")
    return classes


@pytest.mark.parametrize("layout", ["{name}/{clip}", "jpegs_256/{clip}"])
def test_hmdb51_by_its_official_files(root, capsys, layout):
    classes = write_hmdb51(root / "files" / "testTrainMulti_7030_splits")
    for name in classes:
        for i in range(3):
            clip = f"{name}_#{i}_(a)"
            add_frames(root / "frames" / layout.format(name=name, clip=clip), 1)
    add_frames(root / "frames" / "kick" / "stranger")
    assert make("hmdb51", "frames", "--annotations", "files") == 0
    kick = classes.index("kick")
    for split, (train, test) in {1: (2, 0), 2: (1, 2), 3: (0, 1)}.items():
        for side, i in (("train", train), ("test", test)):
            videos = read("hmdb51", f"{side}list{split:02d}")
            assert len(videos) == 51
            assert videos[f"kick_#{i}_(a)"] == ("kick", kick, 1)
    out = capsys.readouterr().out
    assert "trainlist01: 51 of the official 3570 videos are there, of 51 of the 51" in out
    assert "on no list: 1 other video\n" in out


def test_clips_of_one_name_in_two_classes_of_hmdb51_are_told_apart(root):
    classes = write_hmdb51(root)
    for name in ("kick", "punch"):
        (root / f"{name}_test_split1.txt").write_text("same.avi 1 \n")
    plan = RULES["hmdb51"](["kick/same", "punch/same"], classes, root, root)
    assert plan.lists["trainlist01"] == {"kick/same": "kick", "punch/same": "punch"}


def test_missing_files_of_hmdb51_are_one_sentence_with_what_to_get(root, capsys):
    write_hmdb51(root / "files", missing={("kick", 2)})
    add_frames(root / "frames" / "kick" / "a")
    for options, words in (
        (["--annotations", "files"], "files has 152 of the 153 split files (kick_test_split2.txt"),
        ([], "has 0 of the 153 split files"),
    ):
        assert make("hmdb51", "frames", *options) == 1
        error = capsys.readouterr().err
        assert words in error and "test_train_splits.rar" in error and error.count("\n") == 1
    assert not Path("videos_dataset").exists()


KINETICS = {  # as folders are called elsewhere
    "air drumming": "air_drumming",
    "hurling (sport)": "hurling_sport",
    "massaging person's head": "massaging_person's_head",
    "passing American football (not in game)": "passing American football (not in game)",
}


@pytest.mark.parametrize(
    "train, val",
    [
        ("train", "val"),
        ("kinetics-400_train", "val_256"),
        ("of train/train", "of train/validation"),  # the innermost folder decides
    ],
)
def test_kinetics400_by_its_folders_however_they_are_spelled(root, capsys, train, val):
    for i, folder in enumerate(KINETICS.values()):
        add_frames(root / "frames" / train / folder / f"-_abcdefg{i:02d}_000001_000011")
        add_frames(root / "frames" / val / folder / f"_-abcdefg{i:02d}", 3)
    add_frames(root / "frames" / val / "no_such_class" / "abcdefghi00")
    add_frames(root / "frames" / val / "archery" / "no_id")
    assert make("kinetics400", "frames") == 0
    classes = read_classes(CLASS_FILES / "kinetics400" / "classes.txt")
    for list_name, name, frames in (
        ("trainlist01", "-_abcdefg{:02d}_000001_000011", 2),
        ("testlist01", "_-abcdefg{:02d}", 3),
    ):
        assert read("kinetics400", list_name) == {
            name.format(i): (label, classes.index(label), frames)
            for i, label in enumerate(KINETICS)
        }
    out = capsys.readouterr().out
    assert "trainlist01: 4 of the official 246534 videos are there, of 4 of the 400" in out
    assert "on no list: 2 other videos" in out


def test_kinetics400_by_its_csv_files_wherever_the_videos_lie(root, capsys):
    header = "label,youtube_id,time_start,time_end,split"
    Path("csv").mkdir()
    rows = ["archery,-bcdefghijk,1,11,train", '"hurling (sport)",abcdefghij-,0,10,train']
    Path("csv/train.csv").write_text("\r\n".join([header, *rows]), encoding="utf-8-sig")
    Path("csv/val.csv").write_text(f"{header}\narchery,_bcdefghijk,1,11,validate\n")
    Path("csv/test.csv").write_text(f"{header}\narchery,test_bcdefg,1,11,test\n")
    Path("csv/other.csv").write_text("youtube_id,time_start,time_end,split\nabc,1,2,test\n")
    add_frames(root / "frames" / "val" / "archery" / "test_bcdefg")
    add_frames(root / "frames" / "-bcdefghijk_000001_000011")
    add_frames(root / "frames" / "val" / "abseiling" / "_bcdefghijk")  # the file decides
    assert make("kinetics400", "frames", "--annotations", "csv") == 0
    assert read("kinetics400") == {"-bcdefghijk_000001_000011": ("archery", 5, 2)}
    assert read("kinetics400", "testlist01") == {"_bcdefghijk": ("archery", 5, 2)}
    assert "trainlist01: 1 of the official 2 videos are there" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "csv has no CSV file with the columns label, split, youtube_id"),
        (b"label,youtube_id,split\nswimming,abcdefghijk,train\n", "line 2: split 'train', label"),
        (b"label,youtube_id,split\narchery,abcdefghijk,dev\n", "line 2: split 'dev'"),
        ("label,youtube_id,split\n\u00e9,a,train\n".encode("latin-1"), "no CSV file in UTF-8"),
    ],
)
def test_wrong_files_of_kinetics_are_one_sentence(root, capsys, text, message):
    Path("csv").mkdir()
    if text is not None:
        Path("csv/train.csv").write_bytes(text)
    add_frames(root / "frames" / "train" / "archery" / "abcdefghijk")
    assert make("kinetics400", "frames", "--annotations", "csv") == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not Path("videos_dataset").exists()


def write_id_lists(folder):
    folder.mkdir(parents=True)
    (folder / "train_ytid_list.txt").write_text("-bcdefghijk\nnotthere123\n")
    (folder / "val_ytid_list.txt").write_text("_bcdefghijk\n")


def test_kinetics200_is_taken_from_the_lists_of_kinetics400(root, capsys):
    write_id_lists(root / "ids")
    assert make("kinetics200", "--annotations", "ids") == 1
    assert "make the lists of kinetics400 first" in capsys.readouterr().err
    add_frames(root / "frames" / "train" / "archery" / "-bcdefghijk_000001_000011", 4)
    add_frames(root / "frames" / "train" / "archery" / "zzzzzzzzzzz_000001_000011")
    add_frames(root / "frames" / "val" / "zumba" / "_bcdefghijk_000001_000011", 5)
    assert make("kinetics400", "frames") == 0
    kinetics400 = read("kinetics400") | read("kinetics400", "testlist01")
    for source in ([], ["frames"]):  # FRAMES of all of Kinetics-400 will do, too
        assert make("kinetics200", *source, "--annotations", "ids") == 0
        assert read("kinetics200") == {"-bcdefghijk_000001_000011": ("archery", 2, 4)}
        assert read("kinetics200", "testlist01") == {"_bcdefghijk_000001_000011": ("zumba", 199, 5)}
    assert kinetics400["_bcdefghijk_000001_000011"] == ("zumba", 399, 5)
    assert "trainlist01: 1 of the official 80000 videos" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["train_ytid_list.txt", "val_ytid_list.txt"])
def test_wrong_id_lists_are_one_sentence(root, capsys, name):
    write_id_lists(root / "ids")
    add_frames(root / "frames" / "train" / "archery" / "-bcdefghijk")
    (root / "ids" / name).write_text("abseiling\n")
    assert make("kinetics200", "frames", "--annotations", "ids") == 1
    assert f"{name}: 'abseiling' is no id of a YouTube video" in capsys.readouterr().err
    (root / "ids" / name).unlink()
    assert make("kinetics200", "frames", "--annotations", "ids") == 1
    assert f"ids has no {name}; get it" in capsys.readouterr().err


def test_the_published_lists_of_mini_kinetics_are_found_again_by_their_ids(root):
    entries = kinetics_entries("kinetics200_val")
    Path("ids").mkdir()
    ids = [Path(entry["path"]).name[:11] for entry in entries]
    Path("ids/val_ytid_list.txt").write_text("\n".join(ids))
    Path("ids/train_ytid_list.txt").write_text("")
    names = [entry["path"].split("kinetics_400_jpgs/")[1] for entry in entries]
    classes = read_classes(CLASS_FILES / "kinetics200" / "classes.txt")
    plan = RULES["kinetics200"](names, classes, root / "ids", root)
    wanted = {name: entry["class_name"] for name, entry in zip(names, entries, strict=True)}
    assert plan.lists == {"trainlist01": {}, "testlist01": wanted}


@pytest.mark.parametrize("name", RULES)
def test_spellings_do_not_make_two_classes_one(name):
    classes = read_classes(CLASS_FILES / name / "classes.txt")
    assert len(Labels(classes).by_key) == len(classes)


@pytest.mark.parametrize("name", [*RULES, "demo"])
def test_classes_that_tell_left_from_right_say_so(name):
    path = CLASS_FILES / name / "classes.txt"
    names = read_classes(path) if path.exists() else []
    turned = [n for n in names if re.search(r"\b(left|right|(counter-?)?clockwise)\b", n, re.I)]
    assert set(turned) <= DATASETS[name].flip_swaps.keys()


def test_without_a_name_every_set_in_the_data_root_is_made(root, capsys):
    add_frames(root / "data" / "UCF101" / "jpegs_256" / "v_Archery_g01_c01", 1)
    add_frames(root / "data" / "UCF101" / "jpegs_256" / "v_Archery_g08_c01", 1)
    (root / "data" / "hmdb51" / "kick").mkdir(parents=True)
    add_frames(root / "data" / "hmdb51" / "kick" / "a")
    (root / "data" / "kinetics400").mkdir()
    (root / "data" / "kinetics400" / "classes.txt").write_text("")  # nothing to make lists of
    assert make("--data-root", "data") == 1  # for HMDB51
    out, err = capsys.readouterr()
    assert "testlist01: 1 of the official 3783 videos" in out
    assert read("ucf101", root=Path("data")) == {"v_Archery_g08_c01": ("Archery", 2, 1)}
    assert "error: hmdb51: " in err and "0 of the 153 split files" in err
    assert "not there: data/kinetics400/ with train/CLASS/VIDEO and val/CLASS/VIDEO" in out
    assert "not there: data/kinetics200/ with train_ytid_list.txt" in out


@pytest.mark.parametrize("name", RULES)
def test_a_folder_of_something_else_is_one_sentence_that_says_what_is_looked_for(
    root, capsys, name
):
    write_id_lists(root / "files")
    write_hmdb51(root / "files")
    options = [] if name in ("ucf101", "kinetics400") else ["--annotations", "files"]
    for frames in ("nowhere", "empty", "other"):
        if frames != "nowhere":
            Path(frames).mkdir()
        if frames == "other":
            add_frames(Path("other/a/b"))
        assert make(name, frames, *options) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and frames in error
        assert frames == "nowhere" or "looked for" in error
    assert not Path("videos_dataset").exists()


def test_where_every_video_is_broken_no_list_is_written(root, capsys):
    (add_frames(root / "frames" / "v_Archery_g01_c01", 3) / "image_00002.jpg").unlink()
    assert make("ucf101", "frames") == 1
    left_out, error = capsys.readouterr().err.splitlines()
    assert left_out.startswith("left out: ") and "can be used (" in error
    assert not Path("videos_dataset").exists()


def test_the_same_video_in_two_forms_is_not_listed_twice(root, capsys):
    add_frames(root / "frames" / "jpegs" / "v_Archery_g01_c01")
    add_frames(root / "frames" / "videos" / "v_Archery_g01_c01")
    assert make("ucf101", "frames") == 1
    assert "v_Archery_g01_c01 is there twice, as jpegs/v_Archery" in capsys.readouterr().err


def test_a_class_file_in_another_order_is_not_overwritten(root, capsys):
    add_frames(root / "frames" / "v_Archery_g01_c01")
    path = root / "videos_dataset" / "ucf101" / "classes.txt"
    path.parent.mkdir(parents=True)
    path.write_text("YoYo\nArchery\n")
    assert make("ucf101", "frames") == 1
    assert f"{path} has other classes" in capsys.readouterr().err
    assert path.read_text() == "YoYo\nArchery\n"


@pytest.mark.parametrize("layout", ["tvl1_flow/{}/v_Archery_g08_c01", "jpegs/v_Archery_g08_c01"])
def test_flow_beside_or_among_the_frames_is_listed(root, capsys, layout):
    frames = write_frames(root / "jpegs" / "v_Archery_g08_c01", 3, scheme="frame{:06d}.jpg")
    add_frames(root / "jpegs" / "v_Archery_g09_c01")  # has no flow
    for name in "uv":
        if "{}" in layout:
            add_frames(root / layout.format(name), 2, "frame{:06d}.jpg")
        else:
            add_frames(frames, 2, {"u": "flow_x_{:05d}.jpg", "v": "flow_y_{:05d}.jpg"}[name])
    assert make("ucf101", "jpegs") == 0
    assert "optical flow: found for 1 of 2 videos" in capsys.readouterr().out
    entries = json.loads(Path("videos_dataset/ucf101/trainlist01.json").read_text())
    assert [entry.get("flow_path") for entry in entries] == [str(root / layout), None]


def test_flow_elsewhere_is_named_and_too_little_of_it_is_said(root, capsys):
    for i, count in enumerate((3, 2)):
        add_frames(root / "frames" / f"v_Archery_g08_c0{i}", 4)
        for name in "xy":
            folder = root / "flow_of" / "Archery" / f"v_Archery_g08_c0{i}"
            add_frames(folder, count, f"flow_{name}_{{:05d}}.jpg")
    assert make("ucf101", "frames", "--flow", "flow_of") == 1
    entries = json.loads(Path("videos_dataset/ucf101/trainlist01.json").read_text())
    flow = root / "flow_of" / "Archery" / "v_Archery_g08_c00"
    assert [entry.get("flow_path") for entry in entries] == [str(flow), None]
    assert "c01: flow of 3 frames, of 4" in capsys.readouterr().err
    assert make("ucf101", "frames", "--flow", "frames") == 1
    assert "frames has no flow of these videos; it needs u/VIDEO" in capsys.readouterr().err


@pytest.mark.parametrize(
    "frames, flow",
    [
        ("jpegs/{video}/1.jpg", "tvl1_flow/{side}/{video}/1.jpg"),
        ("Archery/{video}/1.jpg", "Archery/{video}/flow_{xy}_00001.jpg"),
    ],
)
@pytest.mark.parametrize("in_frames", [True, False])
def test_flow_in_zips_is_found_by_its_layout(root, frames, flow, in_frames):
    pictures = {"frames.zip": [], "tvl1_flow.zip": []}
    for i in range(2):
        video = f"v_Archery_g08_c0{i}"
        pictures["frames.zip"] += [frames.format(video=video)]
        pictures["frames.zip"] += [frames.format(video=video).replace("1.jpg", "2.jpg")]
        target = "frames.zip" if in_frames else "tvl1_flow.zip"
        for side, xy in ("ux", "vy"):
            pictures[target].append(flow.format(video=video, side=side, xy=xy))
    for path, members in pictures.items():
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, "")
    assert make("ucf101", "frames.zip") == 0
    entries = json.loads(Path("videos_dataset/ucf101/trainlist01.json").read_text())
    folder = str(Path(flow).parent).replace("{side}", "{{}}")
    assert [(entry["num_frames"], entry["flow_path"]) for entry in entries] == [
        (2, f"{root}/{target}/{folder.format(video=f'v_Archery_g08_c0{i}')}") for i in range(2)
    ]


@pytest.mark.parametrize("packed", [True, False])
def test_letters_u_and_v_among_others_are_classes(root, packed):
    names = [f"{letter}/{i}" for letter in "tuv" for i in range(2)]
    if packed:
        with zipfile.ZipFile("frames", "w") as archive:
            for name in names:
                archive.writestr(f"{name}/1.jpg", "")
        Path("frames").rename("frames.zip")
    else:
        for name in names:
            add_frames(root / "frames" / name)
    assert make("folder", "asl", "frames.zip" if packed else "frames") == 0
    assert read_classes(Path("videos_dataset/asl/classes.txt")) == ["t", "u", "v"]
