"""benchmarks/gpu.py, so small that a CPU runs it; a GPU's profile from made-up events."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType

from benchmarks import gpu, gpu_checks, loader
from models import build_model

ROOT = Path(__file__).resolve().parents[1]
BEST = "bf16, channels last"


@pytest.fixture
def rows_of(tmp_path, capsys):
    """Of a run with --tiny, as it saves them, with its options."""

    def run(*argv):
        gpu.main([*argv, "--tiny", "--save", str(tmp_path)])
        files = sorted(tmp_path.glob(f"*_gpu_{argv[0]}_*.json"))
        found = [json.loads(path.read_text()) for path in files]
        networks = [result["rows"][0]["network"] for result in found]
        assert networks == sorted(found[0]["options"]["only"])
        rows, printed = [row for result in found for row in result["rows"]], capsys.readouterr().out
        assert all(f"| {row['network']} | {row['way']} |" in printed for row in rows)
        return rows, found[0]["options"]

    return run


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """Each trains in a moment; one is of torch alone."""

    def of_torch():
        layers = nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.AdaptiveAvgPool3d(1), nn.Flatten()
        network = nn.Sequential(*layers)
        network.head = nn.Linear(8, gpu.NUM_CLASSES)
        return network

    builds = {
        "torchvision r3d_18": of_torch,
        "tsn": lambda: build_model("tsn", backbone="resnet18"),
    }
    for name, build in builds.items():
        monkeypatch.setitem(gpu.NETWORKS, name, replace(gpu.NETWORKS[name], build=build))


def test_training_measures_every_way_of_every_network(rows_of):
    ways = ["plain", "torch's default, contiguous", "bf16 compiled, channels last"]
    networks = ["torchvision r3d_18", "tsn"]  # as their files are sorted
    rows, options = rows_of("training", "--only", *networks, "--ways", *ways)
    assert [(row["network"], row["way"]) for row in rows] == [
        (n, w) for n in networks for w in ways
    ]
    peak = 1e12 * options["matrix_tflop_per_s"]
    for row in rows:
        rate = row["clips_per_s"]
        assert rate == pytest.approx(1000 * row["batch"] / row["step_ms"])
        assert row["utilization_%"] == pytest.approx(100e9 * rate * row["gflop_a_clip"] / peak)
        assert row["memory_gb"] > 0


def test_a_profile_names_the_largest_kernels(rows_of):
    (row,), _ = rows_of("profile", "--only", "tsn")
    assert row["way"] == BEST
    assert any("convolution_backward" in row[f"kernel {i}"] for i in (1, 2, 3))
    assert 0 < row["copies"] < row["launches"]


@pytest.mark.filterwarnings("ignore:The image decoding")  # it is one of those compared
def test_loading_compares_the_sources_of_clips(rows_of, monkeypatch):
    monkeypatch.setattr(loader, "NUM_FRAMES", 8)  # as many as the clips have
    monkeypatch.setattr(loader.lists_of, "__defaults__", (1, 8))
    rows, _ = rows_of("loading", "--only", "tsn")
    assert [row["source"] for row in rows] == [
        "frames",
        "packed zip",
        "torchvision, on the device",
    ]
    assert all(row["clips_per_s"] > 0 and 0 <= row["device_waits_%"] < 100 for row in rows)


def test_a_network_that_does_not_fit_is_a_row(monkeypatch, capsys):
    def step_of(name, way, size, opts):
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return lambda: None

    monkeypatch.setattr(gpu, "step_of", step_of)
    monkeypatch.setattr(gpu, "peak_rates", lambda opts: (1e12, 1e9))
    gpu.main(["training", "--tiny", "--only", "tsn", "--ways", BEST, "--batch-sizes", "4", "2"])
    printed = [line for line in capsys.readouterr().out.splitlines() if "| tsn" in line]
    assert ["out of memory" in line for line in printed] == [True, False]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit) as stop:
        gpu.main(["training"])
    assert stop.value.code == 2
    assert "there is no GPU; --tiny shows on a CPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kernel, copies",
    [
        ("Memcpy HtoD (Pinned -> Device)", True),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<__half, __half, float, true>", True),
        ("void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda", True),
        ("sm90_xmma_dgrad_implicit_gemm_indexed_bf16bf16_bf16f32_nhwckrsc_nhwc_tilesize", False),
        ("triton_poi_fused__to_copy_12", True),
        ("triton_red_fused__to_copy_native_batch_norm_backward_threshold_backward_3", False),
    ],
)
def test_kernels_that_only_move_numbers_are_known_by_name(kernel, copies):
    assert gpu.is_copy(kernel) == copies


def event(name, device, start, taken=0.0, annotation=False):
    return SimpleNamespace(
        name=name,
        device_type=device,
        time_range=SimpleNamespace(start=start, end=start + taken),
        self_device_time_total=taken,
        self_cpu_time_total=0.0,
        is_user_annotation=annotation,
    )


def test_the_profile_of_a_gpu_counts_kernels_launches_and_waits():
    host, device = DeviceType.CPU, DeviceType.CUDA
    events = [
        event(gpu.MARK, host, 0, 100),
        event(gpu.MARK, device, 0, 500, annotation=True),
        *(event("cudaLaunchKernel", host, t) for t in (1, 2, 3)),
        event("cuLaunchKernelEx", host, 4),
        event("cudaStreamSynchronize", host, 50),
        event("cudaDeviceSynchronize", host, 200),  # of the profiler, after the steps
        event("void at::native::gemm", device, 10, 300),
        event("void at::native::gemm", device, 320, 300),
        event("Memcpy HtoD (Pinned -> Device)", device, 700, 200),
    ]
    row = gpu.summary(events, steps=2, on_gpu=True)
    assert row["device_ms"] == pytest.approx(0.4)
    assert (row["launches"], row["waits_of_host"], row["copies"]) == (2, 0.5, 0.5)
    assert row["copies_%"] == 25
    assert row["kernel 1"] == "75 % gemm"


@pytest.fixture
def scripted(monkeypatch):
    """Checks that are these lines of Python."""

    def script(**lines):
        checks = {"env": gpu_checks.Check(None, 20)}
        checks |= {name: gpu_checks.Check(None, 1 if "sleep" in name else 20) for name in lines}
        monkeypatch.setattr(gpu_checks, "CHECKS", checks)
        lines["env"] = "print('found: this machine')"
        command = lambda name, *_: [sys.executable, "-c", lines[name]]  # noqa: E731
        monkeypatch.setattr(gpu_checks, "command_for", command)
        monkeypatch.setattr(gpu_checks, "PATIENCE", 0.1)

    return script


def test_a_check_that_fails_or_hangs_or_crashes_is_a_row(scripted, tmp_path, capsys):
    scripted(
        good="print('a library says'); print('found: 3 ms')",
        bad="print('found: 4 s instead of 3'); raise SystemExit(1)",
        raised="raise RuntimeError('CUDA error: misaligned address')",
        crashed="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        sleeps="import time; print('at step 7', flush=True); time.sleep(60)",
        silent="pass",
    )
    assert gpu_checks.main(["--tiny", "--minutes", "0.5", "--save", str(tmp_path)]) == 1
    (saved,) = tmp_path.glob("*_gpu_checks.json")
    rows = json.loads(saved.read_text())["rows"]
    assert [(row["check"], row["result"], row["found"]) for row in rows] == [
        ("env", "pass", "this machine"),
        ("good", "pass", "3 ms"),
        ("bad", "FAIL", "4 s instead of 3"),
        ("raised", "FAIL", "RuntimeError: CUDA error: misaligned address"),
        ("crashed", "FAIL", "ended by SIGSEGV; "),
        ("sleeps", "FAIL", "stopped after 5 s; at step 7"),
        ("silent", "FAIL", ""),
    ]
    printed = capsys.readouterr().out
    assert "| good | pass |" in printed and "Traceback" in printed.split("| check |")[0]


def test_checks_for_which_no_time_is_left_are_rows_and_no_failure(scripted, capsys):
    scripted(one="print('found: 1')")
    assert gpu_checks.main(["--tiny", "--minutes", "0.01", "--only", "one"]) == 0
    assert "| one | not run | no time was left |" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_the_checks_need_one():
    command = [sys.executable, "benchmarks/gpu.py", "checks"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[2:]
    assert lines == [f"| {name} | not run | needs a GPU |" for name in gpu_checks.CHECKS]
    assert len(lines) == 15


@pytest.mark.parametrize("name", ["fp16", "huge", "layers"])
def test_a_check_computes_on_a_cpu(name, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_checks, "milliseconds", lambda work: work() and 1.0)
    place = gpu_checks.Place(tmp_path, torch.device("cpu"), tiny=True)
    assert gpu_checks.CHECKS[name].work(place)
