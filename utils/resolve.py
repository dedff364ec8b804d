"""What the options come to once the machine, the weights and the checkpoint are known."""

import logging
from dataclasses import asdict, replace

import torch

from config import ARCHS, Clip, Preprocessing, UserError, flag, part
from models import weights
from opts import OPTIONS, Options
from utils import distributed

log = logging.getLogger("video")


def pick_device(name: str) -> torch.device:
    """The device of `--device`; "auto" is the GPUs if there are any.

    Of several processes on a machine each has a GPU of its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if distributed.launched() and name.startswith("cuda"):
        num_gpus = torch.cuda.device_count()
        if distributed.local_rank() >= num_gpus:
            raise UserError(
                f"process {distributed.local_rank() + 1} on this machine has no GPU of its own, "
                f"there are {num_gpus}: torchrun --nproc_per_node={num_gpus}, or --device cpu"
            )
        if ":" in name:
            raise UserError(
                f"--device {name} is for one process; of several each takes the next GPU, those of "
                "CUDA_VISIBLE_DEVICES where that is set"
            )
        name = f"cuda:{distributed.local_rank()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if distributed.launched() and device.type == "cuda":
            torch.cuda.set_device(device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def check_resumed(opts: Options, resumed: dict) -> None:
    """Can this run go on from that checkpoint?

    Raises:
        UserError: it cannot, because something asked for would change what it has done so far.
    """
    if resumed["arch"] != opts.arch:
        raise UserError(f"{opts.resume} is a checkpoint of {resumed['arch']}, not of {opts.arch}")
    if opts.evaluate:
        return
    for name, (old, new) in opts.changed.items():
        if OPTIONS[name].metadata.get("resumed") == "fixed":
            raise UserError(
                f"{opts.resume} was not trained with {flag(name)} {new} but with {old}, which "
                "cannot be changed afterwards; start a new run with another --name"
            )
    # torch loads the state of SGD into AdamW without a word
    if ("betas" in resumed["optimizer"]["param_groups"][0]) != (opts.optimizer == "adamw"):
        raise UserError(f"{opts.resume} was not trained with --optimizer {opts.optimizer}")


def entry_of(opts: Options, state: dict) -> weights.Weights:
    """A checkpoint as weights to start from, whose head may be replaced."""
    if state["arch"] != opts.arch:
        raise UserError(f"{opts.resume} is a checkpoint of {state['arch']}, not of {opts.arch}")
    network = state["ema"]["average"] if state["ema"] else state["model"]
    return weights.Weights(
        url=opts.resume,
        read=lambda path: network,
        convert=dict,
        arch_args=state["arch_args"],
        preprocessing=Preprocessing(**state["preprocessing"]),
        license="",
        source=opts.resume,
        accuracy="",
    )


def preprocessing_of(opts: Options, entry: weights.Weights | None, resumed: dict | None) -> dict:
    """Everything between a file and the network; a checkpoint's own comes before the recipe's."""
    clip = vars(part(Clip, opts)) | {"short_side": opts.short_side[0]}
    typed = {name: value for name, value in clip.items() if opts.typed(name)}
    recipe = Preprocessing(**clip, mean=opts.mean, std=opts.std)
    if not (entry or resumed):
        return asdict(recipe)
    theirs = Preprocessing(**resumed["preprocessing"]) if resumed else entry.preprocessing
    if theirs.modality != opts.modality:
        if resumed or not ARCHS[opts.arch].cross_modality:
            raise UserError(
                f"the weights {opts.resume if resumed else opts.pretrained} are for --modality "
                f"{theirs.modality}, not for {opts.modality}"
            )
        typed |= {
            "modality": opts.modality,
            "clip_len": opts.clip_len,
            "snippet_len": opts.snippet_len,
        }
    preprocessing = replace(theirs, **typed)
    if opts.modality == "flow" != theirs.modality:
        preprocessing = preprocessing.for_flow()
    if entry:
        for name, value in asdict(recipe).items():
            theirs = getattr(preprocessing, name)
            if theirs != (tuple(value) if isinstance(value, list) else value):  # JSON has no tuples
                log.info(
                    f"preprocessing: {name} {theirs}, as {opts.pretrained or opts.resume} "
                    f"was trained; the recipe would have {value}"
                )
    return asdict(preprocessing)


def short_side_range(opts: Options, preprocessing: dict) -> tuple[int, int]:
    """The short sides of training; a recipe's range holds only where it suits the weights'."""
    side = preprocessing["short_side"]
    return opts.short_side if opts.short_side[0] == side else (side, side)


def check_shares(opts: Options, device: torch.device) -> None:
    """Can the batch be split over the processes of this run?

    Raises:
        UserError: it cannot.
    """
    num_processes = distributed.world_size()
    if opts.batch_size < num_processes:
        raise UserError(
            f"--batch-size {opts.batch_size} is less than a clip for each of {num_processes} "
            "processes"
        )
    if not opts.sync_bn or opts.evaluate:
        return
    if num_processes == 1 or device.type != "cuda":
        raise UserError(
            "--sync-bn is for several processes with a GPU each, started by torchrun; "
            "--no-sync-bn goes on without it"
        )
    if opts.batch_size % num_processes:
        raise UserError(
            f"--sync-bn needs a --batch-size that is a multiple of the {num_processes} processes"
        )


def share_size(opts: Options) -> int:
    """The most clips of a batch that one process has."""
    return -(-opts.batch_size // distributed.world_size())


def clips_at_once(opts: Options) -> int:
    """Clips that a process has on its devices at the same time, as far as the options say."""
    return share_size(opts) if opts.micro_batch in (None, "auto") else opts.micro_batch
