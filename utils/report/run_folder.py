"""Everything that a report shows, read from the folder of a run or of an evaluation.

What a folder does not have is left out, but for the scores, without which there is no result.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from config import UserError, refuse
from utils.live_page.run_files import (
    Differing,
    differing_options,
    read_form,
    read_options,
    read_validation,
)
from utils.loggers import PICTURES, Metrics, history, read_lines
from utils.report.machine import FILE, MachineFacts
from utils.results import Result, summarize_scores
from utils.scores import Scores, load_scores


@dataclass
class RunFolder:
    """What is known of a run."""

    name: str
    scores: Scores
    result: Result
    points: list[tuple[Metrics, float]]  # of the curves, each with its epoch
    epochs: list[Metrics]  # the numbers of metrics.jsonl
    options: dict[str, Any]  # that have a value
    differing: list[Differing]  # those of them that the recipe has otherwise
    validation: dict[str, Any]  # see live_page/run_files.py
    films: list[tuple[bytes, int]]  # of its mistakes: a JPEG, and how many frames are in it
    machine: dict[str, Any]  # see MachineFacts
    times: list[str]  # of the first and the last line of log.txt


def read_run(folder: Path) -> RunFolder:
    """Raises UserError if it has no scores, or a file is damaged."""
    refuse(not folder.is_dir(), f"{folder} is no folder; name that of a run, such as saved_model/A")
    if not (folder / "scores.npz").exists():
        raise UserError(
            f"{folder} has no scores.npz, which an evaluation writes at the end of a run; "
            f"python main.py --resume {folder / 'last.pth'} --evaluate writes one"
        )
    scores, validation = load_scores(folder / "scores.npz"), read_validation(folder)
    options = read_options(folder) if (folder / "options.json").exists() else {}
    return RunFolder(
        name=folder.resolve().name,
        scores=scores,
        result=summarize_scores(scores),
        points=history(folder),
        epochs=[
            {name: value for name, value in line.items() if isinstance(value, int | float)}
            for line in read_lines(folder / "metrics.jsonl", "epoch", "step", "time/step")
        ],
        options=options,
        differing=differing_options(folder) if options else [],
        validation=validation,
        films=read_films(folder / PICTURES[1], len(validation.get("mistakes", []))),
        machine=read_machine(folder / FILE),
        times=read_times(folder / "log.txt"),
    )


def read_films(path: Path, count: int) -> list[tuple[bytes, int]]:
    """The rows of what `mistake_pictures.films` makes, none if there is no such file."""
    if not (count and path.exists()):
        return []
    try:
        with Image.open(path) as sheet:
            side, films = sheet.height // count, []
            for top in range(0, side * count, side):
                file = io.BytesIO()
                sheet.crop((0, top, sheet.width, top + side)).save(file, "JPEG", quality=85)
                films.append((file.getvalue(), sheet.width // side))
            return films
    except (OSError, SyntaxError) as error:  # of Pillow
        raise UserError(f"{path} is damaged ({error}); delete it") from None


def read_machine(path: Path) -> dict[str, Any]:
    """What `write_machine` wrote; nothing if there is no such file."""
    return read_form(path, MachineFacts)


def read_times(path: Path) -> list[str]:
    """When the first and the last line were written: with the minute, in local time."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d):\d\d,\d{3} ", text, re.MULTILINE)
    return [found[0], found[-1]] if found else []
