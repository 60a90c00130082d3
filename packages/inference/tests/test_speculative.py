"""Speculative decoding says what the model alone would say."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from axlearn_core.config import replace
from axlearn_core.errors import UserError
from axlearn_core.module import functional, map_specs, ones
from axlearn_core.testing.tiny import Letters
from axlearn_inference.caches import PagedCache, SlidingCache
from axlearn_inference.decoding import complete
from axlearn_inference.model import LanguageModel
from axlearn_inference.request import Request, Sampling
from axlearn_inference.speculative import LookupDraft, ModelDraft, SpeculativeDecoder, Statistics
from axlearn_layers import KVCache
from axlearn_layers.families import llama, mamba2

VOCAB = 11
PROMPTS = [[3, 1, 4, 1, 5], [9, 2], [6]]
SIGNIFICANCE = 1e-3  # of a chi-square test; seeds are fixed, so a test passes always or never


def language_model(cfg, seed, **fields):
    module = cfg.instantiate()
    rng = np.random.default_rng(seed)

    def draw(spec):  # with numpy, since compiling the initialisation would take longer than a test
        stddev = math.prod(spec.shape[axis] for axis in spec.fan_in_axes) ** -0.5
        return (stddev * rng.normal(size=spec.shape) + (spec.initializer is ones)).astype("float32")

    state = map_specs(draw, module.parameter_specs())
    known = {"name": "tiny", "tokenizer": None, "dtype": "float32", "vocab_size": VOCAB}
    return LanguageModel(module=module, variables=state, **(known | fields))


def tiny(seed, vocab_size=VOCAB, layers=1, cache=None, window=None, **fields):
    sizes = {"num_heads": 2, "num_kv_heads": 1, "hidden_dim": 24, "num_layers": layers}
    cfg = llama(vocab_size=vocab_size, dim=16, window=window, **sizes)
    if cache is not None:
        replace(cfg, KVCache, cache)
    return language_model(cfg, seed, vocab_size=vocab_size, **fields)


@pytest.fixture(scope="module")
def target():
    return tiny(0, layers=2)


@pytest.fixture(scope="module")
def decoders(target):
    """By the draft; so each is compiled once."""
    drafts = {
        "another model": ModelDraft(tiny(1), draft_tokens=3),
        "the model itself": ModelDraft(target, draft_tokens=3),
        "lookup": LookupDraft(VOCAB, draft_tokens=3),
    }
    return {name: SpeculativeDecoder(target, draft) for name, draft in drafts.items()}


@functools.partial(jax.jit, static_argnums=0)
def compiled_scores(module, state, ids):
    inputs = ({"input_ids": ids},)
    return functional(module, state=state, prng_key=None, inputs=inputs, method="logits")[0]


def scores(model, ids):
    return compiled_scores(model.module, model.variables, ids)


def greedy_alone(model, prompt, count):
    """The likeliest tokens by the whole sequence's scores, without any cache."""

    ids = np.zeros((1, 25), np.int32)
    ids[0, : len(prompt)] = prompt
    for place in range(len(prompt), len(prompt) + count):
        ids[0, place] = scores(model, ids)[0, place - 1].argmax()
    return ids[0, len(prompt) : len(prompt) + count].tolist()


def texts(decoder, requests):
    return [each.tokens for each in complete(decoder.target, requests, decoder)]


def ids(tokens):
    return [token.id for token in tokens]


@pytest.mark.parametrize("draft", ["another model", "the model itself", "lookup"])
def test_greedy_text_is_that_of_the_model_alone(target, decoders, draft):
    greedy = Sampling(temperature=0)
    requests = [Request(tuple(p), max_tokens=20, sampling=greedy) for p in PROMPTS]
    found = [ids(text) for text in texts(decoders[draft], requests)]
    assert found == [greedy_alone(target, prompt, 20) for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("cache", "window"),
    [
        (PagedCache.default_config().set(page_size=4), None),
        (SlidingCache.default_config().set(spare=2), 4),
    ],
    ids=["pages", "ring"],
)
def test_greedy_text_is_the_same_from_pages_and_from_a_ring_with_spare_slots(cache, window):
    model = tiny(0, layers=2, cache=cache, window=window)
    draft = tiny(1, cache=cache, window=window)
    decoder = SpeculativeDecoder(model, ModelDraft(draft, draft_tokens=3))
    requests = [Request(tuple(p), 20, sampling=Sampling(temperature=0)) for p in PROMPTS]
    found = [ids(text) for text in texts(decoder, requests)]
    assert found == [greedy_alone(model, prompt, 20) for prompt in PROMPTS]
    assert 0 < decoder.statistics.acceptance < 1  # some were forgotten


def pairs(model, prompt, sampling):
    """The probability of each two tokens after a prompt, [vocab, vocab], in numpy float64."""
    after = np.array([[*prompt, first] for first in range(VOCAB)])
    logits = np.float64(scores(model, after))

    def kept(scores, text):
        counts = np.bincount(text, minlength=VOCAB)
        scores = scores - sampling.presence_penalty * (counts > 0)
        scores = scores - sampling.frequency_penalty * counts
        scores = scores / sampling.temperature
        if sampling.top_k is not None:
            scores = np.where(scores < np.sort(scores)[-sampling.top_k], -np.inf, scores)
        weights = np.exp(scores - scores.max())
        return weights / weights.sum()

    nothing = np.array([], int)
    first = kept(logits[0, -2], nothing)
    second = [kept(logits[each, -1], np.array([each])) for each in range(VOCAB)]
    return first[:, None] * np.array(second)


SAMPLINGS = [
    Sampling(temperature=0.6),
    Sampling(top_k=4),
    Sampling(presence_penalty=1.5, frequency_penalty=-0.5),
]


@pytest.mark.parametrize("draft", ["another model", "lookup"])
def test_two_sampled_tokens_have_the_distribution_of_the_model_alone(target, decoders, draft):
    rows, prompt = 1024, tuple(PROMPTS[0])
    requests = [
        Request(prompt, max_tokens=2, sampling=Sampling(**(vars(sampling) | {"seed": seed})))
        for sampling in SAMPLINGS
        for seed in range(rows)
    ]
    found = np.array([ids(text) for text in texts(decoders[draft], requests)])
    for sampling, some in zip(SAMPLINGS, np.split(found, len(SAMPLINGS)), strict=True):
        expected = rows * pairs(target, prompt, sampling).ravel()
        counts = np.bincount(some @ [VOCAB, 1], minlength=VOCAB**2)
        assert counts[expected == 0].sum() == 0
        # The test needs some of each pair: those that are too rare are one class.
        classes = np.where(expected < 5, 0, np.arange(1, VOCAB**2 + 1))
        observed, wanted = (np.bincount(classes, x) for x in (counts, expected))
        possible = wanted > 0
        assert stats.chisquare(observed[possible], wanted[possible]).pvalue > SIGNIFICANCE


def test_the_same_seed_gives_the_same_text_whatever_else_is_in_the_batch(decoders):
    decoder = decoders["another model"]
    requests = [
        Request(tuple(prompt), max_tokens=20, sampling=Sampling(seed=seed))
        for seed, prompt in enumerate(PROMPTS)
    ]
    together = texts(decoder, requests)
    order = [2, 0, 1]
    again = texts(decoder, [requests[row] for row in order])
    assert again == [together[row] for row in order]


def test_a_draft_that_is_the_model_itself_is_always_right(decoders):
    decoder = decoders["the model itself"]
    decoder.statistics = Statistics()
    texts(decoder, [Request(tuple(p), 20, Sampling(seed=5)) for p in PROMPTS])
    assert decoder.statistics.acceptance > 0.9  # but for rounding
    assert decoder.statistics.tokens_per_step == 1 + 3 * decoder.statistics.acceptance


def test_texts_stop_at_an_end_id_and_at_the_most_tokens(target, decoders):
    alone = greedy_alone(target, PROMPTS[0], 20)
    end = alone[6]
    first = alone.index(end)
    greedy = Sampling(temperature=0)
    long = Request(tuple(PROMPTS[0]), max_tokens=20, sampling=greedy, end_ids=(end,))
    short = Request(tuple(PROMPTS[0]), max_tokens=first, sampling=greedy, end_ids=(end,))
    stopped, cut, _ = texts(decoders["lookup"], [long, short, short])
    assert ids(stopped) == alone[: first + 1]
    assert ids(cut) == alone[:first]
    assert [text[-1].finish for text in (stopped, cut)] == ["stop", "length"]


def looked_up(draft, text):
    @jax.jit
    def propose(text):
        state = draft.read({}, draft.init(1, 20), text[None, :-1], jnp.array([len(text) - 1]))
        return draft.propose({}, state, text[-1:], None, None, None).tokens[0]

    return propose(jnp.array(text)).tolist()


def test_lookup_goes_on_as_the_longest_and_latest_match_did():
    draft = LookupDraft(VOCAB, draft_tokens=4)
    read = [1, 2, 3, 4, 9, 2, 3, 5, 8, 3, 6, 2]
    assert looked_up(draft, [*read, 3]) == [5, 8, 3, 6]  # after 2 3; 3 alone came later
    assert looked_up(draft, [*read, 7]) == [7, 7, 7, 7]


def test_lookup_repeats_what_reaches_the_end():
    draft = LookupDraft(VOCAB, draft_tokens=5)
    assert looked_up(draft, [1, 2, 3, 1, 2]) == [3, 1, 2, 3, 1]


def test_other_vocabularies_are_refused(target):
    with pytest.raises(UserError, match=r"vocabulary \(=7\) must be that of tiny \(=11\)"):
        SpeculativeDecoder(target, ModelDraft(tiny(1, vocab_size=7)))


def test_other_tokenizers_are_refused():
    class Other(Letters):
        def fingerprint(self):
            return "another"

    one, other = (each.Config().instantiate() for each in (Letters, Other))
    with pytest.raises(UserError, match="the same id would be another text"):
        SpeculativeDecoder(tiny(0, tokenizer=one), ModelDraft(tiny(1, tokenizer=other)))


def test_recurrent_models_are_refused():
    cfg = mamba2(vocab_size=VOCAB, dim=8, num_layers=1, state_dim=4, head_dim=8)
    model = language_model(cfg, 0)
    message = r"cannot forget .*Mamba2 \(root\.stack\.layer\.inner\)"
    with pytest.raises(UserError, match=message):
        ModelDraft(model)
    with pytest.raises(UserError, match=message):
        SpeculativeDecoder(model, LookupDraft(VOCAB))


def test_a_ring_that_cannot_forget_enough_is_refused():
    model = tiny(0, cache=SlidingCache.default_config().set(spare=1), window=4)
    SpeculativeDecoder(model, LookupDraft(VOCAB, draft_tokens=2))
    message = (
        r"SlidingCache \(root\.stack\.layer\.attention\.cache\) can forget 2 and not 3.*spare=2"
    )
    with pytest.raises(UserError, match=message):
        SpeculativeDecoder(model, LookupDraft(VOCAB, draft_tokens=3))
