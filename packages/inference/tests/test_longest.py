"""A model with a table of positions reads as far as the table, and refuses to go on."""

import jax
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.module import functional
from axlearn_inference import LanguageModel, Request, Sampling, beam_search, complete
from axlearn_inference.engine import Engine
from axlearn_inference.evaluation import score
from axlearn_layers.families import gpt2

VOCAB, LONGEST = 29, 18  # which is none of the lengths to which prompts are padded
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def short(drawn):
    cfg = gpt2(vocab_size=VOCAB, dim=16, num_layers=1, num_heads=2, max_length=LONGEST)
    module = cfg.instantiate(name="model")
    return LanguageModel("short", module, drawn(module), None, "float32", VOCAB)


@pytest.fixture(scope="module")
def scores(short):
    @jax.jit
    def whole(ids):
        return functional(
            short.module,
            state=short.variables,
            prng_key=None,
            inputs=({"input_ids": ids[None]},),
            method="logits",
        )[0][0]

    def scores(ids):
        return np.asarray(whole(np.pad(ids, (0, LONGEST - len(ids)))), np.float64)[: len(ids)]

    return scores


PROMPT = tuple(range(1, 18))


def test_the_last_position_is_used(short, scores):
    prompts = PROMPT, PROMPT[:3]
    found = complete(short, [Request(each, LONGEST - len(each), GREEDY) for each in prompts])
    for prompt, each in zip(prompts, found, strict=True):
        rows = scores([*prompt, *each.ids])[len(prompt) - 1 : -1]
        assert each.ids == rows.argmax(-1).tolist()


@pytest.mark.parametrize(
    ("length", "max_tokens", "message"),
    [
        (18, 1, "the prompt has 18 tokens, and a sequence of short at most 18: shorten it"),
        (15, 4, r"max_tokens \(=4\) after 15 tokens .* at most 18: ask for 3, or shorten"),
    ],
)
def test_what_would_be_longer_is_refused_by_all(short, length, max_tokens, message):
    request = Request((1,) * length, max_tokens, GREEDY)
    engine = Engine.default_config().set(num_pages=8).instantiate(model=short)
    with pytest.raises(UserError, match=message):
        complete(short, [request])
    with pytest.raises(UserError, match=message):
        beam_search(short, request.prompt, beams=2, max_tokens=max_tokens)
    with pytest.raises(UserError, match=r"max_tokens|the prompt has 18 tokens"):
        engine.submit(request)


def test_an_engine_is_as_long_as_its_model_at_most(short, scores):
    engine = Engine.default_config().set(slots=1, num_pages=8).instantiate(model=short)
    assert engine.config.max_length == LONGEST
    engine.submit(Request(PROMPT, 1, GREEDY))
    ((_, token),) = engine.step()
    assert token.id == scores(PROMPT)[-1].argmax()


def test_scores_are_those_of_a_whole_forward_pass(short, scores):
    whole = [*PROMPT, 5, 6]  # whose last nothing reads
    (found,) = score(short, [(PROMPT, (5, 6))], batch_size=1)
    rows = scores(whole[:-1])[-2:]
    logprobs = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    np.testing.assert_allclose(found.logprob, logprobs[[0, 1], [5, 6]].sum(), rtol=1e-5)
    with pytest.raises(UserError, match="19 tokens are more than a sequence of short has"):
        score(short, [(whole, (7,))])


@pytest.mark.parametrize(("trained", "longest"), [(None, 18), (10, 10), (30, 18)])
def test_the_shorter_of_training_and_table_counts(short, trained, longest):
    model = LanguageModel("a", short.module, {}, None, "float32", VOCAB, max_length=trained)
    assert model.max_length == longest == model.room((1, 2)) + 2
