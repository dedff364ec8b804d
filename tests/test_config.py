"""What config.py gives to every room beside its tables."""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from config import (
    PROTOCOLS,
    Augmentation,
    Clip,
    UserError,
    Views,
    add_options,
    check_augmentation,
    default_workers,
    in_form,
    option,
    part,
    whole,
)
from utils.recipes import LITTLE_DATA, RECIPES, find_recipe


def test_a_file_is_replaced_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with open(path) as opened:  # by someone who reads on all the while
        with whole(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert opened.read() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), whole(path) as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_of_several_files_none_is_replaced_before_all_are_written(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with pytest.raises(UnicodeEncodeError), ExitStack() as stack:
        for path, text in zip(paths, ("new", "\udcff"), strict=True):
            stack.enter_context(whole(path)).write_text(text, encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_the_longest_length_can_be_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    with whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Every kind of option."""

    count: int = option(3, "a number", low=1, high=9)
    rate: float | None = option(None, "one that may be unknown", low=0.5)
    size: int | Literal["auto"] | None = option(None, "or a word", low=1)
    name: str = option("a", "a word of some", choices=("a", "b"))
    kept: bool = option(True, "can be taken back")
    own: bool = option(False, "for once", resumed="own")
    ends: tuple[int, int] = option((1, 1), "a range", nargs="+", metavar="PX")
    pair: tuple[float, float] = option((0.5, 1.0), "two numbers", metavar=("LOW", "HIGH"))
    some: tuple[int, ...] = option((), "any number of them", nargs="*")
    seen: Views = option(Views(1, 1), "a type of our own")
    inner: int = 0  # no option


def toy_parser():
    parser = argparse.ArgumentParser(prog="toy")
    add_options(parser, Toy)
    return parser


@pytest.mark.parametrize(
    "argv, values",
    [
        ("", {}),
        ("--count 9 --rate 0.5", {"count": 9, "rate": 0.5}),
        ("--size auto", {"size": "auto"}),
        ("--size 4", {"size": 4}),
        ("--no-kept --own", {"kept": False, "own": True}),
        ("--ends 3", {"ends": (3, 3)}),
        ("--ends 3 4", {"ends": (3, 4)}),
        ("--pair 1 2 --some", {"pair": (1.0, 2.0), "some": ()}),
        ("--some 5", {"some": (5,)}),
        ("--seen all", {"seen": Views(None, 1)}),
    ],
)
def test_an_option_is_read_as_its_field_says(argv, values):
    assert in_form(Toy, vars(toy_parser().parse_args(argv.split()))) == values


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--count 0", "argument --count: 0 must be between 1 and 9"),
        ("--count x", "argument --count: invalid int value: 'x'"),
        ("--rate 0", "argument --rate: 0 must be at least 0.5"),
        ("--rate nan", "argument --rate: nan must be at least 0.5"),
        ("--size other", "invalid int value: 'other'"),
        ("--name c", "invalid choice: 'c'"),
        ("--pair 1", "expected 2 arguments"),
        ("--seen 2x2", "argument --seen: '2x2' is not CLIPSxCROPS"),
        ("--inner 1", "unrecognized arguments"),
        ("--no-own", "unrecognized arguments"),
    ],
)
def test_what_a_field_does_not_allow_is_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        toy_parser().parse_args(argv.split())
    assert message in capsys.readouterr().err


def test_help_says_the_defaults():
    text = " ".join(toy_parser().format_help().split())
    assert "toy: Every kind of option." in text
    assert "--count N a number (default: 3)" in text
    assert "--pair LOW HIGH two numbers (default: 0.5 1.0)" in text
    assert "can be taken back (default: True)" in text
    assert "--own for once --ends" in text  # nothing to say
    assert "a type of our own (default: 1x1)" in text


@pytest.mark.parametrize("key", RECIPES, ids=str)
def test_every_recipe_has_clips_that_can_be(key):
    check_augmentation(part(Clip, RECIPES[key]), part(Augmentation, RECIPES[key]))


# typed a second time from the sources that utils/recipes/ names, since no other test would see a
# slip: frames, stride, epochs, clips a step, rate and the epochs of its steps
PUBLISHED = {
    ("i3d", "scratch"): (64, 1, 100, 64, 0.01, (40, 80)),
    ("i3d", "kinetics"): (64, 1, 50, 64, 0.001, (20, 40)),
    ("i3d", "hmdb51", "kinetics"): (64, 1, 35, 64, 0.01, (15, 25)),
    ("i3d", "kinetics400", "imagenet"): (32, 2, 100, 64, 0.01, (40, 80)),
    ("s3d", "scratch"): (64, 1, 45, 64, 0.2 / 12, (20, 30, 40)),
    ("resnet3d", "imagenet"): (32, 2, 104, 64, 0.01, (39, 78)),
    ("resnet3d", "kinetics"): (32, 2, 50, 64, 0.001, (20, 40)),
    ("resnet3d", "hmdb51", "kinetics"): (32, 2, 35, 64, 0.01, (15, 25)),
    ("slowfast", "scratch"): (32, 2, 196, 64, 0.1, ()),
    ("slowfast", "kinetics"): (32, 2, 50, 64, 0.001, (20, 40)),
    ("tsn", "scratch"): (3, 1, 80, 128, 0.01, (30, 60)),
    ("tsn", "imagenet"): (3, 1, 80, 128, 0.001, (30, 60)),
    ("tsn", "kinetics400", "imagenet"): (3, 1, 100, 256, 0.01, (40, 80)),
    ("r2plus1d", "scratch"): (16, 4, 196, 64, 0.1, ()),
    ("r2plus1d", "kinetics"): (16, 4, 50, 64, 0.001, (20, 40)),
    ("x3d", "scratch"): (16, 5, 300, 128, 0.1, ()),
    ("x3d_xs", "scratch"): (4, 12, 300, 128, 0.1, ()),
    ("x3d_s", "scratch"): (13, 6, 300, 128, 0.1, ()),
    ("x3d_l", "scratch"): (16, 5, 256, 64, 0.05, ()),
    ("videoresnet", "scratch"): (16, 2, 225, 64, 0.01 * 64 / 24, (100, 150, 200)),
    ("videoresnet", "kinetics"): (16, 2, 84, 32, 1e-4, (21, 42, 63)),
    ("videoresnet", "hmdb51", "kinetics"): (16, 2, 90, 32, 2e-4, (22, 45, 67)),
    ("mvit", "scratch"): (16, 4, 200, 64, 2e-4, ()),
    ("mvit", "kinetics"): (16, 4, 100, 64, 6.25e-5, ()),
    ("mvit", "ssv2", "kinetics"): (16, 4, 100, 64, 0.01, ()),
    ("swin3d", "kinetics"): (32, 2, 100, 64, 6.25e-5, ()),
    ("swin3d", "ssv2", "kinetics"): (32, 2, 60, 64, 1e-4, ()),
    ("tsm", "kinetics400", "imagenet"): (8, 1, 50, 128, 0.02, (20, 40)),
    ("tsm", "ucf101", "kinetics"): (8, 1, 25, 64, 0.001, (10, 20)),
}


def test_recipes_are_those_of_their_sources():
    """And of ResNets, video-nonlocal-net and SlowFast step as Nesterov does; of TSN, its authors
    freeze all batch norms but the first where they start from ImageNet, MMAction2 on Kinetics does
    not; those of TSM do on small sets."""
    names = ("clip_len", "stride", "epochs", "batch_size", "lr", "lr_steps")
    assert {key: tuple(getattr(RECIPES[key], n) for n in names) for key in PUBLISHED} == PUBLISHED
    cosine = RECIPES["resnet3d", "scratch"]  # SlowFast's has no steps
    assert (cosine.clip_len, cosine.stride, cosine.epochs, cosine.lr) == (8, 8, 196, 0.1)
    assert (cosine.schedule, cosine.warmup_epochs) == ("cosine", 34)
    clipped = {key for key, recipe in RECIPES.items() if recipe.clip_grad}
    usual = {key for key in clipped if key[0] != "tsm"}
    assert {RECIPES[key].clip_grad for key in usual} == {40, 1}  # 1: of transformers
    assert {RECIPES[key].clip_grad for key in clipped if key not in usual} == {20}
    assert {key[:2] for key, recipe in RECIPES.items() if recipe.nesterov} == {
        ("resnet3d", "imagenet"),
        ("resnet3d", "kinetics400"),
        ("slowfast", "scratch"),
        ("slowfast", "kinetics400"),
        *((name, "scratch") for name in ("x3d", "x3d_xs", "x3d_s", "x3d_l")),
        ("x3d", "kinetics400"),
    }
    frozen = {key for key, recipe in RECIPES.items() if recipe.arch_args.get("partial_bn")}
    assert frozen == {
        ("tsn", "imagenet"),
        ("tsn", "kinetics"),
        ("tsn", "ucf101", "imagenet"),
        ("tsn", "hmdb51", "imagenet"),
        ("tsn", LITTLE_DATA, "imagenet"),
        ("tsm", "kinetics"),
        ("tsm", "ucf101", "kinetics"),
    }
    flow = find_recipe("tsn", "ucf101", "imagenet", "flow")
    assert (flow.clip_len, flow.snippet_len, flow.dropout) == (15, 5, 0.7)
    assert (flow.mean, flow.std) == ((0.5,) * 10, (0.226,) * 10)  # the mean of ImageNet's
    differences = find_recipe("tsn", "ucf101", "imagenet", "rgbdiff")
    assert (differences.clip_len, differences.snippet_len) == (42, 6)


def test_protocols_are_those_of_the_papers():
    """Views, what is averaged over them, and crops as large as the frame: see PROTOCOLS."""
    found = {name: (str(p.views), p.average, p.full_crop) for name, p in PROTOCOLS.items()}
    assert found == {
        "i3d": ("allx1", "logits", False),
        "s3d": ("allx1", "logits", False),
        "nonlocal": ("10x3", "scores", True),
        "slowfast": ("10x3", "scores", True),
        "x3d": ("10x3", "scores", True),
        "tsn": ("25x10", "logits", False),
        "videoresnet": ("5x1", "scores", False),
        "mvit": ("5x1", "scores", False),
        "swin3d": ("12x1", "scores", False),
        "tsm": ("1x10", "logits", False),
        "tsm_dense": ("10x3", "logits", True),
        "clip": ("1x1", "scores", False),
    }


@pytest.mark.parametrize(
    "clip, augmentation, message",
    [
        ({}, {"short_side": (70, 60)}, "--short-side takes one number, or the lowest and the hi"),
        ({}, {"short_side": (60, 65, 70)}, "--short-side takes one number"),
        ({"crop_size": 65}, {"short_side": (64, 64)}, "--crop-size 65 is more than the short side"),
        ({}, {"crop_area": (0.5, 0.1)}, "--crop-area takes the lowest, then the highest"),
        ({"modality": "flow"}, {"color_jitter": (1, 0, 0, 0)}, "for RGB frames, not for flow"),
        ({}, {"color_jitter": (0, 0, 0, 0.6)}, "half a turn"),
        ({"clip_len": 7, "snippet_len": 2}, {}, "must be a multiple of --snippet-len"),
    ],
)
def test_combinations_that_cannot_be_are_refused(clip, augmentation, message):
    recipe = RECIPES["any", "demo", "scratch"]
    clip = replace(part(Clip, recipe), **clip)
    with pytest.raises(UserError, match=message):
        check_augmentation(clip, replace(part(Augmentation, recipe), **augmentation))


@pytest.mark.parametrize(
    "cores, processes, workers", [(64, 1, 8), (6, 1, 6), (12, 4, 3), (2, 4, 1)]
)
def test_there_is_a_loader_process_for_each_core_up_to_eight(
    monkeypatch, cores, processes, workers
):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_workers() == workers
