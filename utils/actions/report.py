"""A page about a run, or one that puts several side by side, from the files in their folders.

    python -m utils.actions.report saved_model/A                 # saved_model/A/report.html
    python -m utils.actions.report saved_model/A saved_model/B   # saved_model/report_A_B.html

A run writes its own at its end. Runs on the same test videos are compared with the first one, video
by video, as utils/compare.py does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse

from config import Parser, UserError


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="of the page of several runs")
    parser.add_argument(
        "--group-regex", metavar="RE", help="what the path of a video says of its group (UCF101's)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Raises UserError where a folder is none of a run, or the page cannot be written."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if len(args.runs) == 1 and (args.out or args.group_regex):
        parser.error("--out and --group-regex are for several runs")
    # here, since --help need not wait for torch
    from utils.compare import group_regex
    from utils.report.comparison import write_comparison
    from utils.report.page import write_report

    try:
        if len(args.runs) == 1:
            print(f"report: {write_report(args.runs[0])}")
            return
        names = "_".join(run.resolve().name for run in args.runs)
        path = args.out or args.runs[0].resolve().parent / f"report_{names}.html"
        for sentence in write_comparison(args.runs, path, group_regex(args.group_regex)):
            print(sentence)
        print(f"report: {path}")
    except OSError as error:
        raise UserError(f"the report cannot be written: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
