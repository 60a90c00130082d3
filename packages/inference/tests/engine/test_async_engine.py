"""An engine in a thread gives tokens to those who await them."""

import asyncio

import pytest

from axlearn_core.errors import UserError
from axlearn_inference.engine import AsyncEngine
from axlearn_inference.errors import Closed, DeadlineExceeded, EngineError, QueueFull
from axlearn_inference.request import Request, Sampling

GREEDY = Sampling(temperature=0)


@pytest.fixture
def run(make_engine):
    """Runs a coroutine function with an engine in a thread, which it closes at the end."""

    def run(function, **fields):
        async def whole():
            engine = AsyncEngine(make_engine(**fields))
            try:
                return await function(engine)
            finally:
                await engine.close()

        return asyncio.run(whole())

    return run


async def text(engine, request, **options):
    return [token.id async for token in engine.stream(request, **options)]


def test_streams_side_by_side_have_the_texts_of_one_by_one(run, greedy):
    prompts = [(1, 2, 3), (4, 5), (6,), (7, 8, 9, 10)]

    async def all_of_them(engine):
        return await asyncio.gather(*(text(engine, Request(p, 8, GREEDY)) for p in prompts))

    assert run(all_of_them) == [greedy(prompt, 8) for prompt in prompts]


def test_who_goes_away_cancels_the_request(run):
    async def leave(engine):
        async for _ in engine.stream(Request((1, 2, 3), 50, GREEDY)):
            break
        stream = engine.stream(Request((1, 2, 3), 50, GREEDY))
        await anext(stream)
        await stream.aclose()
        waiting = asyncio.ensure_future(text(engine, Request((1, 2, 3), 50, GREEDY)))
        await asyncio.sleep(0)  # it has asked, and does not know its handle yet
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await engine.drain()  # returns, since nothing is left
        return engine.stats()

    stats = run(leave)
    assert (stats.running, stats.waiting, stats.pages_used) == (0, 0, 0)
    assert stats.tokens < 100


def test_what_the_engine_refuses_or_gives_up_is_raised_by_the_stream(run):
    now = [0.0]

    async def ask(engine):
        with pytest.raises(UserError, match="no adapter"):
            await text(engine, Request((1,), adapter="x"))
        slow = engine.stream(Request((1,), 50, GREEDY), timeout=1.0)
        await anext(slow)
        now[0] = 2.0
        with pytest.raises(DeadlineExceeded):
            async for _ in slow:
                pass

        def fill(engine):  # in the thread, so that no step is between
            engine.submit(Request((1,), 1, GREEDY))
            with pytest.raises(QueueFull):
                engine.submit(Request((1,), 1, GREEDY))

        await engine.call(fill)

    run(ask, queue_size=1, clock=lambda: now[0])


def test_draining_ends_what_runs_and_refuses_what_comes(run, greedy):
    async def drain(engine):
        stream = engine.stream(Request((1, 2, 3), 10, GREEDY))
        first = await anext(stream)
        draining = asyncio.ensure_future(engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(Closed):
            await text(engine, Request((1,), 2, GREEDY))
        ids = [first.id, *[token.id async for token in stream]]
        await draining
        return ids

    assert run(drain) == greedy((1, 2, 3), 10)


def test_closing_ends_streams_with_an_error(run):
    async def close(engine):
        stream = engine.stream(Request((1, 2, 3), 50, GREEDY))
        await anext(stream)
        await engine.close()
        with pytest.raises(Closed):
            async for _ in stream:
                pass
        with pytest.raises(Closed):
            await text(engine, Request((1,), 2, GREEDY))

    run(close)


def test_a_step_that_fails_fails_all_who_wait(run, monkeypatch):
    def fail():
        raise RuntimeError("out of memory")

    async def ask(engine):
        stream = engine.stream(Request((1, 2, 3), 50, GREEDY))
        await anext(stream)
        await engine.call(lambda inner: monkeypatch.setattr(inner, "step", fail))
        for waits in (stream, engine.stream(Request((1,), 2, GREEDY))):
            with pytest.raises(EngineError, match=r"engine failed: .*out of memory"):
                async for _ in waits:
                    pass

    run(ask)
