"""What only a GPU shows, on a machine without one: torch finds two that are made up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
WITHOUT = (
    (sys.platform != "linux", "the stub is for Linux"),
    (shutil.which("gcc") is None, "there is no gcc to build the stub with"),
    (torch.version.cuda is None, "this torch is built without CUDA"),
    (torch.cuda.is_available(), "there is a GPU: tests on it are better"),
)


@pytest.mark.skipif(
    any(missing for missing, _ in WITHOUT), reason="; ".join(why for no, why in WITHOUT if no)
)
def test_what_only_a_gpu_shows(tmp_path):
    stub = tmp_path / "libcuda.so.1"  # torch opens the driver by this name
    build = ["gcc", "-shared", "-fPIC", "-w", "-o", str(stub), str(HERE / "stub.c")]
    subprocess.run(build, check=True)
    variables = {"LD_PRELOAD": str(stub), "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(HERE / "simulated.py")],
        env=os.environ | variables | {"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "failed:\n"), done.stdout + done.stderr
