"""Tokenizers of OpenAI's library `tiktoken`, from a file of ranks."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.training.tokenizer import Ids, Tokenizer
from axlearn_huggingface.tokenizers.errors import TokenizerError
from axlearn_huggingface.tokenizers.files import read_bytes

# GPT-2's, Radford et al. 2019: contractions, words, numbers, other characters, white space.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class TiktokenTokenizer(Tokenizer):
    """Byte pairs by rank, from a local file of lines "base64-of-a-token rank".

    The round trip is exact. Nothing is downloaded: the names of OpenAI's encodings mean nothing
    here, their file, pattern and special tokens have to be given.
    """

    class Config(Tokenizer.Config):
        path: str = REQUIRED  # of the file of ranks
        pattern: str = GPT2_PATTERN  # cuts text into words; a token never crosses them
        special_tokens: dict[str, int] = REQUIRED  # such as {"<|endoftext|>": 50256}
        eos_token: str = "<|endoftext|>"  # stands between documents
        end_tokens: tuple[str, ...] = ()  # others that end a generated text, such as "<|im_end|>"
        chat_template: str | None = None  # jinja

    def __init__(self, config: Config):
        super().__init__(config)
        special = config.special_tokens
        for name in (config.eos_token, *config.end_tokens):
            if name not in special:
                raise ConfigError(
                    f"{name!r} ends texts, but special_tokens has {', '.join(special) or 'none'}"
                )
        path = Path(config.path)
        self._content = read_bytes(path)
        ranks = _parse(self._content, path)
        if both := set(special.values()) & set(ranks.values()):
            raise ConfigError(f"special_tokens has the ids {sorted(both)}, which {path} has too")
        self._ids = frozenset(special.values())
        self._encoding = _encoding(path, config.pattern, ranks, special)
        self.vocab_size = self._encoding.n_vocab
        self.bos_id = -1
        self.eos_id = self.pad_id = special[config.eos_token]
        self.chat_template = config.chat_template
        self.special_tokens = {"eos_token": config.eos_token}
        self.special_names = tuple(special)

    def encode(self, text: str) -> Ids:
        return np.asarray(self._encoding.encode_ordinary(text), np.int32)

    def encode_markup(self, text: str) -> Ids:
        return np.asarray(self._encoding.encode(text, allowed_special="all"), np.int32)

    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        numbers = np.asarray(ids).tolist()
        known = [n for n in numbers if n < self.vocab_size and n not in self._ids]
        return str(self._encoding.decode(known, errors="replace"))

    def fingerprint(self) -> str:
        facts = (self.config.pattern, sorted(self.config.special_tokens.items()), self.eos_id)
        return hashlib.sha256(b"tiktoken\n" + repr(facts).encode() + self._content).hexdigest()

    @property
    def end_ids(self) -> tuple[int, ...]:
        others = (self.config.special_tokens[name] for name in self.config.end_tokens)
        return tuple(dict.fromkeys((self.eos_id, *others)))

    def pieces(self) -> list[bytes | None]:
        found: list[bytes | None] = [None] * self.vocab_size
        for token, number in _parse(self._content, Path(self.config.path)).items():
            found[number] = token
        return found


def _parse(content: bytes, path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        token, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(
                f'{path} line {number}: expected a token in base64 and its rank, such as "IQ== 0", '
                f"got {line[:40]!r}"
            ) from error
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise TokenizerError(f"{path} has no token for {len(missing)} of the 256 bytes")
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise TokenizerError(f"the ranks of {path} are not 0, 1, 2 ...")
    return ranks


def _encoding(path: Path, pattern: str, ranks: dict[bytes, int], special: dict[str, int]) -> Any:
    try:
        import tiktoken
    except ModuleNotFoundError as error:
        raise TokenizerError(
            "tiktoken is not installed: pip install 'axlearn-huggingface[tiktoken]'"
        ) from error
    try:
        return tiktoken.Encoding(
            path.name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special
        )
    except ValueError as error:
        raise ConfigError(f"pattern (={pattern!r}) cannot be used: {error}") from error
