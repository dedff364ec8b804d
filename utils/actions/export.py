"""--export: a network as a file for other software, compared with the original first.

The network inside takes clips as those of other libraries do: float32 (N, C, T, H, W), normalized,
any N. What is to be done before stands in OUT.json, and class names, too.
"""

import importlib.util
import io
import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn

from config import UserError, whole
from opts import Options
from utils.actions.network import load_network
from utils.loggers import set_up_console

OPSET = 20
TOLERANCE = 1e-3  # of the largest logit: other kernels add up in another order
PACKAGES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}
log = logging.getLogger("video")


def export(opts: Options) -> int:
    """Writes the network for other software; it is always recorded on the CPU, in float32."""
    set_up_console()
    path = Path(opts.export)
    check_packages(path.suffix)
    network = load_network(opts, torch.device("cpu"))
    about = {
        "arch": network.start.arch,
        "weights": network.start.words,
        "preprocessing": vars(network.preprocessing),
        "class_names": network.start.class_names,
    }
    shape = network.preprocessing.network_input()
    difference = export_network(path, network.model, shape, about)
    log.info(
        f"written: {path} and {path.with_suffix('.json')}; logits differ from the original by "
        f"{difference:.0e} of the largest, for batches of 1, 2 and 3 clips"
    )
    return 0


def export_network(
    path: Path,
    model: nn.Module,
    clip_shape: tuple[int, int, int, int],
    about: dict,
) -> float:
    """Writes `path` and OUT.json beside it.

    Args:
        path: ends in .onnx or .pt2.
        model: float32, on the CPU, in evaluation.
        clip_shape: (C, T, H, W) of a normalized clip.
        about: what users of the file must know: preprocessing, class names, weights.

    Returns:
        the largest difference to the logits of `model`, as a share of the largest logit.

    Raises:
        UserError: a package is missing, the file says something else, or it cannot be written.
    """
    check_packages(path.suffix)
    generator = torch.Generator().manual_seed(0)
    # two and not one: a dimension of one is taken for constant
    clips = torch.randn((2, *clip_shape), generator=generator)
    program = torch.export.export(
        model, (clips,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)
    )
    content, exported = (to_onnx if path.suffix == ".onnx" else to_pt2)(program, clips)
    difference = largest_difference(model, exported, clips)
    if difference > TOLERANCE:
        raise UserError(
            f"the exported network differs from the original by {difference:.1e} of the largest "
            f"logit, so {path} was not written; try the other format, .onnx or .pt2"
        )
    text = json.dumps(describe_export(clip_shape, about), indent=1, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as network_file, whole(path.with_suffix(".json")) as about_file:
            network_file.write_bytes(content)
            about_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from None
    return difference


def check_packages(suffix: str) -> None:
    """Before minutes of work: is everything installed that the format needs?"""
    missing = [name for name in PACKAGES[suffix] if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(
            f"--export to {suffix} needs {', '.join(missing)}: pip install {' '.join(missing)}; "
            ".pt2 needs nothing more than torch"
        )


def to_pt2(program: torch.export.ExportedProgram, clips: torch.Tensor) -> tuple[bytes, nn.Module]:
    """The file's content, and the network in it: read back, as a user would."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue(), torch.export.load(io.BytesIO(buffer.getvalue())).module()


def to_onnx(program: torch.export.ExportedProgram, clips: torch.Tensor) -> tuple[bytes, nn.Module]:
    """The same for ONNX."""
    exported = torch.onnx.export(
        program,
        (clips,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["clips"],
        output_names=["logits"],
        verbose=False,
    )
    content = exported.model_proto.SerializeToString()
    return content, OnnxNetwork(content)


class OnnxNetwork(nn.Module):
    """The content of an ONNX file, run by onnxruntime on the CPU."""

    def __init__(self, content: bytes):
        super().__init__()
        import onnxruntime

        self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        name = self.session.get_inputs()[0].name
        return torch.from_numpy(np.asarray(self.session.run(None, {name: clips.numpy()})[0]))


@torch.inference_mode()
def largest_difference(model: nn.Module, exported: nn.Module, clips: torch.Tensor) -> float:
    """For one clip, two and three, of which only two were seen when the network was recorded."""
    worst = 0.0
    for batch in (clips[:1], clips, torch.cat([clips.flip(2), clips[:1]])):
        expected = model(batch)
        found = exported(batch)
        worst = max(worst, ((found - expected).abs().max() / expected.abs().max()).item())
    return worst


def describe_export(clip_shape: tuple[int, int, int, int], about: dict) -> dict:
    """What goes in and comes out, for people and programs that have only the file."""
    channels, frames, height, width = clip_shape
    return {
        "input": {
            "name": "clips",
            "dtype": "float32",
            "shape": ["batch", channels, frames, height, width],
            "meaning": "batch, channels, frames, height, width; pixels brought to value_range "
            "and channel_order, then (pixel - mean) / std",
        },
        "output": {
            "name": "logits",
            "dtype": "float32",
            "shape": ["batch", len(about["class_names"] or ()) or "classes"],
            "meaning": "before the softmax",
        },
        **about,
    }
