"""Lines on a disk that fails now and then."""

import os

import pytest

from axlearn_core.observe.line_file import LineFile

LINES = [f"line {number}" for number in range(9)]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "lines").write_text("before\n")
    return LineFile(tmp_path / "lines")


def failing(monkeypatch, name, times, took=0):
    """Makes so many calls of a function of `os` fail; a write takes so many bytes before."""
    call, left = getattr(os, name), [times]

    def fail(*args):
        if left[0] == 0:
            return call(*args)
        left[0] -= 1
        if name == "pwrite" and left[0] % 2 and took:
            return call(args[0], args[1][:took], args[2])
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, name, fail)


def add(file, lines):
    failed = 0
    for line in lines:
        try:
            file.add(line)
        except OSError:
            failed += 1
    return failed


@pytest.mark.parametrize("took", [0, 3])
def test_lines_that_could_not_be_written_come_later_in_their_order(file, monkeypatch, took):
    failing(monkeypatch, "pwrite", 4, took)
    assert add(file, LINES) > 0
    file.close()
    assert file.path.read_text().splitlines() == ["before", *LINES]


def test_what_the_file_system_has_forgotten_is_written_again(file, monkeypatch):
    """As a network file system may, that finds out at fsync that there is no room."""
    add(file, LINES[:3])
    file.flush()
    add(file, LINES[3:6])
    failing(monkeypatch, "fsync", 1)
    with pytest.raises(OSError):
        file.flush()
    os.truncate(file.path, len("".join(f"{line}\n" for line in ["before", *LINES[:3]])))
    add(file, LINES[6:])
    file.flush()
    file.close()
    assert file.path.read_text().splitlines() == ["before", *LINES]
