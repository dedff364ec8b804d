import ast
import json
import pickle
import resource
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from config import ARCHS, USES, Arch, Recipe
from models.weights import public_weights
from opts import ACTIONS, GROUPS, OPTIONS, Options, build_parser, parse_opts
from utils.actions.print_config import config_table
from utils.recipes import EXPECTED, RECIPES, find_recipe, recipe_key

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("key", RECIPES, ids=str)
def test_options_default_to_the_recipe(key):
    arch, dataset, start = key if len(key) == 3 else (key[0], "anything", key[1])
    arch = "i3d" if arch == "any" else arch
    named = {"tsm": "tsn --shift"}.get(arch, arch)
    if arch.startswith("x3d_"):
        named = f"x3d --variant {arch}"
    argv = ["--arch", *named.split(), "--dataset", dataset]
    weights = {"scratch": [], "imagenet": ["imagenet"], "kinetics": ["some"]}[start]
    opts = vars(parse_opts(argv + [part for name in weights for part in ("--pretrained", name)]))
    recipe = vars(find_recipe(arch, dataset, start))
    assert {name: opts[name] for name in recipe} == recipe


@pytest.mark.parametrize("arch", sorted({key[0] for key in RECIPES} - {"any"}))
def test_every_architecture_with_a_recipe_has_one_to_start_from_scratch(arch):
    assert (arch, "scratch") in RECIPES


@pytest.mark.parametrize("key", EXPECTED, ids=str)
def test_an_accuracy_is_expected_where_a_recipe_is_that_of_the_run(key):
    assert recipe_key(*key) == key
    assert find_recipe(*key).expected == EXPECTED[key]
    if "flow" in ARCHS[key[0].replace("tsm", "tsn")].modalities:
        assert not find_recipe(*key, "flow").expected


def test_every_recipe_value_can_be_overridden_or_is_fixed_by_the_weights():
    help_text = subprocess.run(
        [sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for field in fields(Recipe):
        # what pixels a network expects is no matter of taste, and published accuracy neither; the
        # network's arguments are options by name
        if field.name not in ("mean", "std", "arch_args", "expected"):
            assert "--" + field.name.replace("_", "-") in help_text


def test_the_command_line_wins_over_the_recipe():
    opts = parse_opts(["--arch", "i3d", "--dataset", "demo", "--epochs", "3", "--short-side", "70"])
    assert (opts.epochs, opts.short_side) == (3, (70, 70))
    typed = {name for name in opts.sources if opts.typed(name)}
    assert typed == {"epochs", "short_side", "arch", "dataset"}


@pytest.mark.parametrize(
    "argv, action",
    [
        ("--arch i3d --dataset demo", "train"),
        ("--arch i3d --dataset demo --print-config", "print_config"),
        ("--arch i3d --dataset demo --plan", "plan"),
        ("--arch i3d --dataset demo --pretrained w --head-only", "head_only"),
        ("--arch i3d --dataset demo --resume a --evaluate", "evaluate"),
        ("--arch i3d --dataset demo --resume a --evaluate --probe-time", "probe_time"),
        ("--list-weights --print-config", "list_weights"),
        ("--resume last.pth --predict a.mp4", "predict"),
        ("--resume last.pth --extract-features out --videos a.mp4", "extract_features"),
        ("--resume last.pth --export a.onnx", "export"),
        ("--resume last.pth --predict a.mp4 --list-weights", "list_weights"),
    ],
)
def test_the_options_say_what_is_asked_for_and_are_always_all_there(argv, action):
    opts = parse_opts(argv.split())
    assert opts.action == action
    assert opts.action in ["train", *ACTIONS]
    assert vars(opts).keys() >= OPTIONS.keys()
    assert pickle.loads(pickle.dumps(opts)) == opts  # as other processes get it


def test_a_network_at_work_has_no_recipe():
    use = ["--resume", "a", "--predict"]
    opts = parse_opts([*use, "x", "y", "--short-side", "70", "--views", "3"])
    assert (opts.predict, opts.short_side, str(opts.views)) == (("x", "y"), (70, 70), "3x1")
    assert (opts.batch_size, opts.clip_len, opts.lr) == (8, None, None)
    assert parse_opts([*use, "x"]).views is None


def test_augmentation_is_that_of_the_paper():
    def opts(*argv):
        return parse_opts([*argv, "--dataset", "x"])

    assert opts("--arch", "i3d").short_side == (256, 256)
    assert opts("--arch", "s3d").resize == "square"
    assert opts("--arch", "resnet3d").short_side == (256, 320)
    tsn = opts("--arch", "tsn")
    assert (tsn.crop, tsn.crop_scales, str(tsn.views)) == (
        "corners",
        (1, 0.875, 0.75, 0.66),
        "25x10",
    )


def test_a_modality_changes_the_recipe():
    argv = ["--arch", "tsn", "--dataset", "x", "--modality"]
    flow, diff = parse_opts([*argv, "flow"]), parse_opts([*argv, "rgbdiff"])
    assert (flow.clip_len, flow.snippet_len, len(flow.mean), flow.dropout) == (15, 5, 10, 0.7)
    assert (diff.clip_len, diff.snippet_len, len(diff.mean)) == (42, 6, 3)
    assert flow.crop_scales == diff.crop_scales == (1, 0.875, 0.75)
    i3d = parse_opts(["--arch", "i3d", "--dataset", "x", "--modality", "flow"])
    assert (i3d.clip_len, i3d.snippet_len, i3d.mean) == (64, 0, (0.5, 0.5))


def test_views_of_whole_videos_and_ten_crops():
    argv = ["--arch", "i3d", "--dataset", "x", "--views"]
    assert [str(parse_opts([*argv, v]).views) for v in ("all", "allx3", "2x10", "4")] == [
        *("allx1", "allx3", "2x10", "4x1")
    ]


def test_a_resumed_run_keeps_its_options_and_the_command_line_wins(tmp_path):
    saved = {"arch": "i3d", "dataset": "demo", "epochs": 7, "lr": 0.5, "workers": 3, "name": "x"}
    (tmp_path / "options.json").write_text(json.dumps(saved))
    opts = parse_opts(["--resume", str(tmp_path / "last.pth"), "--epochs", "9"])
    assert (opts.arch, opts.epochs, opts.lr) == ("i3d", 9, 0.5)
    assert opts.name is None  # the run goes on in its own folder
    assert opts.sources["workers"] == "default"  # those of this machine


def test_a_resumed_run_stays_on_its_page_and_one_that_branches_off_does_not(tmp_path):
    saved = {"arch": "i3d", "dataset": "demo", "visdom_env": "mine", "logger": ["tensorboard"]}
    (tmp_path / "options.json").write_text(json.dumps(saved))
    resume = ["--resume", str(tmp_path / "last.pth")]
    opts = parse_opts(resume)
    assert (opts.visdom_env, opts.logger) == ("mine", ("tensorboard",))
    assert parse_opts([*resume, "--name", "other"]).visdom_env is None
    assert parse_opts([*resume, "--logger", "visdom"]).logger == ("visdom",)


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "--arch is needed"),
        (["--arch", "i3d"], "--dataset is needed"),
        (["--arch", "nothing", "--dataset", "demo"], "invalid choice: 'nothing'"),
        (["--arch", "i3d", "--dataset", "demo", "--epoch", "3"], "did you mean --epochs?"),
        (["--arch", "i3d", "--dataset", "demo", "--batch_size=3"], "did you mean --batch-size?"),
        (["--arch", "i3d", "--dataset", "demo", "--epochs", "0"], "must be at least 1"),
        (["--arch", "i3d", "--dataset", "demo", "--epochs", "x"], "invalid int value"),
        (["--arch", "i3d", "--dataset", "demo", "--flip-prob", "2"], "must be between 0 and 1"),
        (["--arch", "i3d", "--dataset", "demo", "--crop-size", "65"], "more than the short side"),
        (["--arch", "i3d", "--dataset", "demo", "--short-side", "70", "60"], "--short-side takes"),
        (["--arch", "i3d", "--dataset", "demo", "--views", "0x1"], "not CLIPSxCROPS"),
        (["--arch", "i3d", "--dataset", "demo", "--views", "2x2"], "not CLIPSxCROPS"),
        (["--arch", "i3d", "--dataset", "x", "--modality", "rgbdiff"], "is not for i3d, but rgb"),
        (["--arch", "tsn", "--dataset", "x", "--views", "all"], "--views all is for consecutive"),
        (["--arch", "tsn", "--dataset", "x", "--target-fps", "25"], "--target-fps is for consec"),
        (["--arch", "i3d", "--dataset", "x", "--target-fps", "0.05"], "must be at least 0.1"),
        (["--arch", "i3d", "--dataset", "x", "--crop", "corner"], "invalid choice: 'corner'"),
        (["--arch", "i3d", "--dataset", "x", "--crop-area", "0.5", "0.1"], "lowest, then the hig"),
        (["--arch", "i3d", "--dataset", "x", "--crop-ratio", "2", "1"], "--crop-ratio takes the"),
        (["--arch", "i3d", "--dataset", "x", "--crop-scales", "2"], "must be between 0.01 and 1"),
        (["--arch", "i3d", "--dataset", "x", "--color-jitter", *"0001"], "half a turn"),
        (
            ["--arch", "i3d", "--dataset", "x", "--modality", "flow", "--color-jitter", *"1000"],
            "for RGB frames, not for flow",
        ),
        (
            ["--arch", "tsn", "--dataset", "x", "--modality", "flow", "--snippet-len", "1"],
            "--modality flow of tsn needs --snippet-len 5",
        ),
        (["--arch", "i3d", "--dataset", "demo", "--evaluate"], "--evaluate needs --resume"),
        (["--arch", "i3d", "--dataset", "demo", "--pretrained-file", "x"], "needs --pretrained"),
        (["--arch", "i3d", "--dataset", "demo", "--micro-batch", "0"], "must be at least 1"),
        (["--arch", "i3d", "--dataset", "demo", "--ema", "1"], "would never leave"),
        (
            ["--arch", "i3d", "--dataset", "demo", "--compile", "--checkpoint-activations"],
            "do not go together",
        ),
        (
            ["--arch", "i3d", "--dataset", "demo", "--sync-bn", "--checkpoint-activations"],
            "--sync-bn and --checkpoint-activations do not go together",
        ),
        (
            ["--arch", "i3d", "--dataset", "demo", "--sync-bn", "--on-bad-frame", "skip"],
            "--sync-bn and --on-bad-frame skip do not go together",
        ),
        (["--arch", "i3d", "--resume", "auto"], "--resume auto needs --name, or --arch and"),
        (["--arch", "i3d", "--dataset", "a/b"], "not a path"),
        (["--arch", "i3d", "--dataset", "demo", "--name", "../x"], "is not the name of a folder"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_opts(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_run_that_synchronized_batch_norm_can_be_evaluated_without_its_bad_videos(tmp_path):
    saved = {"arch": "i3d", "dataset": "x", "sync_bn": True}
    (tmp_path / "options.json").write_text(json.dumps(saved))
    argv = ["--resume", str(tmp_path / "last.pth"), "--on-bad-frame", "skip"]
    assert parse_opts([*argv, "--evaluate"]).on_bad_frame == "skip"
    with pytest.raises(SystemExit):
        parse_opts(argv)


def test_help_answers_at_once():
    def seconds():  # of the processor, which other programs do not change
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "main.py", "--help"], cwd=ROOT, capture_output=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


@pytest.fixture
def toy_arch(monkeypatch):
    options = {"depth": (18, 101), "gates": bool, "top_k": int}
    monkeypatch.setitem(ARCHS, "toy", Arch(network="Toy", options=options))
    recipe = Recipe(clip_len=8, epochs=1, batch_size=1, lr=1, arch_args={"depth": 101, "top_k": 3})
    monkeypatch.setitem(RECIPES, ("toy", "scratch"), recipe)
    return ["--arch", "toy", "--dataset", "x"]


def test_arguments_of_a_network_come_from_the_recipe_and_the_command_line(toy_arch):
    assert parse_opts(toy_arch).arch_args == {"depth": 101, "top_k": 3}
    opts = parse_opts([*toy_arch, "--depth", "18", "--gates"])
    assert opts.arch_args == {"depth": 18, "top_k": 3, "gates": True}
    assert opts.typed("depth")
    assert opts.typed("gates")
    assert opts.values().items() >= {"depth": 18, "gates": True}.items()


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--depth", "34"], "invalid choice: 34"),
        (["--depth", "50"], "--depth 50 is not for toy, but 18, 101"),  # but for another network
        (["--arch", "i3d", "--gates"], "--gates is an option of toy, not of i3d"),
    ],
)
def test_arguments_of_a_network_are_checked(toy_arch, argv, message, capsys):
    with pytest.raises(SystemExit):
        parse_opts([*toy_arch, *argv])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("key", RECIPES, ids=str)
def test_fine_tuning_does_not_use_the_rate_of_training_from_scratch(key):
    """The commonest mistake with public weights, at the same batch."""
    if key[0] not in ("tsn", "any") and key[-1] != "scratch":
        recipe, scratch = RECIPES[key], find_recipe(key[0], "anything", "scratch")
        if recipe.optimizer != scratch.optimizer:
            return  # their rates cannot be compared
        assert recipe.lr / recipe.batch_size <= scratch.lr / scratch.batch_size


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dataset", ["ucf101", "hmdb51", "anything"])
def test_every_architecture_with_weights_of_kinetics_has_a_recipe_to_start_from_them(arch, dataset):
    if any(entry.classes.startswith("kinetics") for entry in public_weights(arch).values()):
        assert "kinetics" in recipe_key(arch, dataset, "kinetics")


def test_a_batch_of_another_size_scales_the_learning_rate_unless_it_is_typed(capsys):
    argv = ["--arch", "i3d", "--dataset", "x", "--batch-size", "16"]
    opts = parse_opts(argv)
    assert opts.lr == 0.01 * 16 / 64
    assert opts.sources["lr"] == "recipe ('i3d', 'scratch'), 0.01 for 64 clips, scaled"
    assert parse_opts([*argv, "--lr", "0.3"]).lr == 0.3


def test_every_value_says_where_it_comes_from(tmp_path):
    (tmp_path / "options.json").write_text(
        json.dumps({"arch": "i3d", "dataset": "demo", "epochs": 7, "lr": 0.5})
    )
    opts = parse_opts(["--resume", str(tmp_path / "last.pth"), "--workers", "3"])
    sources = {
        line.split()[0]: line.split("  ")[-1].strip()
        for line in config_table(opts).splitlines()
        if line
    }
    assert sources["epochs"] == "resumed run"
    assert sources["workers"] == "command line"
    assert sources["seed"] == "default"
    assert sources["momentum"] == "recipe ('any', 'demo', 'scratch')"
    assert opts.lr == 0.5  # not scaled again


def test_what_differs_from_the_recipe_comes_first():
    argv = ["--arch", "resnet3d", "--dataset", "x", "--depth", "101", "--lr", "0.1", "--seed", "0"]
    first, rest = config_table(parse_opts([*argv, "--batch-size", "32"])).split("\n\n")
    names = [line.split()[0] for line in first.splitlines()]
    # --lr and --seed are typed, and as they would be anyway
    assert names == ["arch", "arch_args", "batch_size", "dataset", "depth"]
    assert not {*names} & {line.split()[0] for line in rest.splitlines()}
    first, _ = config_table(parse_opts([*argv[:4], "--batch-size", "32"])).split("\n\n")
    assert "scaled" in first


@pytest.mark.parametrize("use", [[], ["--predict", "a.mp4"]])
def test_the_folder_of_a_run_stands_for_its_last_checkpoint(tmp_path, use):
    (tmp_path / "options.json").write_text('{"arch": "i3d", "dataset": "demo", "epochs": 7}')
    opts = parse_opts(["--resume", f"{tmp_path}/", *use])
    assert opts.resume == str(tmp_path / "last.pth")
    assert use or opts.epochs == 7
    if not use:  # which goes on with nothing, and keeps the architecture alone
        (tmp_path / "last.pth").touch()
        opts = parse_opts(["--pretrained", str(tmp_path), "--dataset", "x"])
        assert (opts.pretrained, opts.arch) == (str(tmp_path / "last.pth"), "i3d")
        assert opts.epochs != 7


@pytest.mark.parametrize("path", ["absent", "absent.pth", "empty"])
def test_a_checkpoint_that_is_not_there_is_named(tmp_path, monkeypatch, capsys, path):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for option in ("--resume", "--pretrained"):
        with pytest.raises(SystemExit):
            parse_opts([option, f"./{path}"])
        assert f"no checkpoint {path}" in capsys.readouterr().err.replace("./", "")
    Path("old.pth").touch()
    with pytest.raises(SystemExit):
        parse_opts(["--resume", "old.pth"])
    assert "--arch is needed (no options.json beside old.pth)" in capsys.readouterr().err


def test_a_folder_that_is_called_auto_is_no_run(tmp_path, monkeypatch):
    (tmp_path / "auto").mkdir()
    monkeypatch.chdir(tmp_path)
    argv = ["--arch", "i3d", "--dataset", "x"]
    assert parse_opts(argv).resume is None
    assert parse_opts([*argv, "--resume", "auto"]).auto
    (tmp_path / "imagenet").mkdir()
    assert parse_opts([*argv, "--pretrained", "imagenet"]).pretrained == "imagenet"


def test_print_config_prints_and_ends():
    argv = ["--arch", "i3d", "--dataset", "nowhere", "--print-config", "--batch-size", "32"]
    done = subprocess.run(
        [sys.executable, "main.py", *argv], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "0.005" in done.stdout
    assert "scaled" in done.stdout


def test_what_a_resumed_run_does_otherwise_is_known(tmp_path):
    saved = {"arch": "i3d", "dataset": "x", "lr": 0.5, "short_side": [256, 320], "seed": 1}
    (tmp_path / "options.json").write_text(json.dumps(saved))
    argv = ["--resume", str(tmp_path / "last.pth"), "--seed", "1", "--lr", "0.1"]
    opts = parse_opts([*argv, "--short-side", "256", "320"])
    assert opts.changed == {"lr": (0.5, 0.1)}


def test_a_split_of_a_series_is_a_run_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--arch", "s3d", "--dataset", "x", "--gating", "--splits", "1", "2", "--lr", "3"]
    opts = parse_opts(argv)
    assert (opts.splits, opts.name) == ((1, 2), "s3d_x")
    argv += ["--splits", "2", "--name", "s3d_x_2", "--resume", "auto"]
    one = parse_opts(argv)
    assert (one.splits, one.split, one.name) == ((), 2, "s3d_x_2")
    assert (one.resume, one.auto) == (None, True)
    assert (one.lr, one.arch_args) == (3, {"gating": True})
    folder = tmp_path / "saved_model" / "s3d_x_2"
    folder.mkdir(parents=True)
    (folder / "last.pth").touch()
    saved = {"arch": "s3d", "dataset": "x", "split": 2, "batch_size": 5}
    (folder / "options.json").write_text(json.dumps(saved))
    again = parse_opts(argv)
    assert (again.resume, again.batch_size) == ("saved_model/s3d_x_2/last.pth", 5)


def test_options_are_saved_as_they_were_and_read_as_they_are(tmp_path):
    argv = ["--arch", "tsn", "--dataset", "x", "--views", "3x10", "--short-side", "250"]
    opts = parse_opts([*argv, "--lr-steps", "3", "--logger", "tensorboard"])
    saved = json.loads(json.dumps(opts.values(), default=str))
    assert (saved["views"], saved["short_side"], saved["lr_steps"]) == ("3x10", [250, 250], [3])
    assert not saved.keys() & (set(USES) | {"out", "videos", "action", "sources"})
    (tmp_path / "options.json").write_text(json.dumps(saved))
    resumed = parse_opts(["--resume", str(tmp_path / "last.pth")])
    for name, value in opts.values().items():
        if OPTIONS.get(name) and OPTIONS[name].metadata.get("resumed") != "own":
            assert getattr(resumed, name) == value


def test_resume_auto_finds_the_run_of_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--arch", "i3d", "--dataset", "x", "--resume", "auto"]
    opts = parse_opts(argv)
    assert (opts.resume, opts.auto, opts.name) == (None, True, "i3d_x_1")
    folder = tmp_path / "saved_model" / "i3d_x_1"
    folder.mkdir(parents=True)
    assert parse_opts(argv).resume is None
    (folder / "last.pth").touch()
    assert parse_opts(argv).resume == "saved_model/i3d_x_1/last.pth"


@pytest.mark.parametrize(
    "run, key",
    [
        (("s3d", "demo", "scratch"), ("s3d", "demo", "scratch")),
        (("i3d", "demo", "scratch"), ("any", "demo", "scratch")),
        (("i3d", "other", "scratch"), ("i3d", "scratch")),
        (("i3d", "s3d", "scratch"), ("i3d", "scratch")),  # a data set that is called so
        (("i3d", "demo", "kinetics"), ("i3d", "kinetics")),
        (("i3d", "other", "imagenet"), ("i3d", "scratch")),
    ],
)
def test_a_recipe_is_looked_up_from_the_particular_to_the_general(run, key):
    assert recipe_key(*run) == key
    assert find_recipe(*run) == RECIPES[key]


def test_a_shifted_tsn_has_the_recipes_of_tsm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = Path("saved_model/x")
    saved.mkdir(parents=True)
    (saved / "options.json").write_text(json.dumps({"arch": "tsn", "arch_args": {"shift": True}}))
    argv = "--arch tsn --dataset ucf101"
    for typed, key in {
        "": "('tsn', 'scratch')",
        "--shift": "('tsm', 'scratch')",
        "--no-shift": "('tsn', 'scratch')",
        "--shift --pretrained imagenet": "('tsm', 'imagenet')",
        "--shift --pretrained tsn_r50_mmaction2": "('tsm', 'ucf101', 'kinetics')",
        "--pretrained tsm_r50_mit": "('tsm', 'ucf101', 'kinetics')",
        "--pretrained saved_model/x/last.pth": "('tsm', 'ucf101', 'kinetics')",
        "--pretrained saved_model/x/last.pth --no-shift": "('tsn', 'kinetics')",
        "--shift --recipe small --modality flow": "('tsm', '--recipe small', 'scratch')",
    }.items():
        opts = parse_opts(f"{argv} {typed}".split())
        assert opts.sources["lr"] == f"recipe {key}", typed
        assert opts.arch_args.get("shift", False) == ("tsm" in key)
        if "tsm" in key:  # eight segments, of five fields each where they are flow
            assert opts.clip_len // opts.snippet_len == 8


def test_a_network_on_the_demo_set_gets_the_recipe_of_the_demo(toy_arch):
    demo = RECIPES["any", "demo", "scratch"]
    opts = parse_opts(["--arch", "toy", "--dataset", "demo"])
    assert (opts.epochs, opts.clip_len, opts.lr) == (demo.epochs, demo.clip_len, demo.lr)
    assert opts.arch_args == {"depth": 101, "top_k": 3}  # it is the same network


def test_a_network_needs_no_recipe_for_the_demo_set_and_is_told_so_on_others(toy_arch, capsys):
    del RECIPES["toy", "scratch"]
    assert find_recipe("toy", "demo", "scratch") == RECIPES["any", "demo", "scratch"]
    with pytest.raises(SystemExit):
        parse_opts(toy_arch)
    message = (
        "error: toy has no recipe: add ('toy', 'scratch') to RECIPES in utils/recipes/toy.py, or"
    )
    assert message in capsys.readouterr().err


# facts of an option, and where they are used
FACTS = {
    "help": "config.add_options",
    **dict.fromkeys(
        ("low", "high", "off", "choices", "metavar", "nargs", "const"), "config._syntax"
    ),
    **dict.fromkeys(("resumed", "action", "only_with", "also_with", "not_with"), "opts"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_says_all_that_is_known_of_it(name):
    facts = OPTIONS[name].metadata
    assert facts["help"]
    assert facts.keys() <= FACTS.keys()
    assert facts.get("resumed", "kept") in ("kept", "fixed", "own")
    assert not (set(facts.get("only_with", ())) - OPTIONS.keys())
    assert not (set(facts.get("also_with", ())) - set(USES))
    assert facts.get("not_with", name) in OPTIONS


def test_every_fact_that_an_option_may_have_is_one_of_some_option():
    assert {fact for f in OPTIONS.values() for fact in f.metadata} == FACTS.keys()


def test_every_option_is_declared_once_and_is_an_option_of_the_command_line():
    declared = [name for kind in GROUPS for name in kind.__annotations__]
    own_of_recipe = {"mean", "std", "arch_args", "expected"}
    inherited = {f.name for f in fields(Recipe)} - own_of_recipe
    assert len(set(declared)) == len(declared)
    assert OPTIONS.keys() == {*declared, *inherited}
    about_them = {"action", "sources", "changed", "auto"}
    assert {f.name for f in fields(Options)} == OPTIONS.keys() | own_of_recipe | about_them
    of_networks = {name for entry in ARCHS.values() for name in entry.options}
    parsed = {action.dest for action in build_parser()._actions} - {"help"}
    assert parsed == OPTIONS.keys() | of_networks


def test_every_default_is_printed_by_the_help():
    helps = {action.dest: action.help for action in build_parser()._actions}
    recipe = {f.name for f in fields(Recipe)}
    for name, f in OPTIONS.items():
        if name in recipe or f.default is False and f.metadata.get("resumed") == "own":
            assert "default" not in helps[name]
        elif f.default not in (None, (), MISSING):
            values = f.default if isinstance(f.default, tuple) else (f.default,)
            assert helps[name].endswith(f" (default: {' '.join(map(str, values))})")


def test_options_are_added_in_one_place():
    for name in ("main.py", "opts.py", "config.py"):
        calls = [
            node
            for node in ast.walk(ast.parse((ROOT / name).read_text()))
            if isinstance(node, ast.Attribute) and node.attr == "add_argument"
        ]
        assert len(calls) == (name == "config.py"), name


# not options of a group, but ...
NAMED = {
    USES: "actions, for which other options say that they go with them",
    ("crop_area", "crop_ratio", "crop_scales"): "of which browse.py says the same",
}


@pytest.mark.parametrize(
    "file",
    [ROOT / "main.py", ROOT / "opts.py", ROOT / "config.py"]
    + sorted(file for room in ("utils", "pt_dataset") for file in (ROOT / room).rglob("*.py")),
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_no_list_of_option_names_has_to_be_kept(file):
    """A group of options travels as the dataclass that declares it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Tuple | ast.List | ast.Set) and len(node.elts) >= 3:
            names = tuple(e.value for e in node.elts if isinstance(e, ast.Constant))
            if len(names) == len(node.elts) and names not in NAMED:
                assert not set(names) <= OPTIONS.keys(), f"line {node.lineno}: {names}"


USING = ["--resume", "best.pth"]


@pytest.mark.parametrize(
    "argv, path",
    [
        ([*USING, "--predict", "-id.mp4"], "-id.mp4"),
        ([*USING, "--predict", "a.mp4", "-id.mp4", "b.mp4"], "-id.mp4"),
        ([*USING, "--predict", "-5_YcZK0Ie4.mp4"], "-5_YcZK0Ie4.mp4"),  # as ids of YouTube may be
        ([*USING, "--predict", "-h.mp4"], "-h.mp4"),
        ([*USING, "--predict", "--id.mp4"], "--id.mp4"),
        ([*USING, "--predict", "a.mp4", "--out", "-out"], "-out"),
        ([*USING, "--export", "-net.onnx"], "-net.onnx"),
        ([*USING, "--extract-features", "-out", "--videos", "a"], "-out"),
        (["--resume", "-last.pth"], "-last.pth"),
        (["--arch", "i3d", "--dataset", "x", "--epochs", "-1"], None),
        (["--arch", "i3d", "--dataset", "x", "--no-such-option"], None),
        (["--arch", "i3d", "--dataset", "x", "--lr"], None),
    ],
)
def test_a_path_that_begins_with_a_dash_is_told_how_to_be_written(
    argv, path, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("--id.mp4").touch()
    with pytest.raises(SystemExit) as ended:
        parse_opts(argv)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    hint = f"if {path} is a file or folder, write ./{path}" if path else ""
    assert hint in said and ("write ./" in said) == bool(path)
