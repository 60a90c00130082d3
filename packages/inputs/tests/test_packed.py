"""Reading: the same order everywhere, exact resume, every target once, and what can be wrong."""

import itertools
import json

import numpy as np
import pytest

from axlearn_core.config import BuildError, ConfigError
from axlearn_inputs.manifest import PreparedDataError
from axlearn_inputs.tokenizers import SentencePieceTrainer


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_same(batches, others):
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def targets(batches):
    return np.concatenate([b["target_ids"][b["target_weights"] > 0] for b in batches])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_processes_reads_the_same_global_batches(make_input, count):
    whole = take(make_input().batches(), 30)  # more than an epoch
    each = [
        take(make_input().batches(process_index=i, process_count=count), 30) for i in range(count)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*each, strict=True)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("done", [0, 1, 7, 23])
def test_a_new_iterator_goes_on_where_the_state_was_taken(make_input, done):
    first = make_input().batches()
    take(first, done)
    second = make_input().batches()
    second.set_state(first.get_state())
    assert_same(take(second, 5), take(first, 5))


def test_its_state_is_a_few_numbers_wherever_it_is(make_input):
    batches = make_input().batches()
    take(batches, 30)
    assert len(json.dumps(batches.get_state())) < 200


def test_one_epoch_has_every_target_exactly_once(make_input, texts):
    for split, documents in texts.items():
        source = make_input(split=split, num_epochs=1, batch_size=5)
        found = np.sort(targets(source.batches()))
        expected = [[*text.encode(), 256] for text in documents]
        assert found.tolist() == sorted(itertools.chain.from_iterable(expected))


def test_one_epoch_ends_with_rows_of_weight_0_on_every_process(make_input):
    source = make_input(split="validation", num_epochs=1, batch_size=100)
    parts = [list(source.batches(process_index=i, process_count=2)) for i in range(2)]
    assert [len(part) for part in parts] == [1, 1]
    assert parts[1][0]["target_weights"].sum() == 0
    assert (parts[1][0]["segment_ids"] == 0).all()
    assert (parts[1][0]["input_ids"] == source.manifest.tokenizer.pad_id).all()


def test_each_epoch_has_another_order(make_input):
    source = make_input(num_epochs=2)
    count = source.manifest.splits["train"].records
    rows = np.concatenate([b["input_ids"] for b in source.batches()])[: 2 * count]
    first, second = rows[:count], rows[count:]
    assert (first != second).any()
    assert sorted(first.tolist()) == sorted(second.tolist())


def test_another_seed_has_another_order(make_input):
    one, other = (targets(take(make_input(seed=seed).batches(), 3)) for seed in (0, 1))
    assert one.tolist() != other.tolist()


def test_the_description_tells_data_and_order_apart(make_input):
    descriptions = [make_input(**f).describe() for f in ({}, {"seed": 1}, {"split": "validation"})]
    assert make_input().describe() == descriptions[0]
    assert all(a != b for a, b in itertools.combinations(descriptions, 2))


def test_characters_per_token_turn_a_loss_into_one_per_character(make_input, texts):
    text = "".join(texts["validation"])
    expected = len(text) / (len(text.encode()) + len(texts["validation"]))
    assert make_input(split="validation").characters_per_token() == expected


def test_a_batch_that_processes_cannot_share_is_refused(make_input):
    with pytest.raises(ConfigError, match=r"batch_size \(=4\).*processes \(=3\)"):
        make_input().batches(process_index=0, process_count=3)


def test_missing_data_name_the_command_that_makes_them(make_input, tmp_path):
    command = f"axl data prepare letters --seq-len 16 --dir {tmp_path}/none"
    with pytest.raises(BuildError, match=f"no prepared data in .*none.*\n.*{command}"):
        make_input(tmp_path / "none")


def test_what_no_option_can_say_is_prepared_by_its_experiment(make_input, make_spec, tmp_path):
    unigram = make_spec(tokenizer=SentencePieceTrainer.Config(vocab_size=300, model_type="unigram"))
    with pytest.raises(BuildError, match="axl data prepare EXPERIMENT"):
        make_input(tmp_path / "none", source=unigram)


def test_another_row_length_than_the_datas_is_refused(make_input, make_spec):
    with pytest.raises(BuildError, match="seq_len: 16 -> 32"):
        make_input(source=make_spec(seq_len=32))


def test_another_tokenizer_than_the_datas_is_refused(make_input, make_spec):
    other = make_spec(tokenizer=SentencePieceTrainer.Config(vocab_size=300))
    with pytest.raises(BuildError, match=r"ByteTokenizer -> .*SentencePieceTrainer"):
        make_input(source=other)


def test_an_unknown_split_is_refused(make_input):
    with pytest.raises(BuildError, match="no split 'test'; it has train, validation"):
        make_input(split="test")


def test_a_damaged_shard_is_named_before_any_of_its_rows_is_used(make_input, prepare_letters):
    directory = prepare_letters()
    (shard,) = directory.glob("train-*")
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    batches = make_input(directory).batches()
    with pytest.raises(
        PreparedDataError, match=rf"{shard.name} is damaged: expected sha256 \w+, found"
    ):
        next(batches)


def test_a_shard_that_was_cut_off_is_named(make_input, prepare_letters):
    directory = prepare_letters()
    (shard,) = directory.glob("train-*")
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(PreparedDataError, match=f"damaged: expected {size} bytes, found 1000"):
        make_input(directory).batches()


def test_a_lost_shard_is_named(make_input, prepare_letters):
    directory = prepare_letters()
    (shard,) = directory.glob("train-*")
    shard.unlink()
    with pytest.raises(PreparedDataError, match=f"{shard.name} is missing"):
        make_input(directory).batches()


def test_a_tokenizer_file_that_was_changed_is_refused(make_input, prepare_letters, make_spec):
    trainer = SentencePieceTrainer.Config(vocab_size=300)
    source = make_spec(tokenizer=trainer)
    directory = prepare_letters(spec={"tokenizer": trainer})
    make_input(directory, source=source).tokenizer()
    trainer.clone(vocab_size=290).instantiate().train(["other text " * 9, "abc\n"], directory)
    with pytest.raises(PreparedDataError, match=r"expected fingerprint \w+, found \w+"):
        make_input(directory, source=source).tokenizer()
