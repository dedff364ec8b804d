"""--list-weights: the public weights, with license, accuracy and file."""

from models import weights
from opts import Options


def list_weights(opts: Options) -> int:
    print(weights.table())
    return 0
