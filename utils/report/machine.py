"""machine.json: what a run computes on, noted at its start: a report may be made elsewhere."""

import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from config import whole
from utils import distributed

FILE = "machine.json"


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """No name or address of it: a report may be sent to anyone."""

    device: str  # in words, such as "2 x NVIDIA H100"
    cores: int | None  # of the CPU
    processes: int
    precision: str
    system: str
    python: str
    torch: str


def write_machine(folder: Path, device: torch.device, precision: str) -> None:
    """The machine that goes on with a run is noted in place of the one before it."""
    name = cpu_name() or platform.machine()
    if device.type == "cuda":
        alone = distributed.world_size() == 1 and device.index is None
        count = torch.cuda.device_count() if alone else distributed.world_size()
        name = f"{f'{count} x ' if count > 1 else ''}{torch.cuda.get_device_name(device)}"
    facts = MachineFacts(
        device=name,
        cores=os.cpu_count(),
        processes=distributed.world_size(),
        precision=precision,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=torch.__version__,
    )
    with whole(folder / FILE) as temporary:
        temporary.write_text(json.dumps(asdict(facts), indent=1) + "\n", encoding="utf-8")


def cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        return found[1].strip() if found else ""
    except OSError:
        return platform.processor()
