"""Who computes what next. Knows requests and numbers of pages, and neither model nor arrays."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from axlearn_inference.engine.pages import PagePool
from axlearn_inference.engine.sequence import Sequence
from axlearn_inference.errors import EngineError, QueueFull


class Work(NamedTuple):
    """The next `length` ids of a sequence that the cache does not hold."""

    sequence: Sequence
    length: int
    draws: bool  # whether they are the last ones, and a token follows


class Plan(NamedTuple):
    """One iteration."""

    work: list[Work]
    placed: list[Sequence]  # whose `carried` contents their pages must get before
    expired: list[Sequence]  # dropped, since their deadline is over
    tokens: int = 1  # that each sequence may draw; of more than one there are pages for all of them


class Scheduler:
    """Mixes decoding with chunks of prompts, as far as slots and pages go (arXiv:2403.02310).

    In each iteration every sequence whose prompt is done goes on by one token; up to
    `prefill_tokens` ids of prompts are read beside. The earlier request goes first, and a request
    is admitted when there are pages for all it has. When pages run out the latest one is put back:
    it loses its pages, waits in front of those that came after it, and what it had is computed
    again. So the earliest always goes on, and each is the earliest at some time.
    """

    def __init__(self, pool: PagePool, *, slots: int, prefill_tokens: int, queue_size: int):
        self.pool = pool
        self.prefill_tokens = prefill_tokens
        self.queue_size = queue_size
        self.shares_prefixes = True
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # the earliest first
        self.preemptions = 0
        self.found = 0  # ids whose pages were found
        self._slots = list(reversed(range(slots)))

    def submit(self, sequence: Sequence) -> None:
        """Lets a sequence wait for its turn.

        Raises:
            QueueFull: if `queue_size` wait already.
            EngineError: if the pool could not hold it even alone.
        """
        needed, pages = self._pages_of(sequence.limit), self.pool.num_pages
        if needed > pages:
            raise EngineError(
                f"{sequence.limit} tokens (the prompt's {len(sequence.request.prompt)} and those "
                f"that may follow) need {needed} pages, and the pool has {pages}; ask for fewer "
                "max_tokens, or raise num_pages"
            )
        if len(self.waiting) >= self.queue_size:
            raise QueueFull(f"{len(self.waiting)} requests are waiting already; try again later")
        self.waiting.append(sequence)

    def plan(self, now: float = 0.0, tokens: int = 1) -> Plan:
        """Decides what this iteration computes, and takes the pages for that.

        Args:
            now: seconds, for deadlines.
            tokens: that each sequence may go on by, at most, if no prompt is read meanwhile.
        """
        plan = Plan([], [], self._expire(now))
        self._continue(plan)
        budget = self.prefill_tokens
        for sequence in self.running:
            if sequence.missing > 1 and budget:
                budget -= self._read(sequence, budget, plan)
        while budget and self.waiting and self._slots and self._admit(self.waiting[0]):
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            if sequence.carried is not None:
                plan.placed.append(sequence)
            budget -= self._read(sequence, budget, plan)
        if any(work.length > 1 for work in plan.work):
            return plan
        return plan._replace(tokens=self._reserve(plan.work, tokens))

    def computed(self, work: Work) -> None:
        """Takes note that the cache holds these ids from now on."""
        sequence, size = work.sequence, self.pool.page_size
        before = sequence.computed // size
        sequence.computed += work.length
        if self.shares_prefixes:
            keys = sequence.keys_of(sequence.computed // size, size)
            for index in range(before, len(keys)):
                self.pool.remember(sequence.pages[index], keys[index])

    def remove(self, sequence: Sequence) -> None:
        """Lets go of a sequence, at whatever point it is."""
        if sequence.slot is None:
            self.waiting.remove(sequence)
        else:
            self._leave(sequence)

    def _continue(self, plan: Plan) -> None:
        """Plans the next token of all who have one, and a page for it."""
        for sequence in list(self.running):
            if sequence.slot is None or sequence.missing != 1:
                continue
            while sequence.computed >= len(sequence.pages) * self.pool.page_size:
                taken = self.pool.take(1)
                if taken is not None:
                    sequence.pages += taken[0]
                elif self._preempt() is sequence:
                    break
            else:
                plan.work.append(Work(sequence, 1, draws=True))

    def _reserve(self, works: list[Work], tokens: int) -> int:
        """Takes pages for so many tokens of each sequence, or returns how many there is room for.

        What is left of fewer tokens than that needs no pages. Nobody is put back for it.
        """
        for sequence, _, _ in works:
            wanted = min(tokens, sequence.limit - len(sequence.ids))
            missing = self._pages_of(sequence.computed + wanted) - len(sequence.pages)
            taken = self.pool.take(missing) if missing > 0 else None
            if taken is not None:
                sequence.pages += taken[0]
            room = len(sequence.pages) * self.pool.page_size - sequence.computed
            if room < wanted:
                tokens = room
        return tokens

    def _read(self, sequence: Sequence, budget: int, plan: Plan) -> int:
        count = min(budget, sequence.missing)
        plan.work.append(Work(sequence, count, count == sequence.missing))
        return count

    def _admit(self, sequence: Sequence) -> bool:
        """Takes a slot, and pages for all ids; one more each is left to those that are running."""
        size, keys = self.pool.page_size, list[bytes]()
        if self.shares_prefixes and sequence.carried is None:
            # The last id is always computed: its scores are what the next one is drawn from.
            keys = sequence.keys_of((len(sequence.ids) - 1) // size, size)
        taken = self.pool.take(self._pages_of(len(sequence.ids)), keys, reserve=len(self.running))
        if taken is None:
            return False
        sequence.pages, known = taken
        sequence.slot = self._slots.pop()
        if sequence.carried is None:
            sequence.computed = known * size
            self.found += sequence.computed
        return True

    def _preempt(self) -> Sequence:
        sequence = self.running[-1]
        self._leave(sequence)
        sequence.computed = 0
        sequence.carried = None
        self.waiting.appendleft(sequence)
        self.preemptions += 1
        return sequence

    def _leave(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        self.running.remove(sequence)
        self.pool.release(sequence.pages)
        self._slots.append(sequence.slot)
        sequence.pages, sequence.slot = [], None

    def _expire(self, now: float) -> list[Sequence]:
        expired = [each for each in (*self.running, *self.waiting) if each.deadline <= now]
        for sequence in expired:
            self.remove(sequence)
        return expired

    def _pages_of(self, length: int) -> int:
        return -(-length // self.pool.page_size)
