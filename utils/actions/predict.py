"""--predict: what happens in videos, as a table, as files, as a timeline, burnt into a video."""

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config import Preprocessing, UserError, in_form, misfit, refuse, try_folder
from opts import Options, Use, resolve
from pt_dataset import sampling
from pt_dataset.clip_dataset import read_views
from pt_dataset.formats.times import seconds
from pt_dataset.inputs import windows
from pt_dataset.inputs.paths import usable, videos_at
from pt_dataset.inputs.windows import Part
from pt_dataset.listing.folders import LONGEST_NAME
from pt_dataset.transforms import view_crops
from pt_dataset.video_list import Video
from utils.actions import network as networks
from utils.actions import predictions
from utils.actions.predictions import Prediction, Span
from utils.classifier import ClipClassifier, Normalize
from utils.evaluator import average_views, run_in_chunks
from utils.interrupt import GracefulStop, Stop
from utils.loggers import set_up_console
from utils.results import protocol_in_words
from utils.run import pick_device
from utils.words import rates_in_words

MOST_CLIPS = 10  # side by side in a window, unless --views says otherwise
Source = str | os.PathLike | np.ndarray  # a video: its path, or its frames
log = logging.getLogger("video")


def predict(opts: Options) -> int:
    """The classes of videos; returns the exit status, 1 if some of them could not be used."""
    set_up_console()
    try_folder(Path(opts.out), "--out")
    if opts.annotate:
        try_folder(Path(opts.annotate).parent, "--annotate")
    network = networks.load_network(opts, pick_device(opts))
    class_names = network.start.class_names or []  # load_network sees to it that there are some
    if opts.heatmap and opts.heatmap not in class_names:
        some = ", ".join(class_names[:10]) + ", ..." * (len(class_names) > 10)
        raise UserError(f"--heatmap {opts.heatmap}: no class of the network, which knows {some}")
    timed = bool(opts.sliding_window or opts.annotate)
    everything, problems = videos_at(opts.predict, network.preprocessing.modality, opts.fps)
    videos, unusable = usable(everything, network.preprocessing, timed)
    problems += unusable
    for line in rates_in_words(network.preprocessing, videos):
        log.info(line)
    if opts.annotate:
        number, path = len(videos), os.path.realpath(opts.annotate)
        refuse(number > 1, f"--annotate writes one video, and there are {number}; name one")
        itself = path in [os.path.realpath(video.path) for video in videos]
        refuse(itself, f"--annotate {opts.annotate} is the video itself; name another file")
    found: list[Prediction] = []
    try:
        with GracefulStop() as stop:
            for one in predict_videos(network, videos, opts, stop):
                if isinstance(one, Prediction):
                    found.append(one)
                    log.info(predictions.prediction_in_words(one, class_names))
                else:
                    problems.append(one)
    except Stop as request:
        log.info(f"{request}: {len(found)} of {len(videos)} videos are predicted")
        return request.status
    finally:  # also what there is when a signal or an error comes
        if found or (problems and not Path(opts.out, predictions.FILE).exists()):
            about = what_was_done(network, opts)
            files = write_files(found, problems, class_names, about, opts)
            log.info(f"written: {', '.join(map(str, files))}")
        else:
            log.info(f"nothing was predicted, and nothing in {opts.out} replaced")
    if opts.annotate or opts.heatmap is not None:
        problems += draw(found, {video.path: video for video in videos}, network, opts)
    return networks.exit_status(problems)


class Predictor:
    """A trained network for notebooks and services: what --predict says, without its files.

        predict = Predictor("best.pth")
        predict("clip.mp4")  # {"up": 0.93, "down": 0.04, ...}, the best class first

    Threads may share one. It prints nothing, sets up no logging, starts no processes and catches no
    signals.

    Args:
        checkpoint: of a run; None where `options` name public weights.
        **options: those of --predict by name, such as device="cpu", views="10x3", or
            arch="s3d", pretrained="s3d_torchvision"; none of files.

    Raises:
        UserError: the checkpoint or an option is of no use.
    """

    def __init__(self, checkpoint: str | os.PathLike | None = None, **options: Any):
        start = {} if checkpoint is None else {"resume": os.fspath(checkpoint)}
        typed = in_form(Options, {"predict": ("-",), "workers": 0} | start | options)
        known = {f.name: f for f in fields(Options)}
        of_command = {f.name for f in fields(Use)} - {"sliding_window", "fps"}
        for name in options:
            refuse(name not in known or name in of_command, f"Predictor has no option {name}")
            problem = misfit(name, typed[name], known[name].type, known[name].metadata)
            refuse(problem, f"Predictor cannot use an option: {problem}")
        self.opts = resolve(typed)
        self.network = networks.load_network(self.opts, pick_device(self.opts))
        self.class_names = self.network.start.class_names or []
        pixels = Normalize.matching(self.network.preprocessing)
        classifier = ClipClassifier(self.network.model, pixels, self.network.precision)
        self.classifier = classifier.to(self.network.device).eval()
        self.fits: dict[tuple[int, int], int] = {}  # see views_at_once

    def __call__(
        self, video: Source | list[Source], fps: float | None = None
    ) -> dict[str, float] | list[dict[str, float]]:
        """The probabilities of all classes; of a list of videos, a list of them.

        Args:
            video: a path as of --predict, or frames, uint8 (T, H, W, 3) RGB.
            fps: frames a second where a video does not say it and the network wants to know.

        Raises:
            UserError: a video cannot be used.
        """
        if isinstance(video, list | tuple):
            return [self.probabilities(one, fps) for one in video]
        return self.probabilities(video, fps)

    def probabilities(self, source: Source, fps: float | None) -> dict[str, float]:
        """Of the classes of one video, by name, the best one first."""
        clip, evaluation = self.network.preprocessing, self.network.evaluation
        fps = self.opts.fps if fps is None else float(fps)  # from a Fraction, as of PyAV, too
        refuse(fps is not None and not 0 < fps < math.inf, f"fps is {fps}, and not above 0")
        frames, problems = None, []
        if isinstance(source, str | os.PathLike):
            found, problems = videos_at([os.fspath(source)], clip.modality, fps)
        else:
            frames = as_frames(source)
            found = [Video("frames in memory", -1, "", len(frames), fps)]
        videos, unusable = usable(found, clip, bool(self.opts.sliding_window))
        for _, why in problems + unusable:
            raise UserError(why)
        refuse(len(videos) > 1, f"{source} holds {len(videos)} videos: give a list of them")
        scores, parts = [], parts_of_video(videos[0], self.network, self.opts)
        device, size = self.network.device, self.views_at_once(parts)
        for part in parts:
            views = views_of_part(part, frames, clip, evaluation.views.crops)
            logits = run_in_chunks(self.classifier, views, device, size).cpu()
            logits = networks.finite(part.video, logits)
            if isinstance(logits, str):
                raise UserError(logits)
            scores.append(window_scores(logits, evaluation.average))
        mean = torch.stack(scores).mean(dim=0)
        order = mean.argsort(descending=True).tolist()
        return {self.class_names[label]: mean[label].item() for label in order}

    def views_at_once(self, parts: list[Part]) -> int:
        """As many as fit, which is found out once for all parts of one size."""
        size = networks.largest(parts)
        if size not in self.fits:
            self.fits[size] = networks.views_at_once(self.network, parts, self.opts)
        return self.fits[size]


def as_frames(video: Any) -> np.ndarray:
    """Raises UserError for anything but uint8 (T, H, W, 3)."""
    is_video = "a video is a path, or its frames as uint8 (T, H, W, 3) in RGB"
    try:
        frames = np.asarray(video)
    except (TypeError, ValueError, RuntimeError) as error:  # such as of a tensor on a GPU
        raise UserError(f"{is_video}: {error}") from None
    fits = frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3 and frames.size
    what = type(video).__name__ if frames.dtype == object else f"{frames.dtype} {frames.shape}"
    stack = ", and a list is one of videos: give np.stack(frames)" * (frames.ndim == 3)
    refuse(not fits, f"{is_video}, and not {what}{stack}")
    return frames


def views_of_part(
    part: Part, frames: np.ndarray | None, clip: Preprocessing, num_crops: int
) -> torch.Tensor:
    """Views (V, T, S, S, C) of a part of a video, or of its `frames` (T, H, W, 3)."""
    if frames is None:
        return read_views(part.video, part.clips, clip, num_crops)
    _, height, width, _ = frames.shape
    crops = view_crops(height, width, clip, num_crops)
    shape = (len(part.clips), num_crops, len(part.clips[0]), clip.crop_size, clip.crop_size, 3)
    views = np.empty(shape, np.uint8)
    for view, indices in zip(views, part.clips, strict=True):
        for place, index in enumerate(indices):
            crops(frames[index], view[:, place])
    return torch.from_numpy(views).flatten(0, 1)


def write_files(
    found: list[Prediction],
    problems: list[networks.Problem],
    class_names: list[str],
    about: dict[str, str],
    opts: Options,
) -> list[Path]:
    """The tables, and the timelines of windows; returns the paths."""
    written = predictions.write_predictions(Path(opts.out), found, problems, class_names, about)
    for number, one in enumerate(found if opts.sliding_window else (), 1):
        from utils.actions.timeline import draw_timeline

        written.append(picture_path("timeline", one, number if len(found) > 1 else 0, opts))
        draw_timeline(one, class_names, written[-1])
    return written


def picture_path(kind: str, one: Prediction, number: int, opts: Options) -> Path:
    """Of a picture of a video; `number` tells it from others, 0 where there are none."""
    which = f"{number}_" if number else ""
    name = os.fsencode(f"{kind}_{which}{Path(one.path).stem}")[: LONGEST_NAME - len(".png")]
    return Path(opts.out, name.decode(errors="ignore") + ".png")


def draw(
    found: list[Prediction],
    videos: dict[str, Video],
    network: networks.TrainedNetwork,
    opts: Options,
) -> list[networks.Problem]:
    """What --heatmap and --annotate ask for, of `videos` by path; returns what went wrong."""
    from utils.actions.annotate import annotate_video, draw_strip
    from utils.actions.heatmap import heat_of

    problems, class_names = [], network.start.class_names or []
    for number, one in enumerate(found, 1):
        video, heat = videos[one.path], None
        try:
            if opts.heatmap is not None:
                heat = heat_of(network, parts_of_video(video, network, opts), one, opts)
                path = picture_path("heatmap", one, number if len(found) > 1 else 0, opts)
                draw_strip(path, video, one, heat)
                log.info(f"written: {path}")
            if opts.annotate:
                annotate_video(Path(opts.annotate), video, one, class_names, heat)
                log.info(f"written: {opts.annotate}")
        except UserError as error:
            problems.append((video.path, str(error)))
    return problems


def predict_videos(
    network: networks.TrainedNetwork, videos: list[Video], opts: Options, stop: GracefulStop
) -> Iterator[Prediction | networks.Problem]:
    """Scores of the views of each window, averaged as in evaluation, and those of its windows."""
    parts = [part for video in videos for part in parts_of_video(video, network, opts)]
    for video, answers in networks.outputs_by_video(network, network.model, parts, opts, stop):
        if isinstance(answers, str):
            yield video.path, answers
            continue
        scores = [window_scores(logits, network.evaluation.average) for _, logits in answers]
        mean, fps, timeline = torch.stack(scores).mean(dim=0), video.fps, []
        times = seconds(video)
        if opts.sliding_window and times is not None:
            ends = [part.spans[0] for part, _ in answers]
            pairs = zip(ends, scores, strict=True)
            at = times.tolist()
            timeline = [Span(at[start], at[end], one) for (start, end), one in pairs]
        yield Prediction(video.path, video.num_frames, fps, mean, timeline)


def window_scores(logits: torch.Tensor, average: str) -> torch.Tensor:
    """Scores (classes,) of views (V, classes); logits that were averaged get their softmax here."""
    (mean,) = average_views(logits[None], average)
    return mean.softmax(dim=0) if average == "logits" else mean


def parts_of_video(video: Video, network: networks.TrainedNetwork, opts: Options) -> list[Part]:
    """The whole video, or overlapping windows of it, each half a window later than the last."""
    clip, num_clips = network.preprocessing, network.evaluation.views.clips
    length = sampling.length(video, clip)
    if not opts.sliding_window or not video.fps:
        clips = windows.clips_within(video, clip, 0, video.num_frames, num_clips)
        return [Part(video, [(0, length)], clips)]
    frames = max(round(opts.sliding_window * video.fps), 1)
    if clips_fill_windows(network, opts):
        fitting = frames // max(int(clip.clip_len * sampling.step(video, clip)), 1)
        num_clips = min(max(fitting, 1), MOST_CLIPS)
    return [
        Part(video, [span], windows.clips_within(video, clip, *span, num_clips))
        for span in windows.spans_of_seconds(video, length, opts.sliding_window)
    ]


def clips_fill_windows(network: networks.TrainedNetwork, opts: Options) -> bool:
    """Of a window, are there as many clips as lie side by side, and not as many as of a video?"""
    consecutive = not network.preprocessing.snippet_len and network.evaluation.views.clips
    return bool(opts.sliding_window and consecutive and not opts.typed("views"))


def what_was_done(network: networks.TrainedNetwork, opts: Options) -> dict[str, str]:
    """What predictions were made with, for their file."""
    protocol = []
    if opts.sliding_window:
        seconds = opts.sliding_window
        protocol.append(f"windows of {seconds:g} s, one every {seconds / 2:g} s")
    if not clips_fill_windows(network, opts):
        words = protocol_in_words(network.evaluation, network.preprocessing)
        protocol.append(words.removeprefix("video accuracy, "))
    return {"weights": network.start.words, "protocol": "; ".join(protocol)}
