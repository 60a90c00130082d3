"""Batches in which some texts are constrained."""

import re

import pytest

from axlearn_core.testing.tiny import Letters
from axlearn_inference import LanguageModel, Request, Sampling, complete
from axlearn_inference.constraints import Constraints

pytest.importorskip("llguidance")


class Ending(Letters):
    """Letters, of which the first stands for the end of a text; the model has some ids more."""

    eos_id = 0

    def pieces(self):
        return [None, *super().pieces()[1:]]

    def decode(self, ids):
        return super().decode([each for each in ids if 0 < each < 26])


def test_constrained_texts_match_and_the_others_are_what_they_were(model):
    tokenizer = Ending.Config().instantiate()
    known = LanguageModel("tiny", model.module, model.variables, tokenizer, "float32", 30)
    constraint = Constraints(tokenizer).regex("(xy|z)+b?")
    requests = [
        Request((3, 5), max_tokens=12, sampling=Sampling(seed=seed), constraint=constraint)
        for seed in range(3)
    ]
    free = Request((3, 5), max_tokens=12, sampling=Sampling(seed=7), end_ids=(0,))
    *found, alone = complete(known, [*requests, free])
    assert alone.ids == complete(known, [free])[0].ids
    for each in found:
        whole = re.fullmatch("(xy|z)+b?", each.text)
        assert whole if each.finish == "stop" else len(each.ids) == 12
