"""Shows a run on visdom's page once more, from the files in its folder.

    python -m utils.live_page.replay saved_model/NAME

Starts a server if none listens, as the run itself does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse

from config import UserError


def replay(run_dir: Path, server: str, port: int, env: str | None = None) -> list[str]:
    """Draws the page of a run, in `env` or the one it had; sentences, the last with its address.

    Raises:
        UserError: this is no folder of a run, or there is no server to show it.
    """
    # here, since they bring torch
    from utils.live_page.logger import Visdom
    from utils.live_page.page import GOES_ON, TRIES
    from utils.live_page.run_files import read_options

    run_dir = run_dir.resolve()
    if not (run_dir / "options.json").is_file():
        raise UserError(f"{run_dir} is not the folder of a run: it has no options.json")
    said: list[str] = []
    env = env or read_options(run_dir).get("visdom_env")
    logger = Visdom(run_dir, server, port, env, say=said.append)
    try:
        if not logger.page.wait_until_shown():
            raise UserError(said[-1].replace(f"; {GOES_ON}", "").replace(f"; {TRIES}", ""))
    finally:
        logger.close()
    return said


def main(argv: list[str] | None = None) -> None:
    """Parse the options and replay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--visdom-server", metavar="HOST", default="127.0.0.1")
    parser.add_argument("--visdom-port", metavar="PORT", type=int, default=8097)
    parser.add_argument("--visdom-env", metavar="NAME", help="of the page (as the run had it)")
    opts = parser.parse_args(argv)
    for line in replay(opts.run, opts.visdom_server, opts.visdom_port, opts.visdom_env):
        print(line)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
