"""The bytes that a token stands for, by how its tokenizer writes bytes as characters."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Piece = Callable[[str], bytes]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@functools.cache
def byte_alphabet() -> dict[str, int]:
    """Returns the byte that each character of GPT-2's alphabet stands for.

    Printable bytes of Latin-1 are themselves, the others are characters from U+0100 on (Radford et
    al. 2019, "Language models are unsupervised multitask learners").
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    shown = [chr(byte) for byte in printable] + [chr(0x100 + n) for n in range(len(others))]
    return dict(zip(shown, printable + others, strict=True))


def piece_function(tokenizer: Mapping[str, Any]) -> Piece | None:
    """Returns what gives the bytes of a token, or None if tokens alone do not tell them.

    Args:
        tokenizer: the content of a tokenizer.json.
    """
    parts = [part.get("type") for part in _parts(tokenizer.get("decoder"), "decoders")]
    if "ByteLevel" in parts:
        return _byte_level
    if "ByteFallback" in parts or "Metaspace" in parts:
        return _marked_spaces
    return None


def _byte_level(token: str) -> bytes:
    alphabet = byte_alphabet()
    if all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    return token.encode("utf-8", "surrogatepass")


def _marked_spaces(token: str) -> bytes:
    if found := _BYTE.fullmatch(token):
        return bytes([int(found[1], 16)])
    return token.replace("\u2581", " ").encode("utf-8", "surrogatepass")


def _parts(component: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """Yields a component, or those of a sequence of them."""
    if isinstance(component, dict):
        inner = component.get(key)
        if component.get("type") == "Sequence" and isinstance(inner, list):
            for part in inner:
                yield from _parts(part, key)
        else:
            yield component
