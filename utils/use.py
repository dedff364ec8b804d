"""What can be done with a trained network: predict, extract features, export. Called by main.py."""

import argparse
import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from config import ARCHS, Preprocessing, UserError, Views
from models import build_model, weights
from opts import USE_CLIP_OPTIONS
from pt_dataset import windows
from pt_dataset.clip_dataset import ClipShape
from pt_dataset.datalist import CLASS_FILES, read_classes
from pt_dataset.video_list import Video
from utils import annotate, checkpoint, evaluator, features, inference, prediction, timeline
from utils import export as exporting
from utils.normalize import ClipClassifier, Normalize
from utils.precision import choose_precision
from utils.resolve import CLIP_OPTIONS

NUM_CLIPS = 10  # of a video, unless --views says otherwise: what most papers average
VIEWS = Views(NUM_CLIPS, 1)
AT_ONCE = 4  # windows that are decoded together
log = logging.getLogger("video")


@dataclass
class Network:
    """A network and all that is needed to use it, from one file."""

    arch: str
    model: nn.Module
    normalize: Normalize
    preprocessing: Preprocessing
    clip: ClipShape
    class_names: list[str] | None  # None: of pictures, not of videos
    of_weights: str  # what they are, in words
    device: torch.device
    precision: str

    def classifier(self) -> nn.Module:
        """From uint8 clips to logits."""
        return ClipClassifier(self.model, self.normalize, self.precision).to(self.device).eval()

    def feature_extractor(self) -> nn.Module:
        """From uint8 clips to features before the head."""
        network = inference.FeatureNetwork(self.model)
        return ClipClassifier(network, self.normalize, self.precision).to(self.device).eval()


def load_network(opts: argparse.Namespace, device: torch.device) -> Network:
    """The network of --resume, or that of --arch and --pretrained, as `opts` asks for it."""
    if opts.resume:
        state = checkpoint.load(Path(opts.resume))
        if opts.arch not in (None, state["arch"]):
            raise UserError(f"{opts.resume} is a checkpoint of {state['arch']}, not of {opts.arch}")
        arch, class_names = state["arch"], state["class_names"]
        model = build_model(arch, len(class_names), **state["arch_args"])
        averaged = state["ema"]
        weights.load_exactly(model, averaged["average"] if averaged else state["model"])
        preprocessing = Preprocessing(**state["preprocessing"])
        of_weights = f"{'averaged ' if averaged else ''}weights of {opts.resume}"
    else:
        arch = opts.arch
        entry = weights.find(opts.pretrained, arch, opts.arch_args)
        names = CLASS_FILES / entry.classes / "classes.txt"
        class_names = read_classes(names) if names.exists() else None
        if opts.use == "predict" and class_names is None:
            raise UserError(
                f"the weights {opts.pretrained} were trained on pictures and cannot name what "
                "happens in a video; take weights of Kinetics (--list-weights) or a checkpoint of "
                "your own"
            )
        preprocessing = entry.preprocessing
        arch_args = ARCHS[arch].modalities[preprocessing.modality] | opts.arch_args
        start = {"weights": opts.pretrained, "weights_file": opts.pretrained_file}
        model = build_model(arch, len(class_names or range(1000)), **start, **arch_args)
        of_weights = opts.pretrained
    typed = {name: getattr(opts, name) for name in USE_CLIP_OPTIONS if name in opts.given}
    preprocessing = replace(preprocessing, **typed)
    if preprocessing.crop_size > preprocessing.short_side:
        raise UserError(
            f"--crop-size {preprocessing.crop_size} is more than the short side of "
            f"{preprocessing.short_side}"
        )
    clip = ClipShape(
        **{name: getattr(preprocessing, name) for name in (*CLIP_OPTIONS, "resize", "antialias")},
        short_side=(preprocessing.short_side,) * 2,
    )
    precision = "fp32" if opts.precision == "auto" and device.type == "cpu" else opts.precision
    if precision != "fp32":
        batch = (opts.batch_size, *clip.network_input())
        precision = choose_precision(precision, device, model, batch)
    pixels = ("mean", "std", "value_range", "channel_order")
    normalize = Normalize(*(getattr(preprocessing, name) for name in pixels))
    return Network(
        arch=arch,
        model=model.eval(),
        normalize=normalize,
        preprocessing=preprocessing,
        clip=clip,
        class_names=class_names,
        of_weights=of_weights,
        device=device,
        precision=precision,
    )


def predict(opts: argparse.Namespace, device: torch.device) -> int:
    """The classes of videos; returns the exit status, 1 if some of them could not be used."""
    network = load_network(opts, device)
    videos, problems = usable_videos(
        opts.predict, network.clip, opts.fps, timed=bool(opts.sliding_window or opts.annotate)
    )
    if opts.annotate and len(videos) > 1:
        raise UserError(f"--annotate writes one video, and there are {len(videos)}; name one")
    predictions, failed = predict_videos(network, videos, opts)
    problems += failed
    for one in predictions:
        print(prediction.table(one, network.class_names))
    folder, about = Path(opts.out), what_was_done(network, opts)
    written = prediction.write(folder, predictions, problems, network.class_names, about)
    for number, one in enumerate(predictions if opts.sliding_window else (), 1):
        which = f"{number}_" if len(predictions) > 1 else ""
        written.append(folder / f"timeline_{which}{Path(one.path).stem}.png")
        timeline.draw(one, network.class_names, written[-1])
    if opts.annotate and predictions:
        frames = windows.frames_of(videos[0])
        labels_at = partial(prediction.labels_at, predictions[0], network.class_names)
        annotate.write_video(Path(opts.annotate), frames, videos[0].fps, labels_at)
        written.append(opts.annotate)
    log.info(f"written: {', '.join(map(str, written))}")
    return exit_status(problems)


def usable_videos(
    paths: list[str], clip: ClipShape, fps: float | None, timed: bool = False
) -> tuple[list[Video], list[tuple[str, str]]]:
    """What is to be found at `paths`, and (path, why) of what cannot be used.

    Args:
        fps: of videos that do not say it.
        timed: are those without one of no use?
    """
    videos, problems = windows.videos_at(paths, clip.modality, fps)
    videos, unusable = windows.usable(videos, clip, timed)
    return videos, problems + unusable


def predict_videos(
    network: Network, videos: list[Video], opts: argparse.Namespace
) -> tuple[list[prediction.Prediction], list[tuple[str, str]]]:
    """Softmax scores averaged over the views of each window, and over the windows of each video."""
    parts = [part for video in videos for part in parts_to_predict(video, network.clip, opts)]
    num_crops = (opts.views or VIEWS).crops
    predictions, problems = [], []
    for video, answers in by_video(network, network.classifier(), parts, num_crops, opts):
        if isinstance(answers, str):
            problems.append((video.path, answers))
            continue
        spans = [
            prediction.Span(
                *(frame / video.fps if video.fps else None for frame in part.spans[0]),
                scores=logits.softmax(dim=1).mean(dim=0),
            )
            for part, logits in answers
        ]
        predictions.append(
            prediction.Prediction(
                path=video.path,
                num_frames=video.num_frames,
                fps=video.fps,
                scores=torch.stack([span.scores for span in spans]).mean(dim=0),
                timeline=spans if opts.sliding_window else [],
            )
        )
    return predictions, problems


def by_video(
    network: Network,
    function: nn.Module,
    parts: list[windows.Part],
    num_crops: int,
    opts: argparse.Namespace,
) -> Iterator[tuple[Video, list[tuple[windows.Part, torch.Tensor]] | str]]:
    """Videos with what `function` says (V, dim) of each of their parts, or with what is wrong."""
    loader = windows.part_loader(parts, network.clip, num_crops, opts.workers)
    answers = inference.outputs(
        function, loader, network.device, opts.batch_size, opts.use, len(parts)
    )
    for _, group in groupby(answers, lambda answer: parts[answer[0]].video.path):
        found = [(parts[index], answer) for index, answer in group]
        errors = [answer for _, answer in found if isinstance(answer, str)]
        yield found[0][0].video, errors[0] if errors else found


def parts_to_predict(video: Video, clip: ClipShape, opts: argparse.Namespace) -> list[windows.Part]:
    """The whole video, or overlapping windows of it, each half a window later than the last."""
    num_clips = (opts.views or VIEWS).clips
    length = clip.length(video)
    if not opts.sliding_window:
        return [windows.Part(video, [(0, length)], clip.view_indices(video, num_clips))]
    frames = max(round(opts.sliding_window * video.fps), 1)
    if opts.views is None:  # as many clips as lie side by side in a window
        fitting = frames // max(int(clip.clip_len * clip.step(video)), 1)
        num_clips = 1 if clip.snippet_len else min(max(fitting, 1), NUM_CLIPS)
    return [
        windows.Part(video, [span], windows.clips_within(clip, video, *span, num_clips))
        for span in windows.spans(length, frames, max(frames // 2, 1))
    ]


def what_was_done(network: Network, opts: argparse.Namespace) -> dict:
    """What predictions were made with, for their file."""
    about = {"weights": network.of_weights}
    if opts.sliding_window:
        about["windows"] = f"{opts.sliding_window:g} s, one every {opts.sliding_window / 2:g} s"
    if opts.views or not opts.sliding_window:
        views = opts.views or VIEWS
        words = evaluator.protocol_in_words(views, vars(network.preprocessing))
        about["protocol"] = words.removeprefix("video accuracy, ")
    return about | {"preprocessing": vars(network.preprocessing)}


def extract_features(opts: argparse.Namespace, device: torch.device) -> int:
    """A file of features for each video; those that are there already are left alone."""
    network = load_network(opts, device)
    if opts.window:
        check_window(network, opts.window)
    folder = Path(opts.extract_features)
    settings = {
        "arch": network.arch,
        "weights_sha256": features.digest_of(network.model),
        "window": opts.window or "a clip",
        "step": opts.step or "a window",
        "fps_of_frames": opts.fps,
        "precision": network.precision,
        "preprocessing": vars(network.preprocessing),
    }
    features.start_folder(folder, settings)
    videos, problems = usable_videos(opts.videos, network.clip, opts.fps)
    paths = feature_files(folder, opts.videos, videos)
    left = [video for video in videos if not paths[video.path].exists()]
    if len(left) < len(videos):
        log.info(f"{len(videos) - len(left)} of {len(videos)} videos are done already")
    parts = [part for video in left for part in parts_to_extract(video, network.clip, opts)]
    for video, answers in by_video(network, network.feature_extractor(), parts, 1, opts):
        if isinstance(answers, str):
            problems.append((video.path, answers))
            continue
        found = torch.cat([found for _, found in answers]).numpy()
        spans = [span for part, _ in answers for span in part.spans]
        features.write_features(paths[video.path], found, spans, video.fps, settings)
    log.info(f"features: {folder}")
    return exit_status(problems)


def feature_files(folder: Path, roots: list[str], videos: list[Video]) -> dict[str, Path]:
    """Where the features of each video go, by its path."""
    paths, taken = {}, {}
    for video in videos:
        name = windows.name_of(video, roots)
        if name in taken:
            raise UserError(
                f"{taken[name]} and {video.path} would both be {folder / name}.npz; extract them "
                "into two folders"
            )
        taken[name], paths[video.path] = video.path, folder / f"{name}.npz"
    return paths


def parts_to_extract(video: Video, clip: ClipShape, opts: argparse.Namespace) -> list[windows.Part]:
    """A few windows in a row at a time, so that what they share is decoded once."""
    length = clip.length(video)
    of_clip = length if clip.snippet_len else math.ceil(clip.clip_len * clip.step(video))
    window = opts.window or of_clip
    spans = windows.spans(length, window, opts.step or window)
    return [
        windows.Part(
            video, some, [windows.window_clip(clip, video, *span, window) for span in some]
        )
        for some in (spans[i : i + AT_ONCE] for i in range(0, len(spans), AT_ONCE))
    ]


def check_window(network: Network, window: int) -> None:
    """Can the network take so many frames? Raises UserError if not."""
    channels, frames, *size = network.clip.network_input()
    if not network.clip.snippet_len and not network.clip.target_fps:
        frames = math.ceil(window / network.clip.stride)
    try:
        meta = copy.deepcopy(network.model).to("meta")
        meta(torch.empty((1, channels, frames, *size), device="meta"))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--window {window} is too short for {network.arch}: {reason}") from None


def exit_status(problems: list[tuple[str, str]]) -> int:
    """1 if there are problems, after naming them."""
    for _, why in problems:
        log.error(f"error: {why}")
    return 1 if problems else 0


def export(opts: argparse.Namespace, device: torch.device) -> int:
    """Writes the network for other software; it is always recorded on the CPU, in float32."""
    path = Path(opts.export)
    exporting.check_packages(path.suffix)
    network = load_network(opts, torch.device("cpu"))
    about = {
        "arch": network.arch,
        "weights": network.of_weights,
        "preprocessing": vars(network.preprocessing),
        "class_names": network.class_names,
    }
    difference = exporting.export(path, network.model, network.clip.network_input(), about)
    log.info(
        f"written: {path} and {path.with_suffix('.json')}; logits differ from the original by "
        f"{difference:.0e} of the largest, for batches of 1, 2 and 3 clips"
    )
    return 0
