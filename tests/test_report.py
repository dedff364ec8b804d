"""The page about a run: what stands on it, what a browser shows of it, and runs side by side."""

import html.parser
import json
import re
import shutil

import numpy as np
import pytest
import torch

from config import UserError
from utils import loggers
from utils.actions import report
from utils.compare import compare_sides, conclusion
from utils.live_page import run_files
from utils.mistakes import Mistakes
from utils.report.machine import write_machine
from utils.report.markup import tag
from utils.report.page import write_report
from utils.report.svg import ticks
from utils.results import describe, summarize_scores
from utils.scores import Scores, load_scores, save_scores

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
CLASSES = ["up", 'down <b>"&amp;', "</style><script>evil()</script>"]
OPTIONS = {
    "arch": "i3d",
    "dataset": "demo",
    "split": 1,
    "modality": "rgb",
    "pretrained": None,
    "lr": 0.003,
    "epochs": 5,
    "views": "3x1",
    "short_side": [64, 64],
    "arch_args": {},
}


def make_run(folder, seed=0, names=None, classes=CLASSES, count=30, options=OPTIONS):
    """A folder as a training of two epochs leaves it; the first class is hard."""
    folder.mkdir(parents=True)
    (folder / "options.json").write_text(json.dumps(options))
    torch.manual_seed(seed)
    write_machine(folder, torch.device("cpu"), "fp32")
    (folder / "log.txt").write_text(
        "2026-01-02 10:11:12,345 first\nno time\n2026-01-02 11:12:13,456 last\n"
    )
    curves = loggers.JsonLines(folder, 0, 0)
    validation = loggers.ValidationFiles(folder, 0)
    mistakes = Mistakes(classes)
    views = torch.zeros(2, 1, 16, 8, 8, 3, dtype=torch.uint8)
    views[0] += (15 * torch.arange(16, dtype=torch.uint8)).view(16, 1, 1, 1)  # from black to white
    scores = torch.full((2, len(classes)), 0.05)
    scores[:, 1] = 0.8
    mistakes.add(views, scores, torch.tensor([0, 1]), ["videos/<i>\udcfc.mp4", "right.mp4"])
    for epoch, top1 in ((1, 40.0), (2, 70.0), (3, 60.0)):
        step = {"train/loss": 2.0 / epoch, "train/top1": top1, "lr": 0.1, "time/data": 0.1}
        step |= {"time/copy": 0.0, "time/compute": 0.3, "time/step": 0.4, "clips_per_s": 9.0}
        step |= {"memory_gb": 1.5, "step": 10 * epoch, "epoch": epoch}
        curves.log_steps(step)
        metrics = step | {"val/loss": 2.5 / epoch, "val/top1": top1}
        curves.log_epoch(metrics, mistakes)
        validation.log_epoch(metrics, mistakes)
    names = names or [f"videos/{i}.mp4" for i in range(count)]
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(classes)
    values = rng.random((count, len(classes))).astype(np.float32)
    values[np.arange(count), labels] += (labels > 0) * 0.7 + 0.1 * seed
    protocol = "one center clip; demo split 1; weights after epoch 3"
    save_scores(folder / "scores.npz", Scores(values, labels, names, classes, "logits", protocol))
    return folder


class Page(html.parser.HTMLParser):
    """What is on a page: elements with their attributes, and the text that is seen."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []  # each element has its end
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "input", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def test_a_page_says_what_a_run_came_to_and_needs_nothing_else(tmp_path):
    run = make_run(tmp_path / "<run> & 'co'")
    path = write_report(run)
    page = Page(path)
    result = summarize_scores(load_scores(run / "scores.npz"))
    low, high = result["top1_interval"]
    for words in (
        *(run.name, f"{result['top1']:.1f} %", f"95 % interval {low:.1f} to {high:.1f} %"),
        *(result["protocol"], "i3d on demo, split 1, from scratch; 3 classes", *CLASSES),
        "the best epoch, 2, with 70.0 % of the validation videos right",
        "videos/ <i>\\udcfc.mp4",  # between the two a line may end
        f"{CLASSES[0]} taken for {CLASSES[1]} (80 %)",
        *("from 2026-01-02 10:11", "to 2026-01-02 11:12", "training steps 30 in 12 s"),
        *("waiting for data 25 % of the time", "speed 9.0 clips/s", torch.__version__),
    ):
        assert words in page.text, words
    # nothing is fetched, nothing runs
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "i3d", "b<"} and "svg" in tags
    addresses = [v for _, a in page.elements for k, v in a.items() if k in ("src", "href")]
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert "url(" not in path.read_text() and "@import" not in path.read_text()
    assert [a for a in page.all("meta") if "default-src 'none'" in a.get("content", "")]
    # for those who do not see it
    assert page.all("html") == [{"lang": "en"}]
    assert [image["alt"] for image in page.all("img")] == [
        "16 frames of videos/<i>\\udcfc.mp4, in the order of time"
    ]
    assert len(page.all("title")) >= 1 + len(page.all("svg"))
    assert all(a["role"] == "img" for a in page.all("svg"))
    assert path.stat().st_size < 200_000


def test_what_differs_from_the_recipe_stands_first(tmp_path):
    run = make_run(tmp_path / "run", options=OPTIONS | {"epochs": 9, "ema": 0.99, "device": "cpu"})
    found = {name: (value, usual) for name, value, usual in run_files.differing_options(run)}
    assert found == {"lr": (0.003, 0.001), "ema": (0.99, 0)}  # lists and views are as they were
    text = Page(write_report(run)).text
    assert "Options that differ from the recipe option here recipe lr 0.003 0.001 ema" in text
    network = {"arch": "resnet3d", "arch_args": {"depth": 101, "non_local": 5}, "dataset": "x"}
    (run / "options.json").write_text(json.dumps(OPTIONS | {"lr": 0.1, "views": "10x3"} | network))
    found = {one.name: one.value for one in run_files.differing_options(run)}
    assert found == {"short_side": (64, 64), "epochs": 5, "depth": 101, "non_local": 5}


def test_an_evaluation_alone_has_a_page_without_a_training(tmp_path):
    run = make_run(tmp_path / "run")
    for path in run.iterdir():
        if path.name != "scores.npz":
            path.unlink()
    page = Page(write_report(run))
    assert [words for words in ("Result", "Classes", "Confusion") if words in page.text]
    assert not [words for words in ("Curves", "Surest", "Options", "speed") if words in page.text]


@pytest.mark.parametrize("value", [None, "<script>"])
def test_what_a_training_did_not_note_is_left_out(tmp_path, value):
    """Such as the memory, which not every system tells, and what earlier versions did not have."""
    path = make_run(tmp_path / "run") / "metrics.jsonl"
    noted = [json.loads(line) for line in path.read_text().splitlines()]
    needed = dict.fromkeys(noted[-1], value) | {"epoch": 3, "step": 30, "time/step": 0.4}
    path.write_text(json.dumps(needed) + "\n")
    page = Page(write_report(path.parent))
    assert "training steps 30 in" in page.text
    assert not [word for word in ("speed", "memory", "computing") if word in page.text]
    path.write_text('{"epoch": 3, "step": 30, "time/step": 0.4}\n')
    assert Page(write_report(path.parent)).text == page.text


def test_a_report_is_of_a_folder(tmp_path):
    for path in (tmp_path / "absent", make_run(tmp_path / "run") / "scores.npz"):
        with pytest.raises(UserError, match="is no folder; name that of a run"):
            write_report(path)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("scores.npz", None, "has no scores.npz.* --evaluate writes one"),
        ("scores.npz", b"PK", "not the scores.npz of an evaluation"),
        ("metrics.jsonl", b"{]\n", "damaged in line 1"),
        ("options.json", b"[1]", "does not hold the options"),
        *(
            ("options.json", json.dumps(OPTIONS | wrong).encode(), "does not hold the options")
            for wrong in ({"arch": []}, {"split": None}, {"pretrained": 3}, {"arch_args": "x"})
        ),
        ("options.json", json.dumps(OPTIONS | {"modality": "x"}).encode(), "i3d with modality x"),
        ("validation.json", b"{}", "validation.json is damaged"),
        ("mistakes_frames.jpg", b"no picture", "mistakes_frames.jpg is damaged"),
        ("machine.json", b'{"device": 3}', "machine.json is damaged"),
    ],
)
def test_a_damaged_file_is_named_and_the_old_page_stays(tmp_path, name, content, why):
    run = make_run(tmp_path / "run")
    (run / "report.html").write_text("old")
    (run / name).unlink() if content is None else (run / name).write_bytes(content)
    with pytest.raises(UserError, match=why):
        write_report(run)
    assert (run / "report.html").read_text() == "old"


def test_runs_side_by_side_are_compared_as_the_command_does(tmp_path, capsys):
    a, b = (make_run(tmp_path / name, seed) for seed, name in enumerate("ab"))
    other = make_run(tmp_path / "other", names=[f"others/{i}.avi" for i in range(12)], count=12)
    (b / "options.json").write_text(json.dumps(OPTIONS | {"lr": 0.01}))
    report.main([*map(str, (a, b, other))])
    scores = [load_scores(run / "scores.npz") for run in (a, b)]
    found, _ = compare_sides(*scores, "a", "b", None)
    sentence = conclusion(found, "a", "b").removeprefix("conclusion: ")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == sentence
    assert said[1].startswith("other cannot be compared with a video by video: a and other are not")
    path = tmp_path / "report_a_b_other.html"
    assert said[2] == f"report: {path}"
    text = Page(path).text
    low, high = found.interval
    for words in (
        *(sentence, f"{low:+.1f} to {high:+.1f}", f"McNemar's exact p {found.p:.2g}"),
        *(f"only a right {found.only_a}", f"only b right {found.only_b}", said[1]),
        *(f"{describe(summarize_scores(one))[6:12]}" for one in scores),
        *("Options that differ between the runs option a b other lr 0.003 0.01 0.003", *CLASSES),
    ):
        assert words in text, words


def test_the_command_refuses_what_it_cannot_do(tmp_path, capsys):
    run = str(make_run(tmp_path / "run"))
    with pytest.raises(UserError, match="cannot be written"):
        report.main([run, run, "--out", str(tmp_path / "no" / "folder.html")])
    with pytest.raises(UserError, match="no regular expression"):
        report.main([run, run, "--group-regex", "("])
    with pytest.raises(SystemExit):
        report.main([run, "--out", "x.html"])
    assert "are for several runs" in capsys.readouterr().err
    report.main([run])
    assert capsys.readouterr().out == f"report: {run}/report.html\n"


@pytest.mark.parametrize("num_classes", [1, 2, 101, 300])
def test_a_page_of_any_number_of_classes_can_be_sent(tmp_path, num_classes):
    classes = [f"a class with a long name {i}" for i in range(num_classes)]
    run = make_run(tmp_path / "run", classes=["x", *classes], count=5 * num_classes)
    path = write_report(run)
    assert path.stat().st_size < 5_000_000
    assert Page(path).all("svg")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0, [0, 1]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 9.638e-4, [0, 0.0002, 0.0004, 0.0006, 0.0008, 0.001]),
        (-3, 1, [-3, -2, -1, 0, 1]),
        (0, 1e30, [0, 2e29, 4e29, 6e29, 8e29, 1e30]),
    ],
)
def test_ticks_are_round_and_hold_all_values(low, high, expected):
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_no_text_becomes_markup():
    made = tag("p", "<b>", tag("i", "&"), title='"<', class_="a", aria_label="'")
    assert made == '<p title="&quot;&lt;" class="a" aria-label="&#x27;">&lt;b&gt;<i>&amp;</i></p>'


# how far the page goes to the side, what does not fit, what is too small, colors, and the film
LOOK = """
const all = query => [...document.querySelectorAll(query)];
const box = element => element.getBoundingClientRect();
const film = document.querySelector('.film');
return {
  sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  outside: all('main *').filter(e => !e.closest('.scroll, .film') && box(e).right > innerWidth + 1)
    .map(e => e.outerHTML.slice(0, 80)),
  small: all('svg text, p, td, th, code, figcaption')
    .filter(e => box(e).height > 0 && box(e).height < 9).map(e => e.outerHTML.slice(0, 80)),
  background: getComputedStyle(document.body).backgroundColor,
  ...(film && {
    shown: film.clientWidth, moved: box(film.firstChild).left - box(film).left,
    one: box(film.firstChild).width / 16,
    state: getComputedStyle(film.firstChild).animationPlayState,
  }),
  headings: all('h2').map(e => e.textContent),
}
"""


@pytest.mark.slow
def test_a_person_sees_the_page_on_a_screen_and_on_a_phone(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no browser: chromium and chromedriver are not installed")
    path = write_report(make_run(tmp_path / "run"))
    side_by_side = tmp_path / "both.html"
    report.main(
        [str(tmp_path / "run"), str(make_run(tmp_path / "b", 1)), "--out", f"{side_by_side}"]
    )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))

    def look(page, width, scheme="light"):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        if browser.current_url != page.as_uri():
            browser.get(page.as_uri())
        return browser.execute_script(LOOK)

    try:
        for width in (390, 1280):
            seen = look(side_by_side, width)
            assert (seen["sideways"], seen["outside"], seen["small"]) == (0, [], [])
        assert seen["headings"][:2] == ["Results", "Is the difference more than chance?"]
        for width in (390, 1280):
            seen = look(path, width)
            assert (seen["sideways"], seen["outside"], seen["small"]) == (0, [], [])
            assert seen["one"] == pytest.approx(seen["shown"], abs=0.5)  # one frame at a time
        assert seen["headings"][-3:] == ["Surest mistakes", "Options", "Time and machine"]
        places = {round(look(path, 1280)["moved"] / seen["one"], 1) for _ in range(60)}
        assert len(places) > 1 and all(place == int(place) for place in places)  # by whole frames
        browser.execute_script("document.getElementById('still').click()")
        seen = look(path, 1280, "dark")
        assert seen["state"] == "paused"
        assert max(map(int, re.findall(r"\d+", seen["background"]))) < 64
        assert not browser.get_log("browser")
    finally:
        browser.quit()
