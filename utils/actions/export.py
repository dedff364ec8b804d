"""--export: a network as a file for other software, compared with the original first.

The network inside takes clips as those of other libraries do: float32 (N, C, T, H, W), normalized,
any N. What is to be done before stands in OUT.json, and class names, too.
"""

import importlib.util
import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from config import Evaluation, Preprocessing, UserError, Views, try_folder, whole
from opts import Options
from pt_dataset.sampling import resampled_stride
from utils.actions.network import load_network
from utils.loggers import set_up_console
from utils.results import protocol_in_words

OPSET = 20
TOLERANCE = 1e-3  # of the largest logit: other kernels add up in another order
PACKAGES = {".onnx": ("onnx", "onnxscript", "onnxruntime"), ".pt2": ()}
Exported = tuple[bytes, Callable[[torch.Tensor], torch.Tensor]]  # a file's content, and how to run
log = logging.getLogger("video")


def export(opts: Options) -> int:
    """Writes the network for other software; it is always recorded on the CPU, in float32."""
    set_up_console()
    path = Path(opts.export or "")
    check_packages(path.suffix)
    try_folder(path.parent, "--export")
    network = load_network(opts, torch.device("cpu"))
    clip, evaluation = as_one_input(network.preprocessing, network.evaluation)
    about = {
        "arch": network.start.arch,
        "weights": network.start.words,
        "preprocessing": vars(clip),
        "evaluation": evaluation.plain() | {"in_words": protocol_in_words(evaluation, clip)},
        "frames": frames_in_numbers(clip, evaluation.views.clips or 1),
        "class_names": network.start.class_names,
    }
    difference = export_network(path, network.model, clip.network_input(), about)
    log.info(
        f"written: {path} and {path.with_suffix('.json')}; logits differ from the original by "
        f"{difference:.1g} of the largest, for batches of 1, 2 and 3 clips"
    )
    return 0


def as_one_input(clip: Preprocessing, evaluation: Evaluation) -> tuple[Preprocessing, Evaluation]:
    """The clip that the file takes, always as long, and an evaluation with such clips.

    All segments of an evaluation are one input, but fixed ones. A whole video is as long as it is:
    of it the file sees as many clips as is usual.
    """
    views = evaluation.views
    if clip.snippet_len:
        num_clips, num_segments = clip.segments_of_views(views.clips or 1)
        clip = replace(clip, clip_len=num_segments * clip.snippet_len)
        views = Views(num_clips, views.crops)
    elif views.clips is None:
        views = Views(Evaluation().views.clips, views.crops)
        log.info(
            f"the file takes {clip.clip_len} frames and no whole video: evaluate it on {views}"
        )
    return clip, replace(evaluation, views=views)


def frames_in_numbers(clip: Preprocessing, num_clips: int) -> dict[str, Any]:
    """Which frames of a video are those of an input: what pt_dataset/sampling.py does."""
    about = (
        "Python expressions, one after the other, of a video of num_frames frames, fps a second "
        "(as an exact fraction), for any numbers below these counts: frame is the index, from 0, "
    )
    length = {"length": "num_frames - 1" if clip.modality == "flow" else "num_frames"}
    if clip.snippet_len:
        num_segments, several = clip.clip_len // clip.snippet_len, num_clips > 1
        number = f"({num_clips} * i + k)" if several else "i"
        where = "segment number i of the input" + ", which is clip number k" * several
        return {
            "meaning": about + f"of frame number j in {where}",
            "counts": ({"k": num_clips} if several else {})
            | {"i": num_segments, "j": clip.snippet_len},
            "expressions": length
            | {
                "starts": f"max(length - {clip.snippet_len}, 0) + 1",
                "start": f"(2 * {number} + 1) * starts // {2 * num_segments * num_clips}",
                "frame": "min(start + j, length - 1)",
            },
        }
    step, reach = str(clip.stride), clip.clip_len - 1
    if clip.target_fps:
        rate = resampled_stride(1, 1, clip.target_fps)  # seconds from one frame to the next
        step = f"{clip.stride} * fps * {rate.numerator} / {rate.denominator} if fps else {step}"
    between = 2 * (num_clips - 1)  # rounded half up
    start = f"(2 * i * last + {between // 2}) // {between}" if between else "last // 2"
    return {
        "meaning": about + "of frame number j in clip number i; fps is 0 where it is not known",
        "counts": {"i": num_clips, "j": clip.clip_len},
        "expressions": length
        | {
            "step": step,
            "last": f"max(length - int({reach} * step) - 1, 0)",
            "start": start,
            "frame": "(start + int(j * step)) % length",
        },
    }


def check_packages(suffix: str) -> None:
    """Before minutes of work: raises UserError if a package is missing that the format needs."""
    missing = [name for name in PACKAGES[suffix] if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(
            f"--export to {suffix} needs {', '.join(missing)}: pip install {' '.join(missing)}; "
            ".pt2 needs nothing more than torch"
        )


def export_network(
    path: Path, model: nn.Module, clip_shape: tuple[int, int, int, int], about: dict[str, Any]
) -> float:
    """Writes `path`, which ends in .onnx or .pt2, and OUT.json beside it.

    Args:
        model: float32, on the CPU, in evaluation.
        clip_shape: (C, T, H, W) of a normalized clip.
        about: what users of the file must know: preprocessing, class names, weights.

    Returns:
        the largest difference to the logits of `model`, as a share of the largest logit.

    Raises:
        UserError: the file says something else, or it cannot be written.
    """
    # two and not one: a dimension of one is taken for constant
    clips = torch.randn((2, *clip_shape), generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (clips,), dynamic_shapes=({0: batch},))
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


def to_pt2(program: torch.export.ExportedProgram, clips: torch.Tensor) -> Exported:
    """The network is read back, as a user would."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue(), torch.export.load(io.BytesIO(buffer.getvalue())).module()


def to_onnx(program: torch.export.ExportedProgram, clips: torch.Tensor) -> Exported:
    """The network is run by onnxruntime on the CPU."""
    import onnxruntime

    names = {"input_names": ["clips"], "output_names": ["logits"]}
    exported = torch.onnx.export(
        program, (clips,), dynamo=True, opset_version=OPSET, verbose=False, **names
    )
    assert exported is not None  # it is where dynamo is False
    content = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def logits(clips: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(session.run(["logits"], {"clips": clips.numpy()})[0]))

    return content, logits


@torch.inference_mode()
def largest_difference(
    model: nn.Module, exported: Callable[[torch.Tensor], torch.Tensor], clips: torch.Tensor
) -> float:
    """For one clip, two and three, of which only two were seen when the network was recorded."""
    worst = 0.0
    for batch in (clips[:1], clips, torch.cat([clips.flip(2), clips[:1]])):
        expected = model(batch)
        if not expected.isfinite().all():
            raise UserError("the logits of this network are not finite; nothing was written")
        difference = (exported(batch) - expected).abs().max() / expected.abs().max()
        worst = max(worst, difference.nan_to_num(nan=torch.inf).item())
    return worst


def describe_export(clip_shape: tuple[int, int, int, int], about: dict[str, Any]) -> dict[str, Any]:
    """What goes in and comes out, for people and programs that have only the file."""
    return {
        "input": {
            "name": "clips",
            "dtype": "float32",
            "shape": ["batch", *clip_shape],
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
