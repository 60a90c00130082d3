"""Small prepared data, without seqio: documents of a few letters."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from axlearn_inputs.documents import Document
from axlearn_inputs.packed import PackedInput
from axlearn_inputs.prepare import prepare
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.tokenizers import Tokenizer

TEXTS = {
    split: [
        "".join(random.Random(f"{split}/{i}").choices("abc dé\n", k=3 + 7 * i % 60))
        for i in range(count)
    ]
    for split, count in {"train": 40, "validation": 7}.items()
}


def read_letters(task: str, split: str, tokenizer: Tokenizer) -> Iterator[Document]:
    for text in TEXTS[split]:
        yield Document(text, tokenizer.encode(text))


def spec(**fields: object) -> PrepareSpec:
    return PrepareSpec(task="letters", seq_len=16).set(**fields)


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of prepared letters; leave it as it is."""
    directory = tmp_path_factory.mktemp("data") / "letters"
    prepare(spec(), directory, report=lambda line: None, read=read_letters)
    return directory


@pytest.fixture
def make_spec():
    return spec


@pytest.fixture
def prepare_letters(tmp_path: Path):
    """Prepares letters in a directory of the test's own."""

    def run(directory: Path = tmp_path / "letters", **options: object) -> Path:
        fields = options.pop("spec", {})
        prepare(spec(**fields), directory, report=lambda line: None, read=read_letters, **options)
        return directory

    return run


@pytest.fixture
def make_input(letters: Path):
    """Builds an input over the letters."""

    def build(directory: Path = letters, **fields: object) -> PackedInput:
        cfg = PackedInput.default_config().set(
            source=spec(), directory=str(directory), batch_size=4
        )
        return cfg.set(**fields).instantiate()

    return build


@pytest.fixture
def texts() -> dict[str, list[str]]:
    return TEXTS
