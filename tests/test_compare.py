"""The paired tests against values worked out by hand or known from elsewhere."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config import UserError
from utils.compare import bootstrap_interval, compare, find_groups, main, mcnemar
from utils.scores import Scores, save_scores

ROOT = Path(__file__).resolve().parents[1]


def run_of(right, names=None):
    """Scores of a run that has these videos right; two classes, all videos of class 0."""
    right = np.asarray(right)
    return Scores(
        scores=np.stack([right, 1 - right], axis=1).astype(np.float32),
        labels=np.zeros(len(right), dtype=int),
        names=names or [f"v{i}" for i in range(len(right))],
        class_names=["down", "up"],
        average="scores",
        protocol="one clip",
    )


@pytest.mark.parametrize(
    "only_a, only_b, p",
    [
        (0, 0, 1),
        (5, 5, 1),
        (0, 5, 2 / 32),  # by hand: 2 * 1 / 2^5
        (1, 9, 2 * 11 / 1024),  # 2 * (1 + 10) / 2^10
        (9, 1, 2 * 11 / 1024),
        (2, 8, 2 * 56 / 1024),  # 2 * (1 + 10 + 45) / 2^10
        (3, 4, 1),  # 2 * 64 / 2^7
        (86, 150, 3.716e-05),  # Agresti's ratings of a prime minister, as exact2x2 has it
    ],
)
def test_mcnemars_exact_test(only_a, only_b, p):
    assert mcnemar(only_a, only_b) == pytest.approx(p, rel=1e-4)


def test_mcnemars_test_takes_thousands_of_videos():
    assert mcnemar(4000, 6000) < 1e-80
    assert mcnemar(0, 20000) == 0  # less than any number of the machine


def test_the_interval_of_single_videos_is_that_of_the_normal_distribution():
    gain = np.repeat([1.0, 0.0, -1.0], [300, 500, 200])
    low, high = bootstrap_interval(gain, [str(i) for i in range(1000)])
    half = 1.96 * np.sqrt((0.5 - 0.1**2) / 1000)  # variance: E[gain^2] - E[gain]^2
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.003)


def test_alike_videos_of_one_group_make_the_interval_wider():
    """Ten copies of each video say no more than one: the interval is that of 100 videos."""
    gain = np.repeat(np.repeat([1.0, 0.0, -1.0], [30, 50, 20]), 10)
    groups = [str(i // 10) for i in range(1000)]
    low, high = bootstrap_interval(gain, groups)
    half = 1.96 * np.sqrt((0.5 - 0.1**2) / 100)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=0.011)


def test_large_groups_count_more():
    """Two groups, of three videos won and one lost: draws are 3/3, 2/4 or -1/1."""
    assert bootstrap_interval(np.array([1.0, 1, 1, -1]), ["a", "a", "a", "b"]) == (-1, 1)
    gain = np.array([1.0, 1, 1, -1] + [0] * 4)
    low, high = bootstrap_interval(gain, ["a", "a", "a", "b", *"cccc"])
    assert low == -1 and high == 1


def test_groups_of_ucf_are_known_by_their_names():
    names = [
        f"data/{c}/v_{c}_g0{g}_c0{i}"
        for c in ("Bowling", "Archery")
        for g in (1, 2)
        for i in (1, 2)
    ]
    groups = find_groups(names, None)
    assert groups[0] == groups[1] == "bowling g01"
    assert len(set(groups)) == 4  # g01 of another class is another recording


def test_a_difference_of_two_runs_as_by_hand():
    a, b = run_of([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]), run_of([1, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    found = compare(a, b, None)
    assert found["top1"] == pytest.approx((20, 90))
    assert found["difference"] == pytest.approx(70)
    assert (found["only_a"], found["only_b"]) == (1, 8)
    assert found["p"] == pytest.approx(2 * 10 / 512)
    assert found["interval"][0] > 0


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(a, b):
        save_scores(Path("a.npz"), a)
        save_scores(Path("b.npz"), b)
        return ["a.npz", "b.npz"]

    return write


@pytest.mark.parametrize(
    "more, sentence",
    [
        (40, "b.npz is better than a.npz by 20.0 points ("),
        (4, "the difference of +2.0 points may well be chance; neither run is shown to be better"),
    ],
)
def test_the_conclusion_is_one_sentence(write, capsys, more, sentence):
    right = np.arange(200) < 100
    better = (np.arange(200) < 100 + more + 5) & (np.arange(200) >= 5)
    main(write(run_of(right), run_of(better)))
    last = capsys.readouterr().out.splitlines()[-1]
    assert sentence in last
    main(write(run_of(better), run_of(right)))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"conclusion: {'a.npz is better' if more == 40 else 'the diff'}")


def test_two_equal_runs_differ_by_nothing(write, capsys):
    run = run_of(np.arange(50) % 2)
    main(write(run, run))
    out = capsys.readouterr().out
    assert "B - A: +0.0 points, 95 % interval +0.0 to +0.0" in out
    assert "p = 1" in out
    assert "may well be chance" in out


def test_groups_may_turn_an_improvement_into_chance(write, capsys):
    """Twelve videos won, all of them cut from two recordings of twenty."""
    names = [f"v_X_g{i // 6:02d}_c{i % 6:02d}" for i in range(120)]
    a, b = run_of(np.arange(120) >= 12, names), run_of(np.ones(120, int), names)
    main(write(a, b))
    out = capsys.readouterr().out
    assert "draws of 20 groups" in out
    assert "p = 0.00049" in out
    assert "may well be chance" in out
    main([*write(a, b), "--group-regex", ".*"])  # each video by itself
    assert "b.npz is better than a.npz" in capsys.readouterr().out


@pytest.mark.parametrize(
    "regex, message",
    [
        ("(", "--group-regex is no regular expression"),
        ("person", "--group-regex person finds nothing in 'v0'"),
        ("v1", "finds groups, but none in 'v0'"),
        ("v(1)?", "finds groups, but none in 'v0'"),
        ("v", "the 10 videos are one group"),
    ],
)
def test_groups_that_cannot_be_are_refused(write, regex, message):
    files = write(run_of([1] * 10), run_of([0] * 10))
    with pytest.raises(UserError) as error:
        main([*files, "--group-regex", regex])
    assert message in str(error.value)


def test_runs_on_other_videos_are_refused(write):
    a = run_of([1, 0])
    with pytest.raises(UserError, match="not of the same videos: 1 are only in a.npz"):
        main(write(a, replace(a, names=["v0", "w"])))


def test_the_tool_runs_as_a_script(write, tmp_path):
    write(run_of([1, 0, 1]), run_of([1, 1, 1]))
    done = subprocess.run(
        [sys.executable, ROOT / "utils" / "compare.py", "a.npz", "b.npz"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 5
