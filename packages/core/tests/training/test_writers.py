"""What writers put on disk."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import from_dtype
from tensorboardX.proto.event_pb2 import Event

from axlearn_core.observe.writers import JsonlWriter, TensorBoardWriter


@pytest.fixture
def write(tmp_path):
    """Opens a writer, writes (step, kind, values) records, and closes it."""

    def write(*records, after_step=0, kind=JsonlWriter):
        writer = kind.default_config().instantiate()
        writer.open(tmp_path, after_step=after_step)
        for step, what, values in records:
            writer.write(step, what, values)
        writer.flush()
        writer.close()

    return write


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


float32 = from_dtype(np.dtype(np.float32), allow_nan=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(values=st.lists(float32, min_size=1, max_size=5))
def test_floats_read_back_to_the_same_bits(values, tmp_path):
    (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
    writer = JsonlWriter.default_config().instantiate()
    writer.open(tmp_path, after_step=0)
    writer.write(1, "train", {f"v{i}": float(value) for i, value in enumerate(values)})
    writer.close()
    (record,) = lines(tmp_path / "metrics.jsonl")
    read = np.array([record[f"v{i}"] for i in range(len(values))], np.float32)
    assert read.tobytes() == np.array(values, np.float32).tobytes()


def test_a_value_that_is_not_finite_reads_back(write, tmp_path):
    write((1, "train", {"a": math.nan, "b": math.inf}))
    (record,) = lines(tmp_path / "metrics.jsonl")
    assert math.isnan(record["a"])
    assert record["b"] == math.inf


def test_a_record_is_its_step_and_its_values(write, tmp_path):
    write((3, "train", {"loss": 1.5}), (3, "eval", {"held_out/loss": 2.5}))
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 3, "loss": 1.5},
        {"step": 3, "held_out/loss": 2.5},
    ]


def test_what_a_rerun_does_not_reproduce_is_in_a_file_of_its_own(write, tmp_path):
    write((1, "train", {"loss": 1.0}), (1, "performance", {"tokens_per_second": 7.0}))
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
    assert lines(tmp_path / "performance.jsonl") == [{"step": 1, "tokens_per_second": 7.0}]


@pytest.mark.parametrize("after_step, left", [(0, []), (2, [1, 2, 2]), (9, [1, 2, 2, 3])])
def test_records_of_steps_that_are_made_again_are_dropped(write, tmp_path, after_step, left):
    write(*[(step, "train", {"loss": 0.0}) for step in (1, 2, 2, 3)])
    write(after_step=after_step)
    assert [record["step"] for record in lines(tmp_path / "metrics.jsonl")] == left


@pytest.mark.parametrize(
    "torn", [b'{"step": 2, "lo', b'{"step": 2}', b"\0\0\0\0", b'"x"\n', b"\xff\xfe"]
)
def test_a_last_line_that_a_kill_cut_short_is_dropped(write, tmp_path, torn):
    write((1, "train", {"loss": 1.0}))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    write((2, "train", {"loss": 2.0}), after_step=5)
    assert [record["step"] for record in lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_record_is_in_the_file_before_the_next_step(tmp_path):
    writer = JsonlWriter.default_config().instantiate()
    writer.open(tmp_path, after_step=0)
    writer.write(1, "train", {"loss": 1.0})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.0}]
    writer.close()


def scalars_of(folder):
    """Reads event files: records of length, checksum of it, data, checksum of that."""
    found = {}
    for path in sorted(folder.iterdir()):
        data, start = path.read_bytes(), 0
        while start < len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            event = Event.FromString(data[start + 12 : start + 12 + length])
            start += 12 + length + 4
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_holds_every_value_below_its_kind(write, tmp_path):
    records = [
        (1, "train", {"loss": 1.5}),
        (2, "train", {"loss": 1.25}),
        (2, "eval", {"held_out/loss": 2.5}),
    ]
    write(*records, kind=TensorBoardWriter)
    assert scalars_of(tmp_path / "tensorboard") == {
        "train/loss": [(1, 1.5), (2, 1.25)],
        "held_out/loss": [(2, 2.5)],
    }
