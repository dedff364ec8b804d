"""Who may talk to the server: programs on this machine and, in a browser, its own page.

visdom itself answers everyone, and any web page that the user visits can send requests to this
machine. Its browser says in `Origin` which page asks, so a page of another site is told from the
server's own. A site can also give its own name this machine's address (DNS rebinding), and is then
its own origin; the name stays in `Host`. Ports there are free, because a tunnel may have any.
"""

import re

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import RequestHandler
from visdom.server.app import Application

LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?")


def is_welcome(headers: HTTPHeaders) -> bool:
    """Whether these are the headers of a program, of the own page, or of a link to it."""
    host = headers.get("Host", "").lower()
    if not LOCAL.fullmatch(host):
        return False
    if "Origin" in headers:
        return headers["Origin"].lower() == f"http://{host}"
    # Browsers leave it out where the answer is only shown, as of an image or a frame. A document is
    # what follows a link; a page in a frame of another one could be clicked without being seen.
    by_own_page = headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
    return by_own_page or headers.get("Sec-Fetch-Dest") == "document"


class Refusal(RequestHandler):
    """Answers a request that is not welcome, whatever it asks."""

    def prepare(self) -> None:
        self.set_status(403)
        self.finish("This server answers its own page only, as localhost or 127.0.0.1.\n")


class GuardedVisdom(Application):
    """visdom, with every path and socket behind one door."""

    def find_handler(self, request: HTTPServerRequest, **kwargs):
        if is_welcome(request.headers):
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, Refusal)
