"""Files that the processes of a run give each other over HTTP.

Each process serves one folder to those that know the run's token. Only plain names of copies are
served, and a file appears whole or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

NAME: Final = re.compile(r"\d{8}\.[0-9a-f]{16}")  # a step and what is in it
_TOKEN = "X-Token"
_SECONDS = 60  # without a byte, after which a peer counts as gone


class Server:
    """Serves a folder.

    Attributes:
        address: where, as others reach it.
    """

    def __init__(self, folder: Path, token: str):
        class Handler(_Handler):
            root, secret = folder, token

        self._server = ThreadingHTTPServer(("", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"{socket.gethostname()}:{self._server.server_address[1]}"
        thread = threading.Thread(target=self._server.serve_forever, name="copies", daemon=True)
        thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    root: Path
    secret: str
    timeout = _SECONDS

    def do_GET(self) -> None:
        path = self._path()
        if path is None or not path.is_file():
            self.send_error(404)
            return
        with path.open("rb") as file:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(file, self.wfile)

    def do_PUT(self) -> None:
        path = self._path()
        length = self.headers.get("Content-Length", "")
        if path is None or not length.isdigit():
            self.send_error(404)
            return
        partial = path.with_name(f"{path.name}.from-{self.client_address[1]}.partial")
        left = int(length)
        with partial.open("wb") as file:
            while left and (chunk := self.rfile.read(min(left, 1 << 20))):
                file.write(chunk)
                left -= len(chunk)
        if left:  # the other is gone
            partial.unlink()
            return
        os.replace(partial, path)
        self.send_response(204)
        self.end_headers()

    def _path(self) -> Path | None:
        name = self.path.removeprefix("/")
        known = self.headers.get(_TOKEN) == self.secret and NAME.fullmatch(name)
        return self.root / name if known else None

    def log_message(self, format: str, *args: object) -> None:
        pass


def fetch(address: str, name: str, token: str) -> bytes:
    """Returns a file of a peer.

    Raises:
        OSError: if it cannot be had.
    """
    request = urllib.request.Request(f"http://{address}/{name}", headers={_TOKEN: token})
    with _DIRECT.open(request, timeout=_SECONDS) as answer:
        data: bytes = answer.read()
        return data


def send(address: str, path: Path, token: str) -> None:
    """Gives a peer a file under the same name.

    Raises:
        OSError: if it does not take it.
    """
    with path.open("rb") as file:
        headers = {_TOKEN: token, "Content-Length": str(path.stat().st_size)}
        url = f"http://{address}/{path.name}"
        request = urllib.request.Request(url, data=file, headers=headers, method="PUT")
        _DIRECT.open(request, timeout=_SECONDS).close()


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # peers need no proxy
