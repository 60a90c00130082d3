"""The synthetic source: reproducible, shared between processes, and learnable."""

import itertools
import math

import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_inputs.synthetic import SyntheticInput


def make(**fields):
    fields = {"batch_size": 4, "vocab_size": 11, "seq_len": 32, "branching": 3} | fields
    return SyntheticInput.default_config().set(**fields).instantiate()


def take(iterator, count):
    return [batch["input_ids"] for batch in itertools.islice(iterator, count)]


def test_each_token_has_only_its_successors():
    batches = list(make(num_batches=50).batches())
    pairs = {
        (a, b)
        for batch in batches
        for a, b in zip(batch["input_ids"].ravel(), batch["target_ids"].ravel(), strict=True)
    }
    assert len(pairs) == 11 * 3


def test_successors_are_equally_likely_so_the_lowest_loss_is_the_log_of_their_number():
    batches = list(make(num_batches=200).batches())
    ids = np.concatenate([b["input_ids"] for b in batches]).ravel()
    following = np.concatenate([b["target_ids"] for b in batches]).ravel()
    counts = np.zeros((11, 11))
    np.add.at(counts, (ids, following), 1)
    p = counts[counts > 0] / counts.sum(1).repeat((counts > 0).sum(1))
    entropy = -(counts[counts > 0] * np.log(p)).sum() / counts.sum()
    assert make().lowest_loss == math.log(3)
    assert abs(entropy - math.log(3)) < 1e-3  # a maximum-likelihood estimate is below by 22/51200


def test_more_successors_than_tokens_are_refused():
    with pytest.raises(BuildError, match=r"branching \(=12\) must be from 1 to vocab_size \(=11\)"):
        make(branching=12)


def test_another_seed_is_another_chain():
    assert (take(make(seed=1).batches(), 1)[0] != take(make().batches(), 1)[0]).any()
