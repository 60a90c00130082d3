"""An engine in a thread of its own, for callers that await tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from axlearn_inference.engine.engine import Engine, Stats
from axlearn_inference.errors import Closed, EngineError
from axlearn_inference.request import Request, Token

T = TypeVar("T")
Outcome = Token | EngineError


class _Call(NamedTuple):
    """A function that waits to be called in the thread."""

    function: Callable[[], Any]
    result: Future[Any]

    def run(self) -> None:
        if not self.result.set_running_or_notify_cancel():
            return  # nobody waits for it
        try:
            self.result.set_result(self.function())
        except Exception as error:  # it is the caller's, who waits for the result
            self.result.set_exception(error)


class AsyncEngine:
    """Steps an engine while there is something to do, and hands tokens to those who wait.

    Nobody may use the engine meanwhile but by `call`. What callers do with their tokens runs
    beside the next step. If a step fails, so does all that waits for it or comes later.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._changed = threading.Condition()  # guards the next three
        self._calls: list[_Call] = []
        self._closed = False
        self._failure: EngineError | None = None
        # The rest is the thread's.
        self._receivers: dict[int, Callable[[Outcome], None]] = {}
        self._drained: Future[None] | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def stream(
        self, request: Request, *, timeout: float | None = None
    ) -> AsyncGenerator[Token, None]:
        """Yields a request's tokens. A caller that goes away cancels it.

        Args:
            request: what is asked.
            timeout: seconds until it is given up; None waits.

        Raises:
            QueueFull: if too many wait.
            DeadlineExceeded: if the time is over.
            Closed: if nothing new is taken.
            EngineError: if the engine failed, or is closed.
            UserError: if it cannot be served.
        """
        loop = asyncio.get_running_loop()
        outcomes: asyncio.Queue[Outcome] = asyncio.Queue()

        def receive(outcome: Outcome) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(outcomes.put_nowait, outcome)

        submitted = self._enqueue(lambda: self._submit(request, timeout, receive))
        try:
            await asyncio.wrap_future(submitted)
            while True:
                outcome = await outcomes.get()
                if isinstance(outcome, EngineError):
                    raise outcome
                yield outcome
                if outcome.finish is not None:
                    return
        finally:
            # Whoever is cancelled while the request is taken does not know its handle yet.
            submitted.add_done_callback(self._cancel_submitted)

    async def call(self, function: Callable[[Engine], T]) -> T:
        """Calls a function between two steps, in the thread, and returns what it gives."""
        result: T = await asyncio.wrap_future(self._enqueue(lambda: function(self._engine)))
        return result

    @property
    def failed(self) -> bool:
        """Whether it cannot go on."""
        return self._failure is not None

    def stats(self) -> Stats:
        """See `Engine.stats`."""
        return self._engine.stats()

    def adapters(self) -> Sequence[str]:
        """Returns the names of the LoRA adapters that requests may ask for."""
        adapters = self._engine.adapters
        return [] if adapters is None else adapters.names

    async def drain(self) -> None:
        """Takes nothing new, and returns when all texts are done."""
        drained: Future[None] = await asyncio.wrap_future(self._enqueue(self._begin_draining))
        # Shielded: several may wait for it, and one may go away.
        await asyncio.shield(asyncio.wrap_future(drained))

    async def close(self) -> None:
        """Ends the thread after the current step; texts that are not done end in an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _enqueue(self, function: Callable[[], Any]) -> Future[Any]:
        call = _Call(function, Future())
        with self._changed:
            if self._failure is not None:
                raise self._failure
            self._calls.append(call)
            self._changed.notify()
        return call.result

    # What follows runs in the thread.

    def _run(self) -> None:
        failure: EngineError = Closed("the engine is closed")
        try:
            while not self._closed:
                self._iterate()
        except Exception as error:
            failure = EngineError(f"the engine failed: {error!r}")
            failure.__cause__ = error
        finally:
            self._end(failure)

    def _iterate(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._closed or self._engine.busy)
            calls, self._calls = self._calls, []
        for call in calls:
            call.run()
        if self._engine.busy:
            for handle, outcome in self._engine.step():
                self._deliver(handle, outcome)
        if self._drained is not None and not self._engine.busy and not self._drained.done():
            self._drained.set_result(None)

    def _submit(
        self, request: Request, timeout: float | None, receive: Callable[[Outcome], None]
    ) -> int:
        if self._drained is not None:
            raise Closed("the engine is being stopped and takes no new request")
        handle = self._engine.submit(request, timeout=timeout)
        self._receivers[handle] = receive
        return handle

    def _deliver(self, handle: int, outcome: Outcome) -> None:
        ends = isinstance(outcome, EngineError) or outcome.finish is not None
        receive = self._receivers.pop(handle) if ends else self._receivers[handle]
        receive(outcome)

    def _cancel_submitted(self, submitted: Future[int]) -> None:
        if submitted.cancelled() or submitted.exception() is not None:
            return
        handle = submitted.result()

        def cancel() -> None:
            self._receivers.pop(handle, None)
            self._engine.cancel(handle)

        with self._changed:
            self._calls.append(_Call(cancel, Future()))
            self._changed.notify()

    def _begin_draining(self) -> Future[None]:
        if self._drained is None:
            self._drained = Future()
        return self._drained

    def _end(self, failure: EngineError) -> None:
        with self._changed:
            self._failure = failure
            calls, self._calls = self._calls, []
        for call in calls:
            if call.result.set_running_or_notify_cancel():
                call.result.set_exception(failure)
        for handle, receive in self._receivers.items():
            self._engine.cancel(handle)
            receive(failure)
        self._receivers.clear()
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(failure)
