"""A token per byte."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axlearn_core.training.tokenizer import Ids, Tokenizer


class ByteTokenizer(Tokenizer):
    """The bytes of the text in UTF-8, 0 to 255, and two special ids.

    Id 256 stands between documents (bos and eos at once), 257 is padding.
    """

    class Config(Tokenizer.Config):
        """Nothing to choose."""

    vocab_size = 258
    bos_id = eos_id = 256
    pad_id = 257

    def encode(self, text: str) -> Ids:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int32)

    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        array = np.asarray(ids)
        return array[array < 256].astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    def fingerprint(self) -> str:
        return hashlib.sha256(b"bytes; 256 between documents, 257 padding").hexdigest()

    def pieces(self) -> list[bytes | None]:
        return [*(bytes([byte]) for byte in range(256)), None, None]
