"""A trained network from one file, applied to what a loader brings, one item after the other."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn
from tqdm import tqdm

from config import Clip, Preprocessing, UserError
from opts import Options
from pt_dataset.inputs.paths import usable, videos_at
from pt_dataset.inputs.windows import Part, part_loader
from pt_dataset.video_list import Video
from utils.classifier import ClipClassifier, Normalize
from utils.evaluator import run_in_chunks
from utils.precision import choose_precision
from utils.run import Start, choose_preprocessing, network_arguments, starting_point

# of an item: its index, and its views (V, T, S, S, C) or the sentence that says why there are none
Item = tuple[int, torch.Tensor | str]
Problem = tuple[str, str]  # the path of what cannot be used, and why
NUM_CLIPS = 10  # of a video, unless --views says otherwise: what most papers average
log = logging.getLogger("video")


class FeatureNetwork(nn.Module):
    """A network without its head: clips (N, C, T, H, W) -> features (N, dim)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.model.forward_features(clips)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and all that is needed to use it, from one file."""

    start: Start
    model: nn.Module
    preprocessing: Preprocessing
    device: torch.device
    precision: str

    def classifier(self) -> nn.Module:
        """From uint8 clips to logits."""
        return self._ready(self.model)

    def feature_extractor(self) -> nn.Module:
        """From uint8 clips to features before the head."""
        return self._ready(FeatureNetwork(self.model))

    def _ready(self, network: nn.Module) -> nn.Module:
        normalize = Normalize.matching(self.preprocessing)
        return ClipClassifier(network, normalize, self.precision).to(self.device).eval()


def load_network(opts: Options, device: torch.device) -> TrainedNetwork:
    """The network of --resume, or that of --arch and --pretrained, as `opts` asks for it."""
    start = starting_point(opts)
    if opts.action == "predict" and start.class_names is None:
        raise UserError(
            f"the weights {start.name} were trained on pictures and cannot name what happens in a "
            "video; take weights of Kinetics (--list-weights) or a checkpoint of your own"
        )
    preprocessing = choose_preprocessing(opts, start)
    num_classes = len(start.class_names or range(1000))  # ImageNet's
    model = start.build_network(num_classes, network_arguments(opts, start, preprocessing))
    precision = "fp32" if opts.precision == "auto" and device.type == "cpu" else opts.precision
    if precision != "fp32":
        batch = (opts.batch_size, *preprocessing.network_input())
        precision = choose_precision(precision, device, model, batch)
    return TrainedNetwork(start, model.eval(), preprocessing, device, precision)


def usable_videos(
    paths: Sequence[str], clip: Clip, fps: float | None, timed: bool = False
) -> tuple[list[Video], list[Problem]]:
    """What is to be found at `paths`, and what cannot be used.

    Args:
        fps: of videos that do not say it.
        timed: are those without one of no use?
    """
    videos, problems = videos_at(paths, clip.modality, fps)
    videos, unusable = usable(videos, clip, timed)
    return videos, problems + unusable


def outputs_by_video(
    network: TrainedNetwork, function: nn.Module, parts: list[Part], num_crops: int, opts: Options
) -> Iterator[tuple[Video, list[tuple[Part, torch.Tensor]] | str]]:
    """Videos with what `function` says (V, dim) of each of their parts, or with what is wrong."""
    loader = part_loader(parts, network.preprocessing, num_crops, opts.workers)
    answers = outputs_of_parts(
        function, loader, network.device, opts.batch_size, opts.action, len(parts)
    )
    for _, group in groupby(answers, lambda answer: parts[answer[0]].video.path):
        found = [(parts[index], answer) for index, answer in group]
        errors = [answer for _, answer in found if isinstance(answer, str)]
        yield found[0][0].video, errors[0] if errors else found


def exit_status(problems: list[Problem]) -> int:
    """1 if there are problems, after naming them."""
    for _, why in problems:
        log.error(f"error: {why}")
    return 1 if problems else 0


@torch.inference_mode()
def outputs_of_parts(
    network: nn.Module,
    items: Iterable[Item],
    device: torch.device,
    batch_size: int,
    desc: str,
    total: int,
) -> Iterator[Item]:
    """What `network` says of each item, in order: its index, and (V, dim) or its error.

    Views of several items share a batch where they have one shape.

    Args:
        batch_size: views on the device at once, more or less.
        desc: what the progress bar is called.
        total: number of items.
    """
    network.eval()
    waiting: list[Item] = []
    for item in tqdm(items, desc, total, unit="clip", leave=False, dynamic_ncols=True):
        views = [views for _, views in waiting if not isinstance(views, str)]
        if views and not isinstance(item[1], str):
            full = sum(map(len, views)) + len(item[1]) > batch_size
            if full or views[0].shape[1:] != item[1].shape[1:]:
                yield from _answer_items(network, waiting, device, batch_size)
                waiting = []
        waiting.append(item)
    yield from _answer_items(network, waiting, device, batch_size)


def _answer_items(
    network: nn.Module, items: list[Item], device: torch.device, batch_size: int
) -> Iterator[Item]:
    """The same for some items whose views have one shape."""
    views = [views for _, views in items if not isinstance(views, str)]
    answers: Iterator[torch.Tensor] = iter(())
    if views:
        outputs = run_in_chunks(network, torch.cat(views), device, batch_size).cpu()
        answers = iter(outputs.split([len(one) for one in views]))
    for index, views_or_error in items:
        yield index, views_or_error if isinstance(views_or_error, str) else next(answers)
