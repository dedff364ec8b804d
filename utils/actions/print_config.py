"""--print-config: every option, its value and where that came from."""

import os

from opts import ACTIONS, DEFAULTS, Options, recipe_for


def print_config(opts: Options) -> int:
    """One of the processes prints them."""
    if os.environ.get("RANK", "0") == "0":
        print(config_table(of_weights(opts) if opts.resume or opts.pretrained else opts))
    return 0


def of_weights(opts: Options) -> Options:
    """The options as the run will have them, whose weights bring some of their own.

    Raises:
        UserError: there are no such weights, or they do not go with what is asked for.
    """
    # here, as all else needs no torch
    from utils.resume.start import with_those_of_weights
    from utils.run import as_evaluated, choose_preprocessing, network_arguments, starting_point

    start = starting_point(opts)
    opts = as_evaluated(opts, start)
    clip = choose_preprocessing(opts, start)
    return with_those_of_weights(opts, start, clip, network_arguments(opts, start, clip))


def config_table(opts: Options) -> str:
    """Every option with its value and where that came from, a line each.

    First come those that differ from the recipe, or where it has none, from their defaults.
    """
    recipe, values = recipe_for(vars(opts))[1], sorted(opts.values().items())
    usual = DEFAULTS | vars(recipe) | recipe.arch_args
    widths = [max(len(str(pair[i])) for pair in values) for i in range(2)]
    blocks: tuple[list[str], list[str]] = [], []
    for name, value in values:
        source = opts.sources[name]
        as_usual = name in ACTIONS or source == "default" or value == usual.get(name)
        blocks[as_usual].append(f"{name:{widths[0]}}  {str(value):{widths[1]}}  {source}")
    return "\n\n".join(map("\n".join, blocks))
