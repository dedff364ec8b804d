import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from conftest import write_frames
from golden import kinetics_entries
from PIL import Image

from config import Augmentation, Loading, Preprocessing
from pt_dataset import check_json
from pt_dataset.datalist import CLASS_FILES, HALF_REPLACED, read_list
from pt_dataset.loader import train_loader
from pt_dataset.video_lists import read_dataset
from utils.recipes import RECIPES

TOOL = [sys.executable, str(Path(check_json.__file__))]
CLASSES = ["run", "walk"]


def entry(name, label=0, **keys):
    """An entry of a list for a video of ten frames."""
    path = f"frames/{CLASSES[label]}/{name}"
    return {"path": path, "class_name": CLASSES[label], "label": label, "num_frames": 10} | keys


def write_set(folder, **lists):
    """The lists, with their class file, and frames for each entry that has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for name, entries in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(entries))
        for video in entries:
            if not (folder / video["path"]).exists():
                write_frames(folder / video["path"], 10)
    return folder


def clean_set(folder):
    """A data set with nothing wrong in it."""
    return write_set(
        folder,
        trainlist01=[entry(f"train_{i}", i % 2) for i in range(6)],
        testlist01=[entry(f"test_{i}", i % 2) for i in range(4)],
    )


def frame(folder, number):
    return folder / f"image_{number:05d}.jpg"


def cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "notes.txt").write_text("no frame")


def renumber(folder, add):
    for number in sorted(range(1, 11), reverse=add > 0):  # none onto another
        frame(folder, number).rename(frame(folder, number + add))


# what is done to the frames of a video, and what the doctor has to call it
BROKEN = {
    "lost": (shutil.rmtree, "missing"),
    "file": (lambda f: (shutil.rmtree(f), f.write_text("text")), "unusable"),
    "hollow": (empty, "empty"),
    "hole": (lambda f: frame(f, 4).unlink(), "gap"),
    "double": (lambda f: shutil.copy(frame(f, 4), f / "image_4.jpg"), "gap"),
    "two_names": (lambda f: frame(f, 10).rename(f / "img_00010.jpg"), "unusable"),
    "late": (lambda f: renumber(f, 6), "starts late"),
    "from_zero": (lambda f: renumber(f, -1), None),
    "truncated": (lambda f: cut(frame(f, 5), 300), "bad frame"),
    "zero_byte": (lambda f: cut(frame(f, 10), 0), "bad frame"),
    "html": (lambda f: frame(f, 1).write_text("<html>not found</html>"), "bad frame"),
    "sizes": (lambda f: Image.new("RGB", (20, 30)).save(frame(f, 8)), "mixed sizes"),
}
# what is changed in an entry of a list; None removes the key
WRONG = {
    "too_long": ({"num_frames": 11}, "too few frames"),
    "too_short": ({"num_frames": 9}, "too many frames"),
    "mislabeled": ({"label": 1}, "wrong label"),
    "stranger": ({"class_name": "swim"}, "unknown class"),
    "nameless": ({"class_name": None}, "bad entry"),
    "wordy": ({"num_frames": "ten"}, "bad entry"),
    "zero": ({"num_frames": 0}, "bad entry"),
}


def faulty_set(folder):
    """A clean set and one entry for every fault, each a video of its own.

    Returns:
        the findings that there should be: (list, name of the video, kind).
    """
    train = [entry(f"train_{i}", i % 2) for i in range(4)]
    expected = set()
    for name, (_, kind) in BROKEN.items():
        train.append(entry(name))
        expected.add(("trainlist01", name, kind))
    for name, (keys, kind) in WRONG.items():
        changed = entry(name) | keys
        train.append(changed)
        expected.add(("trainlist01", name, kind))
    test = [entry("test_0", 0), entry("test_1", 1)]
    train += [entry("twice"), entry("twice"), entry("leak"), entry("v_RunFast_g01_c01")]
    test += [entry("leak"), entry("v_Runfast_g01_c02"), entry("v_RunFast_g02_c01")]
    expected |= {
        ("trainlist01", "twice", "duplicate"),
        ("trainlist01", "leak", "in train and test"),
        ("trainlist01", "v_RunFast_g01_c01", "group in train and test"),
        ("trainlist01", None, "class without videos"),
    }
    write_set(folder, trainlist01=train, testlist01=test)
    for name, (damage, _) in BROKEN.items():
        damage(folder / entry(name)["path"])
    (folder / "classes.txt").write_text("run\nwalk\nnever\n")
    without_nones(folder / "trainlist01.json")
    test.append(entry("x") | {"class_name": "never", "label": 2})
    write_frames(folder / test[-1]["path"], 10)
    (folder / "testlist01.json").write_text(json.dumps(test))
    return {finding for finding in expected if finding[2]}


def without_nones(path):
    """Removes the keys that are None from the entries of a list."""
    entries = json.loads(path.read_text())
    path.write_text(json.dumps([{k: v for k, v in e.items() if v is not None} for e in entries]))


def doctor(folder, *args):
    """Exit status and report of the doctor on both lists of the first split."""
    lists = [folder / f"{side}list01.json" for side in ("train", "test")]
    report = folder / "report.json"
    status = check_json.main(list(map(str, [*lists, "--report", report, "--workers", 1, *args])))
    return status, json.loads(report.read_text())


def found(report):
    """The findings of a report as `faulty_set` gives them."""
    return {(Path(f["list"]).stem, named(f), f["kind"]) for f in report["findings"]}


def named(finding):
    if finding["path"]:
        return Path(finding["path"]).name
    if finding["entry"] is None:
        return None
    entries = json.loads(Path(finding["list"]).read_text())
    return Path(entries[finding["entry"]]["path"]).name


@pytest.mark.parametrize("decode", [["--sample", "0"], [], ["--decode"]])
def test_nothing_is_wrong_with_a_clean_set(tmp_path, capsys, decode):
    status, report = doctor(clean_set(tmp_path / "tiny"), *decode, "--fix")
    out = capsys.readouterr().out
    assert status == 0
    assert report["findings"] == []
    assert report["first_numbers"] == {"1": 10}
    with_ = {Path(k).name: v["compared_with"] for k, v in report["lists"].items()}
    assert with_["trainlist01.json"].endswith("testlist01.json")
    assert with_["testlist01.json"].endswith("trainlist01.json")
    assert "10 videos checked" in out
    assert "nothing is wrong" in out
    assert "0 errors, 0 warnings" in out
    assert "least / median / most of a class: 3 / 3 / 3" in out
    assert not list(tmp_path.rglob("*.fixed.json"))  # nothing to fix


def test_every_planted_fault_is_named_and_nothing_else(tmp_path, capsys):
    expected = faulty_set(tmp_path / "tiny")
    status, report = doctor(tmp_path / "tiny")
    assert status == 1
    assert found(report) == expected
    assert len(report["findings"]) == len(expected)
    assert report["counts"] == Counter(kind for _, _, kind in expected)
    assert set(report["first_numbers"]) == {"0", "1", "7"}
    out = capsys.readouterr().out
    rows = [line.split("  ")[0] for line in out.splitlines()]
    for kind, count in report["counts"].items():
        assert kind in rows
        row = next(line for line in out.splitlines() if line.startswith(f"{kind}  "))
        assert check_json.KINDS[kind] in row
        assert f" {count}  " in row
    for words in (
        "image_00005.jpg cannot be decoded",
        "image_00010.jpg cannot be decoded: it is empty, as the file of a frame that",
        "frames of 48x36 from the 1. on, 20x30 from the 8. on",
        "10 frames, the list says 11",
        "label 1, but 'run' is class 0",
        "trainlist01.json entry 20: the entry has no 'class_name'",
        "24 videos, 2 of 3 classes; least / median / most of a class: 0 / 2 / 21",
        "frames are numbered from 0 (1 video), 1 (22 videos), 7 (1 video)",
        "frame 4 is missing",
    ):
        assert words in out


def test_a_bad_frame_between_those_of_the_sample_needs_decode(tmp_path):
    folder = clean_set(tmp_path / "tiny")
    cut(frame(folder / "frames/run/train_0", 2), 300)
    assert doctor(folder)[0] == 0
    assert doctor(folder, "--sample", "9")[1]["counts"] == {"bad frame": 1}
    assert doctor(folder, "--decode")[1]["counts"] == {"bad frame": 1}


def test_bad_frames_of_a_video_are_one_finding_with_their_number(tmp_path):
    folder = clean_set(tmp_path / "tiny")
    write_frames(folder / "frames/run/train_0", 40)
    for number in (1, 20, 40):
        cut(frame(folder / "frames/run/train_0", number), 300)
    (finding,) = (f for f in doctor(folder, "--decode")[1]["findings"] if f["kind"] == "bad frame")
    assert "image_00001.jpg" in finding["message"]
    assert "3 bad of 40 decoded" in finding["message"]


def test_a_fixed_list_passes_the_doctor_and_trains(tmp_path, capsys):
    folder = tmp_path / "tiny"
    faulty_set(folder)
    entries = json.loads((folder / "testlist01.json").read_text())
    other_group = [e for e in entries if "g01" not in e["path"]]
    (folder / "testlist01.json").write_text(json.dumps(other_group))
    assert doctor(folder, "--fix")[0] == 1
    out = capsys.readouterr().out
    assert "mended: 1 too few frames, 1 too many frames, 1 wrong label" in out
    for words in ("1 missing", "1 empty", "2 gap", "2 unusable", "3 bad frame", "1 mixed sizes"):
        assert words in out
    for words in ("3 bad entry", "1 unknown class", "1 duplicate", "1 in train and test"):
        assert words in out
    assert "testlist01.json: nothing to fix" in out

    (folder / "trainlist01.fixed.json").replace(folder / "trainlist01.json")
    status, report = doctor(folder, "--decode")
    assert status == 0
    assert report["counts"] == {"starts late": 1, "class without videos": 1}
    lists = read_dataset("tiny", tmp_path)
    assert {Path(video.path).name: video.num_frames for video in lists.train} == dict.fromkeys(
        ["train_0", "train_1", "train_2", "train_3", "late", "from_zero", "too_long"]
        + ["too_short", "mislabeled", "twice", "v_RunFast_g01_c01"],
        10,
    )
    assert lists.num_remapped == 0
    clip = Preprocessing(clip_len=4, crop_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    augmentation = Augmentation(short_side=(36, 36))
    loader = train_loader(lists, clip, augmentation, Loading(workers=0), batch_size=11, seed=0)
    assert next(loader.epoch())[0].shape == (11, 4, 32, 32, 3)


def test_a_group_on_both_sides_is_not_for_fix_to_decide(tmp_path):
    folder = write_set(
        tmp_path / "tiny",
        trainlist01=[entry("v_Run_g01_c01"), entry("v_Run_g01_c03"), entry("a", 1)],
        testlist01=[entry("v_Run_g01_c02"), entry("v_Run_g02_c02"), entry("b", 1)],
    )
    status, report = doctor(folder, "--fix")
    assert status == 1
    (finding,) = report["findings"]
    assert "group run g01 has other videos in" in finding["message"]
    assert "(2 here, 1 there)" in finding["message"]
    assert not list(folder.glob("*.fixed.json"))


def write_flow(folder, count, size=(48, 36)):
    for axis in "xy":
        write_frames(folder, count, size, scheme=f"flow_{axis}_{{:05d}}.jpg", level=lambda i: 128)


def test_faults_of_flow_are_named(tmp_path, capsys):
    names = ("good", "none", "lost", "short", "long", "lame", "bad")
    entries = [entry(name, flow_path=f"flow/{name}") for name in names]
    del entries[1]["flow_path"]
    folder = write_set(tmp_path / "tiny", trainlist01=entries + [entry("w", 1, flow_path="flow/w")])
    for name, count in (("good", 9), ("short", 8), ("long", 10), ("lame", 9), ("bad", 9), ("w", 9)):
        write_flow(folder / "flow" / name, count)
    (folder / "flow/lame/flow_y_00009.jpg").unlink()
    cut(folder / "flow/bad/flow_x_00001.jpg", 300)
    assert check_json.main(
        [f"{folder}/trainlist01.json", "--report", f"{folder}/report.json", "--workers", "1"]
    )
    report = json.loads((folder / "report.json").read_text())
    assert {(name, kind) for _, name, kind in found(report)} == {
        ("none", "no flow"),
        ("lost", "unusable flow"),
        ("short", "too little flow"),
        ("long", "too much flow"),
        ("lame", "unusable flow"),
        ("bad", "bad frame"),
    }


def test_an_entry_of_whatever_kind_is_a_finding(tmp_path):
    folder = clean_set(tmp_path / "tiny")
    entries = json.loads((folder / "trainlist01.json").read_text())
    entries += ["a", 7, ["run"], {"class_name": ["run"]}, None, {}]
    (folder / "trainlist01.json").write_text(json.dumps(entries))
    assert doctor(folder, "--sample", "0")[1]["counts"] == {"bad entry": 6}


def test_the_other_list_of_the_split_is_found_beside_it(tmp_path, capsys):
    folder = clean_set(tmp_path / "tiny")
    train = [entry("train_0"), entry("train_1", 1), entry("test_0")]
    (folder / "trainlist01.json").write_text(json.dumps(train))
    (folder / "trainlist02.json").write_text(json.dumps([entry("train_0"), entry("test_1", 1)]))
    for name, status in (("trainlist01", 1), ("testlist01", 1), ("trainlist02", 0)):
        assert check_json.main([f"{folder}/{name}.json", "--workers", "1"]) == status
        assert ("in train and test" in capsys.readouterr().out) == bool(status)
    # lists of different splits may share videos
    assert check_json.main([f"{folder}/trainlist02.json", f"{folder}/testlist01.json"]) == 1
    out = capsys.readouterr().out
    pairs = [line.split("compared with ")[1] for line in out.splitlines() if "compared" in line]
    assert pairs == ["no list of the other side of a split", f"{folder}/trainlist01.json"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("[{", "is not JSON"),
        ("{}", "does not hold a JSON array"),
        ("[]", "holds no videos"),
        (None, "no list"),
    ],
)
def test_an_unreadable_list_does_not_hide_the_others(tmp_path, capsys, content, message):
    folder = clean_set(tmp_path / "tiny")
    (folder / "testlist01.json").unlink()
    if content:
        (folder / "testlist01.json").write_text(content)
    status, report = doctor(folder, "--fix")
    assert status == 1
    assert report["counts"] == {"unreadable list": 1}
    out = capsys.readouterr().out
    assert message in out
    assert "6 videos checked" in out


def test_links_to_one_video_are_that_video(tmp_path, capsys):
    folder = clean_set(tmp_path / "tiny")
    train, test = (
        json.loads((folder / f"{side}list01.json").read_text()) for side in ("train", "test")
    )
    for name, of in (("again", train[0]), ("leak", test[0])):
        (folder / name).symlink_to(folder / of["path"])
    train += [train[0] | {"path": "again"}, test[0] | {"path": "leak"}]
    (folder / "trainlist01.json").write_text(json.dumps(train))
    counts = doctor(folder)[1]["counts"]
    assert counts["duplicate"] == 1 and counts["in train and test"] >= 1


def test_a_list_without_its_class_file_is_checked_all_the_same(tmp_path, capsys):
    folder = clean_set(tmp_path / "tiny")
    (folder / "classes.txt").rename(tmp_path / "names.txt")
    shutil.rmtree(folder / "frames/run/train_0")
    assert doctor(folder)[1]["counts"] == {"no class file": 2, "missing": 1}
    assert doctor(folder, "--classes", tmp_path / "names.txt")[1]["counts"] == {"missing": 1}
    assert check_json.main([f"{folder}/trainlist01.json", "--classes", "nowhere.txt"]) == 1
    assert "error: nowhere.txt is missing" in capsys.readouterr().err


def test_zips_are_checked_in_place(tmp_path):
    folder = clean_set(tmp_path / "tiny")
    names = ("good", "hole", "cut", "many")
    entries = [entry(f"{name}.zip/clip") for name in names] + [entry("w", 1)]
    for name in names:
        frames = write_frames(tmp_path / name, 10)
        if name == "hole":
            frame(frames, 4).unlink()
        path = folder / f"frames/run/{name}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(frames.iterdir()):
                archive.write(file, f"clip/{file.name}")
    cut(folder / "frames/run/cut.zip", 3000)
    write_frames(folder / "frames/walk/w", 10)
    entries[3]["num_frames"] = 12
    entries.append(entry("good.zip/other"))
    (folder / "trainlist01.json").write_text(json.dumps(entries))
    report = doctor(folder)[1]
    assert {(f["entry"], f["kind"]) for f in report["findings"]} == {
        (1, "unusable"),
        (2, "unusable"),
        (3, "too few frames"),
        (5, "missing"),
    }
    assert "frame 4 is missing" in report["findings"][0]["message"]


def test_video_files_are_checked_in_place(tmp_path, shared):
    folder = clean_set(tmp_path / "tiny")
    real = shared / "real" / "videos" / "test.avi"
    (folder / "cut.avi").write_bytes(real.read_bytes()[:50000])
    entries = [
        entry("w", 1, path=str(real), num_frames=164),
        entry("short", path="short.avi", num_frames=170),
        entry("cut", path="cut.avi"),
    ]
    (folder / "short.avi").write_bytes(real.read_bytes())  # no link: that were the same video
    (folder / "trainlist01.json").write_text(json.dumps(entries))
    report = doctor(folder)[1]
    assert {(f["entry"], f["kind"]) for f in report["findings"]} == {
        (1, "too few frames"),
        (2, "bad frame"),
        (2, "too many frames"),
    }


def test_a_list_of_which_nothing_is_there_takes_seconds_and_one_row(tmp_path):
    entries = kinetics_entries("kinetics400_val") * 25
    for i, entry in enumerate(entries[:18512]):  # as many as the published list has
        folder = entry["path"].rsplit("/", 1)[0]
        entries[i] = entry | {"path": f"{folder}/{i:011d}_000001_000011"}
    path = tmp_path / "kinetics400_val_datalist.json"
    path.write_text(json.dumps(entries[:18512]))
    classes = CLASS_FILES / "kinetics400" / "classes.txt"
    start = time.monotonic()
    done = subprocess.run(
        [*TOOL, path, "--classes", classes], capture_output=True, text=True, timeout=60
    )
    assert time.monotonic() - start < 20  # 2 s on an idle machine
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) < 15
    row = next(line for line in done.stdout.splitlines() if line.startswith("missing "))
    assert " 18512 " in row
    assert " entry 0: " in row
    assert f"every video of {path} is missing" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_report_is_the_same_from_any_number_of_workers(tmp_path):
    folder = write_set(tmp_path / "tiny", trainlist01=[], testlist01=[entry("w", 1)])
    entries = [entry(f"lost_{i}", i % 2) for i in range(200)]  # more than a job
    (folder / "trainlist01.json").write_text(json.dumps(entries))
    one, three = doctor(folder)[1], doctor(folder, "--workers", 3)[1]
    assert one == three
    assert [f["entry"] for f in one["findings"] if f["kind"] == "missing"] == list(range(200))


def test_warnings_alone_do_not_fail(tmp_path):
    folder = clean_set(tmp_path / "tiny")
    entries = json.loads((folder / "trainlist01.json").read_text())
    entries[0]["label"] = 1
    (folder / "trainlist01.json").write_text(json.dumps(entries))
    status, report = doctor(folder, "--fix")
    assert status == 0
    assert report["counts"] == {"wrong label": 1}
    fixed, num_remapped = read_list(folder / "trainlist01.fixed.json", CLASSES)
    assert (len(fixed), num_remapped) == (6, 0)


def test_very_short_videos_are_a_warning(tmp_path):
    folder = clean_set(tmp_path / "tiny")
    short = write_frames(folder / "frames/run/train_0", 7)
    for number in (8, 9, 10):
        frame(short, number).unlink()
    assert doctor(folder, "--fix")[1]["counts"] == {"few frames": 1, "too few frames": 1}
    assert read_list(folder / "trainlist01.fixed.json", CLASSES)[0][0].num_frames == 7
    consecutive = {key: r.clip_len for key, r in RECIPES.items() if not r.snippet_len}
    assert consecutive.pop(("x3d_xs", "scratch")) == 4
    assert min(consecutive.values()) == check_json.FEW_FRAMES


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    folder = clean_set(tmp_path / "tiny")
    (tmp_path / "file").write_text("")
    report = str(tmp_path / "file" / "report.json")
    assert check_json.main([f"{folder}/trainlist01.json", "--report", report]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert error.endswith("nothing was changed")


@pytest.mark.parametrize("options", [["--sample=-1"], ["--workers=0"], ["--sample=3", "--decode"]])
def test_impossible_options_are_usage_errors(options):
    with pytest.raises(SystemExit, match="2"):
        check_json.main(["list.json", *options])


def test_one_class_and_lists_that_are_half_replaced_are_found(tiny_set, capsys):
    path = tiny_set / "tiny" / "trainlist01.json"
    assert check_json.main([str(path)]) == 0
    (path.parent / HALF_REPLACED).touch()
    path.write_text(json.dumps([e for e in json.loads(path.read_text()) if e["label"]]))
    assert check_json.main([str(path)]) == 1
    out = capsys.readouterr().out
    assert "make_json.py was stopped while it replaced the lists" in out
    assert "trainlist01.json: all videos are of 'up'" in out


def test_gaps_are_no_finding_where_they_are_meant(tiny_set, capsys):
    path = tiny_set / "tiny" / "trainlist01.json"
    entries = json.loads(path.read_text())
    (path.parent / entries[0]["path"] / "image_00005.jpg").unlink()
    entries[0]["num_frames"] = 9
    path.write_text(json.dumps(entries))
    assert check_json.main([str(path)]) == 1
    assert "frame 5 is missing" in capsys.readouterr().out
    assert check_json.main([str(path), "--any-numbers"]) == 0
