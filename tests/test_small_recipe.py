"""--recipe small: for every network, modality and start, and what else has a say beside it."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY_RUN

import main
from benchmarks import small
from config import (
    ARCHS,
    DATASETS,
    Augmentation,
    Clip,
    Evaluation,
    UserError,
    Views,
    check_augmentation,
    part,
)
from models import build_model
from models.weights import public_weights
from opts import parse_opts
from utils.actions import head_only_way
from utils.recipes import LITTLE_DATA, RECIPES, find_recipe, recipe_key
from utils.resume.start import check_resumed
from utils.run import (
    StartingPoint,
    as_evaluated,
    choose_augmentation,
    choose_preprocessing,
    network_arguments,
    recipe_preprocessing,
    starting_point,
)

STARTS = ("scratch", "imagenet", "kinetics")
RUNS = [(arch, modality) for arch, entry in ARCHS.items() for modality in entry.modalities]


def options(text):
    return parse_opts(f"--dataset mine --recipe small {text}".split())


@pytest.mark.parametrize("arch, modality", RUNS)
def test_every_network_takes_its_clips(arch, modality):
    opts = options(f"--arch {arch} --modality {modality}")
    clip = recipe_preprocessing(opts)
    channels, *size = clip.network_input()
    assert len(clip.mean) == len(clip.std) == channels
    assert clip.clip_len // clip.snippet_len in (8, 16)  # places in the video
    assert clip.crop_size <= 112
    with torch.device("meta"):
        model = build_model(arch, 6, **network_arguments(opts, StartingPoint(arch=arch), clip))
        logits = model(torch.zeros(opts.batch_size, channels, *size))
    assert logits.shape == (opts.batch_size, 6)


@pytest.mark.parametrize("arch, modality", RUNS)
@pytest.mark.parametrize("start", [*STARTS, "checkpoint"])
def test_it_is_found_for_every_start_and_is_one_that_can_be(arch, modality, start):
    assert LITTLE_DATA in recipe_key(arch, LITTLE_DATA, start)
    recipe = find_recipe(arch, LITTLE_DATA, start, modality)
    check_augmentation(part(Clip, recipe), part(Augmentation, recipe))
    assert (recipe.modality, recipe.expected) == (modality, "")
    assert recipe.lr <= find_recipe(arch, LITTLE_DATA, "scratch").lr


def test_it_is_that_of_any_data_set_and_of_any_network(monkeypatch):
    of_mine = vars(parse_opts(["--arch", "i3d", "--dataset", "mine", "--recipe", "small"]))
    for dataset in DATASETS:
        found = parse_opts(["--arch", "i3d", "--dataset", dataset, "--recipe", "small"])
        assert {name: getattr(found, name) for name in vars(RECIPES["i3d", "scratch"])} == {
            name: of_mine[name] for name in vars(RECIPES["i3d", "scratch"])
        }
    monkeypatch.setitem(ARCHS, "toy", replace(ARCHS["i3d"], options={}))
    assert options("--arch toy").clip_len == RECIPES["any", LITTLE_DATA, "scratch"].clip_len


def test_a_data_set_that_is_called_small_has_the_papers_recipe():
    assert recipe_key("i3d", "small", "scratch") == ("i3d", "scratch")
    assert parse_opts(["--arch", "i3d", "--dataset", "small"]).recipe == "paper"


def test_every_value_can_be_typed_and_the_rate_is_scaled():
    recipe = RECIPES["any", LITTLE_DATA, "scratch"]
    opts = options("--arch i3d --epochs 7 --clip-len 32 --snippet-len 0 --batch-size 8")
    assert (opts.epochs, opts.clip_len, opts.snippet_len) == (7, 32, 0)
    assert opts.lr == recipe.lr * 8 / recipe.batch_size
    assert LITTLE_DATA in opts.sources["lr"] and "scaled" in opts.sources["lr"]
    assert opts.sources["crop_size"] == f"recipe {('any', LITTLE_DATA, 'scratch')}"
    assert opts.sources["recipe"] == opts.sources["epochs"] == "command line"


def saved(tmp_path, opts):
    values = json.dumps(opts.values(), default=str)
    (tmp_path / "options.json").write_text(values)
    return f"--resume {tmp_path / 'last.pth'}"


def test_a_run_that_goes_on_keeps_its_recipe(tmp_path):
    before = options("--arch s3d --epochs 7")
    resumed = parse_opts(saved(tmp_path, before).split())
    assert resumed.recipe == "small"
    assert part(Clip, resumed) == part(Clip, before)
    assert (resumed.epochs, resumed.lr) == (7, before.lr)
    assert parse_opts([*saved(tmp_path, before).split(), "--recipe", "small"]).changed == {}


def test_a_run_that_goes_on_cannot_have_another_recipe(in_tiny_set, tmp_path, monkeypatch):
    before = parse_opts(["--arch", "i3d", "--dataset", "tiny"])
    resume = saved(tmp_path, before).split()
    changed = {"recipe": ("paper", "small")}
    assert parse_opts([*resume, "--recipe", "small"]).changed == changed
    values = json.loads((tmp_path / "options.json").read_text())
    del values["recipe"]  # as before there were two
    (tmp_path / "options.json").write_text(json.dumps(values))
    opts = parse_opts([*resume, "--recipe", "small"])
    assert opts.changed == changed
    with pytest.raises(UserError, match="was not trained with --recipe small but with paper"):
        check_resumed(opts, {"action": "train"})


@pytest.mark.parametrize("arch", ARCHS)
def test_public_weights_see_its_clips_and_their_own_colors(arch):
    for name, entry in public_weights(arch).items():
        theirs = entry.preprocessing
        opts = options(f"--arch {arch} --pretrained {name} --modality {theirs.modality}")
        clip, recipe = choose_preprocessing(opts, starting_point(opts)), recipe_preprocessing(opts)
        assert part(Clip, clip) == part(Clip, recipe)
        assert (clip.short_side, clip.fps, clip.target_fps) == (recipe.short_side, None, None)
        assert (clip.mean, clip.std) == (theirs.mean, theirs.std)
        assert (clip.channel_order, clip.value_range) == (theirs.channel_order, theirs.value_range)
        assert choose_augmentation(opts, clip).short_side == opts.short_side
        opts = options(
            f"--arch {arch} --pretrained {name} --modality {theirs.modality} --clip-len 40"
        )
        assert choose_preprocessing(opts, starting_point(opts)).clip_len == 40


def test_a_checkpoint_to_start_from_is_fed_and_evaluated_as_the_recipe_has_it():
    theirs = find_recipe("i3d", "mine", "scratch")
    clip = recipe_preprocessing(parse_opts(["--arch", "i3d", "--dataset", "mine"]))
    evaluation = Evaluation(views=Views(10, 3), full_crop=True).plain()
    start = StartingPoint(arch="i3d", name="a.pth", preprocessing=clip, evaluation=evaluation)
    opts = options("--arch i3d --pretrained a.pth --views 1x3")
    assert choose_preprocessing(opts, start).clip_len == opts.clip_len != theirs.clip_len
    chosen = part(Evaluation, as_evaluated(opts, start))
    assert chosen == Evaluation(views=Views(1, 3))
    paper = parse_opts(
        ["--arch", "i3d", "--dataset", "mine", "--pretrained", "a.pth", "--recipe", "paper"]
    )
    assert choose_preprocessing(paper, start) == clip
    assert part(Evaluation, as_evaluated(paper, start)) == Evaluation(
        views=Views(10, 3), full_crop=True
    )


def test_what_is_resumed_without_its_options_is_fed_as_it_was(tmp_path):
    """The recipe stands in for lost options, but not for what the checkpoint itself says."""
    clip = recipe_preprocessing(parse_opts(["--arch", "i3d", "--dataset", "mine"]))
    start = StartingPoint(arch="i3d", preprocessing=clip, checkpoint={"epoch": 1})
    opts = options(f"--arch i3d --resume {tmp_path}/last.pth --evaluate")
    assert choose_preprocessing(opts, start) == clip


def test_the_first_line_names_the_way_of_a_head_where_weights_are_on_the_disk(
    in_tiny_set, monkeypatch
):
    run = main.set_up(parse_opts([*TINY_RUN, "--recipe", "small"]))
    plain = "--recipe small: 8 frames of 32 px, spread over each video"
    monkeypatch.setattr("models.weights.FOLDER", Path("pretrained"))
    assert head_only_way.small_recipe_in_words(run) == plain
    name, entry = next(iter(public_weights("i3d").items()))
    clip = replace(entry.preprocessing, clip_len=8, crop_size=32)
    weights = {name: replace(entry, url="https://x/y.pt", preprocessing=clip)}
    monkeypatch.setattr(head_only_way, "public_weights", lambda _: weights)
    Path("pretrained").mkdir()
    Path("pretrained/y.pt").touch()
    monkeypatch.setattr(head_only_way, "seconds_of", lambda *_: 6)
    before = torch.get_rng_state()
    assert head_only_way.small_recipe_in_words(run) == (
        f"{plain}; y.pt is there, too: with --pretrained {name} --head-only --views 5x1 in the "
        "place of --recipe small, only a head is trained, in about 5 min"
    )  # 6 s for each of 5 views of 10 videos
    assert torch.equal(torch.get_rng_state(), before)


def test_the_benchmark_counts_the_videos_of_all_folds_and_does_nothing_twice(
    tmp_path, monkeypatch, capsys
):
    commands = []

    def run(command, cwd, **how):
        typed = dict(zip(command[2::2], command[3::2], strict=False))
        seed, fold = int(typed["--seed"]), int(typed["--split"])
        folder = Path(cwd, "saved_model", typed["--name"])
        folder.mkdir(exist_ok=True)
        assert command[-2:] == ["--lr", "0.5"]
        commands.append((typed["--arch"], seed, fold))
        if (seed, fold) == (1, 2) and commands.count(commands[-1]) == 1:
            return SimpleNamespace(returncode=1)
        (folder / "last.pth").touch()
        result = {"top1": 100.0 * (fold == 1), "num_videos": 10 if fold == 1 else 30 - 10 * seed}
        (folder / "result.json").write_text(json.dumps(result))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(small.subprocess, "run", run)
    words = ["--archs", "i3d", "--seeds", "0", "1", "--folds", "1", "2", "--out", str(tmp_path)]
    words += ["--", "--lr", "0.5"]
    small.main(words)
    assert "i3d" not in capsys.readouterr().out  # for a fold is missing
    small.main(words)
    assert "| i3d | 29.2 | 5.9 | 25.0 33.3 |" in capsys.readouterr().out
    assert sorted(commands) == [("i3d", 0, 1), ("i3d", 0, 2), ("i3d", 1, 1), *[("i3d", 1, 2)] * 2]
    assert not list(tmp_path.rglob("*.pth"))
