"""A trained network applied to whatever a loader brings, one item after the other."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from tqdm import tqdm

from utils.evaluator import run_in_chunks

# of an item: its index, and its views (V, T, S, S, C) or the sentence that says why there are none
Item = tuple[int, torch.Tensor | str]


class FeatureNetwork(nn.Module):
    """A network without its head: clips (N, C, T, H, W) -> features (N, dim)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.model.forward_features(clips)


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
