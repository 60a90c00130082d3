"""An object store on loopback for tests: as much of S3's and of GCS's REST as checkpoints use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Objects = dict[str, bytes]  # by "bucket/key"


class FakeObjectStore:
    """What a server holds and was asked for.

    Attributes:
        endpoint: its address. S3 clients take it from AWS_ENDPOINT_URL, tensorstore's GCS client
            from TENSORSTORE_GCS_HTTP_URL.
        objects: by "bucket/key".
        requests: methods in the order of their arrival.
        failing: how many of the next writes are answered with "403 Forbidden".
    """

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        self.objects: Objects = {}
        self.requests: list[str] = []
        self.failing = 0

    def environment(self) -> dict[str, str]:
        """Returns what sends clients of both kinds here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "local",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "TENSORSTORE_GCS_HTTP_URL": self.endpoint,
            "GCE_METADATA_ROOT": self.endpoint.removeprefix("http://"),
        }


@contextlib.contextmanager
def fake_object_store() -> Iterator[FakeObjectStore]:
    """Serves an empty store within the block."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    store = FakeObjectStore(f"http://127.0.0.1:{server.server_port}")
    Handler.store = store
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    store: FakeObjectStore
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self._asked()
        if path.startswith("storage/v1/b/"):
            self._gcs_get(path.removeprefix("storage/v1/b/"), query)
        elif "list-type" in query:
            self._answer(_s3_list(path.strip("/"), self._keys(path, query)), "application/xml")
        elif path in self.store.objects:
            self._answer(self.store.objects[path])
        else:
            self._answer(b"", status=404)

    def do_HEAD(self) -> None:
        path, _ = self._asked()
        is_bucket = "/" not in path.strip("/")
        data = b"" if is_bucket else self.store.objects.get(path)
        self._answer(data or b"", status=404 if data is None else 200)

    def do_PUT(self) -> None:
        path, _ = self._asked()
        self._write(path, b"")

    def do_POST(self) -> None:
        path, query = self._asked()
        bucket = path.removeprefix("upload/storage/v1/b/").split("/")[0]
        key = f"{bucket}/{query['name']}"
        answer = {"name": query["name"], "bucket": bucket, "generation": "1"}
        self._write(key, json.dumps(answer).encode())

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        if path.startswith("storage/v1/b/"):
            bucket, _, key = path.removeprefix("storage/v1/b/").partition("/o/")
            path = f"{bucket}/{unquote(key)}"
        found = self.store.objects.pop(path, None)
        self._answer(b"", status=404 if found is None else 204)

    def _gcs_get(self, path: str, query: dict[str, str]) -> None:
        bucket, _, key = path.partition("/o/")
        if key:
            data = self.store.objects.get(f"{bucket}/{unquote(key)}")
            self._answer(data or b"", status=404 if data is None else 200)
            return
        bucket = bucket.removesuffix("/o")
        items = [{"name": key, "generation": "1"} for key in self._keys(bucket, query)]
        self._answer(json.dumps({"items": items}).encode(), "application/json")

    def _keys(self, bucket: str, query: dict[str, str]) -> list[str]:
        prefix = f"{bucket.strip('/')}/{query.get('prefix', '')}"
        start = len(bucket.strip("/")) + 1
        keys = (name[start:] for name in self.store.objects if name.startswith(prefix))
        first, end = query.get("startOffset", ""), query.get("endOffset", "\U0010ffff")
        return sorted(key for key in keys if first <= key < end)

    def _asked(self) -> tuple[str, dict[str, str]]:
        self.store.requests.append(self.command)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, True).items()}
        path = parts.path.lstrip("/")
        return (path if path.startswith("storage/") else unquote(path)), query

    def _write(self, key: str, answer: bytes) -> None:
        data = self._body()
        if self.store.failing > 0:
            self.store.failing -= 1
            self._answer(b"", status=403)
            return
        self.store.objects[key] = data
        self._answer(answer)

    def _body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return data
        body = b""
        while data:  # size in hex; signature CRLF bytes CRLF
            head, _, data = data.partition(b"\r\n")
            size = int(head.split(b";")[0], 16)
            body, data = body + data[:size], data[size + 2 :] if size else b""
        return body

    def _answer(
        self, data: bytes, kind: str = "application/octet-stream", *, status: int = 200
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"')
        self.send_header("x-goog-generation", "1")
        self.send_header("x-amz-bucket-region", "local")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def _s3_list(bucket: str, keys: list[str]) -> bytes:
    listed = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
        f"<Name>{bucket}</Name><KeyCount>{len(keys)}</KeyCount>"
        f"<IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
    ).encode()
