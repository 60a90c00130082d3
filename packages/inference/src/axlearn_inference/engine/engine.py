"""Continuous batching: many requests share the steps of one model."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from axlearn_core.config import ConfigError, Configurable
from axlearn_core.errors import UserError
from axlearn_core.training.compile_cache import use_compile_cache
from axlearn_inference.engine.adapters import Adapters
from axlearn_inference.engine.batch import (
    GREEDY,
    by_rules_alone,
    draw_inputs,
    fill_inputs,
    goal_of,
    token_of,
)
from axlearn_inference.engine.buckets import Buckets, Shape
from axlearn_inference.engine.handover import Contents, Handover
from axlearn_inference.engine.pages import PagePool
from axlearn_inference.engine.paging import bytes_per_page, empty_cache, paged
from axlearn_inference.engine.programs import MOST_TOKENS, Programs, StepInputs, unused_inputs
from axlearn_inference.engine.scheduler import Scheduler, Work
from axlearn_inference.engine.sequence import Sequence
from axlearn_inference.errors import DeadlineExceeded, EngineError
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import Request, Token
from axlearn_inference.sampling import Drawn
from axlearn_inference.text import TextStream


class Stats(NamedTuple):
    """What an engine has at the moment, and has done since it was built."""

    running: int  # requests
    waiting: int  # requests
    pages_used: int
    pages_free: int
    pages_kept: int  # of no running request, but found again by a prompt that begins alike
    computed: int  # ids that the model has read
    found: int  # ids that it need not read, since their pages were found
    tokens: int  # generated
    preemptions: int
    programs: int  # compiled

    @property
    def cache_used(self) -> float:
        """The fraction of the pages that requests use."""
        return self.pages_used / (self.pages_used + self.pages_free + self.pages_kept)


class Engine(Configurable):
    """Generates texts of many requests side by side, each as if it were alone.

    One thread may use it; `AsyncEngine` is for others. `step` computes one iteration: the next
    tokens of each running request, and a chunk of prompts. See `Scheduler` for who goes first.

    Args:
        model: on caches of any kind; contiguous ones are replaced by paged ones.
        adapters: LoRA adapters that requests may name, if any.
        clock: seconds, for deadlines and `max_delay`.
    """

    class Config(Configurable.Config):
        slots: int = 8  # requests that run side by side
        max_length: int = 2048  # ids of a prompt and its text, or the model's if that is less
        page_size: int = 16  # ids
        num_pages: int | None = None  # None: by `memory`, and no more than slots can use
        memory: float = 0.9  # fraction of what the device has left, for pages
        prefill_tokens: int = 256  # of prompts, read in one iteration
        queue_size: int = 128  # requests that may wait
        # Seconds for which a token may be held back, so that one call decodes several.
        max_delay: float = 0.05
        compile_cache: str | None = None  # folder of compiled programs, for the next start

    def __init__(
        self,
        config: Config,
        *,
        model: LanguageModel,
        adapters: Adapters | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(_fitted(config, model))
        cfg = self.config
        _check(cfg)
        model.check_decoder_only("the engine")
        use_compile_cache(cfg.compile_cache)
        self.model = model if adapters is None else adapters.model
        self.adapters = adapters
        self._clock = clock
        pages = _num_pages(cfg, self.model)
        module, axes = paged(self.model, cfg.page_size, pages)
        self._cache = empty_cache(module, model, cfg.slots, cfg.max_length)
        self._programs = Programs(module, axes.rows, model, self._cache)
        self._contents = Contents(axes, self._cache)
        self._scheduler = Scheduler(
            PagePool(pages, cfg.page_size),
            slots=cfg.slots,
            prefill_tokens=cfg.prefill_tokens,
            queue_size=cfg.queue_size,
        )
        # A recurrent state is that of a whole text: pages of its beginning do not give it.
        self._scheduler.shares_prefixes = not axes.keeps_rows
        self._buckets = Buckets(
            slots=cfg.slots,
            prefill_tokens=cfg.prefill_tokens,
            page_size=cfg.page_size,
            max_length=cfg.max_length,
        )
        self._sequences: dict[int, Sequence] = {}
        self._arrived = 0
        self._computed = self._tokens = 0
        self._token_seconds = math.inf  # that decoding took lately, for a token of each text

    def compile_ahead(self) -> None:
        """Compiles all that requests may need, which otherwise happens when it is needed."""
        self._programs.compile_all(
            self._variables,
            self._cache,
            map(self._unused, self._buckets.steps()),
            map(self._unused, self._buckets.decoding()),
        )

    def submit(self, request: Request, *, timeout: float | None = None) -> int:
        """Lets a request wait for its turn.

        Args:
            request: what is asked.
            timeout: seconds after which it is dropped; None waits.

        Returns:
            The request's handle.

        Raises:
            QueueFull: if too many wait.
            UserError: if it cannot be served, as one that is too long, or names an unknown adapter.
        """
        _check_request(request, self.model, self.config.max_length)
        sequence = self._sequence(request, timeout)
        if request.constraint is not None:
            sequence.matcher = request.constraint.matcher()
        return self._enqueue(sequence)

    def step(self) -> list[tuple[int, Token | EngineError]]:
        """Computes one iteration.

        Returns:
            Handles and their next tokens, of which the last has a `finish`; or why it ended
            before.
        """
        began = self._clock()
        plan = self._scheduler.plan(began, self._most_tokens())
        outcomes: list[tuple[int, Token | EngineError]] = []
        for sequence in plan.expired:
            del self._sequences[sequence.number]
            outcomes.append((sequence.number, DeadlineExceeded("the text was not done in time")))
        for sequence in plan.placed:
            self._place(sequence)
        # All calls are under way before the first result is waited for.
        results = [self._call(works, plan.tokens) for works in self._calls(plan.work)]
        for result in results:
            outcomes += result()
        if plan.work and by_rules_alone(plan.work):
            longest = max(collections.Counter(handle for handle, _ in outcomes).values())
            self._token_seconds = (self._clock() - began) / longest
        return outcomes

    def cancel(self, handle: int) -> None:
        """Drops a request, if it is not done already."""
        sequence = self._sequences.pop(handle, None)
        if sequence is not None:
            self._scheduler.remove(sequence)

    def unload(self, adapter: str) -> None:
        """Unloads an adapter.

        Raises:
            UserError: if it is not loaded, or requests use it.
        """
        users = sum(each.request.adapter == adapter for each in self._sequences.values())
        if users:
            raise UserError(f"{users} requests use the adapter {adapter!r}; wait until they end")
        if self.adapters is None:
            raise UserError(f"there is no adapter {adapter!r}: this engine has none")
        self.adapters.unload(adapter)

    @property
    def busy(self) -> bool:
        """Whether any request is not done."""
        return bool(self._sequences)

    def stats(self) -> Stats:
        """Returns what there is."""
        scheduler = self._scheduler
        return Stats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            pages_used=scheduler.pool.used,
            pages_free=scheduler.pool.free,
            pages_kept=scheduler.pool.kept,
            computed=self._computed,
            found=scheduler.found,
            tokens=self._tokens,
            preemptions=scheduler.preemptions,
            programs=len(self._programs),
        )

    def export(self, handle: int) -> Handover:
        """Takes a running request out of this engine, for `adopt` of another.

        Raises:
            UserError: if the request is not running, so that there is nothing to hand over.
        """
        sequence = self._sequences.get(handle)
        if sequence is None or sequence.slot is None or not sequence.computed:
            raise UserError(f"request {handle} is not running here; submit it to the other engine")
        pages = sequence.pages[: self._filled_pages(sequence)]
        contents = self._contents.take(self._cache, sequence.slot, pages)
        self.cancel(handle)
        left = sequence.deadline - self._clock()
        return Handover(
            sequence.request,
            tuple(sequence.ids),
            sequence.computed,
            left if math.isfinite(left) else None,
            sequence.matcher,
            contents,
        )

    def adopt(self, handover: Handover) -> int:
        """Goes on with a request of an engine with the same model and `page_size`.

        Returns:
            The handle of the request here.

        Raises:
            QueueFull: if too many wait.
            UserError: if it is too long for this engine, or names an adapter it has not.
        """
        sequence = self._sequence(handover.request, handover.timeout)
        sequence.ids = list(handover.ids)
        sequence.computed = handover.computed
        sequence.matcher = handover.matcher
        sequence.carried = handover.contents
        if sequence.text is not None:
            for token in handover.ids[len(handover.request.prompt) :]:
                sequence.text.feed(token)
        if len(sequence.ids) >= sequence.limit:
            raise UserError(
                f"{len(sequence.ids)} tokens are more than this engine's max_length "
                f"(={self.config.max_length}) lets go on"
            )
        return self._enqueue(sequence)

    @property
    def _variables(self) -> dict[str, object]:
        return self.model.variables if self.adapters is None else self.adapters.variables

    def _enqueue(self, sequence: Sequence) -> int:
        self._scheduler.submit(sequence)
        self._sequences[sequence.number] = sequence
        self._arrived += 1
        return sequence.number

    def _sequence(self, request: Request, timeout: float | None) -> Sequence:
        sequence = Sequence(
            self._arrived,
            request,
            limit=min(len(request.prompt) + request.max_tokens, self.config.max_length),
            deadline=math.inf if timeout is None else self._clock() + timeout,
        )
        if request.adapter is not None:
            if self.adapters is None:
                raise UserError(f"there is no adapter {request.adapter!r}: this engine has none")
            sequence.root = self.adapters.version(request.adapter)
        if self.model.tokenizer is not None:
            sequence.text = TextStream(self.model.tokenizer, request.prompt, request.stop)
        return sequence

    def _place(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        pages = sequence.pages[: self._filled_pages(sequence)]
        self._cache = self._contents.put(self._cache, sequence.slot, pages, sequence.carried)
        sequence.carried = None

    def _filled_pages(self, sequence: Sequence) -> int:
        return -(-sequence.computed // self.config.page_size)

    def _calls(self, work: list[Work]) -> Iterator[list[Work]]:
        """Yields what goes into one call of the model: numbers of ids that are padded alike."""
        groups: dict[int, list[Work]] = {}
        for each in work:
            groups.setdefault(self._buckets.ids(each.length), []).append(each)
        for ids, group in groups.items():
            size = self._buckets.most_rows(ids)
            for begin in range(0, len(group), size):
                yield group[begin : begin + size]

    def _most_tokens(self) -> int:
        """Returns how many tokens of a text may come at once, by how long they took lately."""
        most = self.config.max_delay / max(self._token_seconds, 1e-6)
        return max(1, min(MOST_TOKENS, int(most)))

    def _call(self, works: list[Work], tokens: int) -> Callable[[], Iterable[tuple[int, Token]]]:
        """Computes ids, and what follows them. Waits for nothing: what it returns does."""
        if by_rules_alone(works):
            return partial(self._collect_texts, works, *self._decode(works, tokens))
        drawn = self._step(works)
        return tuple if drawn is None else partial(self._collect, works, drawn)

    def _decode(self, works: list[Work], tokens: int) -> tuple[jax.Array, jax.Array]:
        """Lets texts go on by so many tokens, less if they end; see `programs.decode`."""
        inputs = self._inputs(works, tokens, decoding=True)
        rows = inputs.ids.shape[0]
        samplings = [work.sequence.request.sampling for work in works]
        samplings += [GREEDY] * (rows - len(works))
        goal = goal_of(works, rows, tokens, hurry=bool(self._scheduler.waiting))
        drawn, made, self._cache = self._programs.decode(
            self._variables, self._cache, inputs, tuple(samplings), goal
        )
        return drawn, made

    def _collect_texts(
        self, works: list[Work], drawn: jax.Array, made: jax.Array
    ) -> Iterator[tuple[int, Token]]:
        """Waits for several tokens of each text, and adds those before its end."""
        for step in np.asarray(drawn)[: int(made)].tolist():
            for work, token in zip(works, step, strict=False):  # there are more rows than texts
                if work.sequence.slot is not None:
                    self._note(work)
                    yield self._append(work.sequence, Token(token))

    def _step(self, works: list[Work]) -> Drawn | None:
        """Computes ids, and draws if a token follows any of them."""
        inputs = self._inputs(works, 1)
        logits, self._cache = self._programs.step(self._variables, self._cache, inputs)
        for work in works:
            self._note(work)
        if not any(work.draws for work in works):
            return None
        # What constraints allow is found out while the device computes the scores.
        return self._programs.draw(logits, *draw_inputs(works, *logits.shape))

    def _collect(self, works: list[Work], drawn: Drawn) -> Iterator[tuple[int, Token]]:
        """Waits for what was drawn, and adds it to the texts."""
        ids = np.asarray(drawn.token).tolist()
        told = None
        if any(work.sequence.request.top_logprobs is not None for work in works):
            told = jax.device_get(drawn)
        for row, (sequence, _, draws) in enumerate(works):
            if not draws:
                continue
            token = token_of(ids[row], told, row, sequence.request.top_logprobs)
            yield self._append(sequence, token)

    def _note(self, work: Work) -> None:
        """Takes note that the cache holds these ids from now on."""
        self._scheduler.computed(work)
        self._computed += work.length

    def _append(self, sequence: Sequence, drawn: Token) -> tuple[int, Token]:
        """Adds a token to a text, which may end by it."""
        self._tokens += 1
        token = sequence.append(drawn)
        if token.finish is not None:
            self.cancel(sequence.number)
        return sequence.number, token

    def _inputs(self, works: list[Work], tokens: int, *, decoding: bool = False) -> StepInputs:
        """Returns what a call reads after which each sequence has up to `tokens` more."""
        size = self.config.page_size
        pages = max(
            min(-(-(sequence.computed + length + tokens - 1) // size), len(sequence.pages))
            for sequence, length, _ in works
        )
        ids = self._buckets.ids(works[0].length)
        inputs = self._unused(self._buckets.fit(len(works), ids, pages, decoding=decoding))
        fill_inputs(inputs, works)
        if inputs.adapters is not None and self.adapters is not None:
            for row, work in enumerate(works):
                inputs.adapters[row] = self.adapters.place(work.sequence.request.adapter)
        return inputs

    def _unused(self, shape: Shape) -> StepInputs:
        return unused_inputs(
            shape,
            slots=self.config.slots,
            num_pages=self._scheduler.pool.num_pages,
            adapters=self.adapters is not None,
        )


def _fitted(cfg: Engine.Config, model: LanguageModel) -> Engine.Config:
    return cfg.clone(max_length=min(cfg.max_length, model.max_length or cfg.max_length))


def _check(cfg: Engine.Config) -> None:
    for name in ("slots", "max_length", "page_size", "prefill_tokens", "queue_size"):
        if getattr(cfg, name) < 1:
            raise ConfigError(f"{name} (={getattr(cfg, name)}) must be at least 1")
    if cfg.max_delay < 0:
        raise ConfigError(f"max_delay (={cfg.max_delay}) is in seconds, and cannot be negative")
    if not 0 < cfg.memory <= 1:
        raise ConfigError(f"memory (={cfg.memory}) is a fraction, above 0 and at most 1")


def _check_request(request: Request, model: LanguageModel, max_length: int) -> None:
    if len(request.prompt) >= max_length:
        raise UserError(
            f"the prompt has {len(request.prompt)} tokens, and prompt and text have at most "
            f"{max_length} (max_length)"
        )
    model.check(request)


def _num_pages(cfg: Engine.Config, model: LanguageModel) -> int:
    """Returns how many pages there is room for, and use."""
    if cfg.num_pages is not None:
        return cfg.num_pages
    useful = cfg.slots * -(-cfg.max_length // cfg.page_size)
    limits = jax.local_devices()[0].memory_stats()
    size = 0 if limits is None else bytes_per_page(model, cfg.page_size)
    if limits is None or not size:
        return useful
    room = int(cfg.memory * (limits["bytes_limit"] - limits["bytes_in_use"])) // size
    if room < 1:
        raise ConfigError(
            f"memory (={cfg.memory}) of what the device has left holds no page of {size} bytes; "
            "take a smaller model, fewer bits, or a smaller page_size"
        )
    return min(useful, room)
