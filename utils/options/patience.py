"""--patience: the end of a training that has become no better for some epochs."""

import logging
from collections.abc import Iterator

from config import plural
from utils.checkpoint import Saver

log = logging.getLogger("video")


def epochs_with_patience(epochs: range, saver: Saver, patience: int) -> Iterator[int]:
    """The epochs, until so many in a row have brought no better validation."""
    for epoch in epochs:
        if saver.waited >= patience:
            log.info(
                f"the training ends after epoch {epoch} of {epochs.stop}: the best top-1 of the "
                f"validation, {saver.best:.1f} %, is {plural(saver.waited, 'epoch')} old "
                f"(--patience {patience}); best.pth has the weights of epoch {epoch - saver.waited}"
            )
            return
        yield epoch
