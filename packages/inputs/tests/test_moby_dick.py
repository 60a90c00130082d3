"""The bundled corpus: complete, unchanged, split by chapter."""

import hashlib

import pytest

from axlearn_inputs.corpora import moby_dick

SHA256 = "fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240"


def test_the_chapters_joined_are_the_file_that_the_readme_describes():
    chapters = moby_dick.chapters()
    assert len(chapters) == 135
    assert hashlib.sha256("".join(chapters).encode()).hexdigest() == SHA256


def test_each_chapter_is_in_one_split():
    train, held_out = map(moby_dick.documents, moby_dick.SPLITS)
    assert sorted(train + held_out) == sorted(moby_dick.chapters())
    assert not set(train) & set(held_out)


def test_about_seven_percent_are_held_out():
    train, held_out = (sum(map(len, moby_dick.documents(s))) for s in moby_dick.SPLITS)
    assert held_out == 84_512
    assert 0.07 < held_out / (train + held_out) < 0.072


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="one of train, validation; got 'test'"):
        moby_dick.documents("test")
