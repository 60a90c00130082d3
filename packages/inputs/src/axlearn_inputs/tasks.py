"""Text through seqio: registers the bundled tasks and runs any task or mixture by name.

Importing this module imports tensorflow (10 s), so only preparation does.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from numpy.typing import NDArray

from axlearn_core.config import near_names
from axlearn_core.errors import UserError
from axlearn_inputs.corpora import CORPORA
from axlearn_inputs.documents import Document
from axlearn_inputs.tokenizers import ByteTokenizer, Tokenizer

tf.config.set_visible_devices([], "GPU")  # tensorflow would take all of its memory

_TEXT, _IDS = "targets_pretokenized", "targets"


class TokenizerVocabulary(seqio.Vocabulary):  # type: ignore[misc]  # seqio has no types
    """A Tokenizer as the vocabulary of a seqio feature."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self._tokenizer = tokenizer

    def __eq__(self, other: object) -> bool:
        # A mixture requires its tasks to have equal vocabularies.
        return (
            isinstance(other, TokenizerVocabulary)
            and self._tokenizer.fingerprint() == other._tokenizer.fingerprint()
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def bos_id(self) -> int:
        return self._tokenizer.bos_id

    @property
    def eos_id(self) -> int:
        return self._tokenizer.eos_id

    @property
    def pad_id(self) -> int:
        return self._tokenizer.pad_id

    @property
    def unk_id(self) -> None:
        return None

    @property
    def _base_vocab_size(self) -> int:
        return self._tokenizer.vocab_size

    def _encode(self, s: str) -> NDArray[np.int32]:
        return self._tokenizer.encode(s)

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def _encode_tf(self, s: Any) -> Any:
        ids = tf.numpy_function(lambda text: self._encode(text.decode()), [s], tf.int32)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: Any) -> Any:
        return tf.numpy_function(lambda array: self._decode(array).encode(), [ids], tf.string)


def register_text_task(
    name: str, documents: Callable[[str], Iterable[str]], splits: Sequence[str]
) -> None:
    """Registers a seqio task whose documents are what `documents(split)` yields."""

    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> Any:
        return tf.data.Dataset.from_generator(
            lambda: ({_IDS: text} for text in documents(split)),
            output_signature={_IDS: tf.TensorSpec([], tf.string)},
        )

    # The vocabulary is a stand-in: preparation puts its own tokenizer in its place.
    vocabulary = TokenizerVocabulary(ByteTokenizer.default_config().instantiate())
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset, splits=splits),
        preprocessors=[seqio.preprocessors.tokenize],
        output_features={_IDS: seqio.Feature(vocabulary, add_eos=False)},
    )


for _name, _corpus in CORPORA.items():
    register_text_task(_name, _corpus.documents, _corpus.SPLITS)


def read_task(task: str, split: str, tokenizer: Tokenizer) -> Iterator[Document]:
    """Runs a split of a task or mixture once, in order, with `tokenizer` as its vocabulary.

    Args:
        task: the name of a seqio task or mixture. `module:name` imports the module first, which is
            where its author registers it.
        split: one of the task's splits. A mixture samples by its rates until one of its tasks ends.
        tokenizer: takes the place of the vocabulary of the task's feature `targets`.
    """
    provider = _find(task)
    if split not in provider.splits:
        raise UserError(
            f"task {task} has no split {split!r}; its splits: {', '.join(sorted(provider.splits))}"
        )
    if list(provider.output_features) != [_IDS]:
        raise UserError(
            f"task {task} has the features {', '.join(provider.output_features)}; text is prepared "
            f"from tasks whose only feature is {_IDS!r}"
        )
    name = _with_tokenizer(provider, tokenizer)
    options = {"copy_pretokenized": True} if isinstance(provider, seqio.Mixture) else {}
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length=None, split=split, shuffle=False, num_epochs=1, **options
    )
    for number, example in enumerate(dataset.as_numpy_iterator()):
        document = _document(task, example)
        if number == 0 and not np.array_equal(document.ids, tokenizer.encode(document.text)):
            raise UserError(f"task {task} does not use its feature's vocabulary. {_TOKENIZE}")
        yield document


_TOKENIZE = "Its preprocessors must tokenize by seqio.preprocessors.tokenize, and change no ids"


def _document(task: str, example: dict[str, Any]) -> Document:
    if _TEXT not in example:
        raise UserError(f"task {task} keeps no {_TEXT}. {_TOKENIZE}")
    return Document(example[_TEXT].decode("utf-8"), example[_IDS])


def _find(task: str) -> Any:
    module, _, name = task.rpartition(":")
    if module:
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)  # a console script does not look where it is started
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UserError(
                f"task {task}: {error}; before the colon stands a module that can be imported"
            ) from error
    known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name not in known:
        shown = ", ".join(sorted(known))
        raise UserError(
            f"there is no seqio task or mixture {name!r}.{near_names(name, known)} Known: {shown}. "
            "Write module:name for one that another module registers"
        )
    return seqio.get_mixture_or_task(name)


def _with_tokenizer(provider: Any, tokenizer: Tokenizer) -> str:
    """Registers a copy of a task or mixture that tokenizes by `tokenizer`; returns its name."""
    name = f"{provider.name}.{tokenizer.fingerprint()[:16]}"
    if name in seqio.TaskRegistry.names() or name in seqio.MixtureRegistry.names():
        return name
    if isinstance(provider, seqio.Mixture):
        rates = [(_with_tokenizer(t, tokenizer), provider.get_rate(t)) for t in provider.tasks]
        seqio.MixtureRegistry.add(name, rates)
        return name
    feature = seqio.Feature(TokenizerVocabulary(tokenizer), add_eos=False)
    seqio.TaskRegistry.add_provider(
        name, provider.replace(name=name, output_features={_IDS: feature})
    )
    return name
