"""--extract-features: one .npz a video, and settings.json for all of a folder."""

import copy
import hashlib
import json
import logging
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from config import Clip, UserError, owned, plural, refuse, remove_unfinished, whole
from opts import Options
from pt_dataset import sampling
from pt_dataset.formats.times import seconds
from pt_dataset.inputs import windows
from pt_dataset.inputs.paths import name_of, usable, videos_at
from pt_dataset.inputs.windows import Part
from pt_dataset.listing.folders import LONGEST_NAME
from pt_dataset.listing.made_from import Note, Source, is_same, take_notes
from pt_dataset.video_list import Video
from utils import words
from utils.actions import network as networks
from utils.interrupt import GracefulStop, Stop
from utils.loggers import set_up_console
from utils.run import pick_device

SETTINGS = "settings.json"
AT_ONCE = 4  # windows that are decoded together
DAMAGED = (OSError, EOFError, ValueError, zipfile.BadZipFile)  # what reading such a file raises
log = logging.getLogger("video")


def extract_features(opts: Options) -> int:
    """A file of features for each video; those of the same video are left alone."""
    set_up_console()
    network = networks.load_network(opts, pick_device(opts))
    clip, folder = network.preprocessing, Path(opts.extract_features or "")
    crops = network.evaluation.views.crops
    settings: dict[str, Any] = {
        "arch": network.start.arch,
        "weights_sha256": digest_weights(network.model),
        "window": opts.window or "a clip",
        "step": opts.step or "a window",
        "fps_of_frames": opts.fps,
        "precision": network.precision,
        "preprocessing": clip.in_files(),
    }
    if crops > 1:  # folders of one crop do not name it
        settings["crops"] = crops
    found, problems = videos_at(opts.videos, clip.modality, opts.fps)
    videos, unusable = usable(found, clip)
    problems += unusable
    if opts.window and videos:
        check_window(network, opts.window, videos)
    try:
        with owned(folder, inside=True) as killed, GracefulStop() as stop:
            start_features_folder(folder, settings)
            for line in words.rates_in_words(clip, videos):
                log.info(line)
            paths, unnamed = feature_files(folder, opts.videos, videos)
            problems += unnamed
            remove_unfinished({path.parent for path in paths.values()}, killed)
            left = videos_left(videos, paths, clip.modality)
            sources = take_notes(Source.of(video, clip.modality) for video in left)
            notes = dict(zip((video.path for video in left), sources, strict=True))
            parts = [part for video in left for part in parts_of_video(video, clip, opts)]
            extractor = networks.FeatureNetwork(network.model)
            outputs = networks.outputs_by_video(network, extractor, parts, opts, stop)
            for video, answers in outputs:
                if isinstance(answers, str):
                    problems.append((video.path, answers))
                    continue
                views = torch.cat([output for _, output in answers])
                features = views.unflatten(0, (-1, crops)).mean(dim=1).numpy()
                spans = [span for part, _ in answers for span in part.spans]
                source = notes[video.path] | {"num_frames": video.num_frames, "fps": video.fps}
                write_features(paths[video.path], features, spans, video, settings, source)
    except Stop as request:
        log.info(f"{request}; the same command goes on from there")
        return request.status
    log.info(f"features: {folder}")
    return networks.exit_status(problems)


def feature_files(
    folder: Path, roots: Sequence[str], videos: list[Video]
) -> tuple[dict[str, Path], list[networks.Problem]]:
    """Where the features of each video go, by its path; and what cannot have such a file."""
    found: dict[Path, str] = {}
    problems = []
    for video in videos:
        path = folder / f"{name_of(video, roots)}.npz"
        if path in found:  # as extract_frames.py names a video that differs in its suffix alone
            path = path.with_name(f"{path.stem}{Path(video.path).suffix}.npz")
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            why = f"{video.path}: too long a name for {path.name}; rename it"
            problems.append((video.path, why))
            continue
        if path in found:
            raise UserError(
                f"{found[path]} and {video.path} would both be {path}; extract them into two "
                "folders"
            )
        found[path] = video.path
    return {video: path for path, video in found.items()}, problems


def videos_left(videos: list[Video], paths: dict[str, Path], modality: str) -> list[Video]:
    """The videos without features, or with those of another video; says what of the others."""
    left, num_changed, num_unknown = [], 0, 0
    for video in videos:
        path = paths.get(video.path)
        if path and not path.exists():
            left.append(video)
        elif path:
            source = source_of_features(path)
            lengths = {"num_frames": video.num_frames, "fps": video.fps}
            is_other = source is not None and (
                source != source | lengths or not is_same(Source.of(video, modality), source)
            )
            if is_other or not is_labeled(path, class_of(video)):
                left.append(video)
                num_changed += 1
            elif source is None:
                num_unknown += 1
    num_done = len(paths) - len(left)
    if num_done:
        log.info(f"{num_done} of {len(videos)} videos are done already")
    if num_changed:
        log.info(f"{num_changed} have changed, or their files are damaged: they are done again")
    if num_unknown:
        log.info(
            f"whether the video has changed was not checked for {plural(num_unknown, 'file')} of "
            "an earlier version, which took no note of it"
        )
    return left


def source_of_features(path: Path) -> Note | None:
    """The note of the video in a file of features; None of earlier versions, {} if damaged."""
    try:
        with np.load(path) as features:
            return json.loads(str(features["source"])) if "source" in features else None
    except DAMAGED:
        return {}


def class_of(video: Video) -> dict[str, Any]:
    """Label and class of a video, where a list gives them."""
    return {"label": video.label, "class_name": video.class_name} if video.class_name else {}


def is_labeled(path: Path, known: dict[str, Any]) -> bool:
    """Puts what a list now says of the class into a file of features; False if it is damaged."""
    try:
        with np.load(path) as features:
            if all(name in features and features[name] == known[name] for name in known):
                return True
            arrays = dict(features)
    except DAMAGED:
        return False
    save_features(path, arrays | known)
    return True


def parts_of_video(video: Video, clip: Clip, opts: Options) -> list[Part]:
    """A few windows in a row at a time, so that what they share is decoded once."""
    length = sampling.length(video, clip)
    whole_clip = math.ceil(clip.clip_len * sampling.step(video, clip))
    window = opts.window or (length if clip.snippet_len else whole_clip)
    spans = windows.spans(length, window, opts.step or window)
    return [
        Part(video, some, [windows.window_clip(video, clip, *span, window) for span in some])
        for some in (spans[i : i + AT_ONCE] for i in range(0, len(spans), AT_ONCE))
    ]


def check_window(network: networks.TrainedNetwork, window: int, videos: list[Video]) -> None:
    """Raises UserError if the network cannot take so many frames of one of the videos."""
    clip = network.preprocessing
    channels, frames, *size = clip.network_input()
    if not clip.snippet_len:
        lengths = {math.ceil(window / sampling.step(video, clip)) for video in videos}
        frames = min(lengths)
        refuse(
            clip.fixed_segments and lengths != {clip.clip_len},
            f"--window {window} is {frames} frames for the network, and a shifted one takes "
            f"{clip.clip_len} in a row: leave it out, or choose how close they follow with --step",
        )
    try:
        meta = copy.deepcopy(network.model).to("meta")
        meta(torch.empty((1, channels, frames, *size), device="meta"))
    except (RuntimeError, UserError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--window {window} is too short for {network.start.arch}: {reason}"
        ) from None


def digest_weights(model: nn.Module) -> str:
    """A short name for all weights but those of the head."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith("head."):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def start_features_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder, or checks that what is in it was made with the same settings.

    Raises:
        UserError: it was not, or the folder cannot be written.
    """
    path, text = folder / SETTINGS, json.dumps(settings, indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with whole(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        before = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror})") from None
    try:  # in whatever order they stand
        old, new = json.loads(before), json.loads(text)
        pairs = [(name, old.get(name), new.get(name)) for name in old | new]
        differences = ", ".join(f"{name} {a}, now {b}" for name, a, b in pairs if a != b)
    except (ValueError, TypeError, AttributeError):
        differences = f"{SETTINGS} cannot be read"
    if differences:
        raise UserError(
            f"{folder} holds features made otherwise ({differences}); choose another OUT, or "
            "repeat what made them"
        )


def write_features(
    path: Path,
    features: np.ndarray,
    spans: list[tuple[int, int]],
    video: Video,
    settings: dict[str, Any],
    source: Note,
) -> None:
    """Writes `features`, float32 (segments, dim), whole or not at all.

    Args:
        spans: first frame and the one after the last of each segment.
        video: where its times are not known, start and end in seconds are nan.
        source: the note of the video, with num_frames and fps.
    """
    starts, ends = np.array(spans, np.int64).T
    times = seconds(video)
    if times is None:
        times = np.full(video.num_frames + 1, np.nan)
    arrays = {
        "features": features,
        "start": times[starts],
        "end": times[ends],
        "start_frame": starts,
        "end_frame": ends,
        "fps": np.nan if video.fps is None else video.fps,
        "settings": json.dumps(settings),
        "source": json.dumps(source),
    }
    save_features(path, arrays | class_of(video))


def save_features(path: Path, arrays: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # as a file: numpy would add .npz to the name
        with whole(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); the same command goes on from there"
        ) from None
