"""The paired tests against values worked out by hand or known from elsewhere."""

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config import UserError
from utils.compare import compare_runs, exact_p, find_groups, load_side, main, matching_interval
from utils.scores import Scores, load_scores, save_scores

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
def test_of_single_videos_the_test_is_mcnemars(only_a, only_b, p):
    assert exact_p(np.repeat([-1, 0, 1], [only_a, 7, only_b])) == pytest.approx(p, rel=1e-4)


def test_the_test_takes_thousands_of_videos():
    assert exact_p(np.repeat([-1, 1], [4000, 6000])) < 1e-80
    assert exact_p(np.ones(3000, int)) == 0  # less than any number of the machine


@pytest.mark.parametrize("sums", [[3, -1], [2, 2, -1, 0, 5], [1, -4, 2, 2, 3, 6, -1], [-7] * 6])
def test_the_test_of_groups_is_that_of_all_swaps(sums):
    swapped = [np.dot(signs, sums) for signs in itertools.product([1, -1], repeat=len(sums))]
    as_large = np.mean(np.abs(swapped) >= abs(sum(sums)))
    assert exact_p(np.array(sums)) == pytest.approx(as_large)


def interval_of(gain, groups=None):
    """Of single videos, unless they are in groups of a size."""
    sums = np.reshape(gain, (-1, groups or 1)).sum(axis=1)
    return matching_interval(sums.astype(int), np.full(len(sums), groups or 1))


def test_the_interval_of_single_videos_is_that_of_the_normal_distribution():
    half = 1.96 * np.sqrt((0.5 - 0.1**2) / 1000)  # variance: E[gain^2] - E[gain]^2
    found = interval_of(np.repeat([1, 0, -1], [300, 500, 200]))
    assert found == pytest.approx((0.1 - half, 0.1 + half), abs=0.003)


def test_alike_videos_of_one_group_make_the_interval_wider():
    """Ten copies of each video say no more than one: the interval is that of 100 videos."""
    gain = np.repeat(np.repeat([1, 0, -1], [30, 50, 20]), 10)
    half = 1.96 * np.sqrt((0.5 - 0.1**2) / 100)
    assert interval_of(gain, 10) == pytest.approx((0.1 - half, 0.1 + half), abs=0.011)


def test_the_interval_is_that_of_all_halves_of_a_few_groups():
    """Seven groups of other sizes: all subsets by hand."""
    sums, sizes = np.array([3, 1, -1, 2, 4, 0, 2]), np.array([6, 2, 2, 2, 8, 3, 4])
    subsets = np.array(list(itertools.product([0, 1], repeat=7)))[1:]
    means = np.sort(subsets @ sums / (subsets @ sizes))
    low, high = matching_interval(sums, sizes)
    assert means[1] <= low <= means[5] and means[-6] <= high <= means[-2]  # 3.2 of 128 beyond


@pytest.mark.parametrize("groups", [1, 5])
def test_the_interval_excludes_0_just_where_the_test_says_so(groups):
    """Also at the edge, where p is 0.0625 or 0.0312 and draws alone would be too coarse."""
    rng = np.random.default_rng(0)
    random = [rng.choice([-1, 0, 1], 60, p=[0.1, 0.55, 0.35]) for _ in range(40)]
    for gain in [np.repeat([1, 0], [n, 60 - n]) for n in range(8)] + random:
        for sign in (1, -1):
            low, high = interval_of(sign * gain, groups)
            p = exact_p(sign * gain.reshape(-1, groups).sum(axis=1))
            assert (p < 0.05) == (not low <= 0 <= high)


def test_five_groups_cannot_show_anything():
    assert interval_of(np.ones(50, int), 10) == (-1, 1)  # two of 2^5 swaps: p is 0.0625


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
    found = compare_runs(a, b, None)
    assert found.top1 == pytest.approx((20, 90))
    assert found.difference == pytest.approx(70)
    assert (found.only_a, found.only_b) == (1, 8)
    assert found.p == pytest.approx(2 * 10 / 512)
    assert found.interval[0] > 0


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
    assert "for comparison: chance 50.0 %, most frequent class 100.0 %" in out
    assert "McNemar's exact p = 1" in out
    assert "may well be chance" in out


def test_groups_may_turn_an_improvement_into_chance(write, capsys):
    """Twelve videos won, all of them cut from two recordings of twenty."""
    names = [f"v_X_g{i // 6:02d}_c{i % 6:02d}" for i in range(120)]
    a, b = run_of(np.arange(120) >= 12, names), run_of(np.ones(120, int), names)
    main(write(a, b))
    out = capsys.readouterr().out
    assert "exact p over 20 groups = 0.5" in out  # the sign of two, 1 of 4 with each sum
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
        ("v", "10 videos in one group"),
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


def test_one_video_more_or_less_turns_both_figures(write, capsys):
    """Five videos won and none lost: p is 0.06, and the interval must not exclude 0."""
    for won, p, low, verdict in ((5, "0.062", "+0.0", "chance"), (6, "0.031", "+1.", "is better")):
        main(write(run_of(np.arange(100) >= 10), run_of(np.arange(100) >= 10 - won)))
        out = capsys.readouterr().out
        assert f"exact p = {p}" in out and f"95 % interval {low}" in out
        assert verdict in out.splitlines()[-1]


def splits_of(right, prefix):
    """Files of the scores of each third of the videos, with the protocol of a run."""
    files = []
    for k, part in enumerate(np.array_split(np.arange(len(right)), 3), start=1):
        one = run_of(np.asarray(right)[part], [f"v{i}" for i in part])
        files.append(f"{prefix}{k}.npz")
        save_scores(Path(files[-1]), replace(one, protocol=f"one clip; set split {k}; epoch 3"))
    return files


def test_several_test_lists_of_a_run_count_as_one(write, capsys):
    right_a, right_b = np.arange(60) % 3 == 0, np.arange(60) % 5 > 0
    main(write(run_of(right_a), run_of(right_b)))
    at_once = capsys.readouterr().out.splitlines()
    a, b = splits_of(right_a, "a"), splits_of(right_b, "b")
    main([*a, "--to", *reversed(b)])
    pooled = capsys.readouterr().out.splitlines()
    assert pooled[2:5] == at_once[2:5]
    assert pooled[0] == (
        "A: a1.npz + a2.npz + a3.npz: top-1 33.3 %; one clip; epoch 3; 3 test lists as one: "
        "set split 1 + set split 2 + set split 3"
    )
    pool = load_side(list(map(Path, a)))
    assert len(pool.names) == 60 and pool.num_skipped == 0


@pytest.mark.parametrize(
    "files, message",
    [
        (["a1.npz", "a2.npz", "--to", "b1.npz", "b1.npz"], "v0 comes 2 times in b1.npz, b1.npz"),
        (["a1.npz", "a2.npz", "--to", "b1.npz"], "20 are only in a1.npz + a2.npz"),
        (["a1.npz", "other.npz", "--to", "b1.npz"], "not of the same classes: 'down' is 'left'"),
        (["a1.npz", "logits.npz", "--to", "b1.npz"], "scores and logits.npz logits"),
        (["twice.npz", "b1.npz"], "v0 comes 2 times in twice.npz"),
        (["result.json", "b1.npz"], "result.json has no scores of a series beside it"),
        (["net_splits.json", "b1.npz"], "no scores of a series beside it (net_scores.npz)"),
    ],
)
def test_lists_that_cannot_be_pooled_are_refused(write, files, message):
    write(run_of([1]), run_of([1]))
    for prefix in "ab":
        splits_of([1] * 60, prefix)
    one = load_scores(Path("a2.npz"))
    save_scores(Path("other.npz"), replace(one, class_names=["left", "up"]))
    save_scores(Path("logits.npz"), replace(one, average="logits"))
    save_scores(Path("twice.npz"), run_of([1, 1], ["v0", "v0"]))
    with pytest.raises(UserError) as error:
        main(files)
    assert message in str(error.value)


@pytest.mark.parametrize("files", [["a1.npz"], ["a1.npz", "a2.npz", "b1.npz"]])
def test_which_files_are_of_which_run_is_not_guessed(files, capsys):
    with pytest.raises(SystemExit):
        main(files)
    said = capsys.readouterr().err
    assert "A1 A2 --to B1 B2" in said or "required: B" in said


def test_the_tool_runs_as_a_script(write, tmp_path):
    write(run_of([1, 0, 1]), run_of([1, 1, 1]))
    done = subprocess.run(
        [sys.executable, ROOT / "utils" / "compare.py", "a.npz", "b.npz"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 6
