"""Packing: every target once, pieces whole, rows never too long."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axlearn_core.config import BuildError
from axlearn_inputs.packers import BestFitPacker, ConcatenatingPacker
from axlearn_inputs.packers.best_fit import pieces
from axlearn_inputs.rows import batch_shape, decode_row, empty_batch, encode_row, fill_row

documents = st.lists(st.integers(0, 40), max_size=120).map(
    # Ids are unique over all documents, so that each can be found again.
    lambda lengths: [
        np.arange(start, start + length + 1)
        for start, length in zip(
            np.cumsum([0, *(n + 1 for n in lengths)]).tolist(), lengths, strict=False
        )
    ]
)
seq_lens = st.integers(1, 24)
whole = BestFitPacker.default_config().instantiate()
packers = st.sampled_from([whole, ConcatenatingPacker.default_config().instantiate()])


@given(packers, documents, seq_lens)
def test_every_id_but_a_documents_first_is_a_target_exactly_once(packer, docs, seq_len):
    targets = [i for row in packer.pack(docs, seq_len) for piece in row for i in piece[1:]]
    assert sorted(targets) == sorted(i for document in docs for i in document[1:])


@given(packers, documents, seq_lens)
def test_the_input_before_each_target_is_the_id_before_it_in_the_document(packer, docs, seq_len):
    for row in packer.pack(docs, seq_len):
        for piece in row:
            assert (np.diff(piece) == 1).all()


@given(packers, documents, seq_lens)
def test_no_row_has_more_targets_than_places(packer, docs, seq_len):
    assert all(0 < sum(len(p) - 1 for p in row) <= seq_len for row in packer.pack(docs, seq_len))


@given(documents, seq_lens)
def test_only_the_last_piece_of_a_document_is_short(docs, seq_len):
    for document in docs:
        lengths = [len(piece) - 1 for piece in pieces(document, seq_len)]
        assert all(length == seq_len for length in lengths[:-1])


def test_short_documents_fill_almost_all_places():
    rng = np.random.default_rng(0)
    docs = [np.arange(n) for n in rng.integers(2, 101, size=20_000)]
    rows = list(whole.pack(docs, 128))
    assert sum(len(d) - 1 for d in docs) / (128 * len(rows)) > 0.98


@given(documents, seq_lens)
def test_concatenated_documents_leave_places_empty_in_the_last_row_only(docs, seq_len):
    rows = list(ConcatenatingPacker.default_config().instantiate().pack(docs, seq_len))
    assert all(sum(len(piece) - 1 for piece in row) == seq_len for row in rows[:-1])


def test_more_open_rows_leave_fewer_places_empty():
    rng = np.random.default_rng(0)
    docs = [np.arange(n) for n in rng.integers(2, 101, size=2000)]
    packers = [BestFitPacker.Config(open_rows=n).instantiate() for n in (1, 8, 64)]
    counts = [len(list(packer.pack(docs, 128))) for packer in packers]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


def test_a_packer_without_open_rows_is_refused():
    with pytest.raises(BuildError, match=r"open_rows \(=0\) must be at least 1"):
        BestFitPacker.Config(open_rows=0).instantiate()


@given(documents, seq_lens, st.sampled_from(["<u2", "<u4"]))
def test_a_row_survives_its_record(docs, seq_len, dtype):
    for row in whole.pack(docs, seq_len):
        read = decode_row(encode_row(row, np.dtype(dtype)), np.dtype(dtype))
        assert len(read) == len(row)
        assert all((a == b).all() for a, b in zip(read, row, strict=True))


def test_a_filled_row_has_segments_from_1_positions_from_0_and_padding_after_them():
    batch = empty_batch(1, 6, pad_id=9)
    fill_row(batch, 0, [np.array([7, 1, 2]), np.array([7, 3, 4])])
    assert batch["input_ids"].tolist() == [[7, 1, 7, 3, 9, 9]]
    assert batch["target_ids"].tolist() == [[1, 2, 3, 4, 9, 9]]
    assert batch["target_weights"].tolist() == [[1, 1, 1, 1, 0, 0]]
    assert batch["segment_ids"].tolist() == [[1, 1, 2, 2, 0, 0]]
    assert batch["positions"].tolist() == [[0, 1, 0, 1, 0, 0]]


def test_a_batch_has_the_shapes_that_are_announced():
    batch = empty_batch(3, 5, pad_id=0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == batch_shape(3, 5)
