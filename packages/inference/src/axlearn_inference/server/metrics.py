"""What Prometheus is told."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from axlearn_inference.server.answers import Event
    from axlearn_inference.server.serving import Stats

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "axlearn_requests", "Answers, by path and code.", ["path", "code"], registry=registry
        )
        self.tokens_in = Counter("axlearn_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.tokens_out = Counter(
            "axlearn_generated_tokens", "Tokens generated.", registry=registry
        )
        self.first_token = Histogram(
            "axlearn_time_to_first_token_seconds",
            "From the request to the first token of an answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.per_token = Histogram(
            "axlearn_time_per_token_seconds",
            "From one token to the next of the same answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.running = Gauge("axlearn_running", "Requests that get tokens.", registry=registry)
        self.waiting = Gauge("axlearn_waiting", "Requests in the queue.", registry=registry)
        self.cache = Gauge(
            "axlearn_cache_used_ratio", "Fraction of the cache in use.", registry=registry
        )

    async def timed(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """Yields the events of one answer, and notes when they came."""
        before, histogram = time.perf_counter(), self.first_token
        async for event in events:
            now = time.perf_counter()
            histogram.observe(now - before)
            self.tokens_out.inc()
            before, histogram = now, self.per_token
            yield event

    def page(self, stats: Stats | None) -> bytes:
        """Returns all figures as text; `stats` are those of the engine, if there is one."""
        if stats is not None:
            self.running.set(stats.running)
            self.waiting.set(stats.waiting)
            pages = stats.pages_used + stats.pages_free + stats.pages_kept
            self.cache.set(stats.pages_used / max(pages, 1))
        return generate_latest(self.registry)
