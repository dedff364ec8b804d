"""Train or evaluate a video classifier.

python main.py --arch i3d --dataset demo                    # writes its own data: try this first
python main.py --arch i3d --dataset ucf101                  # from scratch
python main.py --arch i3d --dataset ucf101 --pretrained i3d_rgb_piergiaj
python main.py --resume saved_model/i3d_ucf101_1/last.pth   # go on
python main.py --arch i3d --dataset ucf101 --resume auto    # go on, or start: for job schedulers
python main.py --resume saved_model/i3d_ucf101_1/last.pth --evaluate --views 10x3
torchrun --nproc_per_node=4 main.py --arch i3d --dataset ucf101   # four processes, a GPU each
python main.py --arch i3d --dataset ucf101 --splits 1 2 3       # all three, and their mean
python main.py --resume saved_model/i3d_ucf101_1/last.pth --predict clip.mp4
python main.py --arch i3d --dataset ucf101 --pretrained i3d_rgb_piergiaj --head-only
"""

from config import STATUS, as_command

if __name__ == "__main__":
    as_command(STATUS)

import contextlib
import logging
import os
import sys
import time
from importlib import import_module

from opts import WITHOUT_LISTS, Options, parse_opts

# --help, --print-config and a wrong option are answered before torch takes its seconds to import
if __name__ == "__main__" and (asked := parse_opts()).action == "print_config":
    from utils.actions.print_config import print_config

    if not (asked.resume or asked.pretrained):  # whose weights have a say
        sys.exit(print_config(asked))

import torch
from torch import nn

from config import Curves, Evaluation, Views, flag, part, refuse
from pt_dataset.loader import Loader
from utils import distributed, words
from utils.build import (
    adapt_network,
    build_logger,
    build_saver,
    build_trainer,
    check_loggers,
    clips_to_try,
    evaluated_weights,
    score,
    training_loader,
)
from utils.classifier import ClipClassifier, Normalize
from utils.evaluator import validation_metrics
from utils.interrupt import GracefulStop, Stop
from utils.loggers import say, set_up_console
from utils.mistakes import Mistakes
from utils.precision import choose_precision
from utils.results import report_results
from utils.run import (
    Run,
    as_evaluated,
    choose_augmentation,
    choose_preprocessing,
    network_arguments,
    owned_results,
    owned_run,
    pick_device,
    read_lists,
    run_folder,
    start_run_folder,
    starting_point,
)
from utils.trainer import Trainer

ONE_PROCESS = (*WITHOUT_LISTS, "head_only", "probe_time")  # actions that none can share
ONE_CLIP = Evaluation(views=Views(1, 1))  # of a video, in the validation after each epoch
log = logging.getLogger("video")


def main(argv: list[str] | None = None) -> int:
    """One run; returns the exit status.

    Raises:
        UserError: something that the user can mend.
    """
    opts = parse_opts(argv)
    several = opts.action in ONE_PROCESS and int(os.environ.get("WORLD_SIZE", 1)) > 1
    refuse(several, f"{flag(opts.action)} runs in one process: python main.py, without torchrun")
    if opts.action in (*WITHOUT_LISTS, "print_config"):
        return action_named(opts.action)(opts)
    argv = sys.argv[1:] if argv is None else argv
    with distributed.joined(argv), owned_run(opts, argv) as opts:
        if opts.splits:  # one after the other, each as if it had been typed
            return action_named("splits")(opts, argv, main)
        run = set_up(opts)
        # a signal lets the step in hand be finished
        with owned_results(run), GracefulStop() as stop, distributed.short_waits():
            action = {"train": train, "evaluate": evaluate}.get(opts.action)
            try:
                return (action or action_named(opts.action))(run, stop)
            except Stop as request:
                log.info(f"{request}; nothing was written; the same command starts again")
                return request.status


def action_named(name: str):
    """What a file of utils/actions/ does, imported only if it is asked for."""
    return getattr(import_module(f"utils.actions.{name}"), name)


def set_up(opts: Options) -> Run:
    """Everything that can fail before the first step; makes no run folder."""
    if distributed.is_main():
        set_up_console()
    check_loggers(opts.logger)
    start = starting_point(opts)  # nothing, public weights, or the checkpoint to go on from
    opts = as_evaluated(opts, start)
    folder, device = run_folder(opts), pick_device(opts)
    torch.manual_seed(opts.seed)

    # lists of training, validation and test videos
    preprocessing = choose_preprocessing(opts, start)
    lists, data = read_lists(opts, start, preprocessing)
    say(words.data_in_words(lists, preprocessing, opts.views))

    # network
    arch_args = network_arguments(opts, start, preprocessing)
    with distributed.in_turn():  # the first process may download its weights
        model = start.build_network(lists.class_names, arch_args)
    model, frozen = adapt_network(model, opts)
    shape = preprocessing.network_input()
    with distributed.in_turn():
        tried = (clips_to_try(opts, shape, device), *shape)
        precision = choose_precision(opts.precision, device, model, tried)
    precision = distributed.from_main(lambda: precision)  # where machines differ

    # devices
    torch.backends.cudnn.benchmark = True  # clips have one shape: try the kernels, keep the best
    normalize = Normalize.matching(preprocessing, opts.channels_last)
    classifier: nn.Module = ClipClassifier(model, normalize, precision).to(device)
    if opts.compile:
        from utils.options.compile import compiled

        classifier = compiled(classifier, device)
    classifier = distributed.wrapped(classifier, device)  # for several processes or GPUs
    return Run(
        opts=opts,
        folder=folder,
        device=device,
        start=start,
        lists=lists,
        data=data,
        preprocessing=preprocessing,
        augmentation=choose_augmentation(opts, preprocessing),
        arch_args=arch_args,
        model=model,
        classifier=classifier,
        precision=precision,
        frozen=frozen,
    )


def train(run: Run, stop: GracefulStop) -> int:
    """All epochs that are left, each with its validation, then the evaluation of the end."""
    opts, last = run.opts, run.folder / "last.pth"
    loader = training_loader(run)
    trainer = build_trainer(run, loader)  # a resumed run goes on where it was
    start_run_folder(run)
    forecast = words.Forecast(run, trainer)
    say(words.run_in_words(run, trainer) + forecast.before())
    logger = build_logger(run.folder, trainer.step, trainer.epoch, part(Curves, opts))
    saver = build_saver(run, trainer)
    with words.training_errors(run.folder), contextlib.closing(logger):
        try:
            saver.save_first()
            for epoch in saver.epochs_left(opts.epochs, opts.patience):
                began = time.perf_counter()
                for metrics in trainer.steps(loader.epoch(epoch, trainer.done), opts.log_every):
                    if metrics:
                        logger.log_steps(metrics)
                    say(forecast.lines())
                    saver.save_if_due()
                    stop.check()
                validation, mistakes = validate(run, trainer, loader, stop)
                metrics = trainer.end_epoch(validation)
                seconds = time.perf_counter() - began
                say(words.epoch_in_words(metrics, opts.epochs, seconds, loader.advice()))
                logger.log_epoch(metrics, mistakes)
                saver.save_epoch(metrics)  # last.pth, and best.pth if it is
            with evaluated_weights(run, trainer):
                report(run, words.source_in_words(run, saver.state()), stop)
        except Stop as request:
            saver.save("last.pth")
            log.info(f"{request}; go on with --resume {last}")
            return request.status
        say([f"checkpoint: {last}", *logger.places()])
    return 0


def validate(
    run: Run, trainer: Trainer, loader: Loader, stop: GracefulStop
) -> tuple[dict[str, float], Mistakes]:
    """One center clip of each validation video: what the curves show, and what was wrong."""
    mistakes, epoch = Mistakes(run.lists.class_names), trainer.epoch + 1
    with evaluated_weights(run, trainer, loader):
        scores = score(
            run,
            run.lists.validation,
            ONE_CLIP,
            stop,
            desc=f"validate {epoch}",
            source=f"weights after epoch {epoch}",
            mistakes=mistakes,
        )
    return validation_metrics(scores), mistakes.gathered()


def evaluate(run: Run, stop: GracefulStop) -> int:
    """The test list, as --evaluate asks for it; returns the exit status."""
    run.try_results_folder()
    say(words.evaluation_in_words(run))
    report(run, words.source_in_words(run, run.start.checkpoint), stop)
    log.info(f"scores and predictions: {run.results_folder}")
    return 0


def report(run: Run, source: str, stop: GracefulStop) -> None:
    """Evaluates the test list with the weights that the network has now; `source` says which."""
    evaluation = part(Evaluation, run.opts)
    scores = score(run, run.lists.test, evaluation, stop, desc="evaluate", source=source)
    if distributed.is_main():
        report_results(run.results_folder, scores, run.num_trained_on)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:
        from utils.actions.errors import error_in_words, is_said

        if is_said():
            sys.exit(1)
        sentence = error_in_words(error)
        if sentence is None:
            raise
        sys.exit(f"error: {sentence}")
