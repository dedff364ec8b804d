"""A trained network from one file, applied to what a loader brings, one item after the other."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from config import Evaluation, Preprocessing, UserError, Views, in_form, refuse
from opts import Options, saved_options
from pt_dataset.inputs.windows import Part, part_loader
from pt_dataset.video_list import Video
from utils.classifier import ClipClassifier, Normalize
from utils.evaluator import run_in_chunks
from utils.interrupt import GracefulStop
from utils.memory.of_run import views_that_fit
from utils.precision import choose_precision
from utils.results import protocol_in_words
from utils.run import StartingPoint, choose_preprocessing, network_arguments, starting_point

# of an item: its index, and its views (V, T, S, S, C) or the sentence that says why there are none
Item = tuple[int, torch.Tensor | str]
Problem = tuple[str, str]  # the path of what cannot be used, and why
log = logging.getLogger("video")


class FeatureNetwork(nn.Module):
    """A network without its head: clips (N, C, T, H, W) -> features (N, dim)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.model.forward_features(clips)  # pyrefly: ignore[not-callable]  # nn.Module's stub


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and all that is needed to use it, from one file."""

    start: StartingPoint
    model: nn.Module
    preprocessing: Preprocessing  # of what is evaluated: the crop is that of --full-crop, too
    evaluation: Evaluation
    device: torch.device
    precision: str


def load_network(opts: Options, device: torch.device) -> TrainedNetwork:
    """The network of --resume, or that of --arch and --pretrained, as `opts` asks for it."""
    start = starting_point(opts)
    if opts.action == "predict" and start.class_names is None:
        raise UserError(
            f"the weights {start.name} were trained on pictures and cannot name what happens in a "
            "video; take weights of Kinetics (--list-weights) or a checkpoint of your own"
        )
    preprocessing = choose_preprocessing(opts, start)
    evaluation = choose_evaluation(opts, start, preprocessing)
    preprocessing = evaluation.seen_of(preprocessing)
    class_names = start.class_names or range(1000)  # ImageNet's
    model = start.build_network(class_names, network_arguments(opts, start, preprocessing))
    precision = "fp32" if opts.precision == "auto" and device.type == "cpu" else opts.precision
    if precision != "fp32":
        batch = (opts.batch_size, *preprocessing.network_input())
        precision = choose_precision(precision, device, model, batch)
    return TrainedNetwork(start, model.eval(), preprocessing, evaluation, device, precision)


def choose_evaluation(opts: Options, start: StartingPoint, clip: Preprocessing) -> Evaluation:
    """What is averaged of a video: as typed, or as in the evaluation of the run.

    What has no run, or an older one that did not keep it, gets ten clips, or as many segments as in
    training.

    Raises:
        UserError: the whole video is asked for, and the network sees segments.
    """
    theirs: dict[str, Any] = {"views": Views(1, 1)} if clip.snippet_len else {}
    if start.evaluation:
        theirs = in_form(Evaluation, start.evaluation)
    elif start.name and start.checkpoint:  # what a run of before this key has left
        beside = saved_options(start.name)
        theirs |= {f.name: beside[f.name] for f in fields(Evaluation) if f.name in beside}
    typed = {f.name: getattr(opts, f.name) for f in fields(Evaluation) if opts.typed(f.name)}
    evaluation = Evaluation(**theirs | typed)
    refuse(
        (clip.snippet_len or clip.fixed_segments) and evaluation.views.clips is None,
        "--views all is for consecutive clips of any length, and the network sees segments",
    )
    if start.checkpoint and not start.evaluation and "views" not in typed:
        log.info(
            f"{start.name} is older and does not say how its run was evaluated; taken, from "
            "options.json beside it or as is usual: "
            f"{protocol_in_words(evaluation, clip)}; --views, --average and --full-crop change it"
        )
    return evaluation


def outputs_by_video(
    network: TrainedNetwork, module: nn.Module, parts: list[Part], opts: Options, stop: GracefulStop
) -> Iterator[tuple[Video, list[tuple[Part, torch.Tensor]] | str]]:
    """Videos with the outputs (V, dim) of `module` for each of their parts, or with what is wrong.

    Args:
        module: the network, or a part of it, from normalized clips.

    Raises:
        Stop: a signal has come; a video in hand, or in the batch in hand, is given up.
    """
    normalize = Normalize.matching(network.preprocessing)
    from_pixels = ClipClassifier(module, normalize, network.precision).to(network.device)
    crops = network.evaluation.views.crops
    size = views_at_once(network, parts, opts)
    items = stop.between(part_loader(parts, network.preprocessing, crops, opts.workers, size))
    outputs = outputs_of_parts(from_pixels, items, network.device, size, opts.action, len(parts))
    for _, group in groupby(outputs, lambda item: parts[item[0]].video.path):
        answers = [(parts[index], finite(parts[index].video, output)) for index, output in group]
        errors = [output for _, output in answers if isinstance(output, str)]
        found = [(part, output) for part, output in answers if not isinstance(output, str)]
        yield answers[0][0].video, errors[0] if errors else found


def views_at_once(network: TrainedNetwork, parts: list[Part], opts: Options) -> int:
    """As typed, as usual, or as fit: windows may be longer than a clip, and a part have many."""
    if opts.typed("batch_size"):
        return opts.batch_size
    (num_clips, longest), views = largest(parts), network.evaluation.views
    channels, frames, *size = network.preprocessing.network_input()
    frames = max(longest * frames // network.preprocessing.clip_len, 1)
    together = num_clips * views.crops
    advice: dict[str, Any] = {}
    if opts.extract_features:  # windows are read together, however many --views there are
        advice = {"least": together, "shorter": "a smaller --window or --crop-size"}
    elif views.clips is None:
        advice = {"shorter": "--views 10x1"}
    shape, how = (channels, frames, *size), (network.device, opts.workers, together)
    return views_that_fit(network.model, shape, opts.batch_size, *how, **advice)


def largest(parts: list[Part]) -> tuple[int, int]:
    """The most clips of a part, and the most frames of a clip."""
    num_clips = max((len(part.clips) for part in parts), default=1)
    return num_clips, max((len(part.clips[0]) for part in parts), default=1)


def finite(video: Video, output: torch.Tensor | str) -> torch.Tensor | str:
    """`output`, or why it is of no use: what is not a number is never written."""
    if isinstance(output, str) or output.isfinite().all():
        return output
    return (
        f"{video.path}: what the network says of it is not finite: its weights, or its statistics "
        "of batch norm, are of no use, or too large for --precision"
    )


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

    Items in a row share a batch, of about `batch_size` views, where their views have one shape.

    Args:
        desc: what the progress bar is called.
        total: number of items.
    """
    network.eval()
    waiting: list[tuple[int, torch.Tensor]] = []
    for index, views in tqdm(items, desc, total, unit="clip", leave=False, dynamic_ncols=True):
        if waiting and not goes_with(views, waiting, batch_size):
            yield from outputs_of_batch(network, waiting, device, batch_size)
            waiting = []
        if isinstance(views, str):
            yield index, views
        elif len(views) < batch_size:
            waiting.append((index, views))
        else:  # at once, so that nothing is held while more is read
            yield from outputs_of_batch(network, [(index, views)], device, batch_size)
    if waiting:
        yield from outputs_of_batch(network, waiting, device, batch_size)


def goes_with(
    views: torch.Tensor | str, waiting: list[tuple[int, torch.Tensor]], batch_size: int
) -> bool:
    """May an item be in one batch with those that wait?"""
    if isinstance(views, str):
        return False
    num_views = len(views) + sum(len(others) for _, others in waiting)
    return num_views <= batch_size and views.shape[1:] == waiting[0][1].shape[1:]


def outputs_of_batch(
    network: nn.Module, items: list[tuple[int, torch.Tensor]], device: torch.device, batch_size: int
) -> Iterator[Item]:
    indices, views = zip(*items, strict=True)
    together = torch.cat(views) if len(views) > 1 else views[0]
    outputs = run_in_chunks(network, together, device, batch_size).cpu()
    yield from zip(indices, outputs.split(list(map(len, views))), strict=True)
