"""Copies from the host to a GPU, beside its computing."""

import torch


class Transfer:
    """Copies to one GPU, and the time that its computing waits for them."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)
        # before and after each wait of the computing for a copy
        self.waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def copy(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The tensors on the GPU.

        They travel on a stream of their own: the host is ahead of the device by a step or so, and
        in the order of the computing a batch would cross only after the step before.
        """
        with torch.cuda.stream(self.stream):
            # the host would wait for a copy from other memory; batches of a loader are pinned
            copies = [t.pin_memory().to(self.device, non_blocking=True) for t in tensors]
        computing = torch.cuda.current_stream(self.device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(computing)
        computing.wait_stream(self.stream)
        after.record(computing)
        self.waits.append((before, after))
        for copy in copies:
            # it belongs to the stream that made it: unless the computing is noted as well, its
            # memory is used again as soon as Python drops it, while kernels still read it
            copy.record_stream(computing)
        return copies

    def wait(self) -> float:
        """For all work of the GPU; how long it waited for copies, in seconds."""
        torch.cuda.synchronize(self.device)
        seconds = sum(before.elapsed_time(after) for before, after in self.waits) / 1000
        self.waits.clear()
        return seconds
