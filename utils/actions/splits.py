"""--splits: the splits of a data set as one series of runs, whose mean is what papers report.

Where no video is in two of the test lists, as in a cross-validation, all of them are also counted
together, as one test set: its interval is narrower than any of a split. utils/compare.py and
utils/fuse_scores.py take its scores.
"""

import hashlib
import json
import logging
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from config import RUNS, UserError, refuse, whole
from opts import Options
from pt_dataset.identity import identify
from pt_dataset.video_lists import VideoLists, read_dataset
from utils import distributed
from utils.compare import POOLED, SERIES, pool
from utils.loggers import set_up_console
from utils.results import Result, describe, summarize_scores
from utils.scores import Scores, load_scores, save_scores

METRICS = (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class accuracy"))
log = logging.getLogger("video")


def splits(opts: Options, argv: list[str], run: Callable[[list[str]], int]) -> int:
    """A run for each of --splits, or its evaluation, and their mean; returns the exit status.

    Args:
        argv: the command line of the series.
        run: does what a command line says.
    """
    if distributed.is_main():
        set_up_console()
    digests = {}
    for split in opts.splits:  # a list that is missing is said before the first hour
        with distributed.in_turn():
            digests[split] = digest(read_dataset(opts.dataset, opts.data_root, split))
    series = Series(digests, RUNS / str(opts.name), opts.evaluate)
    for split, folder in series.left_to_do():
        # the last of two options counts
        status = run([*argv, "--splits", split, "--name", folder.name, "--resume", "auto"])
        if status:
            log.info(f"the same command goes on with split {split}")
            return status
    series.sum_up()
    return 0


def digest(lists: VideoLists) -> str:
    """A short name for the videos of both lists, their labels and lengths, wherever they lie."""
    data, found = identify(lists), hashlib.sha256()
    for part in ("train", "test"):
        for column in ("names", "labels", "num_frames"):
            found.update(data[part][column].numpy().tobytes())
    return found.hexdigest()[:16]


class Series:
    """The results of the splits of a data set, each of which is run in a folder of its own.

    What is done stands in <prefix>_splits.json after each split, so that the same command goes on
    with the one that was cut. An evaluation always starts with the first. The scores of all test
    lists, where they can be counted together, are in <prefix>_scores.npz.

    Args:
        digests: of the lists of each split.
        prefix: of the run folders, <prefix>_1 and so on.

    Raises:
        UserError: a run folder has no checkpoint, or is there before the series has begun, or a
            split was done with other lists.
    """

    def __init__(self, digests: dict[int, str], prefix: Path, evaluate: bool):
        self.folders = {str(split): Path(f"{prefix}_{split}") for split in digests}
        self.digests = {str(split): digest for split, digest in digests.items()}
        self.file, self.scores = Path(f"{prefix}{SERIES}"), Path(f"{prefix}{POOLED}")
        self.evaluate = evaluate
        self.results: dict[str, Result] = distributed.from_main(self._results_before)

    def _results_before(self) -> dict[str, Result]:
        if not self.evaluate and self.file.exists():
            try:
                before = json.loads(self.file.read_text(encoding="utf-8"))["splits"]
                others = [
                    split
                    for split, now in self.digests.items()
                    if split in before and before[split].get("lists", now) != now  # if it says it
                ]
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UserError(
                    f"{self.file} is not the file of a series; remove it and sum up the runs with "
                    "--evaluate"
                ) from None
            refuse(
                others,
                f"{self.file}: the lists of split {', '.join(others)} are not those that it was "
                "done with; choose another --name, or put the old lists back",
            )
            return before
        for folder in self.folders.values():  # all of them, before the first hour is spent
            if self.evaluate and not (folder / "last.pth").exists():
                raise UserError(
                    f"no checkpoint {folder / 'last.pth'}; train it first: the same command "
                    "without --evaluate"
                )
            if not self.evaluate and folder.exists():
                raise UserError(
                    f"the run folder {folder} exists, and no series {self.file} that it belongs "
                    "to; choose another --name, or sum up runs that are there with --evaluate"
                )
        return {}

    def left_to_do(self) -> Iterator[tuple[str, Path]]:
        """Splits and their run folders; what a run has left there is read before the next one.

        Whoever pulls does a run of each, or stops where one has failed.
        """
        for split, folder in self.folders.items():
            if split in self.results:
                log.info(f"split {split} is done, says {self.file}")
                continue
            if not self.evaluate:  # from now on these folders belong to the series
                self._save({"splits": self.results})
            yield split, folder
            text = distributed.from_main((folder / "result.json").read_bytes)
            self.results[split] = json.loads(text) | {"lists": self.digests[split]}

    def sum_up(self) -> None:
        """Writes and says what all splits come to.

        Raises:
            UserError: they were not measured alike.
        """
        results = {split: self.results[split] for split in self.folders}
        protocols = sorted({result["protocol"].partition("; ")[0] for result in results.values()})
        if len(protocols) > 1:
            raise UserError(
                f"{self.file}: the splits were measured by different protocols, '{protocols[0]}' "
                f"and '{protocols[1]}'; measure all by one with --evaluate"
            )
        means = mean_and_deviation(list(results.values()))
        scores = distributed.from_main(lambda: pool_scores(self.folders.values()))
        pooled = {"pooled": summarize_scores(scores)} if scores else {}
        self._save({"splits": results, "protocol": protocols[0]} | means | pooled, scores)
        all_parts = [result["protocol"].split("; ") for result in results.values()]
        shared = [part for part in all_parts[0] if all(part in parts for parts in all_parts)]
        log.info(f"each split: {'; '.join(shared)}")
        for split, result in results.items():
            log.info(f"split {split}: {describe(without(result, shared))}")
        numbers = ", ".join(
            f"{words} {means[name]['mean']:.1f} % (standard deviation {means[name]['std']:.1f})"
            for name, words in METRICS
            if name in means
        )
        log.info(f"mean over splits {', '.join(results)}: {numbers}")
        for result in pooled.values():
            words = describe(without(result, shared))
            log.info(f"pooled over all test lists, each video tested once: {words}")
        log.info(f"results of all splits: {self.file}")

    def _save(self, content: dict[str, Any], scores: Scores | None = None) -> None:
        if distributed.is_main():
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.scores.unlink(missing_ok=True)  # never those of another result
            if scores:
                save_scores(self.scores, scores)
            with whole(self.file) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def without(result: Result, said: Sequence[str]) -> Result:
    """The result with those parts of its protocol that are not said yet."""
    parts = [part for part in result["protocol"].split("; ") if part not in said]
    shorter = result.copy()
    shorter["protocol"] = "; ".join(parts)
    return shorter


def mean_and_deviation(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of a sample, n - 1) of each accuracy over the splits."""
    numbers = {}
    for name, _ in METRICS:
        values = [value for result in results if (value := result[name]) is not None]
        if len(values) == len(results) > 1:
            numbers[name] = {"mean": statistics.mean(values), "std": statistics.stdev(values)}
    return numbers


def pool_scores(folders: Iterable[Path]) -> Scores | None:
    """The scores of all test lists as one, if no video is on two of them.

    A folder may have been removed since its split was done: then nothing is pooled.
    """
    files = [folder / "scores.npz" for folder in folders]
    try:
        return pool(list(map(load_scores, files)), files)
    except UserError as error:
        log.info(f"the test lists are not counted together: {error}")
        return None
