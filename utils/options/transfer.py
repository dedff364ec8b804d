"""Copies from the host to a GPU, beside its computing, and what the GPU waits for."""

from typing import NamedTuple

import torch


class Wait(NamedTuple):
    """Of the computing, for a batch and then for its copy."""

    free: torch.cuda.Event | None  # when the step before was done; None: long ago
    began: torch.cuda.Event  # for the copy
    ended: torch.cuda.Event
    of_host: float  # seconds that the host waited for the batch


class Transfer:
    """Copies to one GPU, and the time that its computing waits for them."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        self.waits: list[Wait] = []
        self.free: torch.cuda.Event | None = None

    def copy(self, *tensors: torch.Tensor, waited: float = 0) -> list[torch.Tensor]:
        """The tensors on the GPU.

        They travel on a stream of their own: the host is ahead of the device by a step or so, and
        in the order of the computing a batch would cross only after the step before.

        Args:
            waited: seconds that the host waited for them.
        """
        with torch.cuda.stream(self.stream):
            # the host would wait for a copy from other memory; batches of a loader are pinned
            copies = [t.pin_memory().to(self.device, non_blocking=True) for t in tensors]
        computing = torch.cuda.current_stream(self.device)
        began = self.now()
        computing.wait_stream(self.stream)
        self.waits.append(Wait(self.free, began, self.now(), waited))
        for copy in copies:
            # it belongs to the stream that made it: unless the computing is noted as well, its
            # memory is used again as soon as Python drops it, while kernels still read it
            copy.record_stream(computing)
        return copies

    def end_step(self) -> None:
        """After the last kernel of a step: from here on the device waits for the next batch."""
        self.free = self.now()

    def now(self) -> torch.cuda.Event:
        """Where the computing is when it has done what it was told so far."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def wait(self) -> dict[str, float]:
        """For all work of the GPU; how long it waited for batches and for copies, in seconds.

        The host is ahead: while it waits for a batch the device mostly still works. What the device
        waits for beyond the host's wait is the host itself, which is not data.
        """
        torch.cuda.synchronize(self.device)
        data = sum(
            min(wait.of_host, wait.free.elapsed_time(wait.began) / 1000)
            if wait.free
            else wait.of_host
            for wait in self.waits
        )
        copies = sum(wait.began.elapsed_time(wait.ended) for wait in self.waits) / 1000
        self.waits.clear()
        self.free = None  # the device has nothing to do from now on
        return {"data_time": data, "copy_time": copies}
