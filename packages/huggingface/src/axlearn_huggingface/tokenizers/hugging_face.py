"""The tokenizers of Hugging Face's library `tokenizers`, from their files."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tokenizers
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED
from axlearn_core.training.tokenizer import Ids, Tokenizer
from axlearn_huggingface.tokenizers.errors import TokenizerError
from axlearn_huggingface.tokenizers.files import (
    TOKENIZER,
    Settings,
    parse_object,
    read_bytes,
    read_settings,
)
from axlearn_huggingface.tokenizers.pieces import piece_function

T = TypeVar("T")

_MOST_IDS = 1 << 24  # a list of all is made


class HuggingFaceTokenizer(Tokenizer):
    """A folder with a tokenizer.json, or with the vocab.json and merges.txt of GPT-2's kind.

    tokenizer_config.json, special_tokens_map.json, chat_template.jinja and generation_config.json
    beside it are read too, if they are there. Ids are those of `transformers` with
    add_special_tokens=False and split_special_tokens=True; `encode_markup` those without the
    latter. `bos_id` is what tokenizer.json puts before a text (add_bos_token of the config means
    nothing beside it, as there), -1 if nothing.

    The round trip is exact for byte-level models and those with byte fallback, if they neither
    normalise nor add a space at the beginning; others (BERT's, say) decode as `transformers` does.
    """

    class Config(Tokenizer.Config):
        path: str = REQUIRED  # the folder, or a tokenizer.json
        eos_token: str | None = None  # that the files name if None, such as "</s>"

    def __init__(self, config: Config):
        super().__init__(config)
        path = Path(config.path)
        folder = path if path.is_dir() else path.parent
        self._content = _content(path)
        self._file = parse_object(self._content, path)
        settings = read_settings(folder)
        self._path, self._text = path, self._load(settings)
        self._vocab = self._text.get_vocab()
        self.vocab_size = max(self._vocab.values(), default=-1) + 1
        if not 0 < self.vocab_size <= _MOST_IDS:
            raise TokenizerError(
                f"{path} has ids up to {self.vocab_size - 1}, but {_MOST_IDS - 1} is the most"
            )
        self._special = self._special_ids()
        self._guarded = self._special - self._unknown_ids(settings)
        self.special_tokens = dict(settings.named)
        added = self._text.get_added_tokens_decoder().values()
        self.special_names = tuple(token.content for token in added if token.special)
        self.chat_template = settings.chat_template
        self._set_ids(settings)
        self._ends = tuple(end for end in settings.end_ids if 0 <= end < self.vocab_size)

    def encode(self, text: str) -> Ids:
        ids = self._encoded(self._text, text)
        if not self._guarded.isdisjoint(ids):
            ids = self._encoded_apart(text)
        return np.asarray(ids, np.int32)

    def encode_markup(self, text: str) -> Ids:
        return np.asarray(self._encoded(self._markup, text), np.int32)

    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        numbers = np.asarray(ids, np.int64).tolist()
        return self._guard(lambda: self._text.decode(numbers, skip_special_tokens=True))

    def fingerprint(self) -> str:
        facts = [self.bos_id, self.eos_id, self.pad_id, sorted(self._special)]
        return hashlib.sha256(b"huggingface\n" + self._content + repr(facts).encode()).hexdigest()

    @property
    def end_ids(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((self.eos_id, *self._ends)))

    def pieces(self) -> list[bytes | None]:
        piece = piece_function(self._file)
        if piece is None:
            raise NotImplementedError(
                f"the decoder of {self._path} does not tell what bytes its tokens stand for"
            )
        added = self._text.get_added_tokens_decoder()
        found: list[bytes | None] = [None] * self.vocab_size
        for token, number in self._vocab.items():
            if number not in self._special:
                found[number] = token.encode() if number in added else piece(token)
        return found

    def _load(self, settings: Settings) -> tokenizers.Tokenizer:
        """Returns the tokenizer, to which names of special tokens are text."""
        whole = {**self._file, "truncation": None, "padding": None}
        loaded = self._guard(lambda: tokenizers.Tokenizer.from_str(json.dumps(whole)))
        # As transformers does. One that is no word of it yet would be none of the model's either.
        have = {token.content for token in loaded.get_added_tokens_decoder().values()}
        names = sorted((settings.special - have) & loaded.get_vocab().keys())
        marked = [tokenizers.AddedToken(name, special=True, normalized=False) for name in names]
        self._guard(lambda: loaded.add_special_tokens(marked))
        loaded.encode_special_tokens = True
        return loaded

    @functools.cached_property
    def _markup(self) -> tokenizers.Tokenizer:
        """Returns the same tokenizer, to which they are tokens."""
        copy = tokenizers.Tokenizer.from_str(self._text.to_str())
        copy.encode_special_tokens = False
        return copy

    def _special_ids(self) -> frozenset[int]:
        added = self._text.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    def _unknown_ids(self, settings: Settings) -> set[int]:
        """Returns the ids of what no token stands for: special, and yet what text becomes."""
        model = self._file.get("model")
        told = model if isinstance(model, dict) else {}
        names = {settings.named.get("unk_token"), told.get("unk_token")}
        found = {self._vocab.get(name, -1) for name in names if isinstance(name, str)}
        return found | {number for number in [told.get("unk_id")] if isinstance(number, int)}

    def _set_ids(self, settings: Settings) -> None:
        bos, after = self._around()
        named = {role: self._vocab.get(name) for role, name in settings.named.items()}
        eos = named.get("eos_token", after)
        if (name := self.config.eos_token) is not None:
            eos = self._vocab.get(name)
            if eos is None:
                raise TokenizerError(f"eos_token (={name!r}) is no token of {self._path}")
        if eos is None:
            raise TokenizerError(
                f"{self._path} does not say which token ends a document: set eos_token to its "
                "text, such as eos_token='</s>', here or in tokenizer_config.json"
            )
        pad = named.get("pad_token")
        self.bos_id = -1 if bos is None else bos
        self.eos_id = eos
        self.pad_id = eos if pad is None else pad

    def _around(self) -> tuple[int | None, int | None]:
        """Returns the special ids that the file's post-processor puts before and after a text."""
        ids = self._guard(lambda: self._text.encode("", add_special_tokens=True).ids)
        text = self._guard(lambda: self._text.encode("a", add_special_tokens=True).ids)
        if not ids or not text:
            return None, None
        before = ids[0] if text[0] == ids[0] and ids[0] in self._special else None
        after = ids[-1] if text[-1] == ids[-1] and ids[-1] in self._special else None
        return before, after

    def _encoded(self, tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
        ids = self._guard(lambda: tokenizer.encode(text, add_special_tokens=False).ids)
        return list(ids)

    def _encoded_apart(self, text: str) -> list[int]:
        """Encodes text in which some word is also the name of a special token.

        Words of a unigram model are found as a whole, so names are cut after their first character,
        after normalisation, which could write one.
        """
        normalizer = self._text.normalizer
        if normalizer is not None:
            text = normalizer.normalize_str(text)
        names = [token for token, number in self._vocab.items() if number in self._guarded]
        pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        text_parts, start = [], 0
        for found in re.finditer(pattern, text):
            text_parts.append(text[start : found.start() + 1])
            start = found.start() + 1
        ids = [n for part in [*text_parts, text[start:]] for n in self._encoded(self._text, part)]
        return [number for number in ids if number not in self._guarded]

    def _guard(self, call: Callable[[], T]) -> T:
        """Calls the library, whose errors have no class of their own."""
        try:
            return call()
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise  # Ctrl-C, say; a panic of Rust is an Exception by name only
            raise TokenizerError(f"{self.config.path} is no tokenizer: {error}") from error


def _content(path: Path) -> bytes:
    """Returns the tokenizer.json of a path, or one made of older files."""
    if not path.is_dir():
        return read_bytes(path)
    if (path / TOKENIZER).exists():
        return read_bytes(path / TOKENIZER)
    vocab, merges = path / "vocab.json", path / "merges.txt"
    if vocab.exists() and merges.exists():
        return _byte_level(parse_object(read_bytes(vocab), vocab), read_bytes(merges), merges)
    if (path / "tokenizer.model").exists():
        raise TokenizerError(
            f"{path} has a SentencePiece model only: use the tokenizer inputs/sentencepiece-model "
            f"with path={path / 'tokenizer.model'}"
        )
    raise TokenizerError(f"{path} has no {TOKENIZER}, nor vocab.json and merges.txt")


def _byte_level(vocab: dict[str, Any], merges: bytes, path: Path) -> bytes:
    """Returns the tokenizer.json that GPT-2's two files mean."""
    try:
        lines = merges.decode().splitlines()
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8: {error}") from error
    pairs = [line for line in lines if line and not line.startswith("#version")]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    model = {"type": "BPE", "vocab": vocab, "merges": pairs}
    return json.dumps({"model": model, "pre_tokenizer": level, "decoder": level}).encode()
