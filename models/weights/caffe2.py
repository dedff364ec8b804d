"""Arrays out of a file of Caffe2, which is a pickle, with nothing executed."""

import pickle
from pathlib import Path

import numpy as np
import torch

from config import UserError
from models.weights import State
from models.weights.files import check_form

LEFT_OUT = ("lr", "model_iter", "_momentum")  # of the training that made a file
ENDINGS = {  # of keys, once a layer has the name `LAYER.conv`, and its batch norm `LAYER.bn`
    r"\.bn_": ".bn.",
    r"\.[ws]$": ".weight",
    r"\.b$": ".bias",
    r"\.rm$": ".running_mean",
    r"\.riv$": ".running_var",  # not the inverse, whatever the name says
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays in plain containers; whatever else a pickle names is refused.

    A pickle can call any function that it names, so one from elsewhere could do anything.
    """

    reconstruct = np.empty(0).__reduce__()[0]
    allowed = {
        ("numpy.core.multiarray", "_reconstruct"): reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),  # of Python 3's bytes
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.allowed:
            raise UserError(f"it names {module}.{name}, which is no part of an array")
        return self.allowed[module, name]


def read_caffe2_pickle(path: Path) -> State:
    """The network in a file of Caffe2, a pickle of Python 2, without running what it says."""
    check_form(path)
    try:
        with open(path, "rb") as file:
            blobs = ArrayUnpickler(file, encoding="latin1").load()["blobs"]
        arrays = {name: value for name, value in blobs.items() if isinstance(value, np.ndarray)}
        return {
            name: torch.from_numpy(value.astype(np.float32))
            for name, value in arrays.items()
            if not name.endswith(LEFT_OUT)
        }
    except UserError as error:
        raise UserError(f"{path} is not safe to read: {error}") from None
    except Exception as error:  # a file that is no pickle can end in almost any
        raise UserError(f"{path} is no file of arrays ({type(error).__name__})") from None
