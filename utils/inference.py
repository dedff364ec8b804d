"""A trained network applied to whatever a loader brings, one item after the other."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from tqdm import tqdm

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
def outputs(
    classifier: nn.Module,
    items: Iterable[Item],
    device: torch.device,
    batch_size: int,
    desc: str,
    total: int,
) -> Iterator[Item]:
    """What the network says of each item, in order: its index, and (V, dim) or its error.

    Views of several items share a batch where they have one shape.

    Args:
        batch_size: views on the device at once, more or less.
        desc: what the progress bar is called.
        total: number of items.
    """
    classifier.eval()
    waiting: list[Item] = []
    for item in tqdm(items, desc, total, unit="clip", leave=False, dynamic_ncols=True):
        views = [views for _, views in waiting if not isinstance(views, str)]
        if views and not isinstance(item[1], str):
            full = sum(map(len, views)) + len(item[1]) > batch_size
            if full or views[0].shape[1:] != item[1].shape[1:]:
                yield from _answer(classifier, waiting, device, batch_size)
                waiting = []
        waiting.append(item)
    yield from _answer(classifier, waiting, device, batch_size)


def _answer(
    classifier: nn.Module, items: list[Item], device: torch.device, batch_size: int
) -> Iterator[Item]:
    views = [views for _, views in items if not isinstance(views, str)]
    answers = iter(())
    if views:
        chunks = torch.cat(views).split(batch_size)
        found = torch.cat([classifier(chunk.to(device)).cpu() for chunk in chunks])
        answers = iter(found.split([len(one) for one in views]))
    for index, of_item in items:
        yield index, of_item if isinstance(of_item, str) else next(answers)
