"""Mixtures: stated rates, changes at a step, explicit ends, and exact resume."""

import itertools
import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import REQUIRED, BuildError
from axlearn_core.training.input import Input
from axlearn_inputs import MixtureInput, PackedInput, RowInput, SentencePieceTrainer


class Constant(RowInput):
    """Row p of it is value, p, p, ..."""

    class Config(RowInput.Config):
        value: int = REQUIRED

    def rows(self, places):
        rows = np.array([[p] * (self.config.seq_len + 1) for p in places], np.int32)
        rows[:, 0] = self.config.value
        return rows


NAMES = ["a", "b", "c"]


def mixture(weights, batch_size=4, limits=(), **fields):
    """Inputs 0, 1, ...; `limits` are their numbers of batches."""
    limits = [*limits, *[None] * len(NAMES)]
    inputs = {
        name: Constant.Config(value=i, seq_len=2, batch_size=batch_size, num_batches=limits[i])
        for i, name in enumerate(NAMES)
    }
    cfg = MixtureInput.Config(inputs=inputs, weights=weights, batch_size=batch_size)
    return cfg.set(**fields).instantiate()


def drawn(source, count):
    """The input that each of the first rows came from."""
    batches = itertools.islice(source.batches(), -(-count // source.config.batch_size))
    return np.concatenate([b["input_ids"][:, 0] for b in batches])[:count]


weights = st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda w: sum(w) > 0.1)


@settings(max_examples=20, deadline=None)
@given(weights)
def test_after_any_number_of_rows_each_input_has_given_its_share_within_two_rows(values):
    found = drawn(mixture({"0": dict(zip(NAMES, values, strict=True))}), 400)
    rows = np.arange(1, 401)
    for number, value in enumerate(values):
        share = value / sum(values)
        error = np.cumsum(found == number) - share * rows
        # Drawing at random would be off by sqrt(n p (1 - p)), 10 rows at n = 400.
        assert np.abs(error).max() < 2


def test_each_input_gives_its_rows_in_their_order():
    source = mixture({"0": {"a": 0.5, "b": 0.3, "c": 0.2}})
    rows = np.concatenate([b["target_ids"] for b in itertools.islice(source.batches(), 25)])
    found = drawn(source, 100)
    for number in range(3):
        assert rows[found == number, 0].tolist() == list(range((found == number).sum()))


def test_weights_change_at_their_step_and_hold_from_there_on():
    source = mixture({"0": {"a": 1.0}, "10": {"a": 0.25, "b": 0.75}, "20": {"c": 1}})
    found = drawn(source, 120)
    assert (found[:40] == 0).all()
    assert ((found[40:80] == 0).sum(), (found[40:80] == 1).sum()) == (10, 30)
    assert (found[80:] == 2).all()


def test_a_mixture_ends_with_its_first_input_that_ends_or_goes_on_with_the_others(caplog):
    weights = {"0": {"a": 0.5, "b": 0.25, "c": 0.25}}
    with caplog.at_level(logging.WARNING):
        stopped = drawn(mixture(weights, limits=(None, 1)), 100)
        assert (
            "input 'b' of the mixture is exhausted after 4 of its rows: the mixture" in caplog.text
        )
        dropped = drawn(mixture(weights, limits=(None, 1), exhausted="drop"), 100)
        assert "the others go on without it" in caplog.text
    assert (stopped == 1).sum() == 4 and 15 <= len(stopped) <= 20
    assert (dropped == 1).sum() == 4 and len(dropped) == 100
    after = dropped[20:]
    assert abs((after == 0).sum() - len(after) * 2 / 3) < 2


def test_the_last_batch_is_filled_up_with_rows_of_weight_0():
    source = mixture({"0": {"a": 0.5, "b": 0.5}}, limits=(1, 1), batch_size=6)
    batches = list(source.batches())
    assert [int((b["target_weights"].sum(1) > 0).sum()) for b in batches] == [6, 6]
    source = mixture({"0": {"a": 2, "b": 1}}, limits=(1, 1), batch_size=4)
    assert [int((b["target_weights"].sum(1) > 0).sum()) for b in source.batches()] == [4, 2]


@settings(max_examples=20, deadline=None)
@given(weights, st.sampled_from(["stop", "drop"]), st.integers(0, 25), st.sampled_from([1, 2, 4]))
def test_it_goes_on_at_any_step_with_any_number_of_processes(values, policy, done, count):
    first, second = dict(zip(NAMES, values, strict=True)), {"b": 0.5, "c": 0.5}
    source = mixture({"0": first, "7": second}, limits=(9, 5, 12), exhausted=policy)
    expected = list(source.batches())
    batches = source.batches(process_index=1, process_count=2)
    list(itertools.islice(batches, done))
    state = json.loads(json.dumps(batches.get_state()))
    parts = [source.batches(process_index=i, process_count=count) for i in range(count)]
    for part in parts:
        part.set_state(state)
    rest = [np.concatenate([p["input_ids"] for p in row]) for row in zip(*parts, strict=True)]
    assert len(rest) == max(len(expected) - done, 0)
    for found, batch in zip(rest, expected[done:], strict=True):
        np.testing.assert_array_equal(found, batch["input_ids"])


def test_figures_tell_each_inputs_share_and_end():
    source = mixture({"0": {"a": 0.75, "b": 0.25}}, limits=(None, 1), exhausted="drop")
    batches = source.batches()
    list(itertools.islice(batches, 4))
    figures = source.figures(batches.get_state())
    assert (figures["a/share"], figures["b/share"], figures["b/exhausted"]) == (0.75, 0.25, 0)
    list(itertools.islice(batches, 10))
    figures = source.figures(batches.get_state())
    assert figures["b/exhausted"] == 1 and figures["b/share"] == 4 / 56
    assert len(json.dumps(batches.get_state())) < 1024


def test_prepared_data_can_be_mixed_and_say_how_often_they_were_read(make_input):
    parts = {split: make_input(split=split).config for split in ("train", "validation")}
    weights = {"0": {"train": 0.5, "validation": 0.5}}
    cfg = MixtureInput.Config(inputs=parts, weights=weights, batch_size=4)
    source = cfg.instantiate()
    batches = source.batches()
    rows = np.concatenate([b["input_ids"] for b in itertools.islice(batches, 20)])
    for number, part in enumerate(parts.values()):
        own = np.concatenate(
            [b["input_ids"] for b in itertools.islice(part.instantiate().batches(), 10)]
        )
        assert rows[number::2].tolist() == own.tolist()
    manifest = make_input().manifest
    assert source.figures(batches.get_state())["train/epoch"] == (
        40 / manifest.splits["train"].records
    )
    assert source.tokenizer().fingerprint() == manifest.tokenizer.fingerprint


def test_inputs_with_different_tokenizers_are_refused(make_input, prepare_letters, make_spec):
    trainer = SentencePieceTrainer.Config(vocab_size=300)
    directory = prepare_letters(spec={"tokenizer": trainer})
    other = PackedInput.Config(
        source=make_spec(tokenizer=trainer), directory=str(directory), batch_size=4
    )
    parts = {"bytes": make_input().config, "subwords": other}
    cfg = MixtureInput.Config(inputs=parts, weights={"0": {"bytes": 1}}, batch_size=4)
    with pytest.raises(BuildError, match="different tokenizers, so their ids mean different"):
        cfg.instantiate()


class NoRows(Input):
    """An input of other things than rows."""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weights": {"1": {"a": 1}}}, "weights must say how it begins"),
        ({"weights": {"soon": {"a": 1}}}, r"weights\.soon: expected a step"),
        ({"weights": {"0": {"d": 1}}}, r"weights\.0\.d: there is no such input; there are a, b, c"),
        ({"weights": {"0": {"a": -1, "b": 2}}}, r"weights\.0: expected weights from 0"),
        ({"weights": {"0": {"a": 0}}}, "and one above 0"),
        ({"inputs": {}}, "inputs is empty"),
        ({"inputs": {"a": NoRows.Config(batch_size=4)}}, "NoRows, which has no row_stream"),
        (
            {"inputs": {"a": Constant.Config(value=0, seq_len=2, batch_size=3)}},
            r"inputs\.a\.batch_size \(=3\) must be the mixture's \(=4\)",
        ),
        (
            {
                "inputs": {
                    "a": Constant.Config(value=0, seq_len=2, batch_size=4),
                    "b": Constant.Config(value=0, seq_len=3, batch_size=4),
                }
            },
            r"inputs\.b has rows of 3, and a of 2",
        ),
    ],
)
def test_what_is_no_mixture_is_explained(fields, said):
    fields = {"weights": {"0": {"a": 1}}} | fields
    with pytest.raises(BuildError, match=said):
        mixture(**fields)
