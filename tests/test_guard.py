"""The guard of the ratios: what it takes for slower."""

import pytest

from benchmarks import guard, results
from pt_dataset import sources

ROWS = [
    {"what": "a", "ratio": 1.0, "tolerance": 0.1},
    {"what": "b", "ratio": 2.0, "tolerance": 0.1},
]


@pytest.mark.parametrize(
    "last, slower",
    [
        ({"a": 1.0, "b": 2.0}, []),
        ({"a": 0.92, "b": 1.83}, []),  # within the tolerance
        ({"a": 0.9, "b": 2.0}, ["a"]),
        ({"a": 5.0, "b": 1.8}, ["b"]),  # what became faster makes up for nothing
        ({"b": 2.0}, []),  # a new line has nothing to be compared with
    ],
)
def test_slower_is_what_is_beyond_its_tolerance(last, slower):
    rows = [dict(row) for row in ROWS]
    last = {"rows": [{"what": name, "ratio": ratio} for name, ratio in last.items()]}
    assert guard.compare(rows, last) == slower


def test_without_a_last_result_nothing_is_slower():
    assert guard.compare([dict(row) for row in ROWS], None) == []


def test_a_planted_slowdown_is_found_and_named(tmp_path, monkeypatch, capsys):
    for group in ("networks", "training", "starting"):
        monkeypatch.setattr(guard, group, lambda *folder: {})
    monkeypatch.setattr(guard, "TURNS", 3)
    # medians of five, as other tests compute beside this one, and a video is near the lower bound
    saving = ["--repeats", "5", "--save", str(tmp_path), "--against", str(tmp_path)]
    assert guard.main(saving) == 0
    assert "nothing to compare with" in capsys.readouterr().out
    rows = results.last("guard", tmp_path)["rows"]
    assert all(0.5 < row["ratio"] < 4 for row in rows)

    decoded = sources.decoded

    def twice(data, channels, out=None):
        decoded(data, channels)
        return decoded(data, channels, out)

    monkeypatch.setattr(sources, "decoded", twice)
    assert guard.main(["--repeats", "1", "--against", str(tmp_path)]) == 1
    errors = capsys.readouterr().err
    assert "clip of 64 frames / decoding alone" in errors
