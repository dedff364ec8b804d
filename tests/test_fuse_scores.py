"""Two streams added up, and files that do not belong together."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config import UserError
from utils.compare import aligned
from utils.fuse_scores import fuse_streams, main
from utils.results import summarize_scores
from utils.scores import Scores, load_scores, save_scores

ROOT = Path(__file__).resolve().parents[1]
RGB = Scores(
    scores=np.array([[0.6, 0.4], [0.9, 0.1], [0.3, 0.7]], dtype=np.float32),
    labels=np.array([1, 0, 1]),
    names=["data/v0", "data/v1", "data/v2"],
    class_names=["down", "up"],
    average="scores",
    protocol="how rgb was measured",
)
FLOW = replace(
    RGB,
    scores=np.array([[0.45, 0.55], [0.2, 0.8], [0.5, 0.5]], dtype=np.float32),
    protocol="how flow was measured",
)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_scores(Path("rgb.npz"), RGB)
    save_scores(Path("flow.npz"), FLOW)
    return ["rgb.npz", "flow.npz"]


def test_weights_decide_as_by_hand():
    even = fuse_streams(RGB, FLOW, (1, 1))  # sums 1.05 0.95, 1.1 0.9, 0.8 1.2
    assert even.scores.argmax(axis=1).tolist() == [0, 0, 1]
    flow = fuse_streams(RGB, FLOW, (1, 3))  # 1.95 2.05, 1.5 2.5, 1.8 2.2
    assert flow.scores.argmax(axis=1).tolist() == [1, 1, 1]
    expected = np.array([[1.95, 2.05], [1.5, 2.5], [1.8, 2.2]]) / 4
    np.testing.assert_allclose(flow.scores, expected, rtol=1e-6)
    result = summarize_scores(flow)
    assert result["top1"] == pytest.approx(200 / 3)
    assert result["mean_class_accuracy"] == 50
    assert "1 x and 3 x the averaged softmax scores of two runs" in result["protocol"]


def test_videos_that_were_left_out_are_counted(files, capsys):
    save_scores(Path("rgb.npz"), replace(RGB, num_skipped=2))
    main([*files, "--out", "fused"])
    out = capsys.readouterr().out
    assert out.count("on 3 videos (2 skipped)") == 2  # of RGB, and of both
    assert json.loads(Path("fused/result.json").read_text())["num_skipped"] == 2
    assert load_scores(Path("fused/scores.npz")).num_skipped == 2
    assert load_scores(Path("fused")).num_skipped == 2  # its folder stands for it


def test_scores_written_before_that_was_counted_can_be_read(files):
    later = ("num_skipped", "loss")
    old = {name: value for name, value in vars(RGB).items() if name not in later}
    np.savez("rgb.npz", **old)
    assert load_scores(Path("rgb.npz")).num_skipped == 0


def test_the_result_is_like_that_of_an_evaluation_and_can_be_fused_again(files, capsys):
    main([*files, "--weights", "1", "1.5", "--out", "fused"])
    out = capsys.readouterr().out
    for protocol in (RGB.protocol, FLOW.protocol):
        assert out.count(protocol) == 2  # alone and in the sum
    result = json.loads(Path("fused/result.json").read_text())
    assert RGB.protocol in result["protocol"] and FLOW.protocol in result["protocol"]
    assert {file.name for file in Path("fused").iterdir()} >= {"scores.npz", "confusion.png"}
    assert load_scores(Path("fused/scores.npz")).names == RGB.names
    main(["fused/scores.npz", "rgb.npz"])


def test_another_order_of_the_videos_does_not_matter(files):
    order = [2, 0, 1]
    shuffled = replace(
        FLOW,
        scores=FLOW.scores[order],
        labels=FLOW.labels[order],
        names=[FLOW.names[i] for i in order],
    )
    again = aligned(RGB, shuffled, Path("a"), Path("b"))
    assert np.array_equal(again.scores, FLOW.scores)
    assert np.array_equal(again.labels, RGB.labels)


def test_the_same_videos_in_another_folder_are_the_same():
    moved = replace(FLOW, names=[f"/mnt/disk/{name}" for name in FLOW.names])
    assert aligned(RGB, moved, Path("a"), Path("b")).names == RGB.names


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"names": ["data/v0", "data/v1", "data/new"]},
            "not of the same videos: 1 are only in rgb.npz, the first is data/v2",
        ),
        ({"class_names": ["down", "left"]}, "not of the same classes: 'up' is 'left'"),
        (
            {"class_names": ["down", "up", "left"], "scores": np.ones((3, 3), np.float32)},
            "not of the same classes: 2 are 3",
        ),
        (
            {"labels": np.array([1, 1, 1])},
            "do not agree on the classes of 1 video: data/v1 is 'down' in the one and 'up'",
        ),
        ({"average": "logits"}, "rgb.npz holds averaged scores and flow.npz logits"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(files, change, message):
    save_scores(Path("flow.npz"), replace(FLOW, **change))
    with pytest.raises(UserError) as error:
        main([*files, "--out", "fused"])
    assert message in str(error.value)
    assert not Path("fused").exists()


def test_videos_of_which_one_file_has_more_are_refused(files):
    more = replace(FLOW, names=[*FLOW.names, "data/v3"], labels=np.array([1, 0, 1, 0]))
    save_scores(Path("flow.npz"), replace(more, scores=np.ones((4, 2), np.float32)))
    with pytest.raises(UserError, match="1 are only in flow.npz, the first is data/v3"):
        main(files)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["none.npz", "flow.npz"], "no file none.npz"),
        (["text.npz", "flow.npz"], "text.npz is not the scores.npz of an evaluation"),
        (["empty.npz", "flow.npz"], "empty.npz is not the scores.npz of an evaluation"),
        (["array.npy", "flow.npz"], "array.npy is not the scores.npz of an evaluation"),
        (["old.npz", "flow.npz"], "old.npz is not the scores.npz of an evaluation"),
        ([".", "flow.npz"], "no file scores.npz"),
        (["rgb.npz", "flow.npz", "--weights", "0", "0"], "--weights must be two numbers"),
        (["rgb.npz", "flow.npz", "--weights", "1", "-1"], "--weights must be two numbers"),
        (["rgb.npz", "flow.npz", "--weights", "1", "nan"], "--weights must be two numbers"),
        (["rgb.npz", "flow.npz", "--out", "old.npz"], "old.npz exists; choose another --out"),
    ],
)
def test_what_cannot_be_fused_is_said_in_one_sentence(files, argv, message):
    Path("text.npz").write_text("hello")
    Path("empty.npz").touch()
    np.save("array.npy", np.ones(3))
    np.savez("old.npz", scores=RGB.scores, labels=RGB.labels)
    with pytest.raises(UserError) as error:
        main(argv)
    assert message in str(error.value)


def test_the_tool_runs_as_a_module(files, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "utils.fuse_scores",
            str(tmp_path / "rgb.npz"),
            str(tmp_path / "none.npz"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: no file ")
    assert len(done.stderr.splitlines()) == 1
