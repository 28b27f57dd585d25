"""A folder of real HTML files served on loopback, with validators, as a web server would."""

from __future__ import annotations

import threading
from collections import Counter
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


class StaticSite:
    """Serves `folder`; counts requests and full answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.unchanged = 0

    def __enter__(self) -> Self:
        site = self

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # an answer is one write

            def send_head(self) -> Any:
                site.requests[self.path] += 1
                path = Path(self.translate_path(self.path))
                since = self.headers.get("If-Modified-Since")
                if since and path.is_file() and int(path.stat().st_mtime) <= parsedate_to_datetime(since).timestamp():
                    site.unchanged += 1
                    self.send_response(HTTPStatus.NOT_MODIFIED)
                    self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
                    self.end_headers()
                    return None
                return super().send_head()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(self.folder)))
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
