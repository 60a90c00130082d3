"""Some thousand requests to a server, of which many are given up: what is left afterwards?

    python benchmarks/soak.py [--engine | --url http://127.0.0.1:8000 --pid PID] [--requests 4000]

Without a URL, a server without a model is started: it says letters. With --engine it has the engine
and a tiny model, whose pages are looked at too. Memory is the server's resident set.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import random
import re
import socket
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from axlearn_core.training.tokenizer import Tokenizer
    from axlearn_inference.engine import AsyncEngine

GAUGES = ("axlearn_running", "axlearn_waiting", "axlearn_cache_used_ratio")


def serve(listener: socket.socket, engine: bool) -> None:
    """Runs a server that says letters."""
    from axlearn_core.testing.tiny import Letters
    from axlearn_inference.server import Api, Options, Scripted, Served, Server

    letters = Letters.default_config().set().instantiate()
    letters.eos_id = letters.encode("z")[0]

    def load() -> Served:
        serving = (
            tiny_engine(letters)
            if engine
            else Scripted(letters, lambda *_: "abc" * 20, pause=0.002, slots=16, queue=32)
        )
        return Served("letters", serving, letters, max_length=128)

    asyncio.run(Server(Api(Options())).run_until_stopped(listener, load, lambda: None))


def tiny_engine(letters: Tokenizer) -> AsyncEngine:
    """Returns an engine with a model of random weights."""
    import jax

    from axlearn_inference import LanguageModel
    from axlearn_inference.engine import AsyncEngine, Engine
    from axlearn_layers.families import llama

    sizes = {"dim": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "hidden_dim": 24}
    module = llama(vocab_size=letters.vocab_size, **sizes).instantiate()
    variables = jax.jit(module.initialize)(jax.random.key(0))
    model = LanguageModel("letters", module, variables, letters, "float32", letters.vocab_size)
    cfg = Engine.default_config().set(slots=16, queue_size=32, max_length=128)
    made: Engine = cfg.instantiate(model=model)
    made.compile_ahead()
    return AsyncEngine(made)


async def ask(client: httpx.AsyncClient, model: str, chance: random.Random) -> str:
    """Sends one request, which may be given up, and says how it ended."""
    body = {
        "model": model,
        "prompt": "abc" * chance.randint(1, 12),
        "max_tokens": chance.randint(1, 60),
        "n": chance.choice([1, 1, 1, 3]),
        "stream": chance.random() < 0.7,
    }
    patience = chance.choice([None, chance.uniform(0, 0.3)])
    try:
        async with (
            asyncio.timeout(patience),
            client.stream("POST", "/v1/completions", json=body) as answer,
        ):
            await answer.aread()
            return str(answer.status_code)
    except TimeoutError:
        return "given up"
    except httpx.TransportError as error:
        return type(error).__name__


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
    """Returns the gauges of the server."""
    text = (await client.get("/metrics")).text
    return {name: float(re.search(rf"^{name} (\S+)", text, re.M)[1]) for name in GAUGES}


async def soak(url: str, pid: int | None, requests: int, at_a_time: int) -> None:
    """Sends requests from so many clients at a time, and prints what came of it."""
    chance = random.Random(0)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        ends: Counter[str] = Counter()
        left = iter(range(requests))

        async def one_client() -> None:
            for _ in left:
                ends[await ask(client, model, chance)] += 1

        begin = time.perf_counter()
        for part in range(4):
            left = iter(range(requests // 4))
            await asyncio.gather(*(one_client() for _ in range(at_a_time)))
            print(f"after {(part + 1) * (requests // 4)} requests: {megabytes(pid):.1f} MB")
        took = time.perf_counter() - begin
        while any((left_over := await figures(client)).values()) and time.perf_counter() < (
            begin + took + 10
        ):
            await asyncio.sleep(0.1)
    print(
        f"{sum(ends.values()) / took:.0f} requests a second; "
        + ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    )
    print(", ".join(f"{name} {value:g}" for name, value in left_over.items()))


def megabytes(pid: int | None) -> float:
    """Returns the resident set of a process, where the system tells it."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    return float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--engine", action="store_true", help="instead of a server without a model")
    parser.add_argument("--pid", type=int, help="of the server, for its memory")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--at-a-time", type=int, default=40)
    words = parser.parse_args()
    if words.url:
        asyncio.run(soak(words.url, words.pid, words.requests, words.at_a_time))
        return
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(listener, words.engine)
    )
    server.start()
    try:
        asyncio.run(_when_ready(url))
        asyncio.run(soak(url, server.pid, words.requests, words.at_a_time))
    finally:
        server.terminate()
        server.join()
    print(f"the server ended with {server.exitcode}")


async def _when_ready(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get("/health")).status_code == 200:
                    return
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    main()
