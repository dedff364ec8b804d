"""visdom's server as a run needs it: it downloads nothing, and only this machine can reach it.

    python -m utils.live_page.server [--port 8097] [--env-path saved_model/.visdom]

visdom's own command downloads files before it listens, listens on all addresses, and lets tornado
restart it, data lost, when a source file changes. From another machine: ssh -L 8097:127.0.0.1:8097.
"""

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs as a script

from utils.live_page import assets

HOST = "127.0.0.1"  # anyone who reaches the server can write to it
ENV_PATH = Path("saved_model/.visdom")  # where runs keep what they showed
LOG = "server.log"  # in the folder of the data
NO_PAGE = "the curves are kept but the page cannot be shown; run python -m utils.live_page.assets"


def post(host: str, port: int, path: str, message: dict, timeout: float) -> tuple[int, bytes]:
    """POST a message as JSON: (status, body). `http.client` ignores proxies in the environment.

    Raises:
        OSError, http.client.HTTPException: nothing came for `timeout` seconds, not all of the
            answer within ten times as many, or it is not HTTP.
    """
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    connection.connect()
    # what drips would begin `timeout` anew with each byte
    deadline = time.monotonic() + 10 * timeout
    limit = threading.Timer(10 * timeout, connection.sock.shutdown, [socket.SHUT_RDWR])
    limit.daemon = True
    limit.start()
    try:
        connection.request("POST", path, json.dumps(message, allow_nan=False))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        limit.cancel()
        connection.close()
        if time.monotonic() > deadline:  # whatever was made of the part that came
            raise TimeoutError("its answer is too slow")


def answers_as_visdom(host: str, port: int, timeout: float) -> bool:
    """Whether what answers there is visdom; raises like `post` when nothing answers."""
    try:
        status, body = post(host, port, "/env_state", {}, timeout)
        if status >= 500:
            raise ConnectionError(f"it answered with status {status}")
        return status == 200 and isinstance(json.loads(body), list)
    except http.client.RemoteDisconnected:  # a server on its way down, or the end of a tunnel
        raise
    except (http.client.BadStatusLine, ValueError):  # no HTTP, no JSON
        return False


def is_visdom(host: str, port: int, timeout: float) -> bool:
    """Whether a visdom server answers at this address within `timeout` seconds."""
    try:
        return answers_as_visdom(host, port, timeout)
    except (OSError, http.client.HTTPException):
        return False


def start(port: int, env_path: Path) -> subprocess.Popen:
    """Start the server in the background; it outlives this process and Ctrl-C in its terminal."""
    env_path = env_path.resolve()
    env_path.mkdir(parents=True, exist_ok=True)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    options = ["--port", str(port), "--env-path", str(env_path)]
    with open(env_path / LOG, "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "utils.live_page.server", *options],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def serve(port: int, env_path: Path) -> None:
    """Run the server in this process, until it is killed."""
    from visdom.server import app
    from visdom.server.run_server import start_server

    app.tornado_settings["autoreload"] = False
    if assets.ready():
        static = str(assets.static_dir())
        app.tornado_settings.update(static_path=static, template_path=static)
    else:
        print(f"visdom: {NO_PAGE}", file=sys.stderr, flush=True)
    env_path.mkdir(parents=True, exist_ok=True)
    _set_aside_broken(env_path)
    os.environ.setdefault("LOGNAME", "user")  # visdom asks for it; containers have users without
    start_server(port, HOST, base_url="", env_path=str(env_path), bind_local=True)


def _set_aside_broken(env_path: Path) -> None:
    # a server killed while it saved leaves half a file, and visdom then refuses all of that env
    for path in env_path.glob("*.json"):
        try:
            json.loads(path.read_text())["jsons"]
        except (ValueError, TypeError, KeyError):
            path.replace(path.with_suffix(".broken"))


def main(argv: list[str] | None = None) -> None:
    """Parse the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--port", type=int, default=8097)
    parser.add_argument("--env-path", type=Path, default=ENV_PATH, help="folder of saved curves")
    opts = parser.parse_args(argv)
    if assets.visdom_folder() is None:
        sys.exit(f"visdom is not installed: {assets.INSTALL}")
    try:
        serve(opts.port, opts.env_path)
    except OSError as error:
        sys.exit(f"visdom's server cannot use port {opts.port} and {opts.env_path}: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
