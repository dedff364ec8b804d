"""The public weights of R(2+1)D: PyTorchVideo's."""

from dataclasses import replace

from models.weights import State, rename_keys
from models.weights.resnet3d import convert_pytorchvideo, pytorchvideo


def convert(state: State) -> State:
    """PyTorchVideo: its ResNets, with a pair in the place of the second convolution."""
    rules = {
        r"\.conv2\.conv\.conv_t\.": ".time.conv.",
        r"\.conv2\.conv\.bn\.": ".time.bn.",
        r"\.conv2\.conv\.conv_xy\.": ".space.conv.",
        r"\.conv2\.bn\.": ".space.bn.",
    }
    return rename_keys(convert_pytorchvideo(state), rules)


WEIGHTS = {
    "r2plus1d_r50_pytorchvideo": replace(
        pytorchvideo("R2PLUS1D_16x4_R50.pyth", "", "76.01 / 92.23", clip_len=16),
        convert=convert,
        arch_args={},
    )
}
