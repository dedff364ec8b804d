"""Chance for what torchvision draws from torch's own generator."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_draws_from(rng: random.Random) -> Iterator[None]:
    """Inside, torch's own generator starts from `rng`; outside, it is what it was before."""
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would seed the GPUs, too
        torch.default_generator.manual_seed(rng.getrandbits(63))
        yield
