"""Features of videos in files, and heads trained on features that are computed once."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_checkpoint, write_frames
from PIL import Image

from config import Clip, Preprocessing, UserError
from main import main
from models import build_model
from opts import parse_opts
from pt_dataset.inputs.windows import window_clip
from pt_dataset.video_list import Video
from utils.actions import head_only as heads
from utils.actions.extract_features import digest_weights
from utils.resume import checkpoint_file

ROOT = Path(__file__).resolve().parents[1]
CPU = ["--device", "cpu", "--workers", "0"]
TINY_TSN = ["--arch", "tsn", "--dataset", "tiny", "--data-root", "data", *CPU]


def extract(path, out, *argv):
    return main(["--resume", str(path), "--extract-features", out, *map(str, argv), *CPU])


def network_of(path):
    state = checkpoint_file.load(path)
    model = build_model("tsn", 2, **state["arch_args"])
    model.load_state_dict(state["model"])
    return model.eval()


@pytest.mark.parametrize(
    "start, end, window, expected",
    [
        (0, 8, 8, [0, 2, 4, 6]),
        (5, 13, 8, [5, 7, 9, 11]),
        (0, 7, 7, [0, 2, 4, 6]),  # every other frame of seven
        (0, 3, 8, [0, 2, 1, 0]),  # a video too short: looped
    ],
)
def test_the_network_sees_all_of_a_window(start, end, window, expected):
    clip = Clip(clip_len=16, stride=2)
    assert window_clip(Video("x", 0, "", 20), clip, start, end, window) == expected


def test_features_are_those_of_the_network_for_each_window(untrained):
    frames = write_frames(Path("videos/noise"), 20, size=(36, 40), scheme="{:03d}.png")
    argv = ["--videos", "videos", "--window", 9, "--step", 6, "--fps", 10]
    assert extract(untrained, "new/out", *argv) == 0
    found = np.load("new/out/noise.npz")
    np.testing.assert_allclose(found["start"], [0, 0.6, 1.1])
    np.testing.assert_allclose(found["end"], [0.9, 1.5, 2.0])
    assert found["start_frame"].tolist() == [0, 6, 11]
    assert found["fps"] == 10
    assert json.loads(str(found["settings"]))["preprocessing"]["crop_size"] == 32
    model = network_of(untrained)
    for start, found_there in zip((0, 6, 11), found["features"], strict=True):
        pixels = [
            np.asarray(Image.open(frames / f"{start + i + 1:03d}.png"))[4:36, 2:34]
            for i in (1, 4, 7)  # the middles of three segments
        ]
        clip = torch.from_numpy(np.stack(pixels)).permute(3, 0, 1, 2)[None] / 127.5 - 1
        with torch.inference_mode():
            expected = model.forward_features(clip)[0]
        np.testing.assert_allclose(found_there, expected, rtol=1e-3, atol=1e-4)


def test_what_is_done_is_left_alone_and_other_settings_are_refused(untrained, capsys):
    assert extract(untrained, "out", "--videos", "data/tiny/testlist01.json") == 0
    files = sorted(Path("out").rglob("*.npz"))
    assert [str(f) for f in files] == [
        f"out/frames/{name}.npz"
        for name in ("down/test_0", "down/test_2", "up/test_1", "up/test_3")
    ]
    assert all(math.isnan(np.load(f)["start"][0]) for f in files)  # no frame rate is known
    before = [f.read_bytes() for f in files]
    files[1].unlink()
    times = {f: f.stat().st_mtime_ns for f in files if f.exists()}
    assert extract(untrained, "out", "--videos", "data/tiny/testlist01.json") == 0
    assert "3 of 4 videos are done already" in capsys.readouterr().out
    assert [f.read_bytes() for f in files] == before
    assert all(f.stat().st_mtime_ns == time for f, time in times.items())
    with pytest.raises(UserError, match="window a clip, now 4"):
        extract(untrained, "out", "--videos", "data/tiny/testlist01.json", "--window", 4)
    state = torch.load(untrained, weights_only=True)
    state["model"]["backbone.conv1.weight"] += 1
    torch.save(state, "other.pth")
    with pytest.raises(UserError, match="weights_sha256"):
        extract("other.pth", "out", "--videos", "data/tiny/testlist01.json")


def test_features_carry_label_and_class_where_a_list_gives_them(untrained, monkeypatch):
    test_list = Path("data/tiny/testlist01.json")
    assert extract(untrained, "OUT", "--videos", "data/tiny/frames/up") == 0
    assert "label" not in np.load("OUT/test_1.npz")
    shutil.rmtree("OUT")
    assert extract(untrained, "OUT", "--videos", test_list) == 0
    text = (ROOT / "utils/README.md").read_text()
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "npz" in code)
    loaded: dict = {}
    exec(example, loaded)
    assert loaded["x"].shape == (4, 512)
    assert loaded["y"].tolist() == [0, 0, 1, 1]
    kept = {path: dict(np.load(path)) for path in Path("OUT").rglob("*.npz")}
    assert {str(arrays["class_name"]) for arrays in kept.values()} == {"down", "up"}

    entries = json.loads(test_list.read_text())  # a video gets another class, and nothing else new
    entries[0] |= {"class_name": "up", "label": 1}
    test_list.write_text(json.dumps(entries))
    monkeypatch.setattr("utils.actions.network.outputs_of_batch", None)  # is not called
    assert extract(untrained, "OUT", "--videos", test_list) == 0
    exec(example, loaded)
    assert loaded["y"].tolist() == [1, 0, 1, 1]
    for path, arrays in kept.items():
        found = dict(np.load(path))
        assert found.keys() == arrays.keys()
        np.testing.assert_array_equal(found["features"], arrays["features"])


def test_the_order_of_the_settings_in_their_file_does_not_matter(untrained):
    assert extract(untrained, "out", "--videos", "data/tiny/testlist01.json") == 0
    file = Path("out/settings.json")
    settings = json.loads(file.read_text())
    for part in (settings, settings["preprocessing"]):
        for name in sorted(part):
            part[name] = part.pop(name)
    file.write_text(json.dumps(settings, indent=1))
    assert extract(untrained, "out", "--videos", "data/tiny/testlist01.json") == 0


def test_a_broken_video_is_named_and_the_others_are_extracted(untrained, capsys):
    frame = Path("data/tiny/frames/up/test_1/image_00005.jpg")
    frame.write_bytes(b"")
    argv = ["--videos", "data/tiny/testlist01.json", "--window", 4]
    assert extract(untrained, "out", *argv) == 1
    assert "test_1/image_00005.jpg cannot be decoded" in capsys.readouterr().out
    assert len(list(Path("out").rglob("*.npz"))) == 3


def test_two_videos_of_one_name_are_refused(untrained):
    write_frames(Path("a/x"), 3)
    write_frames(Path("b/x"), 3)
    with pytest.raises(UserError, match=r"a/x and b/x would both be out/x.npz"):
        extract(untrained, "out", "--videos", "a", "b")


def test_the_digest_of_a_network_sees_every_weight_but_the_head(untrained):
    model = network_of(untrained)
    before = digest_weights(model)
    model.head.weight.data += 1
    assert digest_weights(model) == before
    next(model.backbone.parameters()).data[0, 0, 0, 0] += 1e-3
    assert digest_weights(model) != before


def test_a_head_trained_on_kept_features_is_the_one_trained_through_the_network(untrained):
    model = network_of(untrained)
    clips = torch.randn(6, 2, 3, 2, 16, 16)  # videos, views
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    with torch.inference_mode():
        kept = torch.stack([model.forward_features(views) for views in clips])

    class ThroughTheNetwork:
        """Features that are computed anew each time they are asked for."""

        shape = kept.shape

        def __getitem__(self, videos_and_views):
            pairs = zip(*videos_and_views, strict=True)
            with torch.no_grad():
                return torch.stack([model.forward_features(clips[v, w][None])[0] for v, w in pairs])

    how = {"dropout": 0.5, "lr": 0.01, "seed": 3, "epochs": 5}
    a = heads.train_head(kept, labels, model.head, **how)
    b = heads.train_head(ThroughTheNetwork(), labels, model.head, **how)
    torch.testing.assert_close(a.weight, b.weight, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(a.weight, model.head.weight, atol=1e-2)
    other = torch.nn.Linear(model.head.in_features, 2)  # what the old head was does not matter
    assert torch.equal(a.weight, heads.train_head(kept, labels, other, **how).weight)
    c = heads.train_head(kept, labels, model.head, **how | {"seed": 4})
    assert not torch.allclose(a.weight, c.weight, atol=1e-3)


def test_a_head_sees_each_video_once_an_epoch_in_one_of_its_views():
    seen = []

    class Noted:
        shape = 300, 3, 4

        def __getitem__(self, videos_and_views):
            seen.append(videos_and_views)
            return torch.zeros(len(videos_and_views[0]), 4)

    labels = torch.zeros(300, dtype=torch.long)
    heads.train_head(Noted(), labels, torch.nn.Linear(4, 2), dropout=0, lr=0.1, seed=0, epochs=2)
    assert [len(videos) for videos, _ in seen] == [256, 44, 256, 44]
    for first in (0, 2):
        in_epoch = torch.cat([videos for videos, _ in seen[first : first + 2]])
        assert in_epoch.sort().values.tolist() == list(range(300))
    assert torch.cat([views for _, views in seen]).unique().tolist() == [0, 1, 2]
    assert not torch.equal(seen[0][0], seen[2][0])


def test_a_window_too_short_for_the_network_is_refused_before_the_work(in_tiny_set):
    clip = Preprocessing(clip_len=8, crop_size=32, short_side=36, mean=(0.5,) * 3, std=(0.5,) * 3)
    path = write_checkpoint(in_tiny_set / "alone" / "net.pth", "resnet3d", clip)
    argv = ["--videos", "data/tiny/testlist01.json", "--window", 1]
    with pytest.raises(UserError, match="--window 1 is too short for resnet3d"):
        extract(path, "out", *argv)
    assert not Path("out").exists()


def test_a_shifted_network_of_frames_in_a_row_takes_no_window_of_another_length(in_tiny_set):
    clip = Preprocessing(clip_len=4, crop_size=32, short_side=36, mean=(0.5,) * 3, std=(0.5,) * 3)
    clip = replace(clip, fixed_segments=True)
    path = write_checkpoint(in_tiny_set / "alone" / "net.pth", "tsn", clip, shift=True)
    argv = ["--videos", "data/tiny/testlist01.json", "--window"]
    with pytest.raises(UserError, match="--window 8 is 8 frames .* a shifted one takes 4 in a row"):
        extract(path, "out", *argv, 8)
    assert not Path("out").exists()
    assert extract(path, "out", *argv, 4) == 0


IDLE = """--epochs 2 --optimizer adamw --lr 1 --no-decay-norm --schedule cosine --patience 2
--layer-decay 0.7 --ema 0.9 --label-smoothing 0.1 --mixup 0.2 --cutmix 1 --freeze features
--precise-bn 2 --crop resized --flip-prob 0 --augment randaugment --erasing 0.5
--checkpoint-minutes 1"""


def test_what_only_a_training_of_the_network_reads_is_refused_by_that_of_heads():
    command = ["--arch", "tsn", "--dataset", "x", "--head-only", "--resume", __file__]
    for option in re.findall("--[^-].*?(?= --|$)", IDLE.replace("\n", " ")):
        run = SimpleNamespace(opts=parse_opts([*command, *option.split()]), lists=None)
        name = option.split()[0].replace("--no-", "--")
        with pytest.raises(UserError, match=f"^to --head-only these mean nothing: {name}$"):
            heads.head_only(run, None)


@pytest.mark.slow
def test_heads_learn_and_their_checkpoint_is_a_normal_one(untrained, capsys, monkeypatch):
    open_loaders, view_batches = [], heads.build.view_batches

    def noted(run, *args, **how):
        open_loaders.append(len(run.view_loaders))
        return view_batches(run, *args, **how)

    monkeypatch.setattr(heads.build, "view_batches", noted)
    argv = [*TINY_TSN, "--head-only", "--resume", str(untrained), "--views", "2x1"]
    argv += ["--precision", "fp32", "--batch-size", "3", "--no-visdom", "--dropout", "0"]
    for name in ("test_1", "test_3"):  # another picture than that of class down
        write_frames(Path("data/tiny/frames/up") / name, 10)
    for name in ("train_1", "train_3", "train_5"):
        write_frames(Path("data/tiny/frames/up") / name, 10)
    assert main([*argv, "--name", "heads", "--head-lrs", "1e-9", "0.01"]) == 0
    assert open_loaders == [0, 0]  # no list keeps the processes of the one before
    printed = capsys.readouterr().out
    assert "lr 0.01     validation top-1 100.0 %  <- the best" in printed
    first = json.loads(Path("saved_model/heads/result.json").read_text())
    assert "chosen for its accuracy on data/tiny/testlist01.json" in first["protocol"]
    assert first["top1"] == 100
    before = network_of(untrained).state_dict()
    after = torch.load("saved_model/heads/last.pth", weights_only=True)["model"]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"head.weight", "head.bias"}
    scores = np.load("saved_model/heads/scores.npz")["scores"]
    resume = ["--resume", "saved_model/heads/last.pth", "--no-visdom", "--device", "cpu"]
    assert main([*resume, "--evaluate"]) == 0
    np.testing.assert_allclose(np.load("saved_model/heads/scores.npz")["scores"], scores, atol=1e-4)
    whole = ["--pretrained", "saved_model/heads/last.pth", "--name", "whole", "--epochs", "1"]
    assert main([*TINY_TSN, *whole, "--batch-size", "3", "--no-visdom"]) == 0
    capsys.readouterr()
    assert main([*argv, "--name", "again"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("computed before") == 3
    kept = Path(re.search(r"training videos: (\S+\.pt)", printed)[1])
    torch.save({"features": torch.load(kept, weights_only=True)["features"]}, kept)
    write_frames(Path("data/tiny/frames/up/test_1"), 10, size=(50, 40))
    assert main([*argv, "--name", "changed"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(f"{kept} is of an earlier version") == 1
    assert printed.count("1 of 4 videos have changed since saved_model/.features/") == 1
    assert printed.count("computed before") == 2  # the test list is the validation list
    assert main([*argv, "--name", "other", "--crop-size", "30"]) == 0
    assert "training videos: saved_model/.features" in (printed := capsys.readouterr().out)
    assert printed.count("computed before") == 1  # the test list, which is the validation list


def test_heads_are_trained_without_the_videos_that_are_left_out(untrained):
    """One view a batch: the batch of a bad video has nothing in it."""
    for name in ("down/train_2", "up/test_1"):
        for file in Path("data/tiny/frames", name).iterdir():
            file.write_bytes(b"")
    argv = [*TINY_TSN, "--head-only", "--resume", str(untrained), "--name", "heads", "--views", "1"]
    argv += ["--precision", "fp32", "--no-visdom", "--view-batch", "1", "--on-bad-frame", "skip"]
    assert main([*argv, "--max-bad-share", "0.3", "--head-lrs", "0.01"]) == 0
    result = json.loads(Path("saved_model/heads/result.json").read_text())
    assert (result["num_videos"], result["num_skipped"]) == (3, 1)
    assert "chosen for" not in result["protocol"]  # of one head there was nothing to choose


def test_a_damaged_cache_is_named(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"half")
    with pytest.raises(UserError, match=r"x.pt is damaged .*; delete it"):
        heads.load_features(tmp_path / "x.pt", [], [])


def test_kept_features_come_back(tmp_path):
    path = tmp_path / "new" / "x.pt"
    videos = [Video(f"{i}.mp4", int(i == 7), "x", 9) for i in range(8)]
    assert heads.load_features(path, videos, []) is None
    features = heads.Features(torch.rand(2, 3, 4), torch.tensor([0, 1]), torch.tensor([5, 7]))
    heads.save_features(path, features, [])
    kept = heads.load_features(path, videos, [])
    assert all(torch.equal(a, b) for a, b in zip(kept, features, strict=True))


def test_features_are_computed_a_few_views_at_a_time():
    class Sums(torch.nn.Module):
        sizes = []

        def forward(self, clips):
            self.sizes.append(len(clips))
            return clips.flatten(1).sum(dim=1, keepdim=True)

    views = torch.rand(2, 3, 4)
    none = torch.empty(0, dtype=torch.long)
    batches = [(views, torch.tensor([1, 0]), torch.tensor([4, 2])), (views[:0], none, none)]
    found = heads.compute_features(Sums(), batches, torch.device("cpu"), view_batch=4)
    torch.testing.assert_close(found.values, views.sum(dim=2, keepdim=True))
    assert (found.labels.tolist(), found.indices.tolist()) == ([1, 0], [4, 2])
    assert Sums.sizes == [4, 2]
