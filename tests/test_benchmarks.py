"""The benchmarks: what they share, and that each runs; their figures are no matter of tests."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import growth, latency, loader, models, results
from benchmarks.apart import apart, megabytes_since, peak_megabytes, private_megabytes
from config import UserError

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text())
SCRIPTS.remove("gpu_checks")  # which gpu.py calls


ASK = """
import os, runpy, sys, torch, torchvision
for script in {scripts}:
    pid = os.fork()
    if not pid:
        sys.argv, sys.path[0] = [script, "--help"], os.path.dirname(script)
        runpy.run_path(script, run_name="__main__")
    assert os.waitpid(pid, 0)[1] == 0, script
"""


def run(script, *options):
    """What a benchmark prints."""
    command = [sys.executable, str(FOLDER / f"{script}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_here(monkeypatch, capsys):
    """The same in this process, which has imported everything already."""

    def run(benchmark, *options):
        monkeypatch.setattr(sys, "argv", ["benchmark", *options])
        benchmark.main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_every_benchmark_says_how_it_is_called():
    """Each is called as a script, from any folder, in a fork of a process that has torch."""
    code = ASK.format(scripts=[str(FOLDER / f"{script}.py") for script in SCRIPTS])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    for script in SCRIPTS:
        assert f"{script}.py [-h]" in done.stdout


# what they share


def test_work_takes_turns_and_the_first_turn_is_not_measured():
    done, now = [], 0.0

    def take(name, seconds):
        def run():
            nonlocal now
            done.append(name)
            now += seconds if len(done) > 2 else 100

        return run

    work = {"a": take("a", 1), "b": take("b", 2)}
    assert results.interleaved(work, 3, clock=lambda: now) == {"a": [1] * 3, "b": [2] * 3}
    assert done == ["a", "b"] * 4


def test_waiting_for_the_device_belongs_to_the_work_before_it():
    now = waiting = 0

    def run():
        nonlocal waiting
        waiting = 5

    def sync():
        nonlocal now, waiting
        now, waiting = now + waiting, 0

    assert results.interleaved({"a": run}, 2, clock=lambda: now, sync=sync) == {"a": [5, 5]}


def test_a_ratio_is_taken_within_each_repeat():
    # twice as long each time, on a machine that becomes slower; the medians have another ratio
    assert results.ratio([2, 20, 3], [1, 10, 100]) == 2


def test_a_table_has_the_columns_of_all_rows():
    rows = [{"name": "i3d", "s": 0.12345, "MB": 1234.5}, {"name": "s3d", "more": "no"}]
    assert results.table(rows).splitlines() == [
        "| name | s | MB | more |",
        "| --- | --- | --- | --- |",
        "| i3d | 0.123 | 1234 |  |",
        "| s3d |  |  | no |",
    ]


def test_a_result_is_written_only_if_it_is_to_be_and_the_newest_is_read(tmp_path, capsys):
    opts = argparse.Namespace(save=None, repeats=3)
    results.finish("speed", opts, [{"a": 1}])
    assert capsys.readouterr().out == "| a |\n| --- |\n| 1 |\n"
    assert results.last("speed", tmp_path) is None
    (tmp_path / "1999-12-31_speed.json").write_text('{"rows": []}')
    (tmp_path / "2999-12-31_high_speed.json").write_text('{"rows": []}')
    opts.save = tmp_path
    results.finish("speed", opts, [{"a": 1}])
    found = results.last("speed", tmp_path)
    assert found["rows"] == [{"a": 1}]
    assert found["options"] == {"repeats": 3}
    assert found["environment"]["torch"] == torch.__version__


def rise_of(megabytes):
    before = peak_megabytes()
    bytearray(b"1") * int(megabytes * 1e6)  # each byte is written
    return megabytes_since(before)


def test_the_peak_of_one_piece_of_work_is_not_that_of_the_next():
    assert apart(rise_of, 300) == pytest.approx(300, abs=20)
    assert apart(rise_of, 100) == pytest.approx(100, abs=20)


def test_memory_of_ones_own_is_what_no_other_process_has():
    script = "import mmap, sys; m = bytearray(b'1') * 50_000_000; print('.', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        process.stdout.readline()
        assert private_megabytes(process.pid) == pytest.approx(55, abs=8)
        process.stdin.write(b"\n")


def test_work_apart_has_its_threads_and_its_errors():
    assert apart(torch.get_num_threads, threads=2) == 2
    with pytest.raises(ZeroDivisionError):
        apart(divmod, 1, 0)


# growth


@pytest.mark.parametrize("power", [0, 1, 2])
def test_a_slope_is_the_power_with_which_work_grows(power):
    sizes = [1, 10, 100, 1000]
    assert growth.slope(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_a_slope_is_that_of_the_upper_half_alone():
    sizes = [1, 2, 4, 8, 16]
    assert growth.slope(sizes, [9, 9, 4, 8, 16]) == pytest.approx(1)
    assert growth.slope(sizes[:2], [3, 6]) == pytest.approx(1)


@pytest.mark.slow
def test_growth_measures_draws_and_saves(tmp_path):
    printed = run("growth", "--quick", "--threads", "1", "--save", str(tmp_path))
    found = results.last("growth", tmp_path)
    assert results.table(found["rows"]) in printed
    rows = {(row["grows"], row["of"], row["measured"]): row for row in found["rows"]}
    assert len(rows) == sum(len(s.quick) * len(s.slopes) for s in growth.SWEEPS.values())
    for sweep in growth.SWEEPS.values():
        for name, sizes in sweep.quick.items():
            for measured in sweep.slopes:
                row = rows[sweep.title, name, measured]
                assert row["sizes"] == sizes
                assert len(row["values"]) == len(sizes)
                assert min(row["values"]) > 0
    # so small, memory has parts that do not grow
    short, long = rows["frames of a clip", "resnet3d i3d nl5", "MB"]["values"]
    assert short + 20 < long
    # the promise about long lists: a process of the loader does not copy them
    of_lists = rows["entries of a list", "training list", "MB a worker"]["values"]
    assert max(of_lists) - of_lists[0] < 50
    pictures = {path.name: path for path in tmp_path.glob("*.png")}
    assert pictures.keys() == {f"growth_{name}.png" for name in growth.SWEEPS}
    for path in pictures.values():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 60_000


# latency


@pytest.mark.slow
def test_latency_compares_the_ways_to_run_a_network(tmp_path, run_here, monkeypatch):
    network = nn.Sequential(nn.Conv3d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    # a small one: that all of ours can be exported is shown elsewhere
    monkeypatch.setitem(models.NETWORKS, "i3d", lambda: network)
    printed = run_here(latency, "--quick", "--only", "i3d", "--save", str(tmp_path))
    found = results.last("latency", tmp_path)
    assert results.table(found["rows"]) in printed
    (row,) = found["rows"]
    assert (row["network"], row["input"]) == ("i3d", "8x64x64")
    assert row["float32 s"] > 0
    assert row["torchvision s3d"] == "input too small"
    assert row["torchvision r3d_18"] > 0
    assert row["bf16"] > 0
    assert 1e-5 < row["bf16 differs"] < 0.1
    if row["onnxruntime"] != "not installed":
        assert row["onnxruntime"] > 0
        assert row["onnxruntime differs"] < 1e-3


def test_inputs_are_those_of_the_recipes_unless_others_are_asked_for():
    assert latency.input_shape("i3d", None, None) == (1, 3, 64, 224, 224)
    assert latency.input_shape("tsn resnet50", None, None) == (1, 3, 3, 224, 224)
    assert latency.input_shape("i3d", 16, 112) == (1, 3, 16, 112, 112)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--repeats", "0"], "argument --repeats: 0 is not a number from 1 on"),
        (["--threads", "two"], "argument --threads: two is not a number from 1 on"),
        (["--only", "i3d", "--crop-size", "8", "--clip-len", "8"], "i3d cannot run on clips of"),
    ],
)
def test_options_that_cannot_be_are_said_in_a_sentence(run_here, capsys, options, words):
    with pytest.raises(SystemExit) as ended:
        run_here(latency, *options)
    assert words in f"{ended.value} {capsys.readouterr().err}"


def test_what_cannot_be_measured_here_is_said(monkeypatch):
    def failing(*args):
        raise UserError("no compiler")

    network, clip = nn.Identity(), torch.zeros(1)
    monkeypatch.setattr(latency, "compiled", failing)
    with pytest.raises(latency.Missing, match="cannot compile here"):
        latency.with_compile(network, clip)
    monkeypatch.setattr(latency.export, "check_packages", failing)
    with pytest.raises(latency.Missing, match="not installed"):
        latency.with_onnxruntime(network, clip)


# the other two


@pytest.mark.slow
def test_a_result_of_models_has_a_row_for_each_way(tmp_path, run_here):
    options = ["--only", "s3d", "--crop-size", "64", "--clip-len", "8", "--repeats", "1"]
    run_here(models, *options, "--device", "cpu", "--save", str(tmp_path))
    rows = results.last("models", tmp_path)["rows"]
    assert {row["memory"] for row in rows} == {"contiguous", "channels last"}
    assert all(row["step s"] > 0 and row["MB"] > 0 for row in rows)
    assert (rows[0]["forward ratio"], rows[0]["step ratio"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The image decoding")  # it is one of those compared
def test_a_result_of_loader_has_a_row_for_each_way(tmp_path, run_here, monkeypatch):
    monkeypatch.setattr(loader, "CLIPS_A_CORE", 4)
    run_here(loader, "--repeats", "1", "--workers", "1", "--save", str(tmp_path))
    rows = {row["what"]: row for row in results.last("loader", tmp_path)["rows"]}
    assert all(row["frames/s"] > 0 for row in rows.values())
    assert rows["decoding alone (simplejpeg)"]["of decoding alone"] == 1
    assert rows["clip, the classic way"]["times the classic way"] == 1
    assert rows["batches of 4 clips, 1 processes"]["of decoding alone"] > 0
