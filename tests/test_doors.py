"""What is read back is checked once, at its door; nothing that is not finite goes on from there."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

import opts
from config import Preprocessing, UserError
from main import main
from models.weights.files import read_state
from pt_dataset.datalist import read_list
from pt_dataset.video_list import Video
from utils import checkpoint, compare
from utils.actions import export, head_only, network
from utils.actions.errors import error_in_words
from utils.loggers import read_lines
from utils.resume import checkpoint_file
from utils.scores import Scores, save_scores

WEIGHTS = {"w": torch.randn(40, 3), "n": torch.tensor(3)}
MOMENTS = {"step": torch.tensor(2.0), "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}
SUMS = {"sums": torch.ones(2), "names": ["loss", "top1"], "clips": 6, "steps": 2}
SUMS |= {"data_time": 0.5, "copy_time": 0.0, "time": 1.0}
COLUMNS = {name: torch.tensor([7, 8], dtype=kind) for name, kind in checkpoint_file.COLUMNS.items()}
STATE = {
    "arch": "i3d",
    "arch_args": {"dropout": 0.5},
    "class_names": ["down", "up"],
    "preprocessing": vars(Preprocessing(clip_len=8, mean=(0.5,) * 3, std=(0.5,) * 3)),
    "model": WEIGHTS,
    "ema": {"average": WEIGHTS, "steps": 2},
    "optimizer": {"state": {0: MOMENTS}, "param_groups": [{"params": [0], "betas": (0.9, 0.999)}]},
    "scheduler": {"losses": [0.7]},
    "scaler": None,
    "rng": {"torch": torch.get_rng_state()},
    "epoch": 1,
    "step": 2,
    "averages": [SUMS, SUMS],
    "faults": {3: "cut"},
    "steps_per_epoch": 2,
    "precision": "fp32",
    "micro_batch": 3,
    "chosen_on": None,
    "choices": [],
    "origin": "from scratch",
    "action": "train",
    "evaluation": {"views": "2x1", "average": "scores", "full_crop": False},
    "data": {"depth": 2} | dict.fromkeys(("train", "validation", "test"), COLUMNS),
    "trained_on": [{"names": torch.tensor([7, 8]), "depth": 2}],
}
SCORES = Scores(
    scores=np.random.default_rng(0).random((6, 3), np.float32),
    labels=np.array([0, 1, 2, 0, 1, 2]),
    names=[f"{name}.mp4" for name in "abcdef"],
    class_names=["x", "y", "z"],
    average="scores",
    protocol="one clip",
)


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(STATE, tmp_path / "last.pth")
    return tmp_path / "last.pth"


def read_or_refused(load, path):
    """None where the file is refused, in one sentence that names it."""
    try:
        return load(path)
    except UserError as error:
        assert path.name in str(error) and "\n" not in str(error)
        assert len(str(error)) < 600
        return None


def test_a_form_is_known_for_every_key_of_a_checkpoint(saved):
    forms = [checkpoint_file.ForAll, checkpoint_file.ForTraining]
    assert {name for form in forms for name in form.__dataclass_fields__} == set(checkpoint.KEYS)
    assert checkpoint_file.load(saved, to_train=True).keys() == STATE.keys()


def test_every_flipped_bit_of_weights_is_found(tmp_path):
    path = tmp_path / "last.pth"
    values = torch.arange(480, dtype=torch.float32)
    checkpoint.save(STATE | {"model": {"w": values}, "ema": None}, path)
    whole = path.read_bytes()
    first = whole.index(values.numpy().tobytes())
    for bit in random.Random(0).sample(range(8 * 4 * len(values)), 40):
        flipped = bytearray(whole)
        flipped[first + bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(UserError, match="damaged one .*has another checksum"):
            checkpoint_file.load(path)
        with pytest.raises(
            UserError, match="last.pth is .*damaged"
        ):  # public weights have the same
            read_state(path)


@pytest.mark.parametrize(
    "change, problem",
    [
        ({"class_names": ["down", 1]}, "class_names.1 is 1"),
        ({"preprocessing": {"clip_len": 8}}, "preprocessing has no"),
        ({"arch": "vit"}, "arch is 'vit'"),
        ({"epoch": True}, "epoch is True"),
        ({"step": 9}, "step 9 is not in epoch 1"),
        ({"ema": {"average": {"w": torch.ones(2)}, "steps": 2}}, "those of another network"),
        ({"model": {"w": torch.ones(2, dtype=torch.bool)}, "ema": None}, "w is of torch.bool"),
    ],
)
def test_the_sentence_says_what_is_wrong(saved, change, problem):
    checkpoint.save(STATE | change, saved)
    with pytest.raises(UserError, match=f"damaged, or of another version: .*{problem}"):
        checkpoint_file.load(saved, to_train=True)


@pytest.mark.parametrize(
    "content", ["[]", "[" * 100_000, '{"lr": 1e999}', '{"seed": 1e3}', '{"split": "1"}']
)
def test_options_in_another_form_are_one_sentence(tmp_path, content):
    path = tmp_path / "options.json"
    path.write_text(content)
    assert read_or_refused(lambda path: opts.saved_options(str(path)), path) is None


@pytest.mark.parametrize(
    "entry",
    [{"fps": 10**400}, {"fps": 1e-300}, {"path": "a\0b"}, {"path": "\ud800"}, {"flow_path": "\0"}],
)
def test_an_entry_that_nothing_can_open_or_count_is_one_sentence(tmp_path, entry):
    path = tmp_path / "testlist01.json"
    good = {"path": "a", "class_name": "x", "label": 0, "num_frames": 9}
    path.write_text(json.dumps([good, good | entry]))
    with pytest.raises(UserError, match=f"entry 1: '{next(iter(entry))}' is"):
        read_list(path, ["x"])


def test_a_line_of_metrics_that_is_damaged_is_not_taken_for_one_cut_off(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert read_lines(path, "epoch") == [{"epoch": 1}, {"epoch": 2}]
    for line in ('{"epo', '{"epoch": "2"}', '{"epoch": NaN}', "2", '{"step": 2}'):
        path.write_text(f'{{"epoch": 1}}\n{line}\n')
        with pytest.raises(UserError, match=r"metrics.jsonl is damaged in line 2"):
            read_lines(path, "epoch")


def test_scores_that_are_not_finite_name_a_video():
    scores = SCORES.scores.copy()
    scores[2, 1], scores[4] = np.nan, np.inf
    with pytest.raises(UserError, match="of 2 of 6 videos are not finite, the first is c.mp4"):
        replace(SCORES, scores=scores)


def test_comparing_scores_that_are_not_finite_names_the_file(tmp_path):
    arrays = {name: getattr(SCORES, name) for name in ("labels", "names", "class_names")}
    arrays |= {"average": "scores", "protocol": "", "scores": SCORES.scores * np.float32(np.inf)}
    np.savez(tmp_path / "bad.npz", **arrays)
    save_scores(tmp_path / "good.npz", SCORES)
    with pytest.raises(UserError, match=r"bad.npz: the scores of 6 of 6 videos"):
        compare.main([str(tmp_path / "good.npz"), str(tmp_path / "bad.npz")])


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_network_that_gives_no_numbers_leaves_no_result(untrained, value, capsys):
    state = torch.load(untrained)
    state["model"]["backbone.bn1.running_var"].fill_(-1)
    state["model"]["backbone.bn1.running_mean"].fill_(value)
    torch.save(state, untrained)
    how = ["--resume", str(untrained), "--data-root", "data", "--device", "cpu", "--workers", "0"]
    with pytest.raises(UserError, match="finite"):
        main([*how, "--evaluate", "--arch", "tsn", "--dataset", "tiny"])
    assert [path.name for path in untrained.parent.iterdir()] == ["net.pth"]


def test_outputs_that_are_not_finite_become_a_problem_of_their_video():
    video = Video("a.mp4", 0, "x", 9)
    assert torch.equal(network.finite(video, torch.ones(2)), torch.ones(2))
    assert network.finite(video, "cut") == "cut"
    assert "a.mp4: what the network says" in network.finite(video, torch.tensor([1, torch.nan]))


def test_features_and_heads_that_are_not_finite_are_refused():
    values, labels = torch.randn(4, 1, 3), torch.tensor([0, 1, 0, 1])
    values[2, 0, 1] = torch.inf
    videos = [Video(f"{i}.mp4", i % 2, "x", 9) for i in range(4)]
    features = head_only.Features(values, labels, torch.arange(4))
    with pytest.raises(UserError, match=r"of 1 of 4 videos are not finite, the first is 2.mp4"):
        head_only.check_finite(features, videos)
    how = {"dropout": 0.0, "lr": 0.1, "seed": 0, "epochs": 1}
    with pytest.raises(UserError, match="the head with lr 0.1 has no finite weights"):
        head_only.train_head(values, labels, torch.nn.Linear(3, 2), **how)


@pytest.mark.parametrize("original, exported", [(torch.nan, 1), (1, torch.nan)])
def test_an_export_is_not_compared_with_what_is_no_number(original, exported):
    class Says(torch.nn.Module):
        def forward(self, clips):
            return torch.full((len(clips), 2), float(original))

    clips = torch.zeros(2, 3, 1, 1, 1)
    try:
        worst = export.largest_difference(
            Says(), lambda clips: torch.full((len(clips), 2), float(exported)), clips
        )
    except UserError as error:
        assert "not finite" in str(error)
    else:
        assert worst > export.TOLERANCE


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("can't start new thread"),
    ],
)
def test_a_machine_that_is_too_small_is_one_sentence(error):
    assert "take" in (error_in_words(error) or "")
