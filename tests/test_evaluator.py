"""Averaging over views, and what an evaluation writes, against values worked out by hand."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import nn

from config import PROTOCOLS, Evaluation, Preprocessing, UserError, part
from opts import parse_opts
from utils.confusion import class_rows, confusion_matrix, draw_confusion
from utils.evaluator import score_batches, score_videos, validation_metrics
from utils.metrics import wilson_interval
from utils.mistakes import Mistakes
from utils.results import (
    describe,
    protocol_in_words,
    report_results,
    summarize_scores,
)
from utils.scores import Scores, load_scores

CPU = torch.device("cpu")
CLIPS = Preprocessing(clip_len=32, stride=2, mean=(0.5,) * 3, std=(0.5,) * 3)
SEGMENTS = replace(CLIPS, clip_len=3, stride=1, snippet_len=1)
SHIFTED = replace(SEGMENTS, clip_len=8, fixed_segments=True)
DENSE = replace(SHIFTED, stride=8, snippet_len=0)


class Counting(nn.Module):
    """A clip's own values are its logits; remembers how many clips came at once."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, clips):
        self.sizes.append(len(clips))
        return clips.flatten(1)


def batches(logits, batch_size):
    """What a view loader yields of (videos, V, classes) logits; labels are 0, 1, 2, 0, ..."""
    indices = torch.arange(len(logits))
    labels = indices % logits.shape[2]
    for i in range(0, len(logits), batch_size):
        yield tuple(tensor[i : i + batch_size] for tensor in (logits, labels, indices))


def evaluation(logits, batch_size, average="scores", model=None, view_batch=100, watch=None):
    """Scores of videos 0, 1, ... whose views have these logits."""
    scored = score_batches(
        model or Counting(),
        batches(logits, batch_size),
        CPU,
        average=average,
        view_batch=view_batch,
    )
    return score_videos(
        watch(scored) if watch else scored,
        names=list(map(str, range(len(logits)))),
        class_names=[f"class {i}" for i in range(logits.shape[2])],
        average=average,
        protocol="how",
    )


def scores_of(values, labels, names=None, class_names=None, **more):
    """An evaluation with these scores."""
    return Scores(
        scores=np.asarray(values),
        labels=np.asarray(labels),
        names=names or [f"v{i}" for i in range(len(labels))],
        class_names=class_names or ["a", "b"],
        **{"average": "scores", "protocol": "one clip"} | more,
    )


@pytest.mark.parametrize(
    "average, expected, top1",
    # softmax of (0, ln 9) is (0.1, 0.9), of (ln 1.5, 0) is (0.6, 0.4): twice against once
    [("scores", [1.3 / 3, 1.7 / 3], 0), ("logits", [0.8109302 / 3, 2.1972246 / 3], 0)],
)
def test_scores_and_logits_of_a_video_are_averaged_as_by_hand(average, expected, top1):
    first = np.log([1.5, 1.0])
    logits = torch.tensor(np.array([[first, first, np.log([1.0, 9.0])]]), dtype=torch.float)
    scores = evaluation(logits, 1, average)
    np.testing.assert_allclose(scores.scores, [expected], rtol=1e-5)
    assert summarize_scores(scores)["top1"] == top1
    assert scores.loss == pytest.approx(-(2 * np.log(0.6) + np.log(0.1)) / 3)
    assert validation_metrics(scores) == {"val/loss": scores.loss, "val/top1": top1}


def test_averaging_scores_and_logits_may_decide_otherwise():
    logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 2.5]]])
    by = {
        average: evaluation(logits, 1, average).scores.argmax() for average in ("scores", "logits")
    }
    assert by == {"scores": 0, "logits": 1}


@pytest.mark.parametrize("view_batch", [1, 2, 5, 9, 100])
@pytest.mark.parametrize("average", ["scores", "logits"])
def test_the_result_does_not_depend_on_the_chunk_and_no_chunk_is_larger(view_batch, average):
    logits = torch.randn(7, 9, 3, generator=torch.Generator().manual_seed(0))
    whole = evaluation(logits, 2, average)
    model = Counting()
    chunks = evaluation(logits, 2, average, model, view_batch)
    assert max(model.sizes) == min(view_batch, 18)
    assert sum(model.sizes) == 63
    assert np.array_equal(chunks.scores, whole.scores)
    assert chunks.loss == whole.loss


@pytest.mark.parametrize("batch_size", range(1, 9))
def test_seven_videos_count_seven_in_list_order_with_any_batch_size(batch_size):
    logits = torch.eye(3)[torch.arange(7) % 3][:, None] * 5
    logits[6] = torch.tensor([0.0, 1.0, 0.0])  # the last one is wrong
    scores = evaluation(logits, batch_size)
    result = summarize_scores(scores)
    assert scores.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (result["num_videos"], result["top1"]) == (7, pytest.approx(600 / 7))
    right, wrong = math.log(1 + 2 * math.exp(-5)), math.log(2 + math.e)
    assert scores.loss == pytest.approx((6 * right + wrong) / 7)


def test_videos_that_are_in_no_batch_are_counted_as_skipped_and_have_no_name():
    """Whole batches may be empty, and batches may come in any order."""
    logits = torch.eye(3)[:, None]
    none = torch.empty(0, dtype=torch.long)
    came = [(logits[i : i + 1], torch.tensor([i]), torch.tensor([i])) for i in (2, 0)]
    scored = score_batches(Counting(), [(logits[:0], none, none), *came], CPU, view_batch=2)
    how = {"class_names": list("abc"), "average": "scores", "protocol": "how"}
    scores = score_videos(scored, names=["v0", "v1", "v2"], **how)
    assert scores.names == ["v0", "v2"]
    assert scores.labels.tolist() == [0, 2]
    assert summarize_scores(scores)["num_skipped"] == 1


def test_mistakes_watch_the_batches_and_change_nothing():
    logits = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    logits = logits[..., None, None, None].expand(-1, -1, -1, 2, 2, 3)  # as large as a picture
    mistakes = Mistakes(list("abc"))
    network = nn.Sequential(nn.Flatten(), nn.AvgPool1d(12))
    scored = list(score_batches(network, batches(logits, 2), CPU, view_batch=4))
    names = [f"v{i}.mp4" for i in range(7)]
    seen = list(mistakes.watch(scored, names))
    assert all(a is b for a, b in zip(seen, scored, strict=True))
    best = torch.cat([batch.scores for batch in seen]).argmax(dim=1).numpy()
    expected = confusion_matrix(np.arange(7) % 3, best, 3)
    assert np.array_equal(mistakes.confusion, expected)
    assert len(mistakes.surest) == min(6, 7 - np.trace(expected))
    for mistake in mistakes.surest:  # each has the name of its own video
        number = names.index(mistake.name)
        assert (mistake.label, mistake.predicted) == (number % 3, best[number])


@pytest.mark.parametrize(
    "correct, total, low, high",
    [  # worked out from Wilson's formula in decimal arithmetic
        (0, 10, 0, 27.7533),
        (10, 10, 72.2467, 100),
        (8, 10, 49.0162, 94.3318),
        (157, 160, 94.6330, 99.3605),
    ],
)
def test_the_wilson_interval(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-3)


def test_the_interval_stands_beside_the_number_and_the_protocol():
    scores = scores_of(np.eye(2)[[0, 0, 1, 1]], [0, 0, 1, 0], average="logits")
    result = summarize_scores(scores)
    assert result["top1_interval"] == wilson_interval(3, 4)
    assert describe(result) == (
        "top-1 75.0 % (95 %: 30.1 to 95.4; chance 50.0 %, most frequent class 75.0 %), "
        "mean class accuracy 83.3 % on 4 videos; one clip"
    )
    del result["chance"], result["majority"]  # as in results of before they were counted
    assert "(95 %: 30.1 to 95.4), mean" in describe(result)
    assert result["average"] == "logits"


LABELS = np.array([0, 0, 0, 1, 1, 3])
PREDICTED = np.array([0, 2, 2, 1, 0, 3])
NAMES = ["a", "b, with comma", "c", "d"]
MATRIX = [[1, 0, 2, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_the_confusion_matrix_has_true_classes_in_rows():
    assert confusion_matrix(LABELS, PREDICTED, 4).tolist() == MATRIX


def test_the_rows_of_classes_name_what_each_is_taken_for():
    assert class_rows(np.array(MATRIX), NAMES) == [
        ["a", 3, 1, 33.33, "c", 2],
        ["b, with comma", 2, 1, 50, "a", 1],
        ["c", 0, 0, "", "", 0],  # no videos: no accuracy
        ["d", 1, 1, 100, "", 0],  # no errors
    ]


def test_an_evaluation_leaves_all_its_files(tmp_path):
    logits = 3 * np.eye(4, dtype=np.float32)[PREDICTED]
    names = [f"data/v{i}" for i in range(6)]
    how = {"average": "logits", "protocol": "how", "num_skipped": 2, "loss": 0.5}
    folder = tmp_path / "run"
    folder.mkdir()
    report_results(folder, scores_of(logits, LABELS, names, NAMES, **how), 0)
    assert {file.name for file in folder.iterdir()} == {
        *("result.json", "predictions.json", "scores.npz", "report.html"),
        *("per_class.csv", "confusion.csv", "confusion.png"),
    }
    assert json.loads((folder / "result.json").read_text())["top1"] == 50
    first = json.loads((folder / "predictions.json").read_text())[0]["predictions"][0]
    assert first == {"class_name": "a", "score": pytest.approx(np.e**3 / (np.e**3 + 3), abs=1e-5)}
    saved = load_scores(folder / "scores.npz")
    assert saved.num_skipped == 2
    assert (saved.average, saved.protocol, saved.names, saved.class_names) == (
        *("logits", "how"),
        names,
        NAMES,
    )
    assert np.array_equal(saved.scores, logits)
    assert set(np.load(folder / "scores.npz")) == {
        *("scores", "labels", "names", "class_names", "average", "protocol", "num_skipped")
    }
    with open(folder / "confusion.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table[0][1:] == NAMES
    assert [list(map(int, row[1:])) for row in table[1:]] == MATRIX
    with open(folder / "per_class.csv", newline="") as file:
        assert list(csv.DictReader(file))[1] == {
            "class": "b, with comma",
            "videos": "2",
            "correct": "1",
            "accuracy": "50.0",
            "most confused with": "a",
            "times": "1",
        }


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_results_that_cannot_be_written_replace_nothing_and_are_said(
    tmp_path, monkeypatch, caplog, failure
):
    folder = tmp_path / "run"
    report_results(folder, scores_of(np.eye(4), np.arange(4), list("wxyz"), NAMES), 0)
    before = contents(folder)

    def fails(*args):
        raise failure

    monkeypatch.setattr("utils.results.confusion.draw_confusion", fails)
    caplog.set_level("INFO", "video")
    with pytest.raises((UserError, KeyboardInterrupt)) as raised:
        report_results(folder, scores_of(np.eye(4), 3 - np.arange(4), list("wxyz"), NAMES), 0)
    assert contents(folder) == before
    assert "top-1 0.0 %" in caplog.text
    if isinstance(failure, OSError):
        assert "cannot be written" in str(raised.value) and str(folder) in str(raised.value)
        with pytest.raises(UserError):
            report_results(tmp_path / "new", scores_of(np.eye(4), np.arange(4), "wxyz", NAMES), 0)
        assert not (tmp_path / "new").exists()


def test_no_old_result_stands_beside_the_scores_of_an_evaluation_that_was_killed(
    tmp_path, monkeypatch
):
    scores, replace = scores_of(np.eye(4), np.arange(4), list("wxyz"), NAMES), Path.replace
    report_results(tmp_path, scores, 0)

    def killed(path, target):
        replace(path, target)
        if target == tmp_path / "scores.npz":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        report_results(tmp_path, scores, 0)
    assert not [name for name in ("result.json", "report.html") if (tmp_path / name).exists()]


def test_a_cell_is_as_dark_as_its_share_of_the_true_class(tmp_path, monkeypatch):
    drawn = []
    imshow = Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda axes, x, **how: drawn.append(x) or imshow(axes, x, **how)
    )
    draw_confusion(tmp_path / "a.png", np.array([[3, 1], [0, 0]]), ["a", "b"], "title")
    np.testing.assert_array_equal(drawn[0], [[0.75, 0.25], [0, 0]])


@pytest.mark.parametrize("num_classes", [2, 60])
def test_the_picture_shows_where_the_confusions_are(tmp_path, num_classes):
    """A dark diagonal of as many cells as there are classes, each large enough for its label."""
    names = [f"class $number_{i}$" for i in range(num_classes)]  # no formula
    draw_confusion(tmp_path / "a.png", 5 * np.eye(num_classes, dtype=int), names, "ti$t_$le " * 40)
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    dark = (pixels - (8, 48, 107) == 0).all(axis=2)  # the end of the color map
    rows = np.flatnonzero(dark.sum(axis=1) > 5)
    height = rows.max() - rows.min() + 1
    assert height / num_classes >= 10  # pixels
    corner = dark[rows.min() + height // 2 + 3 :, : dark.shape[1] // 4]
    assert not corner.any()


@pytest.mark.parametrize(
    "protocol, preprocessing, words",
    [
        ("i3d", CLIPS, "logits averaged over the whole video as 1 clip x 1 center crop (stride 2)"),
        ("s3d", CLIPS, "logits averaged over the whole video as 1 clip x 1 center crop (stride 2)"),
        (
            "nonlocal",
            CLIPS,
            "softmax averaged over 10 evenly spaced clips x 3 crops of 32 frames (stride 2), "
            "256 px out of short side 256",
        ),
        (
            "tsn",
            SEGMENTS,
            "25 segments of 1 frame as one input, logits averaged over 10 crops (5 of them "
            "mirrored), 224 px out of short side 256",
        ),
        (
            "tsm",
            SHIFTED,
            "8 segments of 1 frame as one input, logits averaged over 10 crops",
        ),
        ("tsm", DENSE, "1 center clip x 10 crops (5 of them mirrored) of 8"),
        (
            "tsm_dense",
            SHIFTED,
            "8 segments of 1 frame as one input, logits averaged over 10 clips",
        ),
        (
            "tsm_dense",
            DENSE,
            "logits averaged over 10 evenly spaced clips x 3 crops of 8 frames (stride 8), "
            "256 px out of short side 256",
        ),
        ("tsn", SHIFTED, "8 segments of 1 frame as one input, logits averaged over 25 clips x 10 "),
        ("clip", CLIPS, "softmax averaged over 1 center clip x 1 center crop of 32 frames"),
    ],
)
def test_the_protocols_of_the_papers_in_words(protocol, preprocessing, words):
    opts = parse_opts(["--arch", "i3d", "--dataset", "x", "--protocol", protocol])
    preset = PROTOCOLS[protocol]
    assert (opts.views, opts.average, opts.full_crop) == (
        *(preset.views, preset.average),
        preset.full_crop,
    )
    assert words in protocol_in_words(part(Evaluation, opts), preprocessing)
