"""report.html: a page about a run that needs nothing else, to keep and to send."""

from datetime import datetime
from pathlib import Path

from config import whole
from utils.report import parts
from utils.report.markup import Markup, tag
from utils.report.run_folder import read_run

STYLE = Path(__file__).with_name("style.css")
# nothing that comes from a file can run, and nothing is fetched
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """The report of a run or an evaluation, in its folder.

    Raises:
        UserError: it has no scores, or one of its files is damaged.
    """
    run = read_run(folder)
    sections = (
        parts.result_part(run),
        parts.curves_part(run),
        parts.classes_part(run),
        parts.confusion_part(run),
        parts.mistakes_part(run),
        parts.options_part(run),
        parts.machine_part(run),
    )
    path = folder / REPORT
    write_page(path, run.name, tag("header", tag("h1", run.name), parts.heading(run)), *sections)
    return path


def write_page(path: Path, title: str, *content: Markup) -> None:
    """A whole page of HTML, under 5 MB."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    ]
    made = f"Made {datetime.now():%Y-%m-%d %H:%M} from the files of the run."
    body = tag("body", tag("main", *content, tag("footer", made)))
    page = f"<!doctype html>\n{tag('html', tag('head', *head), body, lang='en')}\n"
    with whole(path) as temporary:  # the name of a file may hold what is no letter
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))
