"""What a run with --recipe small says first, and a quicker way where public weights are at hand."""

import time
from dataclasses import replace

import torch

from config import ARCHS
from models import build_model
from models.weights import Weights, place_of, public_weights
from utils.classifier import ClipClassifier, Normalize
from utils.run import Run

VIEWS = 5  # of a video, on whose features a head is trained


def small_recipe_in_words(run: Run) -> str:
    """Which frames it is trained on, and of weights that are downloaded, a head's way and time."""
    clip = run.preprocessing
    how = "spread over each video" if clip.snippet_len else "in a row"
    line = f"--recipe small: {clip.clip_len} frames of {clip.crop_size} px, {how}"
    for name, entry in public_weights(run.opts.arch).items():
        if entry.preprocessing.modality == clip.modality and place_of(entry).exists():
            minutes = max(1, round(seconds_of_features(run, entry) / 60))
            line += (
                f"; {place_of(entry).name} is there, too: with --pretrained {name} --head-only "
                f"--views {VIEWS}x1 in the "
                f"place of --recipe small, only a head is trained, in about {minutes} min"
            )
            break
    return line


def seconds_of_features(run: Run, entry: Weights) -> float:
    """What the network of the weights needs for all videos, measured with one view of one."""
    clip, opts = entry.preprocessing, run.opts
    views = VIEWS
    if clip.snippet_len:  # all of them may be one clip
        views, num_segments = clip.segments_of_views(VIEWS)
        clip = replace(clip, clip_len=num_segments * clip.snippet_len)
    arch_args = ARCHS[opts.arch].modalities[clip.modality] | entry.arch_args
    with torch.random.fork_rng(devices=[]):  # the run draws the same numbers as without
        model = build_model(opts.arch, **arch_args)
    normalize = Normalize.matching(clip, opts.channels_last)
    classifier = ClipClassifier(model, normalize, run.precision).to(run.device).eval()
    channels, *frames = clip.network_input()
    view = torch.zeros(1, *frames, channels, dtype=torch.uint8, device=run.device)
    seconds = [seconds_of(classifier, view) for _ in range(2)]  # the first one warms up
    lists = run.lists
    num_videos = len(lists.train) + len(lists.held_out or ()) + len(lists.test)
    return seconds[-1] * views * num_videos


@torch.inference_mode()
def seconds_of(classifier: torch.nn.Module, view: torch.Tensor) -> float:
    began = time.perf_counter()
    classifier(view).sum().item()  # waits for the device
    return time.perf_counter() - began
