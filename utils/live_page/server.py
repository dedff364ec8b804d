"""visdom's server as a run needs it: it downloads nothing, and only this machine can reach it.

    python -m utils.live_page.server [--port 8097] [--env-path saved_model/.visdom] [--stop]

visdom's own command downloads files before it listens, listens on all addresses, and lets tornado
restart it, data lost, when a source file changes. From another machine: ssh -L 8097:127.0.0.1:8097.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that it also runs as a script

from config import as_command

if __name__ == "__main__":
    as_command()

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

from config import UserError, refuse, try_lock
from utils.live_page import assets

HOST, PORT = "127.0.0.1", 8097  # anyone who reaches the server can write to it, see door.py
ENV_PATH = Path("saved_model/.visdom")  # where runs keep what they showed
LOG = "server.log"  # in the folder of the data
STOP_LIMIT = 5.0  # seconds for a server to end
NO_PAGE = "the curves are kept but the page cannot be shown; run python -m utils.live_page.assets"


class Refused(Exception):
    """What answers is not visdom, or does not let this program in: the reason."""


def post(
    host: str, port: int, path: str, message: dict, timeout: float, cookie: str = ""
) -> tuple[int, bytes, str]:
    """POST a message as JSON: (status, body, cookie that is set).

    `http.client` ignores proxies in the environment.

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
        body = json.dumps(message, allow_nan=False)
        connection.request("POST", path, body, {"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        new_cookie = response.getheader("Set-Cookie", "").partition(";")[0]
        return response.status, response.read(), new_cookie
    finally:
        limit.cancel()
        connection.close()
        if time.monotonic() > deadline:  # whatever was made of the part that came
            raise TimeoutError("its answer is too slow")


def enter(host: str, port: int, timeout: float) -> str:
    """The cookie that visdom at this address wants with each post; "" if it has no login.

    Raises:
        Refused: it is not visdom, or has a login that $VISDOM_USERNAME and $VISDOM_PASSWORD do not
            open; others like `post`.
    """
    try:
        status, body, _ = post(host, port, "/env_state", {}, timeout)
        if status >= 500:
            raise ConnectionError(f"it answered with status {status}")
        if (status, body) == (400, b""):  # visdom's answer to those who did not log in
            return _log_in(host, port, timeout)
        if status == 403:
            raise Refused("refuses this name; a server that a run started wants 127.0.0.1")
        if status == 200 and isinstance(json.loads(body), list):
            return ""
    except http.client.RemoteDisconnected:  # a server on its way down, or the end of a tunnel
        raise
    except (http.client.BadStatusLine, ValueError):  # no HTTP, no JSON
        pass
    raise Refused("answers, but is not visdom")


def _log_in(host: str, port: int, timeout: float) -> str:
    # as visdom's own client does, with the names of visdom's server for both
    user, password = (os.environ.get(f"VISDOM_{name}") for name in ("USERNAME", "PASSWORD"))
    if not (user and password):
        raise Refused("wants a login: set VISDOM_USERNAME and VISDOM_PASSWORD")
    message = {"username": user, "password": hashlib.sha256(password.encode()).hexdigest()}
    cookie = post(host, port, "/", message, timeout)[2]
    if not cookie:
        raise Refused("refuses the login of VISDOM_USERNAME and VISDOM_PASSWORD")
    return cookie


def is_visdom(host: str, port: int, timeout: float) -> bool:
    """Whether a visdom server lets this program in at this address within `timeout` seconds."""
    try:
        enter(host, port, timeout)
        return True
    except (Refused, OSError, http.client.HTTPException):
        return False


def start(port: int, env_path: Path) -> subprocess.Popen:
    """Start the server in the background; it outlives this process and Ctrl-C in its terminal."""
    env_path = env_path.resolve()
    env_path.mkdir(parents=True, exist_ok=True)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    options = ["--port", str(port), "--env-path", str(env_path)]
    # Windows sends Ctrl-C to groups of processes, and knows no sessions
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with open(env_path / LOG, "a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "utils.live_page.server", *options],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            creationflags=group,
        )


def serve(port: int, env_path: Path) -> None:
    """Run the server in this process, until it is stopped."""
    # only visdom's client wants torch, which takes seconds
    sys.modules["torch"] = None  # pyrefly: ignore[unsupported-operation]
    from visdom.server import app

    app.tornado_settings["autoreload"] = False
    if assets.ready():
        static = str(assets.static_dir())
        app.tornado_settings.update(static_path=static, template_path=static)
    else:
        print(f"visdom: {NO_PAGE}", file=sys.stderr, flush=True)
    env_path.mkdir(parents=True, exist_ok=True)
    _set_aside_broken(env_path)
    os.environ.setdefault("LOGNAME", "user")  # visdom asks for it; containers have users without
    asyncio.run(_listen(port, env_path))


async def _listen(port: int, env_path: Path) -> None:
    from utils.live_page.door import GuardedVisdom

    stopped = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # on Windows, where nothing could be said to it
        # not inside a save
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    app = GuardedVisdom(port=port, env_path=str(env_path))
    app.listen(port, address=HOST, max_buffer_size=1024**3)  # visdom's limit
    with _findable(port, env_path):
        await stopped.wait()


@contextlib.contextmanager
def _findable(port: int, env_path: Path) -> Iterator[None]:
    # a file with the id of this process, locked while it lives, so that no other one is ended
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(_process_file(port, env_path), "a"))
            if not try_lock(file):
                raise OSError("another process has its file")
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
        except OSError as error:  # disks of clusters may know no locks
            print(f"visdom: --stop cannot find process {os.getpid()}: {error}", file=sys.stderr)
        yield


def _process_file(port: int, env_path: Path) -> Path:
    # one for each machine, too: a disk may be shared
    return env_path / f"server-{socket.gethostname()}-{port}.pid"


def stop(port: int, env_path: Path) -> int:
    """End the server that was started here for this port and folder; returns its process id.

    Raises:
        UserError: there is none, or it does not end.
    """
    none = f"no server was started on this machine for port {port} and {env_path}, or it has ended"
    try:
        with open(_process_file(port, env_path), "r+") as file:
            refuse(try_lock(file), none)
            process = int(file.read())
            os.kill(process, signal.SIGTERM)
            deadline = time.monotonic() + STOP_LIMIT
            while not try_lock(file):
                stuck = f"the server (process {process}) does not end: kill -9 {process}"
                refuse(time.monotonic() > deadline, stuck)
                time.sleep(0.05)
            return process
    except FileNotFoundError:
        raise UserError(none) from None
    except OSError as error:  # of another user
        raise UserError(f"cannot end the server of port {port} and {env_path}: {error}") from error


def stop_command(port: int, env_path: Path) -> str:
    """What ends the server that was started with these."""
    command = "python -m utils.live_page.server --stop"
    if port != PORT:
        command += f" --port {port}"
    if env_path != ENV_PATH.resolve():
        command += f" --env-path {shlex.quote(str(env_path))}"
    return command


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
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--env-path", type=Path, default=ENV_PATH, help="folder of saved curves")
    parser.add_argument("--stop", action="store_true", help="end the server that a run started")
    opts = parser.parse_args(argv)
    if opts.stop:
        print(f"ended the server (process {stop(opts.port, opts.env_path)})")
        return
    if assets.visdom_folder() is None:
        sys.exit(f"visdom is not installed: {assets.INSTALL}")
    try:
        serve(opts.port, opts.env_path)
    except OSError as error:
        sys.exit(f"visdom's server cannot use port {opts.port} and {opts.env_path}: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
