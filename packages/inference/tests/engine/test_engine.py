"""Many texts side by side are the texts that one gets one by one."""

import jax
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.errors import UserError
from axlearn_inference.engine import Engine
from axlearn_inference.errors import DeadlineExceeded, QueueFull
from axlearn_inference.request import Request, Sampling

GREEDY = Sampling(temperature=0)


def requests(count, seed=0, vocab=67):
    """Log-normal lengths, as conversations have, on the scale of a tiny model."""
    rng = np.random.default_rng(seed)
    prompts = np.clip(rng.lognormal(2.2, 0.8, count), 1, 40).astype(int)
    texts = np.clip(rng.lognormal(1.8, 0.7, count), 1, 20).astype(int)
    return [
        Request(tuple(map(int, rng.integers(vocab, size=n))), int(m), GREEDY)
        for n, m in zip(prompts, texts, strict=True)
    ]


def test_many_requests_have_the_texts_of_one_by_one(make_engine, greedy, finish_all):
    engine = make_engine()
    asked = {engine.submit(each): each for each in requests(40)}
    texts = finish_all(engine)
    for handle, request in asked.items():
        assert texts[handle] == greedy(request.prompt, request.max_tokens)
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.pages_used) == (0, 0, 0)
    assert stats.tokens == sum(each.max_tokens for each in asked.values())


def test_preempted_requests_have_the_texts_of_one_by_one(make_engine, greedy, finish_all):
    engine = make_engine()
    assert engine._scheduler.pool.take(31)  # 9 are left; a pool of another size compiles anew
    asked = {engine.submit(each): each for each in requests(12, seed=1) if len(each.prompt) < 25}
    texts = finish_all(engine)
    assert engine.stats().preemptions > 0
    for handle, request in asked.items():
        assert texts[handle] == greedy(request.prompt, request.max_tokens)


def test_a_prompt_that_was_there_is_found_and_gives_the_same_text(make_engine, greedy, finish_all):
    engine = make_engine()
    prompt = tuple(range(20))
    expected = greedy(prompt, 6)
    first = engine.submit(Request(prompt, 6, GREEDY))
    assert finish_all(engine)[first] == expected
    before = engine.stats().computed
    again = engine.submit(Request(prompt, 6, GREEDY))
    assert finish_all(engine)[again] == expected
    # Of 20 ids and the 5 of the text that are read, 4 full pages of 4 ids are found.
    assert engine.stats().computed - before == 20 + 5 - 16
    assert engine.stats().found == 16


def test_a_conversation_goes_on_from_the_pages_of_its_own_answers(make_engine, greedy, finish_all):
    engine = make_engine()
    first = engine.submit(Request((1, 2, 3, 4, 5), 12, GREEDY))
    prompt = (1, 2, 3, 4, 5, *finish_all(engine)[first], 6)
    second = engine.submit(Request(prompt, 4, GREEDY))
    assert finish_all(engine)[second] == greedy(prompt, 4)
    assert engine.stats().found == 16


def test_a_seed_gives_the_same_text_whatever_else_is_in_the_batch(make_engine, finish_all):
    request = Request((3, 1, 4), 10, Sampling(temperature=1.5, top_k=30, seed=7))
    alone = make_engine()
    handle = alone.submit(request)
    text = finish_all(alone)[handle]
    crowded = make_engine()
    for each in requests(3, seed=2):
        crowded.submit(each)
    crowded.submit(Request((3, 1, 4), 10, Sampling(temperature=0.7, seed=8)))
    handle = crowded.submit(request)
    assert finish_all(crowded)[handle] == text


def test_penalties_count_the_prompt_and_the_text(make_engine, finish_all):
    engine = make_engine()
    rules = Sampling(temperature=0, presence_penalty=1000.0)
    free = engine.submit(Request((5, 6), 20, GREEDY))
    handle = engine.submit(Request((5, 6), 20, rules))
    texts = finish_all(engine)
    assert len(set(texts[handle])) == 20 > len(set(texts[free]))


def test_a_text_ends_at_an_end_id_and_log_probabilities_are_those_of_its_tokens(
    make_engine, greedy
):
    text = greedy((9, 8), 8)
    end = text[3]
    engine = make_engine()
    engine.submit(Request((9, 8), 8, GREEDY, end_ids=(end,), top_logprobs=2))
    tokens = []
    while engine.busy:
        tokens += [token for _, token in engine.step()]
    assert [token.id for token in tokens] == text[: text.index(end) + 1]
    assert [token.finish for token in tokens][-2:] == [None, "stop"]
    for token in tokens:  # the likeliest one is drawn
        assert token.top[0] == (token.id, token.logprob)
        assert token.top[1][1] <= token.logprob < 0


class OnlyEven:
    """Even ids, three of them."""

    def __init__(self):
        self.count = 0

    def matcher(self):
        return OnlyEven()

    def fill_mask(self, mask):
        mask[:] = 0x55555555

    def accept(self, token):
        assert token % 2 == 0
        self.count += 1

    @property
    def ended(self):
        return self.count == 3


def test_a_constraint_holds_for_its_own_row_only(make_engine, greedy, finish_all):
    engine = make_engine()
    bound = engine.submit(Request((9, 8), 8, GREEDY, constraint=OnlyEven()))
    free = engine.submit(Request((9, 8), 8, GREEDY))
    texts = finish_all(engine)
    assert [token % 2 for token in texts[bound]] == [0, 0, 0]
    assert texts[free] == greedy((9, 8), 8)


def test_cancelling_frees_pages_at_every_point(make_engine, finish_all):
    engine = make_engine()
    handles = [engine.submit(each) for each in requests(10, seed=3)]
    engine.cancel(handles[9])  # waits
    for handle in handles[:9]:
        engine.step()
        engine.cancel(handle)
    engine.cancel(handles[0])  # is gone already
    assert not engine.busy
    assert engine.stats().pages_used == 0


def test_a_deadline_ends_a_request_with_an_error(make_engine):
    now = [0.0]
    engine = make_engine(clock=lambda: now[0])
    handle = engine.submit(Request((1, 2), 50, GREEDY), timeout=3.0)
    engine.step()
    now[0] = 3.0
    ((ended, error),) = engine.step()
    assert ended == handle
    assert isinstance(error, DeadlineExceeded)
    assert not engine.busy


def test_after_compiling_ahead_nothing_is_compiled(make_engine, finish_all):
    engine = make_engine(slots=1, max_length=16, num_pages=5, share="ahead")
    engine.compile_ahead()
    programs = engine.stats().programs
    for prompt in ((1,), (1, 2, 3), tuple(range(15))):
        for rules in (GREEDY, Sampling(presence_penalty=1.0)):
            engine.submit(Request(prompt, 20, rules))
            engine.submit(Request(prompt, 20, rules, constraint=OnlyEven()))
    finish_all(engine)
    assert engine.stats().programs == programs


def test_what_cannot_be_served_is_refused(make_engine):
    engine = make_engine(queue_size=1)
    with pytest.raises(UserError, match=r"64 tokens, and prompt and text have at most 64"):
        engine.submit(Request(tuple([0] * 64)))
    with pytest.raises(UserError, match="ids must be from 0 to 66, got 67"):
        engine.submit(Request((1, 67)))
    with pytest.raises(UserError, match=r"top_logprobs \(=21\) must be from 0 to 20"):
        engine.submit(Request((1,), top_logprobs=21))
    with pytest.raises(UserError, match="tiny has no tokenizer, so stop strings"):
        engine.submit(Request((1,), stop=("x",)))
    with pytest.raises(UserError, match="no adapter 'x': this engine has none"):
        engine.submit(Request((1,), adapter="x"))
    engine.submit(Request((1,)))
    with pytest.raises(QueueFull):
        engine.submit(Request((1,)))
    assert engine.stats().waiting == 1


def test_a_text_ends_where_max_length_is(make_engine, finish_all):
    engine = make_engine()
    handle = engine.submit(Request(tuple([1] * 60), 20, GREEDY))
    assert len(finish_all(engine)[handle]) == 4


@pytest.mark.parametrize(("field", "value"), [("slots", 0), ("memory", 1.5)])
def test_sizes_out_of_range_are_refused(model, field, value):
    with pytest.raises(ConfigError, match=field):
        Engine.default_config().set(**{field: value}).instantiate(model=model)


def test_a_request_goes_on_in_another_engine(make_engine, greedy, finish_all):
    prefill, decode = make_engine(), make_engine(slots=4)
    asked = requests(6, seed=4)
    decode.submit(asked[0])  # its slots and pages are others
    texts = {}
    for request in asked[1:]:
        handle = prefill.submit(request)
        while not (tokens := prefill.step()):
            pass
        ((_, token),) = tokens
        if token.finish is None:
            handover = prefill.export(handle)
            adopted = decode.adopt(handover._replace(contents=jax.device_get(handover.contents)))
            texts[adopted] = request, token.id
        assert prefill.stats().pages_used == 0
    finished = finish_all(decode)
    assert len(texts) > 3
    for handle, (request, first) in texts.items():
        assert [first, *finished[handle]] == greedy(request.prompt, request.max_tokens)
    assert decode.stats().pages_used == 0


def test_contents_of_another_cache_are_refused(make_engine):
    engine = make_engine()
    handle = engine.submit(Request((1, 2, 3), 9, GREEDY))
    with pytest.raises(UserError, match="is not running here"):
        engine.export(handle)
    engine.step()
    other = make_engine(page_size=8, share="wide pages")
    other.adopt(engine.export(handle))
    with pytest.raises(UserError, match="same model, cache and page_size"):
        other.step()


def test_texts_go_on_by_several_tokens_while_no_prompt_is_read(make_engine, greedy):
    engine = make_engine()  # its clock stands, so that no number of tokens takes too long
    asked = {engine.submit(Request((n, 5), 20, GREEDY)): (n, 5) for n in range(2)}
    engine.step()  # the prompts, and a token each
    engine.step()  # one more, which tells how long a token takes
    several = engine.step()
    for handle, prompt in asked.items():
        text = [token.id for other, token in several if other == handle]
        assert text == greedy(prompt, 20)[2:18]


def test_tokens_come_one_by_one_where_none_may_be_held_back(make_engine):
    engine = make_engine(max_delay=0.0)
    engine.submit(Request((1, 5), 8, GREEDY))
    assert [len(engine.step()) for _ in range(8)] == [1] * 8


def test_a_call_ends_with_a_text_while_others_wait(make_engine):
    engine = make_engine()
    for n in range(4):
        engine.submit(Request((n, 5), 20 if n else 6, GREEDY))
    engine.step()
    engine.step()
    late = engine.submit(Request((9, 5), 4, GREEDY))
    assert len(engine.step()) == 4 * 4  # 6 tokens of the first, of which 2 came before
    assert late in {handle for handle, _ in engine.step()}


def test_an_end_id_ends_a_text_within_a_call(make_engine, greedy, finish_all):
    engine = make_engine()
    text = greedy((3, 5), 12)
    end = text[7]
    handle = engine.submit(Request((3, 5), 12, GREEDY, end_ids=(end,)))
    assert finish_all(engine)[handle] == text[: text.index(end) + 1]
    assert engine.stats().pages_used == 0
