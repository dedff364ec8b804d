"""A picture of what a network sees in a long video, window by window."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from config import UserError, whole
from utils.actions.predictions import Prediction

MOST_CURVES = 8
OTHER = "0.8"  # gray


def draw_timeline(prediction: Prediction, class_names: list[str], path: Path) -> None:
    """The scores over time of the classes that are the best most often, and which is when."""
    from matplotlib.figure import Figure  # takes half a second

    scores = np.stack([span.scores.numpy() for span in prediction.timeline])  # (windows, classes)
    middles = [(span.start + span.end) / 2 for span in prediction.timeline]
    best = scores.argmax(axis=1)
    wins = np.bincount(best, minlength=len(class_names)) + scores.max(axis=0)
    shown = np.argsort(-wins, kind="stable")[:MOST_CURVES]
    figure = Figure(figsize=(11, 5), layout="constrained")
    curves, strip = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    colors = {label: f"C{i}" for i, label in enumerate(shown)}
    for label in shown:
        curves.plot(
            middles, 100 * scores[:, label], ".-", color=colors[label], label=class_names[label]
        )
    if set(best) - set(shown):
        curves.plot([], [], color=OTHER, lw=6, label="another class")
    curves.set(ylabel="score (%)", ylim=(0, 102))
    curves.grid(alpha=0.3)
    legend = curves.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for text in legend.get_texts():
        text.set_parse_math(False)
    ends = [prediction.timeline[0].start, *np.add(middles[:-1], middles[1:]) / 2]
    ends.append(prediction.timeline[-1].end)
    for (start, end), label in zip(pairwise(ends), best, strict=True):
        strip.axvspan(start, end, color=colors.get(label, OTHER), lw=0)
    strip.set(xlabel="time (s)", ylabel="best", yticks=[], xlim=(ends[0], ends[-1]))
    figure.suptitle(Path(prediction.path).name, parse_math=False)
    try:
        with whole(path) as temporary:
            figure.savefig(temporary, dpi=100, format="png")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose --out") from None
