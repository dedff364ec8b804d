"""Which classes are taken for which: a matrix as numbers, as a table by class and as a picture."""

import csv
import textwrap
from pathlib import Path

import numpy as np

from config import whole

MAX_COUNTS = 30  # classes; with more, numbers in the cells would not be legible


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Videos (classes, classes): those of each class in a row, as what they were predicted."""
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_rows(matrix: np.ndarray, class_names: list[str]) -> list[list[object]]:
    """per_class.csv below its header; nothing of a class that has no videos or no errors."""
    rows: list[list[object]] = []
    for label, (name, counts) in enumerate(zip(class_names, matrix, strict=True)):
        videos, correct = int(counts.sum()), int(counts[label])
        wrong = counts.copy()
        wrong[label] = 0
        accuracy = round(100 * correct / videos, 2) if videos else ""
        most = class_names[wrong.argmax()] if wrong.any() else ""
        rows.append([name, videos, correct, accuracy, most, int(wrong.max())])
    return rows


def write_tables(folder: Path, matrix: np.ndarray, class_names: list[str]) -> None:
    """per_class.csv, and confusion.csv with a row of counts for each true class."""
    header = ["class", "videos", "correct", "accuracy", "most confused with", "times"]
    counts = ([name, *row] for name, row in zip(class_names, matrix.tolist(), strict=True))
    tables = {
        "per_class.csv": [header, *class_rows(matrix, class_names)],
        "confusion.csv": [["true class / predicted", *class_names], *counts],
    }
    for name, rows in tables.items():
        path = folder / name
        with whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)


def draw_confusion(path: Path, matrix: np.ndarray, class_names: list[str], title: str) -> None:
    """The share of each class (row) that was predicted as what; it grows with the classes."""
    from matplotlib.colors import PowerNorm  # takes half a second
    from matplotlib.figure import Figure

    num_classes = len(class_names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # in inches; all margins are worked out here, since measuring 800 labels takes ten seconds
    cell = max(4.5 / num_classes, min(0.25, 0.09 + 4 / num_classes))
    side = cell * num_classes
    font, large = min(10, 65 * cell) / 72, max(10, side) / 72  # large: legible in a small window
    names = 0.7 * font * max(map(len, class_names))
    lines = textwrap.wrap(title.replace(" %", "\xa0%"), int((side + names) / (0.6 * large)))
    left, bottom, top = names + 3 * large, names + 3 * large, (1.4 * len(lines) + 1) * large
    width, height = left + side + 8 * large, bottom + side + top
    center, middle = (left + side / 2) / width, (bottom + side / 2) / height

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    # a rare confusion is to be seen, too
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    plain = {"fontsize": 72 * font, "parse_math": False}  # a name may hold a $
    axes.set_xticks(range(num_classes), class_names, rotation=90, **plain)
    axes.set_yticks(range(num_classes), class_names, **plain)
    centered = {"fontsize": 72 * large, "ha": "center", "va": "center", "parse_math": False}
    figure.text(center, large / height, "predicted", **centered)
    figure.text(large / width, middle, "true class", rotation=90, **centered)
    figure.text(center, 1 - top / height / 2, "\n".join(lines), **centered)
    place = ((left + side + large) / width, middle - side / height / 4)
    bar = figure.colorbar(image, cax=figure.add_axes((*place, large / width, side / height / 2)))
    bar.ax.tick_params(labelsize=72 * large)
    bar.set_label("share of the class", fontsize=72 * large)
    if num_classes <= MAX_COUNTS:
        write_counts(axes, matrix, shares, fontsize=72 * font)
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def write_counts(axes, matrix: np.ndarray, shares: np.ndarray, fontsize: float) -> None:
    """The number of videos in each cell that is not empty, legible on its color."""
    for row, column in zip(*matrix.nonzero(), strict=True):
        color, count = "white" if shares[row, column] > 0.4 else "black", matrix[row, column]
        axes.text(column, row, count, color=color, ha="center", va="center", fontsize=fontsize)
