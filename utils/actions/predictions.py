"""What a network says of videos: a table for people, JSON and CSV for programs."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from config import UserError, whole

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
    nearest = min(
        prediction.timeline,
        key=lambda span: abs((span.start + span.end) / 2 - seconds),
        default=prediction,
    )
    return best_classes(nearest.scores, class_names)[:3]


def prediction_in_words(prediction: Prediction, class_names: list[str]) -> str:
    """The best classes of a video with bars, and of its windows the best one, a line each."""
    seconds = f", {prediction.num_frames / prediction.fps:.1f} s" if prediction.fps else ""
    lines = [f"{prediction.path} ({prediction.num_frames} frames{seconds})"]
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


def paths_in(folder: Path) -> list[Path]:
    return [folder / "predicted.json", folder / "predicted.csv"]


def write_predictions(
    folder: Path,
    predictions: list[Prediction],
    problems: list[tuple[str, str]],
    class_names: list[str],
    about: dict[str, Any],
) -> list[Path]:
    """Writes predicted.json, which begins with `about`, and predicted.csv; returns their paths."""
    videos = [video_entry(prediction, class_names) for prediction in predictions]
    unusable = [{"path": path, "error": why} for path, why in problems]
    content = about | {"videos": videos, "problems": unusable}
    paths = paths_in(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            whole(paths[0]) as json_file,
            whole(paths[1]) as csv_file,
            open(csv_file, "w", encoding="utf-8", newline="") as file,
        ):
            text = json.dumps(content, indent=1, ensure_ascii=False)
            json_file.write_text(text + "\n", encoding="utf-8")
            writer = csv.writer(file)
            writer.writerow(("path", "start", "end", "rank", "class_name", "score"))
            for video in videos:
                # all of it, then window by window
                parts = [video | {"start": "", "end": ""}, *video.get("timeline", ())]
                for part in parts:
                    place = video["path"], part["start"], part["end"]
                    for rank, row in enumerate(part["predictions"], 1):
                        writer.writerow((*place, rank, *row.values()))
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose --out") from None
    return paths


def video_entry(prediction: Prediction, class_names: list[str]) -> dict[str, Any]:
    """What predicted.json says of a video."""

    def best(scores: torch.Tensor) -> list[dict[str, Any]]:
        pairs = best_classes(scores, class_names)
        return [{"class_name": name, "score": round(score, 5)} for name, score in pairs]

    entry: dict[str, Any] = {
        "path": prediction.path,
        "num_frames": prediction.num_frames,
        "fps": prediction.fps,
        "predictions": best(prediction.scores),
    }
    if prediction.timeline:
        entry["timeline"] = [
            {"start": span.start, "end": span.end, "predictions": best(span.scores)}
            for span in prediction.timeline
        ]
    return entry
