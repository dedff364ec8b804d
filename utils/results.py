"""What an evaluation leaves: accuracies with their protocol, in words and in files."""

import contextlib
import json
import logging
import tempfile
from pathlib import Path
from typing import Any, TypedDict

import torch

from config import Evaluation, Preprocessing, UserError, plural, whole
from utils import confusion
from utils.metrics import majority, mean_class_accuracy, num_correct, top_k, wilson_interval
from utils.scores import Scores, save_scores

log = logging.getLogger("video")


class Result(TypedDict):
    """The content of result.json; accuracies are in percent."""

    top1: float
    top1_interval: tuple[float, float]  # 95 %
    top5: float | None  # None where there are no more than five classes
    mean_class_accuracy: float
    chance: float  # top-1 to expect of guesses
    majority: float  # top-1 of the class that most of these videos have
    num_videos: int
    num_skipped: int
    num_trained_on: int | None  # of all videos of the list, by this software; None: not known
    average: str  # of the views, as Scores has it
    protocol: str


def summarize_scores(scores: Scores, num_trained_on: int | None = None) -> Result:
    """The accuracies of an evaluation, and how they were measured."""
    values, labels = scores.scores, scores.labels
    top1 = top_k(values, labels, 1)
    assert top1 is not None  # None only for k > 1
    return {
        "top1": top1,
        "top1_interval": wilson_interval(num_correct(values, labels, 1), len(labels)),
        "top5": top_k(values, labels, 5),
        "mean_class_accuracy": mean_class_accuracy(values, labels),
        "chance": 100 / len(scores.class_names),
        "majority": majority(labels),
        "num_videos": len(labels),
        "num_skipped": scores.num_skipped,
        "num_trained_on": num_trained_on,
        "average": scores.average,
        "protocol": scores.protocol,
    }


def describe(result: Result) -> str:
    """One line for people: no number without its protocol."""
    top5 = "" if result["top5"] is None else f", top-5 {result['top5']:.1f} %"
    low, high = result["top1_interval"]
    levels = f"; {levels_in_words(result)}" if "chance" in result else ""  # not in older files
    skipped = f" ({result['num_skipped']} skipped)" if result["num_skipped"] else ""
    return (
        f"top-1 {result['top1']:.1f} % (95 %: {low:.1f} to {high:.1f}{levels}){top5}, "
        f"mean class accuracy {result['mean_class_accuracy']:.1f} % "
        f"on {plural(result['num_videos'], 'video')}{skipped}; {result['protocol']}"
    )


def levels_in_words(result: Result | dict[str, Any]) -> str:
    """The accuracies that need no network."""
    return f"chance {result['chance']:.1f} %, most frequent class {result['majority']:.1f} %"


def protocol_in_words(evaluation: Evaluation, preprocessing: Preprocessing) -> str:
    """What was averaged over what."""
    views, clip = evaluation.views, evaluation.seen_of(preprocessing)
    averaged = "logits" if evaluation.average == "logits" else "softmax"
    crops = {1: "1 center crop", 10: "10 crops (5 of them mirrored)"}
    crops_in_words = crops.get(views.crops, f"{views.crops} crops")
    unit = "field of flow" if clip.modality == "flow" else "frame"
    side, size = "both sides" if clip.resize == "square" else "short side", clip.short_side
    resized = f"{size} x {round(size * 4 / 3)}" if clip.resize == "4:3" else f"{side} {size}"
    pixels = f"{clip.crop_size} px out of {resized}"
    if clip.snippet_len:
        num_clips, segments = clip.segments_of_views(views.clips or 1)
        clips = f"{num_clips} clips x " if num_clips > 1 else ""
        return (
            f"video accuracy, {segments} segments of {plural(clip.snippet_len, unit)} as one "
            f"input, {averaged} averaged over {clips}{crops_in_words}, {pixels}"
        )
    clips = {1: "1 center clip", None: "the whole video as 1 clip"}
    clips_in_words = clips.get(views.clips, f"{views.clips} evenly spaced clips")
    frames = "" if views.clips is None else f" of {plural(clip.clip_len, unit)}"
    rate = f" at {clip.target_fps:g} frames/s" if clip.target_fps else ""
    rate += " where known" if rate and not clip.needs_rates() else ""
    return (
        f"video accuracy, {averaged} averaged over {clips_in_words} x {crops_in_words}{frames} "
        f"(stride {clip.stride}{rate}), {pixels}"
    )


def duration(hours: float) -> str:
    minutes = 60 * hours
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min"


def report_results(folder: Path, scores: Scores, num_trained_on: int | None) -> None:
    """Says what an evaluation comes to, then writes it: a full disk takes no number away.

    Last comes the page that shows it, with all else that the folder has.
    """
    result = summarize_scores(scores, num_trained_on)
    log.info(describe(result))
    write_results(folder, scores, result)
    from utils.report.page import write_report  # its numbers are safe by now

    log.info(f"report: {write_report(folder)}")


def write_results(folder: Path, scores: Scores, result: Result) -> None:
    """Writes all of an evaluation into `folder`, or nothing.

    Raises:
        UserError: it cannot be written, such as on a full disk.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished_") as temporary:
            write_files(Path(temporary), scores, result)
            # old ones go first, new ones come last: they never stand beside other scores
            for name in ("result.json", "report.html"):
                (folder / name).unlink(missing_ok=True)
            written = Path(temporary).iterdir()
            for path in sorted(written, key=lambda path: path.name == "result.json"):
                path.replace(folder / path.name)
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing is in it
        raise UserError(
            f"the results cannot be written to {folder} ({error.strerror}); make room there "
            "and evaluate again"
        ) from None


def write_files(folder: Path, scores: Scores, result: Result) -> None:
    """The files of an evaluation.

    predictions.json has the five best classes of each video with their scores, scores.npz the
    scores or logits of all; per_class.csv, confusion.csv and confusion.png say what is taken for
    what.
    """
    write_json(folder / "predictions.json", best_classes(scores))
    save_scores(folder / "scores.npz", scores)
    class_names, predicted = scores.class_names, scores.scores.argmax(axis=1)
    matrix = confusion.confusion_matrix(scores.labels, predicted, len(class_names))
    confusion.write_tables(folder, matrix, class_names)
    confusion.draw_confusion(folder / "confusion.png", matrix, class_names, describe(result))
    write_json(folder / "result.json", result)


def write_json(path: Path, content: object) -> None:
    with whole(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def best_classes(scores: Scores) -> list[dict[str, Any]]:
    """The content of predictions.json: the five best classes of each video, the best first."""
    shown = torch.from_numpy(scores.scores)
    if scores.average == "logits":
        shown = shown.softmax(dim=1)
    best = shown.topk(min(5, shown.shape[1]), dim=1)
    columns = scores.names, scores.labels.tolist(), best.values.tolist(), best.indices.tolist()
    return [
        {
            "path": name,
            "class_name": scores.class_names[label],
            "predictions": [
                {"class_name": scores.class_names[i], "score": round(score, 5)}
                for score, i in zip(values, indices, strict=True)
            ],
        }
        for name, label, values, indices in zip(*columns, strict=True)
    ]
