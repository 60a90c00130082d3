"""Batches in which some texts are constrained."""

import re

import pytest

from axlearn_core.testing.tiny import Letters
from axlearn_inference import LanguageModel, Request, Sampling, complete
from axlearn_inference.constraints import Constraints
from axlearn_inference.speculative import LookupDraft, ModelDraft, SpeculativeDecoder

pytest.importorskip("llguidance")


class Ending(Letters):
    """Letters, of which the first stands for the end of a text; the model has some ids more."""

    eos_id = 0

    def pieces(self):
        return [None, *super().pieces()[1:]]

    def decode(self, ids):
        return super().decode([each for each in ids if 0 < each < 26])


@pytest.fixture(scope="module")
def known(model):
    tokenizer = Ending.Config().instantiate()
    return LanguageModel("tiny", model.module, model.variables, tokenizer, "float32", 30)


@pytest.fixture(scope="module")
def requests(known):
    """Three that are drawn and one that is not, all constrained, and one that is free."""
    constraint = Constraints(known.tokenizer).regex("(xy|z)+b?")
    greedy = Sampling(temperature=0)
    return [
        *(
            Request((3, 5), max_tokens=12, sampling=Sampling(seed=seed), constraint=constraint)
            for seed in range(3)
        ),
        Request((3, 5), max_tokens=12, sampling=greedy, constraint=constraint),
        Request((3, 5), max_tokens=12, sampling=greedy, end_ids=(0,)),
    ]


@pytest.fixture(scope="module")
def alone(known, requests):
    return complete(known, requests)


def check(completions):
    for each in completions:
        whole = re.fullmatch("(xy|z)+b?", each.text)
        assert whole if each.finish == "stop" else len(each.ids) == 12


def test_constrained_texts_match_and_the_others_are_what_they_were(known, requests, alone):
    *found, free = alone
    assert free.ids == complete(known, requests[-1:])[0].ids
    check(found)


@pytest.mark.parametrize("draft", ["the model itself", "lookup"])
def test_constraints_hold_for_what_a_draft_proposes(known, requests, alone, draft):
    drafts = {"the model itself": ModelDraft(known, 3), "lookup": LookupDraft(30, 3)}
    decoder = SpeculativeDecoder(known, drafts[draft])
    found = complete(known, requests, decoder)
    check(found[:4])
    assert [each.ids for each in found[3:]] == [each.ids for each in alone[3:]]  # greedy
    assert decoder.statistics.accepted > 0
