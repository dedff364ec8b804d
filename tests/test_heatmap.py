"""--heatmap: the heat lies where the evidence for a class is, in every network and frame."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import read_table, write_frames
from PIL import Image
from torch import nn

from config import ARCHS, Evaluation, Preprocessing, UserError, Views
from main import main
from models import build_model
from models.backbones import BACKBONES
from opts import resolve
from pt_dataset.inputs.windows import Part, clips_within
from pt_dataset.listing import demo_videos
from pt_dataset.video_list import Video
from utils.actions import annotate
from utils.actions.heatmap import Heat, as_maps, choose_stage, grad_cam, heat_of, stages
from utils.actions.network import TrainedNetwork
from utils.actions.predictions import Prediction, Span
from utils.classifier import ClipClassifier, Normalize
from utils.run import StartingPoint

CLIP = Preprocessing(clip_len=8, short_side=64, crop_size=64, mean=(0,) * 3, std=(1,) * 3)
CPU = ["--device", "cpu", "--workers", "0"]


def classifier_of(model):
    return ClipClassifier(model.eval().requires_grad_(False), Normalize.matching(CLIP))


def views(num_views, num_frames, size):
    shape = (num_views, num_frames, size, size, 3)
    return torch.randint(256, shape, dtype=torch.uint8)


TRANSFORMERS = ["mvit", "swin3d"]  # between their last maps and the head is more than a mean


@pytest.mark.parametrize("arch", sorted(ARCHS.keys() - TRANSFORMERS))
def test_heat_of_a_network_that_averages_is_what_its_head_adds_up(arch):
    """Paper, sec. 3.1: for such networks Grad-CAM is CAM, the head applied to each place."""
    arch_args = {"backbone": "resnet18", "shift": True} if arch == "tsn" else {}
    model = build_model(arch, 3, **arch_args)
    nn.init.uniform_(model.head.weight)  # or nothing of it may be left above 0
    classifier, clips, kept = classifier_of(model), views(2, 16, 64), []
    last = stages(model)[
        -3 if hasattr(model, "backbone") else -1
    ]  # before the pool and the removed classifier
    hook = last.register_forward_hook(lambda *call: kept.append(call[-1]))
    with torch.no_grad():
        classifier(clips)
    hook.remove()
    maps = kept[0] if arch != "tsn" else kept[0].unflatten(0, (2, -1)).transpose(1, 2)
    weight = model.head.weight[1, : maps.shape[1]]  # of SlowFast the maps of one pathway
    expected = torch.einsum("k,nkthw->nthw", weight, maps)
    expected /= expected[0].numel()  # of the mean over frames and places
    found = grad_cam(classifier, last, clips, label=1, num_frames=16)
    assert found.shape == (2, 16, *expected.shape[2:])
    if arch != "tsn":  # in time it is interpolated, but at the ends
        found, expected = found[:, [0, -1]], expected[:, [0, -1]]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert found.min() > 0


@pytest.mark.parametrize("arch", TRANSFORMERS)
def test_tokens_lie_in_maps_as_their_pixels_in_frames(arch):
    """What differs from a black clip: frames 4 and 5, rows 16 to 19, columns 40 to 43."""
    torch.manual_seed(0)
    classifier, kept = classifier_of(build_model(arch, 3)), []
    clips = torch.zeros(2, 8, 64, 64, 3, dtype=torch.uint8)
    clips[1, 4:6, 16:20, 40:44] = 255
    first = stages(classifier.model)[0]
    first.register_forward_hook(lambda *call: kept.append(as_maps(classifier.model, call[-1])))
    with torch.no_grad():
        classifier(clips)
    change = (kept[0][1] - kept[0][0]).norm(dim=0)
    assert change.shape == (4, 16, 16)  # of 2 x 4 x 4 pixels each
    place = np.unravel_index(int(change.argmax()), change.shape)
    assert np.abs(np.subtract(place, (2, 4, 10))).max() <= 1  # kernels and windows reach further
    stage = choose_stage(classifier, (1, 3, 8, 64, 64), torch.device("cpu"))
    heat = grad_cam(classifier, stage, clips, label=1, num_frames=8)
    assert heat.shape == (2, 8, 8, 8) and heat.isfinite().all()


@pytest.mark.parametrize(
    "arch, size, places",
    [("i3d", 64, 8), ("i3d", 40, 10), ("s3d", 64, 8), ("i3d", 8, 4)],
)
def test_the_map_is_the_last_one_that_tells_places_apart(arch, size, places):
    model = build_model(arch, 3)
    classifier = classifier_of(model)
    stage = choose_stage(classifier, (1, 3, 8, size, size), torch.device("cpu"))
    heat = grad_cam(classifier, stage, views(1, 8, size), 0, num_frames=8)
    assert heat.shape == (1, 8, places, places)


@pytest.mark.parametrize("backbone", sorted(BACKBONES.keys() - {"inception_v3"}))  # takes 299 px
def test_of_frames_of_224_px_it_is_the_last_of_all(backbone, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta
    with torch.device("meta"):
        model = build_model("tsn", 3, backbone=backbone)
        classifier = ClipClassifier(model.eval(), Normalize.matching(CLIP))
    stage = choose_stage(classifier, (1, 3, 2, 224, 224), torch.device("meta"))
    children = stages(model)
    assert all(
        isinstance(later, nn.AdaptiveAvgPool2d | nn.Dropout | nn.Identity | nn.Linear)
        for later in children[children.index(stage) + 1 :]
    )


@pytest.mark.parametrize("consensus", ["max", "rnn", "cnn"])
def test_heat_of_segments_is_of_those_that_count(consensus):
    model = build_model("tsn", 3, backbone="resnet18", consensus=consensus)
    nn.init.normal_(model.head.weight, std=0.1)
    classifier, clips = classifier_of(model), views(1, 4, 64)
    heat = grad_cam(classifier, stages(model)[-3], clips, label=2, num_frames=4)
    assert heat.shape == (1, 4, 2, 2)
    if consensus == "max":
        with torch.no_grad():
            best = model.segment_logits(classifier.normalize(clips))[0, :, 2].argmax()
        assert heat.amax(dim=(0, 2, 3)).nonzero().flatten().tolist() in ([best], [])
    assert heat.isfinite().all()


class Detector(nn.Module):
    """Its logits are how much of a clip is red, and how much changes from frame to frame."""

    def __init__(self):
        super().__init__()

        class Evidence(nn.Module):
            def forward(self, x):
                red = (x[:, 0] - x[:, 1:].amax(dim=1)).relu()
                change = x.diff(dim=2, append=x[:, :, -1:]).abs().mean(dim=1)
                return torch.stack([red, change], dim=1)

        self.features = nn.Sequential(Evidence(), nn.AvgPool3d((1, 4, 4)))

    def forward(self, x):
        return self.features(x).mean(dim=(2, 3, 4))


def heat_in(video, clip, evaluation, spans=None, scores=((0.9, 0.1),), **options):
    """The heat that Detector has for a video."""
    start = StartingPoint(arch="x", class_names=["red", "change"])
    network = TrainedNetwork(
        start, Detector().eval(), clip, evaluation, torch.device("cpu"), "fp32"
    )
    typed = {"resume": "x", "predict": ("x",), "heatmap": "", "workers": 0}
    opts = resolve(typed | options)
    parts = [
        Part(video, [span], clips_within(video, clip, *span, evaluation.views.clips))
        for span in spans or [(0, video.num_frames)]
    ]
    scores = [torch.tensor(some) for some in scores]
    timeline = [Span(*span, some) for span, some in zip(spans or (), scores, strict=False)]
    prediction = Prediction(video.path, video.num_frames, 1.0, scores[0], timeline)
    return heat_of(network, parts, prediction, opts)


def video_of(folder, pictures):
    pictures = list(pictures)
    folder.mkdir(parents=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"image_{i + 1:05d}.png")
    return Video(str(folder), -1, "", len(pictures))


def test_an_up_clip_is_hot_where_the_shape_moves_and_not_in_the_background(tmp_path, monkeypatch):
    """The mask is what demo_videos draws with a white shape on black."""
    texture, shares = demo_videos.texture, []

    def mask_texture(rng, size, cells):
        return Image.new("RGB", texture(rng, size, cells).size, "white" if size == 96 else "black")

    for seed in range(3):
        frames = demo_videos.render(2, np.random.default_rng(seed))
        with monkeypatch.context() as patched:
            patched.setattr(demo_videos, "texture", mask_texture)
            drawn = demo_videos.render(2, np.random.default_rng(seed))
        video = video_of(tmp_path / str(seed), map(np.asarray, frames))
        clip, options = replace(CLIP, stride=2), {"heatmap": "change"}
        heat = heat_in(video, clip, Evaluation(views=Views(3, 1)), **options)
        assert [name for name, _ in heat.classes] == ["change"]
        found = np.stack([heat.at(0, i, 64, 64) for i in range(24)])
        mask = np.stack([np.asarray(frame)[..., 0] > 150 for frame in drawn])
        around = np.maximum(mask[:-2], mask[2:])  # from one frame of the clip to the next
        shares.append(found[:-2][around].sum() / found[:-2].sum())
        assert 0.9 < found.max() <= 1
        assert around.mean() < 0.25
    assert min(shares) > 0.75, shares


SQUARES = [(4, 60), (30, 12), (50, 90), (30, 48)]  # row and column, by frame


@pytest.fixture
def squares(tmp_path):
    """Twelve frames of 72 x 108 pixels, each with a red square that stays for three of them."""
    pictures = np.full((12, 72, 108, 3), 60, np.uint8)
    for i, picture in enumerate(pictures):
        row, column = SQUARES[i // 3]
        picture[row : row + 12, column : column + 12] = 250, 20, 20
    return video_of(tmp_path / "squares", pictures)


@pytest.mark.parametrize("crops", [1, 3, 10])
@pytest.mark.parametrize("side", [36, 72, 100])
def test_heat_is_put_back_where_the_crop_was(squares, crops, side):
    clip = replace(CLIP, clip_len=12, short_side=side, crop_size=32)
    if crops == 3:
        clip = replace(clip, crop_size=side)
    heat, num_found = heat_in(squares, clip, Evaluation(views=Views(1, crops))), 0
    for frame in range(12):
        found = heat.at(0, frame, 72, 108)
        row, column = SQUARES[frame // 3]
        seen = ~np.isnan(found)
        inside = np.zeros((72, 108), bool)
        inside[row : row + 12, column : column + 12] = True
        if crops == 3:
            assert seen.all()
        if seen[inside].all():  # neither beside the crops nor cut by one
            assert np.nanmean(found[inside]) > 10 * np.nanmean(found[~inside])
            hottest = np.unravel_index(np.nanargmax(found), found.shape)
            middle = row + 5.5, column + 5.5
            assert np.abs(np.subtract(hottest, middle)).max() < 7 + 2 * 72 / side  # half a place
            num_found += 1
    assert num_found >= 3
    if crops == 1:
        share = (32 / side) ** 2 / 1.5
        assert np.mean(~np.isnan(found)) == pytest.approx(share, rel=0.15)


def test_frames_between_those_of_a_clip_get_the_heat_of_the_nearest(squares):
    clip = replace(CLIP, clip_len=4, snippet_len=1, short_side=72, crop_size=72)
    heat = heat_in(squares, clip, Evaluation(views=Views(1, 3)))
    assert sorted(heat.maps[0]) == [1, 4, 7, 10]
    np.testing.assert_array_equal(heat.at(0, 0, 72, 108), heat.at(0, 2, 72, 108))
    assert not np.allclose(heat.at(0, 2, 72, 108), heat.at(0, 3, 72, 108), atol=0.1)


def test_each_window_has_the_heat_of_its_own_class(squares):
    clip = replace(CLIP, clip_len=3, short_side=72, crop_size=72)
    spans, scores = [(0, 3), (3, 6), (6, 9)], [(0.9, 0.1), (0.2, 0.8), (0.6, 0.4)]
    heat = heat_in(squares, clip, Evaluation(views=Views(1, 3)), spans, scores)
    assert heat.classes == [
        *(("red", pytest.approx(0.9)), ("change", pytest.approx(0.8)), ("red", pytest.approx(0.6)))
    ]
    assert [np.nanmax(heat.at(window, 3 * window, 72, 108)) > 0.5 for window in range(3)] == [
        *(True, False, True)  # nothing changes inside a window
    ]
    named = heat_in(squares, clip, Evaluation(views=Views(1, 3)), spans, scores, heatmap="red")
    assert [name for name, _ in named.classes] == ["red"] * 3


def test_a_network_is_asked_about_as_many_views_at_once_as_fit(squares, monkeypatch):
    seen = []

    def sees(classifier, stage, views, *how):
        seen.append(len(views))
        return grad_cam(classifier, stage, views, *how)

    monkeypatch.setattr("utils.actions.heatmap.grad_cam", sees)
    monkeypatch.setattr("utils.actions.network.views_that_fit", lambda *_: 2)
    clip, five = (
        replace(CLIP, clip_len=2, short_side=72, crop_size=72),
        Evaluation(views=Views(5, 1)),
    )
    heat_in(squares, clip, five)
    heat_in(squares, clip, five, batch_size=3)
    assert seen == [2, 2, 1, 3, 2]


def test_nothing_that_speaks_for_a_class_is_said(squares, caplog):
    clip = replace(CLIP, clip_len=2, short_side=72, crop_size=72)
    caplog.set_level("INFO", "video")
    still = squares._replace(num_frames=9)  # its middle is between two changes
    heat = heat_in(still, clip, Evaluation(views=Views(1, 3)), heatmap="change")
    assert "nothing in it speaks for the class of its heatmap" in caplog.text
    assert np.nanmax(heat.at(0, 0, 72, 108)) == 0


def test_heat_is_drawn_on_gray_and_what_was_not_seen_is_dark():
    maps = {0: torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])}
    window = (slice(0, 20), slice(10, 30))
    crops = SimpleNamespace(size=(20, 40), windows=[window], mirrored=(False,))
    heat = Heat(crops, [maps], [("up", 0.5)])
    drawn = heat.drawn_on(np.full((40, 80, 3), (90, 120, 150), np.uint8), 0, 5)
    assert drawn[30, 25].tolist() == [120] * 3  # no heat
    assert drawn[30, 5].tolist() == [60] * 3
    assert drawn[2, 56].tolist() == [214, 36, 36]


def test_a_strip_of_each_video_and_a_video_with_heat(untrained, monkeypatch):
    write_frames(Path("frames/a"), 10)
    write_frames(Path("frames/b"), 4, size=(30, 60))
    argv = ["--resume", str(untrained), *CPU, "--predict"]
    assert main([*argv, "frames", "--heatmap", "up"]) == 0
    sizes = [Image.open(f"predictions/heatmap_{name}.png").size for name in ("1_a", "2_b")]
    assert sizes == [(8 * 336, 2 * 252), (4 * 120, 2 * 240)]
    written = []
    monkeypatch.setattr(annotate, "write_labeled_video", lambda path, *what: written.append(what))
    monkeypatch.setattr("utils.actions.timeline.draw_timeline", lambda *_: None)
    windows = ["--sliding-window", "0.3", "--fps", "10"]
    assert main([*argv, "frames/a", "--heatmap", "--annotate", "a.mp4", *windows]) == 0
    ((frames, fps),) = written
    frames = list(frames)
    assert (len(frames), fps) == (10, 10)
    best = [row["class_1"] for row in read_table(Path("predictions/windows.csv"))[0]]
    assert [frames[0][1][0][0], frames[-1][1][0][0]] == [f"{best[i]} (heat)" for i in (0, -1)]
    for frame, labels, _ in frames:
        assert (np.diff(frame.astype(int)) <= 0).all()  # gray, or from yellow to red
        assert len(labels) == 2


def test_a_class_that_the_network_does_not_know_is_refused_before_the_work(monkeypatch):
    start = SimpleNamespace(class_names=[f"class {i}" for i in range(12)])
    network = SimpleNamespace(start=start)
    monkeypatch.setattr("utils.actions.network.load_network", lambda *_: network)
    with pytest.raises(UserError, match="--heatmap up: no class of the network.* class 9, ...$"):
        main(["--resume", "x.pth", "--predict", "x.mp4", "--heatmap", "up", *CPU])


def test_a_video_with_a_bad_frame_is_named_and_the_others_are_drawn(untrained, capsys):
    frame = Path("data/tiny/frames/up/test_1/image_00001.jpg")  # that only the strip shows
    frame.write_bytes(frame.read_bytes()[:100])
    videos = ["data/tiny/frames/up/test_1", "data/tiny/frames/up/test_3"]
    assert main(["--resume", str(untrained), *CPU, "--predict", *videos, "--heatmap"]) == 1
    assert "error: data/tiny/frames/up/test_1/image_00001.jpg cannot" in capsys.readouterr().out
    assert Path("predictions/heatmap_2_test_3.png").exists()


def test_heat_of_flow_lies_in_the_frames_however_large_they_are(tmp_path):
    """Flow is kept at half the size; of stacked fields all have the heat of their segment."""
    frames = write_frames(tmp_path / "frames", 9, size=(96, 72))
    u, v = np.full((36, 48), 128, np.uint8), np.full((36, 48), 128, np.uint8)
    u[20:28, 10:18] = 255
    for i in range(8):
        for name, field in (("x", u), ("y", v)):
            path = tmp_path / "flow" / f"flow_{name}_{i + 1:05d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(field).save(path)
    video = Video(str(frames), -1, "", 9, None, str(tmp_path / "flow"))
    pixels = {"modality": "flow", "mean": (0,) * 2, "std": (1,) * 2, "crop_size": 36}
    clip = replace(CLIP, clip_len=4, short_side=36, **pixels)
    heat = heat_in(video, clip, Evaluation(views=Views(2, 3)))
    found = heat.at(0, 8, 72, 96)
    assert 40 <= np.nanargmax(found) // 96 < 56
    assert 20 <= np.nanargmax(found) % 96 < 36
    model = build_model("tsn", 3, backbone="resnet18")
    heat = grad_cam(classifier_of(model), stages(model)[-3], views(1, 2, 64), 0, num_frames=10)
    assert heat.shape == (1, 10, 2, 2)
    assert torch.equal(heat[:, :5].amax(dim=1), heat[:, :5].amin(dim=1))
