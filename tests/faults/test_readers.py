"""Data that cannot be read, do not come, or are damaged."""

import io
import re

import numpy as np
import pytest

from axlearn_core.checkpoint import newest_intact
from axlearn_core.checkpoint.checkpointer import read_facts
from axlearn_core.observe.events import read_events
from axlearn_core.observe.progress import Progress
from axlearn_core.testing import faults
from axlearn_core.training.prefetch import InputTimeoutError
from axlearn_inputs.documents import Document
from axlearn_inputs.manifest import PreparedDataError, load_manifest
from axlearn_inputs.packed import PackedInput
from axlearn_inputs.prepare import prepare
from axlearn_inputs.spec import PrepareSpec

SPEC = PrepareSpec(task="letters", seq_len=16)


def read_letters(task, split, tokenizer):
    random = np.random.default_rng(0)
    for _ in range(40 if split == "train" else 2):
        text = "".join(random.choice(list("abcde"), size=30))
        yield Document(text, tokenizer.encode(text))


@pytest.fixture
def data(tmp_path):
    """Prepared data, and the place of each record's bytes in their only shard."""
    prepare(SPEC.clone(), tmp_path / "data", report=lambda line: None, read=read_letters)
    return tmp_path / "data"


def damage(data, numbers, at=-1):
    """Flips a bit of these records of the training split."""
    manifest = load_manifest(data)
    (shard,) = manifest.splits["train"].shards
    source = PackedInput.Config(source=SPEC, directory=str(data), batch_size=1).instantiate()
    path = data / shard.file
    content = bytearray(path.read_bytes())
    for number in numbers:
        record = source._records._shards.read([number])[0]
        assert content.count(record) == 1
        content[content.find(record) + at % len(record)] ^= 8
    path.write_bytes(content)
    return path


@pytest.fixture
def cfg(data):
    cfg = faults.experiment().set(max_step=12, mesh_shape={"data": 1})
    cfg.input = PackedInput.default_config().set(source=SPEC, directory=str(data), batch_size=8)
    cfg.model.vocab_size = 258
    cfg.checkpoint.every = 3
    return cfg


def train(cfg, directory):
    cfg.instantiate().run(directory, progress=Progress(cfg.max_step, io.StringIO()))
    return read_facts(newest_intact(directory).info.path)["input"]


def test_a_damaged_record_is_named_with_its_file(cfg, data, tmp_path):
    """Where the whole shard was checked before the damage came."""
    source = cfg.input.instantiate()
    batches = source.batches()
    next(batches)
    path = damage(data, [5])
    named = rf"record 5 of {re.escape(str(path))} is damaged: .*input\.damaged=skip"
    with pytest.raises(PreparedDataError, match=named):
        for _ in range(50):
            next(batches)


def test_a_shard_that_is_damaged_from_the_start_ends_the_run_before_its_first_row(
    cfg, data, tmp_path
):
    path = damage(data, [5])
    with pytest.raises(PreparedDataError, match=rf"{re.escape(str(path))} is damaged: .*sha256"):
        train(cfg, tmp_path / "run")


def test_damaged_records_are_skipped_and_counted_and_all_others_are_read(cfg, data, caplog):
    whole = cfg.input.set(num_epochs=1, damaged="skip").instantiate()
    before = [batch["target_ids"] for batch in whole.batches()]
    damage(data, [5, 17])
    batches = cfg.input.instantiate().batches()
    after = [(batch["target_ids"], batch["target_weights"]) for batch in batches]
    left_out = 0
    for ids, (now, weights) in zip(before, after, strict=True):
        empty = (weights.sum(axis=1) == 0) & (ids != 257).any(axis=1)
        np.testing.assert_array_equal(ids[~empty], now[~empty])
        left_out += empty.sum()
    assert left_out == batches.get_state()["skipped_records"] == 2
    assert caplog.text.count("its row is left empty") == 2
    assert "record 17 of" in caplog.text


def test_the_count_of_skipped_records_goes_on_after_a_resume(cfg, data, tmp_path):
    damage(data, [5, 17])
    cfg.input.damaged = "skip"
    whole = train(cfg, tmp_path / "whole")
    train(cfg.clone(max_step=6), tmp_path / "parts")
    assert train(cfg, tmp_path / "parts") == whole
    assert whole["skipped_records"] > 2
    told = [e["message"] for e in read_events(tmp_path / "whole") if e["event"] == "fault"]
    assert len(told) >= whole["skipped_records"] and "record 5 of " in "".join(told)
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]


def test_a_reader_that_raises_ends_the_run_with_its_own_error_and_all_before_is_kept(tmp_path):
    cfg = faults.experiment().set(max_step=12, mesh_shape={"data": 1})
    cfg.input.raises_at = 7
    cfg.checkpoint.every = 3
    with pytest.raises(OSError, match="the disk is gone") as caught:
        train(cfg, tmp_path)
    assert caught.value.__notes__ == ["while axlearn_core.testing.faults._FaultyBatches was read"]
    assert newest_intact(tmp_path).info.step == 6


def test_a_reader_that_hangs_is_named_with_the_line_where_it_is(tmp_path):
    cfg = faults.experiment().set(max_step=12, mesh_shape={"data": 1})
    cfg.input.hangs_at = 7
    cfg.guards.input_timeout = 0.5
    cfg.checkpoint.every = 3
    with pytest.raises(InputTimeoutError) as caught:
        train(cfg, tmp_path)
    assert "axlearn_core.testing.faults._FaultyBatches gave no batch for 0.5 s" in str(caught.value)
    assert re.search(r"faults\.py:\d+ in __next__: time\.sleep\(1\)", str(caught.value))
    assert newest_intact(tmp_path).info.step == 6
