"""What a batch of requests gives, against one forward pass over the whole texts."""

import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_inference import LanguageModel, Request, Sampling, complete, generate
from axlearn_inference.speculative import LookupDraft, SpeculativeDecoder

GREEDY = Sampling(temperature=0)
PROMPTS = ((1, 2, 3), (7,), (5, 4, 3, 11))


def requests(count=3, **fields):
    """Requests whose programs are the same, so that each compiles once."""
    fields = {"max_tokens": 12, "sampling": GREEDY, "top_logprobs": 3, **fields}
    return [Request(PROMPTS[i % 3], **fields) for i in range(count)]


@pytest.fixture(scope="module")
def greedy(model):
    return complete(model, requests())


def test_greedy_is_the_argmax_of_the_whole_forward_pass(greedy, next_scores):
    for prompt, found in zip(PROMPTS, greedy, strict=True):
        scores = next_scores([*prompt, *found.ids])[len(prompt) - 1 : -1]
        assert found.ids == scores.argmax(-1).tolist()
        assert found.finish == "length"


def test_log_probabilities_are_those_of_the_whole_forward_pass(greedy, next_scores):
    for prompt, found in zip(PROMPTS, greedy, strict=True):
        scores = next_scores([*prompt, *found.ids])[len(prompt) - 1 : -1]
        scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
        for token, row in zip(found.tokens, scores, strict=True):
            order = np.argsort(-row)[:3]
            assert [i for i, _ in token.top] == order.tolist()
            np.testing.assert_allclose([p for _, p in token.top], row[order], atol=1e-5)
            np.testing.assert_allclose(token.logprob, row[token.id], atol=1e-5)


def test_tokens_come_step_by_step(model):
    order = [index for index, _ in generate(model, requests(max_tokens=4))]
    assert order == [0, 1, 2] * 4


def test_each_request_is_told_the_log_probabilities_that_it_asked_for(model):
    asked = (None, 0, 2)
    batch = [Request(PROMPTS[0], 1, GREEDY, top_logprobs=top) for top in asked]
    tokens = [token for _, token in generate(model, batch)]
    assert [token.logprob is None for token in tokens] == [True, False, False]
    assert [len(token.top) for token in tokens] == [0, 0, 2]


def test_a_seed_writes_the_same_alone_and_in_a_batch(model):
    warm = [Sampling(temperature=1.5, seed=seed, top_p=0.95) for seed in range(3)]
    batch = [
        Request(prompt, max_tokens=12, sampling=rule, top_logprobs=0)
        for prompt, rule in zip(PROMPTS, warm, strict=True)
    ]
    texts = [found.text for found in complete(model, batch)]
    assert [found.text for found in complete(model, batch[::-1])] == texts[::-1]
    assert complete(model, batch[1:2])[0].text == texts[1]


def test_samples_of_one_prompt_differ_and_are_those_of_requests_alone(model):
    batch = [
        Request(PROMPTS[0], max_tokens=12, sampling=Sampling(seed=seed, temperature=1.5))
        for seed in range(3)
    ]
    texts = [found.text for found in complete(model, batch)]
    assert len(set(texts)) == 3
    assert complete(model, batch[2:])[0].text == texts[2]


def test_requests_of_other_lengths_end_each_at_its_own(model, greedy):
    batch = [
        Request(prompt, max_tokens=n, sampling=GREEDY)
        for prompt, n in zip(PROMPTS, (3, 12, 1), strict=True)
    ]
    found = complete(model, batch)
    assert [each.ids for each in found] == [
        each.ids[:n] for each, n in zip(greedy, (3, 12, 1), strict=True)
    ]


def test_an_end_id_ends_a_text_and_is_not_part_of_it(model, greedy):
    ids = greedy[0].ids
    end = ids[4]
    before = ids.index(end)
    found = complete(model, requests(end_ids=(end, 0)))[0]
    assert (found.ids, found.finish) == (ids[: before + 1], "stop")
    assert found.text == model.tokenizer.decode(ids[:before])


def test_a_text_ends_before_a_stop_string(model, greedy):
    whole = greedy[2].text
    stop = whole[5:8]
    found = complete(model, requests(stop=(stop, "never")))[2]
    assert (found.text, found.finish) == (whole[: whole.index(stop)], "stop")


def test_text_comes_piece_by_piece_and_nothing_is_lost(model, greedy):
    held = complete(model, requests(stop=(greedy[0].text[-1] + "?",)))[0]
    assert held.text == greedy[0].text
    assert held.finish == "length"


def test_penalties_count_prompt_and_text(model, next_scores):
    rule = Sampling(temperature=0, repetition_penalty=1.5, frequency_penalty=0.5)
    found = complete(model, requests(sampling=rule))
    for prompt, each in zip(PROMPTS, found, strict=True):
        ids = list(prompt)
        for token in each.ids[:6]:
            scores = next_scores(ids)[-1]
            for i in set(ids):
                scores[i] = scores[i] / 1.5 if scores[i] > 0 else scores[i] * 1.5
            for i in ids[len(prompt) :]:
                scores[i] -= 0.5
            assert token == scores.argmax()
            ids.append(token)


@pytest.fixture(scope="module")
def decoder(model):
    return SpeculativeDecoder(model, LookupDraft(model.vocab_size, draft_tokens=3))


def test_with_a_draft_log_probabilities_are_the_same(model, greedy, decoder):
    for one, other in zip(complete(model, requests(), decoder), greedy, strict=True):
        assert (one.ids, one.text, one.finish) == (other.ids, other.text, other.finish)
        for mine, known in zip(one.tokens, other.tokens, strict=True):
            assert [i for i, _ in mine.top] == [i for i, _ in known.top]
            np.testing.assert_allclose(
                [p for _, p in mine.top], [p for _, p in known.top], atol=1e-5
            )
            np.testing.assert_allclose(mine.logprob, known.logprob, atol=1e-5)


def test_with_a_draft_a_text_ends_before_a_stop_string(model, greedy, decoder):
    whole = greedy[2].text
    stop = whole[5:8]
    found = complete(model, requests(stop=(stop, "never")), decoder)[2]
    assert (found.text, found.finish) == (whole[: whole.index(stop)], "stop")


def test_without_a_tokenizer_ids_are_all_there_is(model, greedy):
    mute = LanguageModel("mute", model.module, model.variables, None, "float32", model.vocab_size)
    found = complete(mute, requests())[0]
    assert (found.ids, found.text) == (greedy[0].ids, "")
    with pytest.raises(UserError, match="has no tokenizer"):
        complete(mute, requests(stop=("a",)))


def test_no_requests_give_nothing(model):
    assert complete(model, []) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": (99,)}, "ids must be from 0 to 29, got 99"),
        ({"top_logprobs": 21}, "must be from 0 to 20"),
        ({"adapter": "a"}, "adapter"),
        ({"prompt": ()}, "at least one token"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cannot_be_decoded_is_refused(model, fields, message):
    with pytest.raises(UserError, match=message):
        complete(model, [Request(**{"prompt": (1,), **fields})])
