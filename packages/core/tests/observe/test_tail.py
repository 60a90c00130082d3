import json

import pytest

from axlearn_core.observe.tail import Tail


@pytest.fixture
def tail(tmp_path):
    return Tail(tmp_path / "metrics.jsonl")


def lines(*steps):
    return "".join(json.dumps({"step": step}) + "\n" for step in steps)


def read(tail):
    return [record["step"] for record in tail.records()]


def test_each_record_is_read_once_while_the_file_grows(tail):
    assert read(tail) == []  # there is no file yet
    tail.path.write_text(lines(1, 2))
    assert read(tail) == [1, 2]
    with tail.path.open("a") as file:
        file.write(lines(3))
    assert not tail.restarted()
    assert read(tail) == [3]


def test_a_line_that_is_being_written_waits_for_its_end(tail):
    tail.path.write_text(lines(1) + '{"step": 2')
    assert read(tail) == [1] and tail.cut == len('{"step": 2')
    with tail.path.open("a") as file:
        file.write("}\n")
    assert read(tail) == [2] and tail.cut == 0


def test_a_file_that_a_resumed_run_cut_is_read_anew(tail):
    tail.path.write_text(lines(1, 2, 3))
    assert read(tail) == [1, 2, 3]
    tail.path.write_text(lines(1, 2, 7, 8))
    assert tail.restarted()
    assert read(tail) == [1, 2, 7, 8]


def test_a_file_that_vanished_is_read_anew(tail):
    tail.path.write_text(lines(1))
    assert read(tail) == [1]
    tail.path.unlink()
    assert tail.restarted()
    assert read(tail) == []


@pytest.mark.parametrize("line", ["{", "[1]", "7", '{"a": \xff}', "[" * 100_000, ""])
def test_lines_that_are_no_object_are_counted_and_passed_over(tail, line):
    tail.path.write_text(lines(1) + line + "\n" + lines(2), encoding="latin-1")
    assert read(tail) == [1, 2]
    assert tail.damaged == 1


def test_a_line_longer_than_any_record_is_damage(tail):
    tail.path.write_text(lines(1) + json.dumps({"step": "x" * (3 << 20)}) + "\n" + lines(2))
    assert read(tail) == [1, 2]
    assert tail.damaged == 1
