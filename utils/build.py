"""What a run works with, made of its settings."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from config import UserError
from utils.loggers import CurvesPng, JsonLines, Logger, Loggers, ValidationFiles


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError if a logger among `names` needs a package that is not there."""
    if "tensorboard" in names and importlib.util.find_spec("tensorboard") is None:
        raise UserError("--logger tensorboard needs a package: pip install tensorboard")


def build_logger(
    run_dir: Path,
    step: int,
    epoch: int,
    names: Sequence[str],
    *,
    server: str,
    port: int,
    env: str | None,
) -> Logger:
    """The loggers of a run that has done so much; the files first, which the others read.

    Args:
        names: of those beside the files; what is not among them is not imported.
        server, port, env: of visdom's page; `env` is the run's name if it is None.
    """
    loggers = [JsonLines(run_dir, step, epoch), ValidationFiles(run_dir, epoch), CurvesPng(run_dir)]
    if "visdom" in names:
        from utils.live_page.logger import Visdom

        loggers.append(Visdom(run_dir, server, port, env))
    if "tensorboard" in names:
        from utils.options.tensorboard import TensorBoard

        loggers.append(TensorBoard(run_dir, step))
    return Loggers(*loggers)
