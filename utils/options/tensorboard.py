"""The numbers of a run for TensorBoard: `--logger tensorboard`."""

from numbers import Real
from pathlib import Path

import numpy as np

from utils.live_page.run_files import read_options, readable, step_names
from utils.loggers import Logger
from utils.mistakes import Mistakes
from utils.report.mistake_pictures import picture


class TensorBoard(Logger):
    """Event files in the run folder; the x axis is the step."""

    def __init__(self, run_dir: Path, step: int):
        """`step`: where the run goes on; later events belong to what is done again, and go."""
        from torch.utils.tensorboard import SummaryWriter  # optional, and takes a second

        self.folder, self.step_names = run_dir / "tensorboard", step_names(run_dir)
        self.writer = SummaryWriter(self.folder, purge_step=step + 1, flush_secs=10)
        options = read_options(run_dir).items()
        text = "\n".join(f"    {name} {readable(value)}" for name, value in options)
        self.writer.add_text("options", text, step)

    def log_steps(self, metrics: dict) -> None:
        self.step_names |= metrics.keys()
        self._add(metrics, metrics["step"])

    def log_epoch(self, metrics: dict, mistakes: Mistakes) -> None:
        new = {name: value for name, value in metrics.items() if name not in self.step_names}
        self._add(new, metrics["step"])
        if mistakes.surest:
            pixels = np.asarray(picture(mistakes))
            self.writer.add_image("mistakes", pixels, metrics["step"], dataformats="HWC")

    def _add(self, metrics: dict, step: int) -> None:
        for name, value in metrics.items():
            if isinstance(value, Real) and name != "step":
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()

    def places(self) -> list[str]:
        return [f"tensorboard: tensorboard --logdir {self.folder}"]
