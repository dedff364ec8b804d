"""--probe-time: does a network use time? Accuracy on clips whose frames come in another order."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from config import Evaluation, UserError, part, plural, whole
from pt_dataset.inputs.orders import ORDERS
from utils.build import score
from utils.interrupt import GracefulStop
from utils.metrics import majority, top_k
from utils.results import levels_in_words
from utils.run import Run
from utils.scores import Scores
from utils.words import evaluation_in_words, source_in_words

# what an order says where the accuracy falls, or does not
MEANING = {
    "normal": "as they are",
    "reversed": "played backwards",
    "shuffled": "in random order",
    "frozen": "only the middle one",
}
log = logging.getLogger("video")


def probe_time(run: Run, stop: GracefulStop) -> int:
    """Evaluates the test list with the frames of each clip in other orders, too."""
    if run.preprocessing.modality == "flow":
        raise UserError(
            "--probe-time is for frames: optical flow played backwards is not that of the reversed "
            "video"
        )
    evaluation = part(Evaluation, run.opts)
    run.try_results_folder()
    for line in evaluation_in_words(run):
        log.info(line)
    source = source_in_words(run, run.start.checkpoint)
    scores = {}
    for order in ORDERS:
        how = {"desc": order, "source": source, "order": order}
        scores[order] = score(run, run.lists.test, evaluation, stop, **how)
        run.view_loaders.clear()  # each has processes, and is of no use any more
    result = summarize_orders(scores)
    log.info(orders_in_words(result))
    log.info(f"{levels_in_words(result)}; {result['protocol']}")
    log.info(f"written: {', '.join(map(str, write_orders(run.results_folder, result)))}")
    return 0


def summarize_orders(scores: dict[str, Scores]) -> dict[str, Any]:
    """The content of probe_time.json: accuracy in percent of each order, over all and per class.

    Args:
        scores: of the same videos, by the order of their frames.
    """
    first = next(iter(scores.values()))
    labels, class_names = first.labels, first.class_names
    classes = {}
    for label in np.unique(labels).tolist():
        own = labels == label
        top1 = {order: top_k(one.scores[own], labels[own], 1) for order, one in scores.items()}
        classes[class_names[label]] = top1 | {"num_videos": int(own.sum())}
    return {
        "top1": {order: top_k(one.scores, labels, 1) for order, one in scores.items()},
        "classes": classes,
        "num_videos": len(labels),
        "chance": 100 / len(class_names),
        "majority": majority(labels),
        "protocol": first.protocol,
    }


def orders_in_words(result: dict[str, Any]) -> str:
    """A row for all videos, and one for each class."""
    orders = list(result["top1"])
    rows = {"top-1 (%) of clips": orders}
    for name, row in ({"all": result["top1"]} | result["classes"]).items():
        rows[name] = [f"{row[order]:.1f}" for order in orders]
    width = max(map(len, rows))
    return "\n".join(
        f"{name:{width}}" + "".join(f"{cell:>11}" for cell in cells) for name, cells in rows.items()
    )


def draw_orders(result: dict[str, Any], path: Path) -> None:
    """Bars for all videos, and below a row for each class."""
    from matplotlib.figure import Figure  # takes half a second

    orders, classes = list(result["top1"]), result["classes"]
    figure = Figure(figsize=(8, 3.2 + 0.25 * len(classes)), layout="constrained")
    bars, rows = figure.subplots(2, 1, height_ratios=(3, 0.4 + 0.3 * len(classes)))
    drawn = bars.bar(orders, result["top1"].values(), color=[f"C{i}" for i in range(len(orders))])
    bars.bar_label(drawn, fmt="%.1f")
    bars.axhline(result["chance"], color="0.4", ls=":", label="chance")
    bars.legend()
    bars.set(
        ylabel="top-1 (%)",
        ylim=(0, 110),
        title=f"{plural(result['num_videos'], 'video')}, all classes",
    )
    bars.set_xticks(range(len(orders)), [f"{order}\n({MEANING[order]})" for order in orders])
    values = [[row[order] for order in orders] for row in classes.values()]
    rows.imshow(values, vmin=0, vmax=100, cmap="Blues", aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            color = "white" if value > 60 else "black"
            rows.text(x, y, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)
    rows.set_xticks(range(len(orders)), orders)
    rows.set_yticks(range(len(classes)), classes, fontsize=8, parse_math=False)
    rows.set_title("top-1 (%) per class", fontsize=10)
    figure.savefig(path, dpi=100, format="png")


def write_orders(folder: Path, result: dict[str, Any]) -> list[Path]:
    """Writes probe_time.json and probe_time.png; returns their paths."""
    paths = [folder / "probe_time.json", folder / "probe_time.png"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(paths[0]) as numbers, whole(paths[1]) as picture:
            text = json.dumps(result, indent=1, ensure_ascii=False)
            numbers.write_text(text + "\n", encoding="utf-8")
            draw_orders(result, picture)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); make room there and evaluate again"
        ) from None
    return paths
