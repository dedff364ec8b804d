"""Signs of life between the processes of a run, so that none waits for one that is gone.

A process that hangs as a whole, or whose machine or link is lost, closes no connection: the others
would wait for it until their longest time limit. Each therefore counts up in the store that all
share, from a thread, and looks whether the others do. A signal is seen by a thread, too, while the
main one waits for another process and cannot answer it.
"""

import itertools
import os
import select
import signal
import socket
import sys
import threading
import time

import torch.distributed as dist

from config import STATUS

BEAT = 5.0  # seconds between two signs
TICK = 1.0  # seconds between two looks
SILENCE = 300.0  # seconds after which a process is given up
SILENCE_AT_STOP = 20.0  # the same once a signal asks for the end: launchers kill after 30
NAMED = 3  # processes, at most
GOES_ON = (
    "torchrun --max-restarts starts all again, and --resume auto goes on from the last checkpoint"
)


class Others:
    """The other processes of a run, and for how long nothing has been heard of each."""

    def __init__(self, store: dist.Store, failures: dist.Store, rank: int, world_size: int):
        self.store, self.failures, self.rank = store.clone(), failures, rank
        self.quiet = {other: 0.0 for other in range(world_size) if other != rank}  # seconds
        self.signs = dict.fromkeys(self.quiet, b"")
        self.done = threading.Event()
        self._beat(0)  # all are there by the time that the processes have met

    def start(self) -> None:
        """Looks from here on, until `done` is set; only the main thread can ask for signals."""
        self.woken, self.wake = socket.socketpair()  # Windows selects no pipes
        self.wake.setblocking(False)
        signal.set_wakeup_fd(self.wake.fileno(), warn_on_full_buffer=False)
        for target in (self._listen, self._watch):
            threading.Thread(target=target, daemon=True).start()

    def _beat(self, count: int) -> None:
        self.store.set(f"alive {self.rank}", f"{socket.gethostname()} {count}")

    def _listen(self) -> None:
        keys = [f"alive {other}" for other in self.quiet]
        try:
            for count in itertools.count(1):
                self._beat(count)
                for other, sign in zip(self.quiet, self.store.multi_get(keys), strict=True):
                    if sign != self.signs[other]:
                        self.signs[other], self.quiet[other] = sign, 0.0
                if self.done.wait(BEAT):
                    return
        except dist.DistError:  # the main process keeps the store, and has ended
            pass

    def _watch(self) -> None:
        asked = 0
        while not self.done.is_set():
            began = time.monotonic()
            if select.select([self.woken], [], [], TICK)[0]:
                signums = self.woken.recv(1024)
                asked = asked or next((signum for signum in signums if signum in STATUS), 0)
            # not more: one that was stopped itself, as schedulers do, has no reason to blame others
            passed = min(time.monotonic() - began, 2 * TICK)
            for other in self.quiet:
                self.quiet[other] += passed
            if max(self.quiet.values()) > (SILENCE_AT_STOP if asked else SILENCE):
                self._give_up(asked)

    def _give_up(self, asked: int) -> None:
        """Ends this process, whatever its main thread waits for."""
        try:
            if 0 in self.quiet and self.quiet[0] > 2 * BEAT or self.failures.add("failed", 1) == 1:
                cause = f"stopped by {signal.Signals(asked).name}, and " if asked else ""
                print(f"error: {cause}{self.in_words()}; {GOES_ON}", file=sys.stderr, flush=True)
        finally:
            os._exit(STATUS[asked] if asked else 1)

    def in_words(self) -> str:
        """Who was last heard of when, the quietest first."""
        order = sorted(self.quiet, key=self.quiet.__getitem__, reverse=True)
        if self.quiet.get(0, 0) > 2 * BEAT:  # it passes on the signs of all
            order = [0]
        hosts = {other: sign.decode().split(" ")[0] for other, sign in self.signs.items()}
        last = ", ".join(
            f"process {other} on {hosts[other]} {self.quiet[other]:.0f} s ago"
            for other in order[:NAMED]
        )
        return f"last heard of {last}: it hangs, or its machine or the link to it is lost"
