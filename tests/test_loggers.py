"""Where the numbers of a run go: its files, TensorBoard, and the page redrawn from the files."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_RUN
from matplotlib.figure import Figure
from PIL import Image
from test_visdom import FakeVisdom, free_port

from config import Curves, UserError
from main import main
from utils import build, curves, loggers
from utils.live_page import replay, run_files
from utils.mistakes import NUM_CLIPS, Mistakes
from utils.report.mistake_pictures import FILM_SIDE, films, picture

RUN = Path("saved_model/tsn_tiny_1")
FP32 = ("--precision", "fp32")  # "auto" would compare precisions first


def validated(pairs, class_names=("a", "b", "c"), channels=3):
    """A validation with these (label, predicted, score of it) of one view of 5 frames each."""
    mistakes = Mistakes(list(class_names))
    for label, predicted, score in pairs:
        scores = torch.full((1, len(class_names)), 0.01)
        scores[0, predicted] = score
        views = torch.full((1, 1, 5, 8, 8, channels), int(100 * score), dtype=torch.uint8)
        views += torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
        mistakes.add(views, scores, torch.tensor([label]), [f"videos/{label}.mp4"])
    return mistakes


def test_mistakes_count_every_video_and_keep_the_surest_errors():
    errors = [(0, 1, 0.3 + 0.05 * i) for i in range(NUM_CLIPS + 2)]
    mistakes = validated([(2, 2, 0.99), *errors, (2, 0, 0.9)])
    assert mistakes.confusion.tolist() == [[0, NUM_CLIPS + 2, 0], [0, 0, 0], [1, 0, 1]]
    kept = [(m.label, m.predicted, round(m.score, 2)) for m in mistakes.surest]
    best = sorted(((0, 1, round(score, 2)) for _, _, score in errors), reverse=True)
    assert kept == [(2, 0, 0.9), *best][:NUM_CLIPS]
    assert mistakes.surest[0].frames[:, 0, 0, 0].tolist() == [90, 91, 92, 93, 94]  # all of 5


@pytest.mark.parametrize("channels", [3, 2, 10])  # RGB, flow, a stack of five fields of flow
def test_every_mistake_is_in_the_picture(channels):
    mistakes = validated([(0, 1, 0.4), (2, 1, 0.8)], channels=channels)
    shown = np.asarray(picture(mistakes))
    frames = {80, 81, 82, 84, 40, 41, 42, 44}  # the gray values of both, and nothing else
    colors, counts = np.unique(shown[40:130].reshape(-1, 3), axis=0, return_counts=True)
    large = {tuple(color) for color, count in zip(colors, counts, strict=True) if count > 5000}
    assert large == {(gray,) * 3 for gray in frames}


def test_mistakes_name_their_files_and_move():
    long = f"videos/{'x' * 300}/v_Biking_g01_c02.avi"
    mistakes = validated([(0, 1, 0.4), (2, 1, 0.8)])
    assert mistakes.facts() == [
        {"path": f"videos/{label}.mp4", "class_name": name, "taken_for": "b", "score": score}
        for label, name, score in ((2, "c", pytest.approx(0.8)), (0, "a", pytest.approx(0.4)))
    ]
    named = [picture(mistakes)]
    mistakes.surest = [m._replace(name=long) for m in mistakes.surest]
    named.append(picture(mistakes))
    shown = [np.asarray(image.convert("L"))[:36, :408] < 128 for image in named]
    lines = [[rows[:18].sum(), rows[18:].sum()] for rows in shown]  # dark pixels of both lines
    assert lines[0][0] == lines[1][0] and 0 < lines[0][1] < lines[1][1]
    assert not shown[1][:, -6:].any()  # the end of a long name fits
    moving = np.asarray(films(mistakes))
    assert moving.shape == (2 * FILM_SIDE, 5 * FILM_SIDE, 3)
    middles = moving[FILM_SIDE // 2 :: FILM_SIDE, FILM_SIDE // 2 :: FILM_SIDE, 0]
    assert middles.tolist() == [[80, 81, 82, 83, 84], [40, 41, 42, 43, 44]]


@pytest.mark.parametrize("is_main", [True, False])
def test_the_first_process_alone_shows_a_bar(monkeypatch, is_main):
    monkeypatch.setattr(loggers.distributed, "is_main", lambda: is_main)
    with loggers.progress_bar(range(3), "x", 3, "step") as bar:
        assert bar.disable is not is_main
        assert list(bar) == [0, 1, 2]


def test_a_resume_drops_a_validation_that_is_done_again(tmp_path):
    files = loggers.ValidationFiles(tmp_path, 0)
    files.log_epoch({"epoch": 2, "step": 20}, validated([(0, 1, 0.5)]))
    loggers.ValidationFiles(tmp_path, 2)
    assert run_files.read_validation(tmp_path)["confusion"][0] == [0, 1, 0]
    loggers.ValidationFiles(tmp_path, 1)
    assert run_files.read_validation(tmp_path) == {} and not list(tmp_path.iterdir())


def test_a_validation_without_errors_leaves_no_older_picture(tmp_path):
    files = loggers.ValidationFiles(tmp_path, 0)
    files.log_epoch({"epoch": 1, "step": 10}, validated([(0, 1, 0.5)]))
    assert Image.open(tmp_path / "mistakes.jpg").size[0] > 100
    files.log_epoch({"epoch": 2, "step": 20}, validated([(0, 0, 0.5)]))
    assert not (tmp_path / "mistakes.jpg").exists()
    assert run_files.read_validation(tmp_path)["epoch"] == 2


@pytest.fixture
def fake():
    server = FakeVisdom()
    yield server
    server.stop()


@pytest.mark.slow
def test_resume_and_replay_draw_the_page_that_the_run_had(in_tiny_set, fake, capsys):
    page = [option for option in SMALL_RUN if option != "--no-visdom"]
    page += ["--visdom-port", str(fake.port), "--visdom-env", "mine"]
    assert main([*page, "--epochs", "1"]) == 0
    # --visdom-env belongs to the run, the port to the command
    resume = ["--resume", str(RUN / "last.pth"), "--epochs", "2", "--device", "cpu", *FP32]
    assert main([*resume, "--visdom-port", str(fake.port)]) == 0
    live = fake.windows
    plain = {"loss", "accuracy (%)", "learning rate", "seconds per step"}
    lines = [
        line for name in ("steps", "metrics") for line in loggers.read_lines(RUN / f"{name}.jsonl")
    ]
    logged = {
        name for line in lines for name, value in line.items() if curves.is_drawn(name, value)
    }
    drawn = {curves.window_title(name) for name in logged}  # a new number brings its window
    assert drawn >= plain
    assert set(live) == drawn | {"run", "confusion (%)", "mistakes"}
    assert {message["eid"] for message in live.values()} == {"mine"}
    for name, x in (("train", [0.5, 1, 1.5, 2]), ("validation", [1, 2])):  # nothing at 0
        assert [point[0] for point in fake.curve("loss", name)] == x
    assert sum(map(sum, run_files.read_validation(RUN)["confusion"])) == 4  # test videos
    fake.posts.clear()
    replay.main([str(RUN), "--visdom-port", str(fake.port)])
    assert fake.windows == live
    assert f"http://127.0.0.1:{fake.port}/env/mine" in capsys.readouterr().out


def test_replay_says_what_is_wrong(in_tiny_set, tmp_path):
    with pytest.raises(UserError, match="nothing is not the folder of a run"):
        replay.replay(tmp_path / "nothing", "127.0.0.1", free_port())
    (tmp_path / "options.json").write_text("{}")
    with pytest.raises(UserError, match=r"no server at 127.0.0.2:\d+ \(Connection refused\)$"):
        replay.replay(tmp_path, "127.0.0.2", free_port())


def test_a_diverged_run_is_logged_to_the_end(tmp_path, fake):
    (tmp_path / "options.json").write_text("{}")
    logger = build.build_logger(tmp_path, 0, 0, Curves(visdom_port=fake.port))
    logger.log_steps({"epoch": 0.5, "step": 1, "train/loss": math.inf, "lr": 0.1})
    validation = {"epoch": 1, "step": 2, "val/loss": math.nan, "val/top1": 0.0}
    mistakes = Mistakes(["a", "b"])
    views = torch.zeros(1, 1, 2, 8, 8, 3, dtype=torch.uint8)
    mistakes.add(views, torch.full((1, 2), math.nan), torch.tensor([1]), ["v"])
    logger.log_epoch(validation, mistakes)
    logger.close()
    assert {"confusion (%)", "mistakes"} <= set(fake.windows)
    assert fake.curve("loss", "validation") == [(1, None)]
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["val/loss"] is None
    assert (tmp_path / "curves.png").exists()


@pytest.fixture
def pictures(monkeypatch):
    """The windows of each curves.png that is drawn: title, then {label: (epochs, values)}."""
    drawn, save = [], Figure.savefig

    def savefig(figure, path, **options):
        lines = {
            axes.get_title(): {
                line.get_label(): tuple(map(list, line.get_data())) for line in axes.lines
            }
            for axes in figure.axes
        }
        drawn.append(lines)
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return drawn


def test_any_number_is_in_the_files_and_drawn_on_the_page_and_in_the_picture(
    tmp_path, fake, pictures
):
    (tmp_path / "options.json").write_text("{}")
    logger = build.build_logger(tmp_path, 0, 0, Curves(visdom_port=fake.port))
    step = {"train/loss": 2.0, "lr": 0.1, "clips_per_s": 9.0, "train/grad_norm": torch.tensor(3.5)}
    step |= {"gpu/power": np.float32(250), "gpu/heat": 60, "note": "text", "nothing": None}
    logger.log_steps({"epoch": 0.5, "step": 1, **step})
    logger.log_steps({"epoch": 1, "step": 2, **step, "train/grad_norm": math.nan})
    epoch = {"train/loss": 1.0, "train/grad_norm": 9.0, "val/grad_norm": 0.5, "entropy": 1.5}
    logger.log_epoch({"epoch": 1, "step": 2, **epoch}, validated([(0, 0, 0.9)]))
    logger.close()

    first = loggers.read_lines(tmp_path / "steps.jsonl")[0]
    numbers = {"train/grad_norm": 3.5, "gpu/power": 250.0, "gpu/heat": 60}
    assert first == {"epoch": 0.5, "step": 1, **step, **numbers}
    posted = {
        title: {trace["name"]: (trace["x"], trace["y"]) for trace in window["data"]}
        for title, window in fake.windows.items()
        if title not in ("run", "confusion (%)", "mistakes")
    }
    assert posted == {
        "loss": {"train": ([0.5, 1], [2, 2])},
        "learning rate": {"learning rate": ([0.5, 1], [0.1, 0.1])},
        # of what the steps have logged, the average over the epoch is not drawn
        "grad_norm": {"train": ([0.5, 1], [3.5, None]), "validation": ([1], [0.5])},
        "entropy": {"entropy": ([1], [1.5])},
        "gpu": {"heat": ([0.5, 1], [60, 60]), "power": ([0.5, 1], [250, 250])},
    }
    [picture] = pictures
    posted["grad_norm"]["train"] = ([0.5], [3.5])  # JSON has no word for infinity
    assert picture == {title: {} for title in curves.WINDOWS} | posted
    table = fake.windows["run"]["data"][0]["content"]
    assert all(name in table for name in ("clips_per_s", "entropy", "note", "val/grad_norm"))
    fake.posts.clear()
    replay.main([str(tmp_path), "--visdom-port", str(fake.port)])  # the same windows in one order
    assert fake.windows["gpu"]["data"][1]["line"] == {"color": curves.ORANGE, "dash": "solid"}


@pytest.mark.parametrize(
    "names, title, drawn",
    [
        (["val/f1", "train/f1"], "f1", {"train/f1": curves.BLUE, "val/f1": curves.ORANGE}),
        (["val/f1"], "f1", {"val/f1": curves.ORANGE}),
        (["train/f1", "f1"], "f1", {"train/f1": curves.BLUE, "f1": curves.ORANGE}),
        (["train/loss/aux"], "loss/aux", {"train/loss/aux": curves.BLUE}),
        (["b/2", "b/1"], "b", {"b/1": curves.BLUE, "b/2": curves.ORANGE}),
        (["loss/aux", "val/loss"], "loss", {"val/loss": curves.ORANGE, "loss/aux": curves.BLUE}),
        (
            ["time/decode", "time/data", "time/copy", "time/compute"],
            "seconds per step",
            {
                "time/data": curves.ORANGE,
                "time/copy": curves.GREEN,
                "time/compute": curves.BLUE,
                "time/decode": curves.COLORS[3],
            },
        ),
        (["train/mistakes"], "mistakes (curves)", {"train/mistakes": curves.BLUE}),
    ],
)
def test_a_number_finds_its_window_and_color_by_its_name(names, title, drawn):
    windows = curves.windows(names)
    assert {name: curve.color for name, curve in windows[title].items()} == drawn
    assert {curves.window_title(name) for name in names} == {title}
    assert [*windows][:4] == [*curves.WINDOWS]


def test_more_curves_than_colors_are_drawn_all_the_same():
    [window] = curves.windows(f"gpu/{i}" for i in range(25)).keys() - curves.WINDOWS.keys()
    assert len(curves.windows(f"gpu/{i}" for i in range(25))[window]) == 25


def test_the_picture_has_room_for_any_number_of_windows(tmp_path):
    for count, columns in ((0, 2), (1, 2), (4, 2), (5, 3), (21, 5)):
        metrics = {f"metric_{i}": 1.0 for i in range(count)}
        loggers.draw_curves(tmp_path / "curves.png", "run", [(metrics, 1.0)])
        rows = math.ceil((4 + count) / columns)
        assert Image.open(tmp_path / "curves.png").size == (550 * columns, 375 * rows)


def test_the_first_of_the_best_epochs_is_marked(tmp_path, monkeypatch):
    points = [({"train/loss": 1.0, "val/top1": top1}, i + 1) for i, top1 in enumerate((5, 9, 9))]
    assert curves.best_epoch(points) == (2, 9)  # as the weights in best.pth are
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: drawn.append(figure))
    loggers.draw_curves(tmp_path / "curves.png", "run", points)
    loss, accuracy, *_ = drawn[0].axes
    assert [line.get_xdata() for line in (loss.lines[-1], accuracy.lines[-2])] == [[2, 2]] * 2
    assert accuracy.get_legend_handles_labels()[1][-1] == "best: 9.0 % after epoch 2"
    loggers.draw_curves(tmp_path / "curves.png", "run", [({"train/loss": 1.0}, 0.5)])
    assert len(drawn[1].axes[0].lines) == 1  # before a validation there is none


def test_a_logger_that_is_not_wanted_is_not_imported(tmp_path):
    call = f"build_logger(Path({str(tmp_path)!r}), 0, 0, Curves(no_visdom=True))"
    code = "import sys; from pathlib import Path; from config import Curves; "
    code += f"from utils.build import build_logger; {call}"
    command = [sys.executable, "-c", f"{code}; print(*sys.modules)"]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "utils.loggers" in modules
    assert not [m for m in modules if "live_page" in m or "tensorboard" in m or "matplotlib" in m]


@pytest.mark.slow
def test_tensorboard_gets_the_same_numbers_and_a_resume_continues_them(in_tiny_set):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main([*SMALL_RUN, "--logger", "tensorboard"]) == 0
    state = torch.load(RUN / "last.pth", weights_only=True)
    torch.save(state | {"epoch": 1, "step": 2}, RUN / "last.pth")  # epoch 2 is done again
    assert main(["--resume", str(RUN / "last.pth"), "--device", "cpu", *FP32]) == 0
    events = accumulator.EventAccumulator(str(RUN / "tensorboard"))
    events.Reload()
    for file, names in (("steps", ("train/loss", "lr")), ("metrics", ("val/loss", "val/top1"))):
        lines = loggers.read_lines(RUN / f"{file}.jsonl")
        for name in names:
            points = [(event.step, event.value) for event in events.Scalars(name)]
            assert points == [(m["step"], pytest.approx(m[name])) for m in lines]
    assert events.Tags()["images"] == ["mistakes"]


def test_short_epochs_wait_for_each_other_with_the_picture(tmp_path, pictures):
    path, drawn = tmp_path / "metrics.jsonl", lambda: len(pictures)
    logger = loggers.CurvesPng(tmp_path)
    for epoch, expected in ((1, 1), (2, 1), (3, 1)):
        with path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, "step": epoch, "val/loss": 1.0}) + "\n")
        logger.log_epoch({}, validated([]))
        assert drawn() == expected
    logger.close()
    logger.close()
    assert drawn() == 2 and pictures[-1]["loss"] == {"validation": ([1, 2, 3], [1.0] * 3)}
    logger.due = 0  # much later
    logger.log_epoch({}, validated([]))
    logger.close()
    assert drawn() == 3


def test_a_run_may_have_any_name_in_the_picture_of_its_curves(tmp_path):
    run = tmp_path / "$run_$"  # to matplotlib a formula, and a wrong one
    run.mkdir()
    loggers.CurvesPng(run).log_epoch({}, validated([]))
    assert (run / "curves.png").stat().st_size > 5000


def test_without_tensorboard_one_sentence_says_so_before_anything_is_made(in_tiny_set, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        main([*SMALL_RUN, "--logger", "tensorboard"])
    assert not RUN.exists()
