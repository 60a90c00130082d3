"""Training on text as it comes: the same rows from anywhere on, and nothing lost."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import REQUIRED, BuildError
from axlearn_core.errors import UserError
from axlearn_inputs import (
    BestFitPacker,
    ByteTokenizer,
    ConcatenatingPacker,
    DocumentError,
    DocumentInput,
    DocumentSource,
    ExactDuplicates,
    JsonLines,
    LengthFilter,
)
from axlearn_inputs.sources import Found

BYTES = ByteTokenizer.default_config()


class Lengths(DocumentSource):
    """Documents of given lengths, each of one letter."""

    class Config(DocumentSource.Config):
        lengths: tuple[int, ...] = REQUIRED

    def read(self, split, after=None):
        lengths = self.config.lengths
        for number in range((after or {"record": 0})["record"], len(lengths)):
            yield Found(chr(97 + number % 26) * lengths[number], {"record": number + 1})

    def describe(self, split):
        return {"lengths": list(self.config.lengths)}


def source(lengths=(3, 9, 1, 30, 4, 4, 7, 12, 5), **fields):
    cfg = DocumentInput.Config(
        documents=Lengths.Config(lengths=tuple(lengths)),
        tokenizer=BYTES,
        seq_len=8,
        batch_size=2,
        window=4,
    )
    return cfg.set(**fields).instantiate()


def same(batches, others):
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


packers = st.one_of(
    st.builds(lambda n: BestFitPacker.Config(open_rows=n), st.integers(1, 5)),
    st.just(ConcatenatingPacker.default_config()),
)
inputs = st.builds(
    source,
    st.lists(st.integers(0, 30), min_size=1, max_size=20),
    packer=packers,
    window=st.integers(1, 12),
    seq_len=st.integers(1, 12),
    seed=st.integers(0, 3),
    num_epochs=st.sampled_from([1, 3]),
    filters=st.sampled_from([{}, {"short": LengthFilter.Config(min_words=0, max_words=9)}]),
    batch_size=st.just(1),
)


@settings(max_examples=40, deadline=None)
@given(inputs)
def test_it_goes_on_behind_any_row(stream_input):
    batches = stream_input.batches()
    states, seen = [json.dumps(batches.get_state())], []
    for batch in itertools.islice(batches, 60):
        seen.append(batch)
        states.append(json.dumps(batches.get_state()))
    for done in {0, 1, len(seen) // 3, len(seen) // 2, len(seen) - 1, len(seen)}:
        resumed = stream_input.batches()
        resumed.set_state(json.loads(states[done]))
        same(list(itertools.islice(resumed, len(seen) - done)), seen[done:])
        assert json.dumps(resumed.get_state()) == states[-1]


@settings(max_examples=20, deadline=None)
@given(inputs, st.sampled_from([2, 4]), st.integers(0, 5), st.sampled_from([1, 2, 4]))
def test_it_goes_on_with_another_number_of_processes(stream_input, before, done, after):
    stream_input = stream_input.config.clone(batch_size=4).instantiate()

    def parts(count):
        return [
            stream_input.batches(process_index=index, process_count=count) for index in range(count)
        ]

    expected = list(itertools.islice(stream_input.batches(), 12))
    first = parts(before)
    for part in first:
        list(itertools.islice(part, done))
    states = [part.get_state() for part in first]
    assert all(state == states[0] for state in states)
    second = parts(after)
    for part in second:
        part.set_state(states[0])
    rest = zip(*(itertools.islice(part, 12 - min(done, 12)) for part in second), strict=True)
    joined = [{n: np.concatenate([part[n] for part in row]) for n in row[0]} for row in rest]
    same(joined, expected[done:])


@given(inputs)
@settings(max_examples=20, deadline=None)
def test_each_pass_has_every_target_of_every_document_that_is_kept(stream_input):
    cfg = stream_input.config
    found = np.concatenate(
        [np.empty(0), *(b["target_ids"][b["target_weights"] > 0] for b in stream_input.batches())]
    )
    lengths = cfg.documents.lengths
    text = "".join(chr(97 + n % 26) * length for n, length in enumerate(lengths))
    one_pass = [*text.encode(), *[256] * len(lengths)]
    assert sorted(found.tolist()) == sorted(one_pass * cfg.num_epochs)


def test_its_state_is_readable_and_stays_small():
    batches = source(range(1, 40), window=7).batches()
    for _ in range(300):
        next(batches)
    state = batches.get_state()
    assert list(state) == [
        *("epoch", "window", "after", "row", "documents", "dropped", "skipped", "rows", "targets"),
    ]
    assert len(json.dumps(state)) < 200


def test_windows_are_shuffled_and_every_pass_anew():
    rows = [b["input_ids"].tolist() for b in source([8] * 16, window=8, num_epochs=2).batches()]
    first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    assert first != second
    letters = {row[1] for batch in first[: len(first) // 2] for row in batch}
    assert letters - {256} == set(range(97, 105))  # the first window has the first 8 documents


def test_figures_tell_passes_documents_what_was_dropped_and_how_full_rows_are():
    short = LengthFilter.Config(min_words=1)  # drops documents without text
    reader = source([7, 0, 3, 3], filters={"empty": short}, num_epochs=2, batch_size=1)
    batches = reader.batches()
    assert reader.figures(batches.get_state()) == {
        **{"epoch": 0, "documents": 0, "skipped": 0, "dropped/empty": 0}
    }
    assert len(list(batches)) == 4  # each pass: one document with its eos, and two in a row
    with pytest.raises(StopIteration):
        next(batches)
    assert reader.figures(batches.get_state()) == {
        "epoch": 2,
        "documents": 6,
        "skipped": 0,
        "row_fullness": 1.0,
        "dropped/empty": 2,
    }


def test_a_filter_that_remembers_documents_is_refused():
    with pytest.raises(BuildError, match=r"filters\.same remembers documents.* PrepareSpec has"):
        source(filters={"same": ExactDuplicates.Config(capacity=8)})


def test_documents_that_are_all_dropped_are_an_error_and_no_endless_loop():
    batches = source(filters={"long": LengthFilter.Config(min_words=99)}).batches()
    with pytest.raises(UserError, match="have nothing in their split 'train', after the filters"):
        next(batches)


def test_its_description_tells_what_decides_the_rows():
    made = [{}, {"seed": 1}, {"window": 5}, {"packer": ConcatenatingPacker.default_config()}]
    described = [json.dumps(source(**fields).describe()) for fields in made]
    assert len(set(described)) == len(made)


@pytest.fixture
def with_damages(tmp_path):
    """20 lines of JSON, of which the 3rd, 4th and 20th are damaged."""
    lines = [json.dumps({"text": f"document {i}"}) for i in range(1, 21)]
    for number in (3, 4, 20):
        lines[number - 1] = lines[number - 1][:-1]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    return JsonLines.Config(files=(f"{tmp_path}/x.jsonl",))


@pytest.mark.parametrize("window", [2, 3, 20])
def test_damaged_documents_can_be_left_out_and_are_counted(with_damages, caplog, window):
    fields = {"damaged": "skip", "num_epochs": 2, "batch_size": 1, "window": window}
    stream_input = source(documents=with_damages, **fields)
    batches = stream_input.batches()
    states, seen = [batches.get_state()], []
    for batch in batches:
        seen.append(batch)
        states.append(batches.get_state())
    assert states[-1]["skipped"] == 6 and "x.jsonl line 4: expected JSON" in caplog.text
    text = (
        ByteTokenizer.Config()
        .instantiate()
        .decode(np.concatenate([b["target_ids"][b["target_weights"] > 0] for b in seen]))
    )
    assert text.count("document") == 2 * 17
    for done in range(0, len(seen), 7):
        resumed = stream_input.batches()
        resumed.set_state(states[done])
        same(list(resumed), seen[done:])
        assert resumed.get_state() == batches.get_state()


def test_an_error_does_not_pass_for_the_end_of_the_documents(with_damages):
    batches = source(documents=with_damages).batches()
    for _ in range(2):
        with pytest.raises(DocumentError, match=r"x\.jsonl line 3"):
            list(batches)


def test_documents_that_have_become_fewer_are_noticed():
    batches = source([8] * 8, window=8, batch_size=6).batches()
    next(batches)
    with pytest.raises(UserError, match="others than before: window 0 of pass 0 gave 6 rows, and"):
        source([8] * 2, window=8).batches().set_state(batches.get_state())
