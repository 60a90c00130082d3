"""Subword tokens by SentencePiece (arXiv:1808.06226), without loss of any character."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.errors import UserError
from axlearn_core.training.tokenizer import Ids, Tokenizer, TokenizerTrainer

MODEL_FILE = "tokenizer.model"

# SentencePiece writes a space as this character, so it cannot write the character itself.
_SPACE_MARK = "\u2581"


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model file, such as the one that `SentencePieceTrainer` makes.

    The round trip is exact for models with byte fallback, identity normalisation and no dummy
    prefix; others (Llama's, say) are accepted and decode as SentencePiece does.
    """

    class Config(Tokenizer.Config):
        path: str = REQUIRED  # of the model file

    def __init__(self, config: Config):
        super().__init__(config)
        path = Path(config.path)
        if not path.is_file():
            raise UserError(f"there is no SentencePiece model at {path}; set path to a .model file")
        self._model = path.read_bytes()
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._model)
        except (RuntimeError, OSError) as error:
            raise UserError(f"{path} is no SentencePiece model: {error}") from error
        self.vocab_size = self._processor.vocab_size()
        self.eos_id = self._processor.eos_id()
        self.bos_id = self._or_eos(self._processor.bos_id())
        self.pad_id = self._or_eos(self._processor.pad_id())
        if self.eos_id < 0:
            raise UserError(f"{path} has no end-of-sentence piece, which must end each document")
        self._mark_ids = self._bytes_of(_SPACE_MARK)

    def encode(self, text: str) -> Ids:
        parts = self._processor.encode(text.split(_SPACE_MARK))
        ids = list(parts[0])
        for part in parts[1:]:
            ids += [*self._mark_ids, *part]
        return np.asarray(ids, np.int32)

    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        known = [n for n in np.asarray(ids).tolist() if n < self.vocab_size]
        return str(self._processor.decode(known))

    def fingerprint(self) -> str:
        return hashlib.sha256(b"sentencepiece\n" + self._model).hexdigest()

    def pieces(self) -> list[bytes | None]:
        return [self._piece(number) for number in range(self.vocab_size)]

    def _piece(self, number: int) -> bytes | None:
        model = self._processor
        if model.is_control(number) or model.is_unknown(number):
            return None
        piece: str = model.id_to_piece(number)
        if model.is_byte(number):
            return bytes([int(piece[3:5], 16)])  # <0x0A>
        return piece.replace(_SPACE_MARK, " ").encode()

    def _or_eos(self, special_id: int) -> int:
        return special_id if special_id >= 0 else self.eos_id

    def _bytes_of(self, character: str) -> list[int]:
        pieces = [f"<0x{byte:02X}>" for byte in character.encode()]
        return [self._processor.piece_to_id(piece) for piece in pieces]


class SentencePieceTrainer(TokenizerTrainer):
    """Trains a SentencePiece model that keeps every character of the text.

    No normalisation, no prefix, white space as it is, newlines as pieces of their own, and a byte
    piece for whatever is rare. The ids: 0 unknown (never used), 1 between documents, 2 padding.
    """

    class Config(TokenizerTrainer.Config):
        vocab_size: int = REQUIRED  # pieces, with 256 bytes and 3 special ones
        model_type: Literal["bpe", "unigram"] = "bpe"

    # Beyond that, more text changes hardly any piece.
    _SAMPLE_CHARACTERS = 64 << 20
    # SentencePiece skips longer sentences.
    _LINE_CHARACTERS = 4096

    def train(self, texts: Iterable[str], directory: Path) -> SentencePieceTokenizer:
        cfg = self.config
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=self._lines(texts),
                model_writer=model,
                model_type=cfg.model_type,
                vocab_size=cfg.vocab_size,
                byte_fallback=True,
                character_coverage=1.0,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                user_defined_symbols=["\n"],
                max_sentence_length=self._LINE_CHARACTERS * 4,  # in bytes
                unk_id=0,
                bos_id=-1,
                eos_id=1,
                pad_id=2,
                num_threads=1,  # sums of floats depend on how threads divide the work
                minloglevel=2,
            )
        except RuntimeError as error:
            raise ConfigError(
                f"SentencePiece cannot make {cfg.vocab_size} pieces of this text: "
                f"{str(error).splitlines()[0].rpartition('] ')[2].rstrip('.')}. Choose another "
                "vocab_size (some hundreds go to bytes and single characters)"
            ) from error
        (directory / MODEL_FILE).write_bytes(model.getvalue())
        return self.load(directory)

    def load(self, directory: Path) -> SentencePieceTokenizer:
        path = str(directory / MODEL_FILE)
        return SentencePieceTokenizer(SentencePieceTokenizer.default_config().set(path=path))

    def _lines(self, texts: Iterable[str]) -> Iterator[str]:
        left = self._SAMPLE_CHARACTERS
        lines = itertools.chain.from_iterable(text.splitlines(keepends=True) for text in texts)
        for line in lines:
            for start in range(0, len(line), self._LINE_CHARACTERS):
                yield line[start : start + self._LINE_CHARACTERS]
            left -= len(line)
            if left < 0:
                return
