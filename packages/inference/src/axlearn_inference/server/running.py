"""Runs the application: opens a port, stops when told to, and finishes what it began."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from axlearn_core.errors import UserError
from axlearn_inference.server.access import access_log
from axlearn_inference.server.api import Api
from axlearn_inference.server.serving import Load

_logger = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that waits for connections; port 0 takes any free one.

    Raises:
        UserError: if the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port}: {error.strerror or error}. Choose another "
            "--port (0 takes a free one), or another --host"
        ) from error


def url_of(listener: socket.socket) -> str:
    """Returns the address for people."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """Serves until SIGTERM or Ctrl-C, then refuses what is new and finishes what is running.

    A second signal does not wait.
    """

    def __init__(self, api: Api):
        config = uvicorn.Config(
            api.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=75,  # longer than clients and proxies keep connections
            timeout_graceful_shutdown=1,  # for connections; requests have had their time by then
        )
        super().__init__(config)
        self.api = api
        self._stopping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to stop. Called by the signal."""
        if self._loop is None or self.api.draining:
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self.stop)

    def stop(self) -> None:
        """Begins to stop; from within the event loop."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._stop())

    async def run_until_stopped(
        self, listener: socket.socket, load: Load, ready: Callable[[], None]
    ) -> None:
        """Answers requests, at first only that the model is being loaded.

        Args:
            listener: see `listen`.
            load: returns the model; runs in a thread.
            ready: is called when it has.

        Raises:
            Exception: what `load` raises.
        """
        self._loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self.serve(sockets=[listener]))
        loading = asyncio.create_task(asyncio.to_thread(load))
        await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            if loading.exception() is None:
                self.api.served = loading.result()
                ready()
            else:
                self.should_exit = True
        await serving
        await loading
        if self.api.served is not None:
            await self.api.served.serving.close()

    async def _stop(self) -> None:
        _logger.info("stopping: %d requests are running", self.api.active)
        await self.api.drain()
        self.should_exit = True


def log_to_stderr() -> None:
    """Writes the access log, a JSON object per line, and what goes wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    for logger in (access_log, _logger):
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # else it warns of clients that leave
