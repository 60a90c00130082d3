"""Beam search against an exhaustive one."""

import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_inference import beam_search

PROMPT, END = (3, 1), 0


def all_texts(next_scores, vocab, length):
    """All texts up to a length with the log-probability of each: ended, or cut."""
    found = {}

    def visit(ids, total):
        scores = next_scores([*PROMPT, *ids])[-1]
        logprobs = scores - np.log(np.exp(scores).sum())
        for token in range(vocab):
            text, sum_ = (*ids, token), total + logprobs[token]
            if token == END or len(text) == length:
                found[text] = sum_
            elif len(text) < length:
                visit(text, sum_)

    visit((), 0.0)
    return found


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -0.5])
def test_enough_beams_find_the_best_texts(model, next_scores, length_penalty):
    texts = all_texts(next_scores, model.vocab_size, 2)
    best = sorted(texts, key=lambda t: -texts[t] / len(t) ** length_penalty)
    # As many beams as there are beginnings of one id: nothing is left out.
    beams = model.vocab_size
    found = beam_search(
        model, PROMPT, beams=beams, max_tokens=2, end_ids=(END,), length_penalty=length_penalty
    )
    assert [each.ids for each in found[:10]] == best[:10]
    for each in found:
        exact = texts[each.ids]
        np.testing.assert_allclose(sum(each.logprobs), exact, atol=1e-4)
        np.testing.assert_allclose(each.score, exact / len(each.ids) ** length_penalty, atol=1e-4)
        assert each.finish == ("stop" if each.ids[-1] == END else "length")
        shown = each.ids[: -1 if each.finish == "stop" else None]
        assert each.text == model.tokenizer.decode(shown)


def search_by_hand(next_scores, beams, length):
    """The same with lists."""
    live, ended = [((), 0.0)], []
    for _ in range(length):
        grown = []
        for ids, total in live:
            scores = next_scores([*PROMPT, *ids])[-1]
            logprobs = scores - np.log(np.exp(scores).sum())
            grown += [((*ids, token), total + p) for token, p in enumerate(logprobs)]
        grown.sort(key=lambda pair: -pair[1])
        alive = [pair for pair in grown if pair[0][-1] != END][:beams]
        ended += [pair for pair in grown if pair[0][-1] == END and pair[1] >= alive[-1][1]]
        live = alive
    ranked = sorted(ended + live, key=lambda pair: -pair[1] / len(pair[0]))
    return [ids for ids, _ in ranked[:beams]]


def test_few_beams_find_what_few_lists_find(model, next_scores):
    found = beam_search(model, PROMPT, beams=3, max_tokens=6, end_ids=(END,))
    assert [each.ids for each in found] == search_by_hand(next_scores, 3, 6)


def test_one_beam_is_greedy(model, next_scores):
    (found,) = beam_search(model, PROMPT, beams=1, max_tokens=6)
    scores = next_scores([*PROMPT, *found.ids])[len(PROMPT) - 1 : -1]
    assert list(found.ids) == scores.argmax(-1).tolist()


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"max_tokens": 0}, {"prompt": ()}])
def test_numbers_out_of_range_are_refused(model, wrong):
    with pytest.raises(UserError, match="at least"):
        beam_search(model, **{"prompt": PROMPT, "beams": 1, "max_tokens": 1, **wrong})
