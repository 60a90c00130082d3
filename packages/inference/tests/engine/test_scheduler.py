"""Who goes first, and that nobody is forgotten. There is no model here."""

import random

import pytest

from axlearn_inference.engine.pages import PagePool
from axlearn_inference.engine.scheduler import Scheduler
from axlearn_inference.engine.sequence import Sequence
from axlearn_inference.errors import EngineError, QueueFull
from axlearn_inference.request import Request, Token

SIZE = 4


def scheduler(*, pages=16, slots=4, prefill_tokens=16, queue_size=100):
    pool = PagePool(pages, SIZE)
    return Scheduler(pool, slots=slots, prefill_tokens=prefill_tokens, queue_size=queue_size)


def sequence(number, prompt=8, tokens=4, **fields):
    # No two prompts begin alike.
    request = Request((number, *range(prompt - 1)), max_tokens=tokens)
    return Sequence(number, request, limit=prompt + tokens, **fields)


def compute(scheduler, plan):
    """What an engine does, with a made-up token. Returns the sequences that are done."""
    done = []
    for work in plan.work:
        assert work.length <= work.sequence.missing
        assert work.sequence.computed + work.length <= len(work.sequence.pages) * SIZE
        scheduler.computed(work)
    for work in plan.work:
        if work.draws and work.sequence.append(Token(7)).finish:
            scheduler.remove(work.sequence)
            done.append(work.sequence)
    return done


def test_decoding_goes_on_beside_chunks_of_a_prompt():
    plans = scheduler()
    plans.submit(sequence(0, prompt=8))
    plans.submit(sequence(1, prompt=20))
    assert [(w.sequence.number, w.length, w.draws) for w in compute_next(plans)] == [
        (0, 8, True),
        (1, 8, False),
    ]
    assert [(w.sequence.number, w.length, w.draws) for w in compute_next(plans)] == [
        (0, 1, True),
        (1, 12, True),
    ]


def compute_next(plans):
    plan = plans.plan()
    compute(plans, plan)
    return plan.work


def test_a_request_waits_until_there_are_pages_for_its_prompt_and_what_runs_may_need():
    plans = scheduler(pages=4)
    plans.submit(sequence(0, prompt=8, tokens=8))
    plans.submit(sequence(1, prompt=8, tokens=8))
    assert [w.sequence.number for w in plans.plan().work] == [0]
    assert len(plans.waiting) == 1


def test_the_latest_is_put_back_when_pages_run_out_and_goes_on_where_it_was():
    plans = scheduler(pages=5, prefill_tokens=16)
    first, second = sequence(0, prompt=6, tokens=12), sequence(1, prompt=5, tokens=9)
    plans.submit(first)
    plans.submit(second)
    done = []
    while plans.running or plans.waiting:
        done += compute(plans, plans.plan())
    assert plans.preemptions > 0
    assert done == [first, second]
    assert [len(each.ids) for each in done] == [18, 14]
    assert plans.pool.used == 0


def test_a_shared_prompt_is_computed_but_once_and_its_last_id_by_each():
    plans = scheduler()
    plans.submit(sequence(5, prompt=8))
    compute(plans, plans.plan())
    twin = sequence(5, prompt=8)
    plans.submit(twin)
    work = plans.plan().work[-1]
    assert (work.sequence, work.length, work.draws) == (twin, 4, True)
    assert plans.found == 4


def test_models_with_recurrent_states_share_nothing():
    plans = scheduler()
    plans.shares_prefixes = False
    plans.submit(sequence(5, prompt=8))
    compute(plans, plans.plan())
    plans.submit(sequence(5, prompt=8))
    assert plans.plan().work[-1].length == 8


def test_a_full_queue_refuses():
    plans = scheduler(queue_size=1)
    plans.submit(sequence(0))
    with pytest.raises(QueueFull, match="1 requests are waiting"):
        plans.submit(sequence(1))


def test_what_no_pool_can_hold_is_refused_at_once():
    with pytest.raises(EngineError, match=r"need 5 pages, and the pool has 4; .*num_pages"):
        scheduler(pages=4).submit(sequence(0, prompt=10, tokens=7))


def test_a_deadline_drops_running_and_waiting_requests():
    plans = scheduler(slots=1)
    plans.submit(sequence(0, deadline=5.0))
    plans.submit(sequence(1, deadline=5.0))
    plans.submit(sequence(2))
    assert plans.plan(4.9).expired == []
    plan = plans.plan(5.0)
    assert [each.number for each in plan.expired] == [0, 1]
    assert [work.sequence.number for work in plan.work] == [2]


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_requests_that_come_and_go_leave_every_page_free(seed):
    rng = random.Random(seed)
    plans = scheduler(pages=16, slots=6, prefill_tokens=12, queue_size=20)
    alive, submitted, done, cancelled, refused = {}, 0, 0, 0, 0
    steps = 0
    while submitted < 1500 or alive:
        while submitted < 1500 and rng.random() < 0.5:
            # Few first ids: prompts share prefixes.
            prompt = tuple([rng.randrange(3)] * rng.randrange(1, 30))
            request = Request(prompt, max_tokens=rng.randrange(1, 20))
            new = Sequence(submitted, request, limit=len(prompt) + request.max_tokens)
            submitted += 1
            try:
                plans.submit(new)
            except QueueFull:
                refused += 1
            else:
                alive[new.number] = new
        if alive and rng.random() < 0.2:
            gone = alive.pop(rng.choice(list(alive)))
            plans.remove(gone)
            cancelled += 1
        for each in compute(plans, plans.plan()):
            assert len(each.ids) == each.limit
            del alive[each.number]
            done += 1
        waiting = [each.number for each in plans.waiting]
        assert waiting == sorted(waiting)
        steps += 1
        assert steps < 40_000
    assert done + cancelled + refused == 1500
    assert min(done, cancelled, plans.preemptions, plans.found) > 50
    assert plans.pool.used == 0
    assert plans.pool.free + plans.pool.kept == 16


def test_pages_for_several_tokens_are_taken_as_far_as_there_are_some():
    plans = scheduler(pages=5)
    plans.submit(sequence(0, prompt=4, tokens=12))
    compute(plans, plans.plan(tokens=8))
    plan = plans.plan(tokens=8)
    assert plan.tokens == 8
    assert len(plan.work[0].sequence.pages) == 3  # of 4 ids and 8 more
    plans.submit(sequence(1, prompt=4, tokens=12))
    assert plans.plan(tokens=8).tokens == 1  # a prompt is read
    for work in plans.running:
        work.computed = len(work.ids) - 1
    assert plans.plan(tokens=8).tokens < 8
    assert plans.preemptions == 0
