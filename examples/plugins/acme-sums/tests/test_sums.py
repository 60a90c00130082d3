"""The sums are right, and other configs give others."""

import itertools
import json

import numpy as np
import pytest
from axlearn_core.config import BuildError, ConfigError

from acme_sums import AlphabetTokenizer, Sums


def config(**fields):
    return Sums.Config(**{"seq_len": 32, "batch_size": 4} | fields)


def batches(*, process_index=0, process_count=1, **fields):
    source = config(**fields).instantiate()
    return source.batches(process_index=process_index, process_count=process_count)


def equal(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


def documents(batch):
    """Yields the text, the targets' text and the weights of each document of a batch."""
    tokenizer = AlphabetTokenizer.default_config().instantiate()
    for row, segments in enumerate(batch["segment_ids"]):
        for segment in range(1, segments.max() + 1):
            own = segments == segment
            ids, targets = batch["input_ids"][row, own], batch["target_ids"][row, own]
            assert ids[0] == tokenizer.bos_id and targets[-1] == tokenizer.eos_id
            assert np.array_equal(ids[1:], targets[:-1])
            assert np.array_equal(batch["positions"][row, own], np.arange(own.sum()))
            yield tokenizer.decode(targets), batch["target_weights"][row, own]


@pytest.mark.parametrize("digits", [1, 3])
def test_every_sum_is_right_and_only_its_answer_is_a_target(digits):
    found = [*documents(next(batches(digits=digits)))]
    assert len(found) >= 8
    for text, weights in found:
        question, answer = text.split("=")
        numbers = [int(number) for number in question.split("+")]
        assert sum(numbers) == int(answer) and all(n < 10**digits for n in numbers)
        assert weights.tolist() == [0.0] * len(question + "=") + [1.0] * (len(answer) + 1)


def test_padding_is_no_target():
    batch = next(batches())
    padding = batch["segment_ids"] == 0
    assert padding.any() and not batch["target_weights"][padding].any()
    assert (batch["input_ids"][padding] == 13).all()


def test_rows_do_not_repeat():
    rows = [row.tobytes() for batch in itertools.islice(batches(), 8) for row in batch["input_ids"]]
    assert len(set(rows)) == len(rows)


def test_another_seed_gives_other_sums():
    assert not equal(next(batches(seed=1)), next(batches()))


def test_it_ends_after_num_batches():
    assert len(list(batches(num_batches=3))) == 3


def test_its_description_is_json_and_tells_alphabets_apart():
    other = config(tokenizer=AlphabetTokenizer.Config(alphabet="=+9876543210"))
    told = [json.dumps(cfg.instantiate().describe()) for cfg in (config(), other)]
    assert told[0] != told[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"digits": 0}, r"digits \(=0\) must be at least 1"),
        ({"seq_len": 9}, r"seq_len \(=9\) must hold the longest sum of 2 digits, .* 10 tokens"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_built(fields, message):
    with pytest.raises((BuildError, ConfigError), match=message):
        config(**fields).instantiate()
