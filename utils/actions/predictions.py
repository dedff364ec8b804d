"""What a network says of videos: a table for people, CSV for programs."""

import contextlib
import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from config import UserError, plural, whole

FILE = "predictions.csv"
NUM_BEST = 5
BAR = 30  # characters of a bar of 100 %


class Span(NamedTuple):
    """The scores (classes,) of a part of a video, from `start` to `end` in seconds."""

    start: float
    end: float
    scores: torch.Tensor


@dataclass(frozen=True)
class Prediction:
    """The scores (classes,) of a video, and of its parts where it was looked at in windows."""

    path: str
    num_frames: int
    fps: float | None
    scores: torch.Tensor
    timeline: list[Span] = field(default_factory=list)


def best_classes(scores: torch.Tensor, class_names: list[str]) -> list[tuple[str, float]]:
    """The five best classes, the best first, with their scores."""
    best = scores.topk(min(NUM_BEST, len(class_names)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(class_names[i], score) for i, score in pairs]


def labels_at(
    prediction: Prediction, class_names: list[str], seconds: float
) -> list[tuple[str, float]]:
    """The three best classes at a time: those of the window whose middle is nearest."""
    scores = scores_of_windows(prediction)[nearest_window(prediction, seconds)]
    return best_classes(scores, class_names)[:3]


def scores_of_windows(prediction: Prediction) -> list[torch.Tensor]:
    """The scores (classes,) of each window, or of the video where there are none."""
    return [span.scores for span in prediction.timeline] or [prediction.scores]


def nearest_window(prediction: Prediction, seconds: float) -> int:
    """The number of the window whose middle is nearest; 0 where there are none."""
    middles = [(span.start + span.end) / 2 for span in prediction.timeline]
    return min(range(len(middles)), key=lambda i: abs(middles[i] - seconds), default=0)


def prediction_in_words(prediction: Prediction, class_names: list[str]) -> str:
    """The best classes of a video with bars, and of its windows the best one, a line each."""
    seconds = f", {prediction.num_frames / prediction.fps:.1f} s" if prediction.fps else ""
    lines = [f"{prediction.path} ({plural(prediction.num_frames, 'frame')}{seconds})"]
    best = best_classes(prediction.scores, class_names)
    width = max(len(name) for name, _ in best)
    for name, score in best:
        bar = "#" * round(BAR * score)
        lines.append(f"  {name:{width}}  {100 * score:5.1f} %  {bar}".rstrip())
    for start, end, name, score in merge_windows(prediction.timeline, class_names):
        lines.append(f"  {start:7.1f} s to {end:7.1f} s  {100 * score:5.1f} %  {name}")
    return "\n".join(lines)


class Stretch(NamedTuple):
    """Windows in a row with the same best class."""

    start: float  # seconds
    end: float
    class_name: str
    score: float  # the highest


def merge_windows(timeline: list[Span], class_names: list[str]) -> list[Stretch]:
    """Windows overlap; each counts up to the middle of what it shares with the next."""
    stretches: list[Stretch] = []
    for i, span in enumerate(timeline):
        name, score = best_classes(span.scores, class_names)[0]
        start = (timeline[i - 1].end + span.start) / 2 if i else span.start
        end = (span.end + timeline[i + 1].start) / 2 if i + 1 < len(timeline) else span.end
        if stretches and stretches[-1].class_name == name:
            last = stretches.pop()
            start, score = last.start, max(last.score, score)
        stretches.append(Stretch(start, end, name, score))
    return stretches


def write_predictions(
    folder: Path,
    predictions: list[Prediction],
    problems: list[tuple[str, str]],
    class_names: list[str],
    about: dict[str, str],
) -> list[Path]:
    """Writes predictions.csv, a row a video; of windows windows.csv, too, a row each.

    Args:
        problems: paths of what could not be used, or not all of it, and why.
        about: how all of them were made, columns of their own.

    Returns:
        the paths of the files.
    """
    best = [f"{kind}_{i + 1}" for i in range(NUM_BEST) for kind in ("class", "score")]
    best = best[: 2 * len(class_names)]

    def answers(scores: torch.Tensor) -> dict[str, Any]:
        pairs = best_classes(scores, class_names)
        cells = [cell for name, score in pairs for cell in (name, f"{score:.5f}")]
        return dict(zip(best, cells, strict=True)) | about

    errors, known = dict(problems), {one.path for one in predictions}
    videos: list[dict[str, Any]] = [
        {"path": one.path, "num_frames": one.num_frames, "fps": one.fps}
        | {"error": errors.get(one.path)}  # some of its frames, which the network does not see
        | answers(one.scores)
        for one in predictions
    ]
    videos += [{"path": path, "error": why} | about for path, why in problems if path not in known]
    windows: list[dict[str, Any]] = [
        {"path": one.path, "start": span.start, "end": span.end} | answers(span.scores)
        for one in predictions
        for span in one.timeline
    ]
    tables = {FILE: (["path", *best, "num_frames", "fps", "error", *about], videos)}
    if windows:
        tables["windows.csv"] = ["path", "start", "end", *best, *about], windows
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as together:
            for name, (columns, rows) in tables.items():
                temporary = together.enter_context(whole(folder / name))
                # names of files may hold bytes that are not UTF-8
                how = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
                with open(temporary, "w", **how) as file:
                    writer = csv.DictWriter(file, columns)
                    writer.writeheader()
                    writer.writerows(rows)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose --out") from None
    return [folder / name for name in tables]
