"""The benchmarks: what they share, and that each runs; their figures are no matter of tests."""

import argparse
import multiprocessing
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_visdom import free_port
from torch import nn

from benchmarks import growth, latency, loader, models, points, results
from benchmarks.apart import apart, megabytes_since, peak_megabytes, private_megabytes
from config import UserError

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text())
SCRIPTS.remove("gpu_checks")  # which gpu.py calls


def small_network():
    layers = nn.Conv3d(3, 64, 3, padding=1), nn.BatchNorm3d(64), nn.AdaptiveAvgPool3d(1)
    network = nn.Sequential(*layers, nn.Flatten())
    network.head = nn.Linear(64, 400)
    return network


def help_of(script):
    """As a new process says it that is called from another folder: nothing of ours is imported."""
    os.chdir("/")
    root = str(FOLDER.parent)
    sys.path[:] = [str(FOLDER), *(path for path in sys.path if path not in ("", root))]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if file.startswith(root) and "site-packages" not in file:
            del sys.modules[name]
    sys.argv = [f"{script}.py", "--help"]
    runpy.run_path(str(FOLDER / f"{script}.py"), run_name="__main__")


@pytest.fixture
def run_here(monkeypatch, capsys):
    """The same in this process, which has imported everything already."""

    def run(benchmark, *options):
        monkeypatch.setattr(sys, "argv", ["benchmark", *options])
        benchmark.main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_says_how_it_is_called(script, capfd):
    """As a script, from any folder, in a fork of this process, which has what is not ours."""
    process = multiprocessing.get_context("fork").Process(target=help_of, args=(script,))
    process.start()
    process.join()
    said = capfd.readouterr()
    assert process.exitcode == 0, said.err
    assert f"{script}.py [-h]" in said.out


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


@pytest.fixture
def here(monkeypatch):
    """Points of curves are measured in this process, with a network that takes no time; only lists
    are not, whose loader has the only process that their point may have."""

    def run(function, *args, threads):
        return apart(function, *args) if function is points.list_cost else function(*args)

    monkeypatch.setattr(growth, "apart", run)
    for name in ("i3d", "resnet3d i3d nl5"):
        monkeypatch.setitem(models.NETWORKS, name, small_network)
    monkeypatch.setattr(points, "build_model", lambda arch: small_network())
    monkeypatch.setattr(points, "together", lambda calls: [1.0] * len(calls))  # see below


@pytest.mark.slow
def test_growth_measures_draws_and_saves(tmp_path, run_here, here):
    printed = run_here(growth, "--quick", "--threads", "1", "--save", str(tmp_path))
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
    # the promise about long lists: a process of the loader does not copy them
    of_lists = rows["entries of a list", "training list", "MB a worker"]["values"]
    assert max(of_lists) - of_lists[0] < 50
    pictures = {path.name: path for path in tmp_path.glob("*.png")}
    assert pictures.keys() == {f"growth_{name}.png" for name in growth.SWEEPS}
    for path in pictures.values():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 60_000


def test_a_run_of_two_processes_is_compared_with_two_runs(monkeypatch):
    started = []

    def together(calls):
        started.append([variables.get("RANK") for _, variables, *_ in calls])
        return [2.0, 3.0] if len(started) == 1 else [4.0, 5.0]

    monkeypatch.setattr(points, "together", together)
    assert points.processes_cost(2, 64, 1) == {"clips/s": 4 / 5, "efficiency": 3 / 5}
    assert started == [[None, None], [0, 1]]


@pytest.mark.slow
def test_a_step_of_one_among_several_processes_is_timed():
    """In one that is all of them."""
    of_launcher = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0}
    of_launcher |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    assert apart(points.seconds_a_step, of_launcher, 32, 1) > 0


# latency


@pytest.mark.slow
def test_latency_compares_the_ways_to_run_a_network(tmp_path, run_here, monkeypatch):
    for name in ("i3d", "torchvision r3d_18"):  # that ours can be exported is shown elsewhere
        monkeypatch.setitem(models.NETWORKS, name, small_network)
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
def test_a_result_of_models_has_a_row_for_each_way(tmp_path, run_here, monkeypatch):
    monkeypatch.setitem(models.NETWORKS, "s3d", small_network)  # not where memory is measured
    options = ["--only", "s3d", "--crop-size", "64", "--clip-len", "8", "--repeats", "1"]
    run_here(models, *options, "--device", "cpu", "--save", str(tmp_path))
    rows = results.last("models", tmp_path)["rows"]
    assert {row["memory"] for row in rows} == {"contiguous", "channels last"}
    assert all(row["step s"] > 0 and row["MB"] > 20 for row in rows)
    assert (rows[0]["forward ratio"], rows[0]["step ratio"]) == (1, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The image decoding")  # it is one of those compared
def test_a_result_of_loader_has_a_row_for_each_way(tmp_path, run_here, monkeypatch):
    small = {"CLIPS_A_CORE": 4, "NUM_FRAMES": 8, "CLIP": replace(loader.CLIP, clip_len=8)}
    for name, value in (small | {"LONG": 60}).items():
        monkeypatch.setattr(loader, name, value)
    monkeypatch.setattr(loader.lists_of, "__defaults__", (1, 8))
    monkeypatch.setattr(loader.items, "__defaults__", (loader.PLAIN, 8))
    run_here(loader, "--repeats", "1", "--workers", "1", "--save", str(tmp_path))
    rows = {row["what"]: row for row in results.last("loader", tmp_path)["rows"]}
    assert all(row["frames/s"] > 0 for row in rows.values())
    assert rows["decoding alone (simplejpeg)"]["of decoding alone"] == 1
    assert rows["clip, the classic way"]["times the classic way"] == 1
    assert rows["batches of 4 clips, 1 processes"]["of decoding alone"] > 0
