"""Who may talk to the server that a run starts, logins of others, and how it is ended."""

import base64
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_visdom import ask, free_port, wait_until

from config import UserError
from utils.live_page import assets
from utils.live_page import server as visdom_server
from utils.live_page.page import Page

pytestmark = pytest.mark.skipif(not assets.visdom_folder(), reason="visdom is not installed")
OWN, OTHER = "http://127.0.0.1:{port}", "http://evil.com"

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}


def started(port, folder):
    process = visdom_server.start(port, folder)
    wait_until(lambda: visdom_server.is_visdom("127.0.0.1", port, 1.0), 30)
    return process


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Port of a server with one window."""
    port = free_port()
    process = started(port, tmp_path_factory.mktemp("visdom"))
    ask_to_draw(port, {"Host": f"127.0.0.1:{port}"}, win="mine")
    yield port
    process.kill()
    process.wait()


def request(port, method, path, headers, body=b""):
    """The status that these headers get, and no others; `{port}` in them is the server's."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in (headers | {"Content-Length": str(len(body))}).items():
        connection.putheader(name, value.format(port=port))
    connection.endheaders(body)
    status = connection.getresponse().status
    connection.close()
    return status


def ask_to_draw(port, headers, win="new"):
    window = {"win": win, "eid": "run", "data": [{"content": "x", "type": "text"}]}
    return request(port, "POST", "/events", headers, json.dumps(window).encode())


def windows(port):
    return set(ask(port, "/win_data", {"eid": "run", "win": None}))


LOCAL = [
    *("127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LocalHost:{port}"),
    *("localhost", "localhost:9000", "127.0.0.1:1"),  # a tunnel of ssh may have any port here
]
FOREIGN = [
    *("evil.com", "evil.com:{port}", "localhost.evil.com:{port}", "127.0.0.1.evil.com"),
    *("evil.com:localhost", "localhost:{port}@evil.com", "evil.com/localhost", "notlocalhost"),
    *("localhost.:{port}", "localhost:", "localhost:{port}x", "localhost:-1", "::1", "[::1"),
    *(
        "0.0.0.0:{port}",
        "127.0.0.2:{port}",
        "[::]:{port}",
        "127.1:{port}",
        "",
        "localhost,evil.com",
    ),
]


@pytest.mark.parametrize("host", LOCAL)
def test_a_program_and_the_own_page_are_let_in(host, port):
    assert ask_to_draw(port, {"Host": host}) == 200
    assert ask_to_draw(port, {"Host": host, "Origin": f"http://{host}"}) == 200
    assert ask_to_draw(port, {"Host": host, "Sec-Fetch-Site": "same-origin"}) == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_anybody_may_point_here_is_refused(host, port):
    headers = {"Host": host}
    # tornado itself answers 400 where the name is malformed
    assert ask_to_draw(port, headers, "evil") in (400, 403)
    assert ask_to_draw(port, headers | {"Origin": f"http://{host}"}, "evil") in (400, 403)
    assert "evil" not in windows(port)


def test_a_request_without_a_host_is_refused(port):
    assert ask_to_draw(port, {}, "evil") in (400, 403)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b" 403 " in connection.recv(100).splitlines()[0]


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "null",
            "",
            OTHER,
            OWN + ".evil.com",
            OWN + "/",
            OWN + "0",
            "file://",
            "127.0.0.1:{port}",
        ),
        *("http://127.0.0.1:1", "http://127.0.0.1", "https://127.0.0.1:{port}", "127.0.0.1:{port}"),
        *("http://localhost:{port}", f"{OTHER}, {OWN}", "chrome-extension://abc"),
    ],
)
def test_a_page_of_another_origin_is_refused(origin, port):
    headers = {"Host": "127.0.0.1:{port}", "Origin": origin}
    assert ask_to_draw(port, headers, "evil") == 403
    assert ask_to_draw(port, headers | {"Sec-Fetch-Site": "same-origin"}, "evil") == 403
    assert "evil" not in windows(port)
    for path in ("/socket", "/vis_socket"):
        assert request(port, "GET", path, headers | UPGRADE) == 403


def test_a_socket_of_the_own_page_is_opened(port):
    headers = UPGRADE | {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}
    assert request(port, "GET", "/vis_socket", headers) == 101


PATHS = [
    *("events", "update", "close", "socket", "socket_wrap", "vis_socket", "vis_socket_wrap", ""),
    *("env/run", "compare/run", "save", "error/x", "win_exists", "win_data", "delete_env"),
    *("win_hash", "env_state", "fork_env", "user/style.css", "static/index.html", "favicon.ico"),
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_is_open_to_another_page(path, port):
    body = b'{"eid": "run", "win": "mine", "prev_eid": "run", "data": []}'
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        for headers in (
            {"Host": "evil.com:{port}"},
            {"Origin": OTHER},
            # an image, script or frame: browsers send no Origin with those
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image"},
        ):
            headers = {"Host": "127.0.0.1:{port}"} | headers
            assert request(port, method, f"/{path}", headers, body) == 403
    assert "mine" in windows(port)


def test_a_link_to_the_page_works(port):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    for headers in (link, {"Sec-Fetch-Site": "none"}):
        headers = headers | {"Host": "localhost:{port}"}
        assert request(port, "GET", "/user/style.css", headers) == 200


# A server with visdom's own login, as `--visdom-server` may name one.


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """Port of visdom's own server, for the user ann with the password café."""
    home, port = tmp_path_factory.mktemp("home"), free_port()
    (home / ".visdom").mkdir()
    credentials = {"VISDOM_USERNAME": "ann", "VISDOM_PASSWORD": "café", "VISDOM_COOKIE": "secret"}
    environment = {"HOME": str(home), "VISDOM_USE_ENV_CREDENTIALS": "1", **credentials}
    code = "import sys; sys.modules['torch'] = None; "  # which takes seconds
    code += "from visdom.server.run_server import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "-port", str(port), "-bind_local", "-enable_login"],
        env=os.environ | environment,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials.items():
            patch.setenv(name, value)
        wait_until(lambda: visdom_server.is_visdom("127.0.0.1", port, 1.0), 30)
    yield port
    process.kill()
    process.wait()


def log_in(monkeypatch, user, password):
    for name, value in (("VISDOM_USERNAME", user), ("VISDOM_PASSWORD", password)):
        monkeypatch.setenv(name, value)


def test_the_login_of_the_environment_opens_a_server(locked, monkeypatch, tmp_path):
    log_in(monkeypatch, "ann", "café")
    said = []
    page = Page("run", port=locked, env_path=tmp_path, say=said.append)
    page.log({"train/loss": 1.0}, 1)
    assert page.wait_until_shown()
    page.close()
    assert said == [f"visdom: http://127.0.0.1:{locked}/env/run"] == page.places
    cookie = visdom_server.enter("127.0.0.1", locked, 5.0)
    window = {"eid": "run", "win": "loss"}
    status, body, _ = visdom_server.post("127.0.0.1", locked, "/win_data", window, 5.0, cookie)
    assert status == 200 and b'"x": [1.0]' in body


@pytest.mark.parametrize(
    "user, password, reason",
    [
        ("ann", "wrong", "refuses the login of VISDOM_USERNAME and VISDOM_PASSWORD"),
        ("bob", "café", "refuses the login of VISDOM_USERNAME and VISDOM_PASSWORD"),
        ("ann", "", "wants a login: set VISDOM_USERNAME and VISDOM_PASSWORD"),
        ("", "", "wants a login: set VISDOM_USERNAME and VISDOM_PASSWORD"),
    ],
)
def test_a_login_that_fails_is_one_sentence(user, password, reason, locked, monkeypatch, tmp_path):
    log_in(monkeypatch, user, password)
    said = []
    page = Page("run", port=locked, env_path=tmp_path, say=said.append)
    page.log({"train/loss": 1.0}, 1)
    wait_until(lambda: said)
    page.log({"train/loss": 1.0}, 2)
    page.close()
    assert said == [f"visdom: 127.0.0.1:{locked} {reason}; there will be no live page"]
    assert not page.places


def test_a_login_that_is_not_asked_for_is_not_sent(port, monkeypatch):
    log_in(monkeypatch, "ann", "café")
    assert visdom_server.enter("127.0.0.1", port, 5.0) == ""


def test_a_server_that_refuses_the_name_says_which_it_wants(port):
    with pytest.raises(visdom_server.Refused, match="wants 127.0.0.1"):
        visdom_server.enter("0.0.0.0", port, 5.0)


# The end of a server.


def stop(port, folder):
    visdom_server.main(["--stop", "--port", str(port), "--env-path", str(folder)])


@pytest.mark.parametrize("content", ["{pid}", "", "text", "0", "-1"])
def test_no_other_process_is_ended(content, tmp_path):
    """The server was killed, and another process has its id now."""
    with subprocess.Popen(["sleep", "60"]) as other:
        visdom_server._process_file(8097, tmp_path).write_text(content.format(pid=other.pid))
        with pytest.raises(UserError, match="no server was started"):
            stop(8097, tmp_path)
        time.sleep(0.1)
        assert other.poll() is None
        other.kill()


def test_a_server_that_does_not_end_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(visdom_server, "STOP_LIMIT", 0.1)
    with (
        subprocess.Popen(["sleep", "60"]) as hung,
        open(visdom_server._process_file(8097, tmp_path), "w") as file,
    ):
        monkeypatch.setattr(visdom_server, "try_lock", lambda file: False)  # it has the lock
        print(hung.pid, file=file, flush=True)
        with pytest.raises(UserError, match=f"does not end: kill -9 {hung.pid}"):
            stop(8097, tmp_path)
        assert hung.wait() == -signal.SIGTERM


def test_a_disk_without_locks_costs_only_the_stop(tmp_path, monkeypatch, capsys):
    def lockf(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with visdom_server._findable(8097, tmp_path):
        assert "Function not implemented" in capsys.readouterr().err
        with pytest.raises(UserError, match="cannot end the server"):
            stop(8097, tmp_path)


def test_a_run_says_how_to_end_its_server(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, port, said = Path("saved_model/.visdom"), free_port(), []
    page = Page("run", port=port, env_path=folder, say=said.append)
    server = page._process
    try:
        page.log({"train/loss": 1.0}, 1)
        wait_until(lambda: page.shown, 30)
        command = f"python -m utils.live_page.server --stop --port {port}"
        [place] = page.places
        assert place == f"visdom: http://127.0.0.1:{port}/env/run (stays up; {command} ends it)"
        for other in ((port + 1, folder), (port, tmp_path / "other")):
            with pytest.raises(UserError, match="no server was started"):
                stop(*other)
        visdom_server.main(command.split()[3:])
        assert capsys.readouterr().out == f"ended the server (process {server.pid})\n"
        assert server.wait(5) == 0
        with pytest.raises(UserError, match="no server was started"):
            stop(port, folder)
    finally:
        server.kill()
