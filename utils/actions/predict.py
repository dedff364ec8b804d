"""--predict: what happens in videos, as a table, as files, as a timeline, burnt into a video."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from config import UserError, try_folder
from opts import Options
from pt_dataset import sampling
from pt_dataset.formats.times import seconds
from pt_dataset.inputs import windows
from pt_dataset.inputs.paths import usable, videos_at
from pt_dataset.inputs.windows import Part
from pt_dataset.listing.folders import LONGEST_NAME
from pt_dataset.video_list import Video
from utils.actions import network as networks
from utils.actions import predictions
from utils.actions.predictions import Prediction, Span
from utils.evaluator import average_views
from utils.interrupt import GracefulStop, Stop
from utils.loggers import set_up_console
from utils.results import protocol_in_words
from utils.run import pick_device
from utils.words import rates_in_words

MOST_CLIPS = 10  # side by side in a window, unless --views says otherwise
log = logging.getLogger("video")


def predict(opts: Options) -> int:
    """The classes of videos; returns the exit status, 1 if some of them could not be used."""
    set_up_console()
    try_folder(Path(opts.out), "--out")
    if opts.annotate:
        try_folder(Path(opts.annotate).parent, "--annotate")
    network = networks.load_network(opts, pick_device(opts))
    class_names = network.start.class_names or []  # load_network sees to it that there are some
    timed = bool(opts.sliding_window or opts.annotate)
    everything, problems = videos_at(opts.predict, network.preprocessing.modality, opts.fps)
    videos, unusable = usable(everything, network.preprocessing, timed)
    problems += unusable
    for line in rates_in_words(network.preprocessing, videos):
        log.info(line)
    if opts.annotate and len(videos) > 1:
        raise UserError(f"--annotate writes one video, and there are {len(videos)}; name one")
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
            files = write_files(found, problems, class_names, about, opts, videos)
            log.info(f"written: {', '.join(map(str, files))}")
        else:
            log.info(f"nothing was predicted, and nothing in {opts.out} replaced")
    return networks.exit_status(problems)


def write_files(
    found: list[Prediction],
    problems: list[networks.Problem],
    class_names: list[str],
    about: dict[str, Any],
    opts: Options,
    videos: list[Video],
) -> list[Path]:
    """Everything that was asked for; returns the paths. Of `videos` the only one is annotated."""
    folder = Path(opts.out)
    written = predictions.write_predictions(folder, found, problems, class_names, about)
    for number, one in enumerate(found if opts.sliding_window else (), 1):
        from utils.actions.timeline import draw_timeline

        which = f"{number}_" if len(found) > 1 else ""
        name = os.fsencode(f"timeline_{which}{Path(one.path).stem}")[: LONGEST_NAME - len(".png")]
        written.append(folder / (name.decode(errors="ignore") + ".png"))
        draw_timeline(one, class_names, written[-1])
    if opts.annotate and found:
        from utils.actions.annotate import annotate_video

        written.append(Path(opts.annotate))
        annotate_video(written[-1], videos[0], found[0], class_names)
    return written


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
