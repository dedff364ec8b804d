"""--heatmap: where in its frames, and when, a network sees what speaks for a class.

Paper:  Selvaraju et al., Grad-CAM, ICCV 2017, arXiv:1610.02391 sec. 3
Differs: the maps of a 3-D network have time, too, and those of a 2-D one are of single segments.
    The paper takes the last map; of frames smaller than 224 px it has fewer than 7 x 7 places, at
    40 px 2 x 2, which tell nothing apart, and the last one that has as many is taken instead.
"""

import logging
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from config import UserError
from opts import Options
from pt_dataset.clip_dataset import clip_frames
from pt_dataset.inputs.windows import Part, part_loader
from pt_dataset.transforms import Crops, view_crops
from utils.actions.network import TrainedNetwork, views_at_once
from utils.actions.predictions import Prediction, scores_of_windows
from utils.classifier import ClipClassifier, Normalize

SMALLEST = 7  # places a side, at least, of the map that is taken
STRENGTH = 0.7  # of the color where it is hottest
log = logging.getLogger("video")


@dataclass(frozen=True)
class Heat:
    """The heat of a video, from 0 to 1, its highest.

    Args:
        crops: where the maps lie in a frame.
        maps: of each window, (crops, h, w) by frame, for the frames that the network saw.
        classes: of each window, the one that the heat is of, and its score.
    """

    crops: Crops
    maps: list[dict[int, torch.Tensor]]
    classes: list[tuple[str, float]]

    def at(self, window: int, frame: int, height: int, width: int) -> np.ndarray:
        """(height, width) of a frame, or of the nearest one that was seen; nan beside the crops."""
        maps = self.maps[window]
        nearest = maps[min(maps, key=lambda seen: abs(seen - frame))]
        total, count = torch.zeros(2, *self.crops.size)
        places = zip(self.crops.windows, self.crops.mirrored, nearest, strict=True)
        for (rows, columns), mirrored, one in places:
            size = total[rows, columns].shape
            (heat,) = F.interpolate(one[None, None], size, mode="bilinear")[0]
            total[rows, columns] += heat.flip(-1) if mirrored else heat
            count[rows, columns] += 1
        both = torch.stack([total, count])[None]
        total, count = F.interpolate(both, (height, width), mode="bilinear")[0]
        return (total / count).numpy()

    def drawn_on(self, picture: np.ndarray, window: int, frame: int) -> np.ndarray:
        """A frame, uint8 (H, W, 3), in gray; its heat goes from yellow to red, dark is unseen."""
        heat = self.at(window, frame, *picture.shape[:2])[..., None]
        gray = picture.mean(axis=-1, keepdims=True)  # on which no color is the picture's own
        red, green, blue = 255 + 0 * heat, 255 * (1 - heat), 0 * heat
        share, color = STRENGTH * heat, np.concatenate([red, green, blue], axis=-1)
        mixed = np.where(np.isnan(heat), gray / 2, (1 - share) * gray + share * color)
        return mixed.astype(np.uint8)


def heat_of(
    network: TrainedNetwork, parts: list[Part], prediction: Prediction, opts: Options
) -> Heat:
    """The heat of the best class of each part of a video, or of the class that `opts` names."""
    clip, video, num_crops = network.preprocessing, parts[0].video, network.evaluation.views.crops
    windows, class_names = scores_of_windows(prediction), network.start.class_names or []
    named = class_names.index(opts.heatmap) if opts.heatmap else None
    labels = [int(scores.argmax()) if named is None else named for scores in windows]
    # float32, in which no gradient becomes 0
    classifier = ClipClassifier(network.model, Normalize.matching(clip))
    classifier.to(network.device).eval().requires_grad_(False)
    stage = choose_stage(classifier, (1, *clip.network_input()), network.device)
    _, first = next(clip_frames(video, parts[0].clips[0][:1], clip))
    height, width, _ = first.shape
    size = views_at_once(network, parts, opts)
    items = part_loader(parts, clip, num_crops, opts.workers, size)
    found = []
    for index, views in tqdm(items, "heatmap", len(parts), unit="clip", leave=False):
        if isinstance(views, str):
            raise UserError(views)
        clips = parts[index].clips
        maps = [
            grad_cam(classifier, stage, some.to(network.device), labels[index], len(clips[0]))
            for some in views.split(size)
        ]
        found.append(maps_by_frame(torch.cat(maps).cpu().unflatten(0, (-1, num_crops)), clips))
    highest = max(one.max() for maps in found for one in maps.values())
    if highest == 0:
        log.info(f"{video.path}: nothing in it speaks for the class of its heatmap")
    return Heat(
        crops=view_crops(height, width, clip, num_crops),
        maps=[{k: one / highest.clamp(min=1e-30) for k, one in maps.items()} for maps in found],
        classes=[(class_names[k], s[k].item()) for k, s in zip(labels, windows, strict=True)],
    )


def maps_by_frame(maps: torch.Tensor, clips: list[list[int]]) -> dict[int, torch.Tensor]:
    """(clips, crops, T, h, w) -> (crops, h, w) by frame, the mean over the clips that see it."""
    seen = defaultdict(list)
    for frames, of_clip in zip(clips, maps, strict=True):
        for frame, one in zip(frames, of_clip.unbind(dim=1), strict=True):
            seen[frame].append(one)
    return {frame: torch.stack(several).mean(dim=0) for frame, several in seen.items()}


def stages(model: nn.Module) -> list[nn.Module]:
    """The parts of a network in a row that its last maps come out of; of TSN, of its backbone.

    A transformer says itself which they are, and how to make maps of its tokens (`as_maps`).
    """
    if own := getattr(model, "map_stages", None):
        return own()
    trunk = getattr(model, "backbone", model)
    return list(getattr(trunk, "features", trunk).children())


def as_maps(model: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """What a stage passes on as (N, K, T, h, w), or as that of a 2-D network is, (N, K, h, w)."""
    own = getattr(model, "as_maps", None)
    return own(output) if own else output


def choose_stage(
    classifier: ClipClassifier, clip_shape: tuple[int, ...], device: torch.device
) -> nn.Module:
    """The last stage whose maps have SMALLEST places a side; if none has, the largest ones.

    Args:
        clip_shape: (1, C, T, H, W) of what the network takes.
    """
    sizes: dict[nn.Module, int] = {}

    def measure(stage, _, output):
        maps = as_maps(classifier.model, output)
        sizes[stage] = min(maps.shape[-2:]) if maps.dim() > 3 else 0

    hooks = [stage.register_forward_hook(measure) for stage in stages(classifier.model)]
    pixels = torch.zeros(clip_shape, dtype=torch.uint8, device=device).movedim(1, -1)
    with torch.inference_mode():
        classifier(pixels)
    for hook in hooks:
        hook.remove()
    return max(reversed(sizes), key=lambda stage: min(sizes[stage], SMALLEST))


def grad_cam(
    classifier: ClipClassifier, stage: nn.Module, views: torch.Tensor, label: int, num_frames: int
) -> torch.Tensor:
    """What of the maps of `stage` raises the logit of a class.

    Each channel counts as much as the mean of its gradient says; what lowers the logit is cut off.

    Args:
        views: uint8 (V, T, S, S, C).
        num_frames: of a view; T, or where fields of flow are stacked a multiple of it.

    Returns:
        (V, num_frames, h, w), where h and w are those of the maps.
    """
    kept = []

    def keep(*call):
        # nothing before the maps needs a gradient, and so none of it is kept in memory
        kept.append(call[-1].detach().requires_grad_())
        return kept[-1]

    for module in classifier.modules():
        if isinstance(module, nn.GRU):  # cuDNN wants it for a gradient; nothing else changes
            module.train()
    hook = stage.register_forward_hook(keep)
    logits = classifier(views)[:, label]
    hook.remove()
    both = *kept, *torch.autograd.grad(logits.sum(), kept)
    # (V, K, T', h, w), or of a 2-D network (V * segments, K, h, w)
    maps, gradient = (as_maps(classifier.model, one) for one in both)
    places = tuple(range(2, maps.dim()))
    heat = (gradient.mean(dim=places, keepdim=True) * maps).sum(dim=1).relu().detach()
    heat = heat.reshape(len(views), -1, *heat.shape[-2:])
    if maps.dim() == 4:  # of one segment after the other
        return heat.repeat_interleave(num_frames // heat.shape[1], dim=1)
    size = num_frames, *heat.shape[-2:]
    return F.interpolate(heat[:, None], size, mode="trilinear")[:, 0]
