"""No page is lost, and none has two meanings."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from axlearn_inference.engine.pages import PagePool, page_key

PAGES, SIZE = 12, 2
IDS = st.lists(st.integers(0, 2), min_size=1, max_size=14)


class Pools(RuleBasedStateMachine):
    """Sequences come, have their full pages remembered, and go, against a model in plain lists."""

    def __init__(self):
        super().__init__()
        self.pool = PagePool(PAGES, SIZE)
        self.held = []  # (ids, pages)
        self.content = {}  # of each page that was remembered: all ids up to its end

    @rule(ids=IDS, reserve=st.integers(0, 3))
    def take(self, ids, reserve):
        keys, count = keys_of(ids), -(-len(ids) // SIZE)
        room = self.pool.free + self.pool.kept
        taken = self.pool.take(count, keys, reserve=reserve)
        if taken is None:
            assert room < count + reserve  # it never refuses what there is room for
            return
        pages, known = taken
        assert len(pages) == count
        assert len(set(pages)) == count
        for index, page in enumerate(pages[:known]):
            assert self.content[page] == ids[: (index + 1) * SIZE]
        for page in pages[known:]:
            assert all(page not in used for _, used in self.held)
            self.content.pop(page, None)
        for index, key in enumerate(keys):
            self.pool.remember(pages[index], key)
            self.content[pages[index]] = ids[: (index + 1) * SIZE]
        self.held.append((ids, pages))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data):
        _, pages = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.release(pages)

    @invariant()
    def pages_add_up(self):
        used = Counter(page for _, pages in self.held for page in pages)
        assert self.pool.used == len(used)
        assert self.pool.free + self.pool.kept + self.pool.used == PAGES
        assert {page: n for page, n in enumerate(self.pool._users) if n} == dict(used)
        assert not set(self.pool._free) & (set(used) | set(self.pool._kept))
        assert not set(self.pool._kept) & set(used)


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def keys_of(ids):
    keys = [b""]
    for start in range(0, len(ids) // SIZE * SIZE, SIZE):
        keys.append(page_key(keys[-1], ids[start : start + SIZE]))
    return keys[1:]


def test_a_prefix_is_found_after_its_sequence_has_gone():
    pool = PagePool(4, SIZE)
    pages, known = pool.take(3, keys_of([1, 2, 3, 4]))
    assert known == 0
    for page, key in zip(pages, keys_of([1, 2, 3, 4]), strict=False):
        pool.remember(page, key)
    pool.release(pages)
    assert (pool.free, pool.kept) == (2, 2)
    again, known = pool.take(3, keys_of([1, 2, 3, 9]))
    assert (again[0], known) == (pages[0], 1)
    assert pages[1] not in again


def test_what_was_let_go_first_makes_room_first():
    pool = PagePool(2, SIZE)
    for ids in ([1, 1], [2, 2]):
        pages, _ = pool.take(1)
        pool.remember(pages[0], keys_of(ids)[0])
        pool.release(pages)
    pool.take(1)
    assert pool.take(1, keys_of([2, 2])) == ([1], 1)


def test_the_key_of_a_page_depends_on_all_ids_before_and_on_the_adapter():
    assert len({*keys_of([1, 2, 1, 2]), *keys_of([0, 2, 1, 2])}) == 4
    assert page_key(b"adapter", [1, 2]) != page_key(b"", [1, 2])
