"""The splits of a data set as one series of runs, whose mean is what papers report.

Where no video is in two of the test lists, as in a cross-validation, all of them are also counted
together, as one test set: its interval is narrower than any of a split.
"""

import json
import logging
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from config import UserError
from utils import distributed
from utils.evaluator import describe
from utils.metrics import wilson_interval
from utils.scores import Scores, load_scores

METRICS = ("top1", "top5", "mean_class_accuracy")
log = logging.getLogger("video")


def run_series(
    run: Callable[[list[str]], int],
    argv: list[str],
    *,
    splits: Sequence[int],
    evaluate: bool,
    prefix: Path,
) -> int:
    """Trains or evaluates each split in a folder of its own and sums up their results.

    What is done stands in <prefix>_splits.json after each split, so that the same command goes on
    with the one that was cut. An evaluation always starts with the first.

    Args:
        run: one run of a command line, `argv` and what makes it that of one split; its exit
            status.
        prefix: of the run folders, <prefix>_1 and so on.

    Raises:
        UserError: a run folder has no checkpoint, or is there before the series has begun; or the
            splits were not measured alike.
    """
    folders = {split: Path(f"{prefix}_{split}") for split in splits}
    file = Path(f"{prefix}_splits.json")
    begun = distributed.from_main(file.exists) and not evaluate
    results = distributed.from_main(lambda: read(file)) if begun else {}
    if not begun:
        distributed.from_main(lambda: check_folders(folders.values(), file, evaluate))
    for split, folder in folders.items():
        if str(split) in results:
            log.info(f"split {split} is done, says {file}")
            continue
        if not evaluate:
            write(file, {"splits": results})  # from now on these folders belong to the series
        of_split = ["--splits", str(split), "--name", folder.name, "--resume", "auto"]
        status = run([*argv, *of_split])
        if status:
            log.info(f"the same command goes on with split {split}")
            return status
        results[str(split)] = distributed.from_main(lambda folder=folder: result_in(folder))
    results = {str(split): results[str(split)] for split in splits}
    protocol = common_protocol(results, file)
    together = distributed.from_main(lambda: pooled_of(folders.values()))
    write(file, {"splits": results} | summary(results) | ({"pooled": together} if together else {}))
    for split, result in results.items():
        log.info(f"split {split}: {describe(result)}")
    log.info(f"{summary_in_words(results)}; {protocol}")
    if together:
        log.info(f"{pooled_in_words(together)}; {protocol}")
    log.info(f"results of all splits: {file}")
    return 0


def result_in(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def check_folders(folders: Sequence[Path], file: Path, evaluate: bool) -> None:
    """Looks at all of them before the first hour is spent."""
    for folder in folders:
        if evaluate and not (folder / "last.pth").exists():
            raise UserError(
                f"no checkpoint {folder / 'last.pth'}; train it first: the same command without "
                "--evaluate"
            )
        if not evaluate and folder.exists():
            raise UserError(
                f"the run folder {folder} exists, and no series {file} that it belongs to; choose "
                "another --name, or sum up runs that are there with --evaluate"
            )


def common_protocol(results: dict[str, dict], file: Path) -> str:
    """The part of their protocols that says what was averaged; no mean of unlike numbers."""
    protocols = sorted({result["protocol"].partition("; ")[0] for result in results.values()})
    if len(protocols) > 1:
        raise UserError(
            f"{file}: the splits were measured by different protocols, '{protocols[0]}' and "
            f"'{protocols[1]}'; measure all by one with --evaluate"
        )
    return protocols[0]


def summary(results: dict[str, dict]) -> dict:
    """Mean and standard deviation (of a sample, n - 1) of each accuracy over the splits."""
    numbers = {}
    for name in METRICS:
        values = [result[name] for result in results.values()]
        if len(values) > 1 and None not in values:
            numbers[name] = {"mean": statistics.mean(values), "std": statistics.stdev(values)}
    return numbers


def summary_in_words(results: dict[str, dict]) -> str:
    words = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy"}
    numbers = [
        f"{words[name]} {value['mean']:.1f} % (standard deviation {value['std']:.1f})"
        for name, value in summary(results).items()
    ]
    return f"mean over splits {', '.join(results)}: {', '.join(numbers)}"


def pooled_of(folders: Iterable[Path]) -> dict | None:
    """The same as `pooled`; a folder may have been removed since its split was done."""
    try:
        return pooled([load_scores(folder / "scores.npz") for folder in folders])
    except UserError as error:
        log.info(f"the test lists are not counted together: {error}")
        return None


def pooled(parts: list[Scores]) -> dict | None:
    """Top-1 in percent over the videos of all test lists, if none of them is on two."""
    names = [name for part in parts for name in part.names]
    if len(set(names)) < len(names):
        return None
    correct = sum(int((one.scores.argmax(axis=1) == one.labels).sum()) for one in parts)
    return {
        "top1": 100 * correct / len(names),
        "top1_interval": wilson_interval(correct, len(names)),
        "num_videos": len(names),
    }


def pooled_in_words(result: dict) -> str:
    low, high = result["top1_interval"]
    return (
        f"pooled over the {result['num_videos']} videos of all test lists, each tested once: "
        f"top-1 {result['top1']:.1f} % (95 %: {low:.1f} to {high:.1f})"
    )


def read(file: Path) -> dict[str, dict]:
    """The results by split of a series that has begun."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))["splits"]
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{file} is not the file of a series; remove it and sum up the runs with --evaluate"
        ) from None


def write(file: Path, content: dict) -> None:
    if not distributed.is_main():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")  # a kill leaves the old file
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(file)
