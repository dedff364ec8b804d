"""Batches of views of several videos."""

import pytest
import torch
from torch import nn

from utils.actions.network import outputs_of_parts


class Sums(nn.Module):
    """The sum of each view; notes how many views came at once."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, clips):
        self.sizes.append(len(clips))
        return clips.flatten(1).sum(dim=1, keepdim=True)


def run(items, batch_size):
    network = Sums()
    args = iter(items), torch.device("cpu"), batch_size, "test", len(items)
    return list(outputs_of_parts(network, *args)), network.sizes


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_every_item_gets_its_own_answer_in_order(batch_size):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 4), (2, 3, 4), None, (1, 3, 4), (5, 3, 4), (2, 2, 4), None, (2, 3, 4), None]
    items = [
        (i, "broken" if shape is None else torch.rand(shape, generator=generator))
        for i, shape in enumerate(shapes)
    ]
    answers, sizes = run(items, batch_size)
    assert [index for index, _ in answers] == list(range(len(items)))
    for (_, item), (_, answer) in zip(items, answers, strict=True):
        if item == "broken":
            assert answer == "broken"
        else:
            torch.testing.assert_close(answer, item.flatten(1).sum(dim=1, keepdim=True))
    assert max(sizes) <= batch_size


def test_items_share_batches_where_they_have_one_shape():
    assert run([(i, torch.ones(1, 3)) for i in range(10)], 4)[1] == [4, 4, 2]


def test_what_fills_a_batch_is_answered_before_more_is_read():
    seen = []

    def items():
        for i in range(3):
            seen.append(f"read {i}")
            yield i, torch.ones(4, 3)

    for index, _ in outputs_of_parts(Sums(), items(), torch.device("cpu"), 4, "test", 3):
        seen.append(f"answered {index}")
    assert seen == ["read 0", "answered 0", "read 1", "answered 1", "read 2", "answered 2"]
