"""What ended a run, in a sentence."""

from config import UserError
from pt_dataset.processes.deaths import death_in_words
from utils import distributed
from utils.memory.trial import is_out_of_memory
from utils.options import processes
from utils.trainer import NonFiniteLoss
from utils.words import FINITE


def is_said() -> bool:
    """Has another process failed before? This one only lost it, and has nothing to say."""
    return not processes.first_to_fail()


def error_in_words(error: Exception) -> str | None:
    """The sentence for a failure that has one."""
    if isinstance(error, NonFiniteLoss):
        return f"{error}; {FINITE}"
    if isinstance(error, RuntimeError | OSError) and (sentence := death_in_words(error)):
        return sentence
    if isinstance(error, UserError | OSError):  # such as a file that may not be read
        # one raised in a loader process arrives with that process's traceback before it
        return str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()
    if distributed.lost_another(error):
        return processes.loss_in_words(error)
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        return (
            "batch norm cannot train on one clip at a time that is as small as this; take a larger "
            "--batch-size, --micro-batch, --clip-len or --crop-size"
        )
    if isinstance(error, NotImplementedError) and "MPS" in str(error):  # torch names the operation
        return f"{str(error).splitlines()[0]}; take --device cpu"
    if "can't start new thread" in str(error):
        return (
            "the system allows no more threads; take fewer --workers or a lower OMP_NUM_THREADS, "
            "or raise the limit (ulimit -u)"
        )
    if is_out_of_memory(error):
        return (
            "the memory does not suffice; take a smaller --batch-size, --micro-batch or "
            "--view-batch, or fewer --workers"
        )
    return None
