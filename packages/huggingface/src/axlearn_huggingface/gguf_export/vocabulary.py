"""What ids mean, as llama.cpp wants to know it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axlearn_core.errors import UserError
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_huggingface.exporting import tokenizer_folder

if TYPE_CHECKING:
    from gguf import GGUFWriter

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of tokens there
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

# How a text is cut before pairs are merged, by a part of the pattern that no other one has.
_CUTS = (
    ("llama-bpe", r"\p{N}{1,3}"),
    ("qwen2", r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"),
)


@dataclass
class Vocabulary:
    """Tokens by id, and what else their kind of tokenizer needs.

    Attributes:
        kind: "gpt2" merges bytes, "llama" is SentencePiece's, "no_vocab" is none.
        tokens, types: of each id.
        scores: of SentencePiece.
        merges: of byte pairs, "a b" each.
        cut: the name of what cuts a text into words.
        flags: further metadata of the tokenizer.
        notes: what users should know.
    """

    kind: str
    tokens: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    cut: str = "default"
    flags: dict[str, bool] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    template: str | None = None
    notes: list[str] = field(default_factory=list)

    def write(self, writer: GGUFWriter) -> list[str]:
        """Adds it to a file's metadata, and returns the notes."""
        writer.add_tokenizer_model(self.kind)
        if self.tokens:
            writer.add_tokenizer_pre(self.cut)
            writer.add_token_list(self.tokens)
            writer.add_token_types(self.types)
        if self.scores:
            writer.add_token_scores(self.scores)
        if self.merges:
            writer.add_token_merges(self.merges)
        for name, value in self.flags.items():
            writer.add_bool(f"tokenizer.ggml.{name}", value)
        for name, number in self.ids.items():
            if number >= 0:
                writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
        if self.template is not None:
            writer.add_chat_template(self.template)
        return self.notes


def vocabulary(tokenizer: Tokenizer | None, size: int) -> Vocabulary:
    """Returns the vocabulary of a tokenizer, for a model with so many ids.

    Raises:
        UserError: for files that are not what they should be.
    """
    if tokenizer is None:
        return Vocabulary("no_vocab", notes=["without a tokenizer, llama.cpp takes ids only"])
    folder = tokenizer_folder(tokenizer)
    models = ("tokenizer.model", "spiece.model")
    if folder is not None and (folder / "tokenizer.json").is_file():
        found = _of_json(folder / "tokenizer.json")
    elif folder is not None and any((folder / name).is_file() for name in models):
        found = _of_sentence_piece(next(folder / n for n in models if (folder / n).is_file()))
    else:
        found = _of_bytes(tokenizer.pieces())
    spare = size - len(found.tokens)
    if spare < 0:
        raise UserError(f"the tokenizer has {-spare} ids more than the model, which has {size}")
    found.tokens += [f"[UNUSED_{number}]" for number in range(len(found.tokens), size)]
    found.types += [UNUSED] * spare
    found.scores += [-1e4] * (spare if found.scores else 0)
    found.ids |= {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "padding": tokenizer.pad_id}
    found.flags.setdefault("add_bos_token", tokenizer.bos_id >= 0)
    found.template = tokenizer.chat_template
    return found


def _of_json(path: Path) -> Vocabulary:
    data = json.loads(path.read_text(encoding="utf-8"))
    model = data["model"]
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise UserError(f"{path} is of the kind {model.get('type')}; GGUF is written of BPE")
    added = {each["content"]: each for each in data.get("added_tokens", [])}
    vocab = {**model["vocab"], **{name: each["id"] for name, each in added.items()}}
    tokens = [f"[UNUSED_{number}]" for number in range(max(vocab.values()) + 1)]
    types = [UNUSED] * len(tokens)
    for token, number in vocab.items():
        tokens[number] = token
        types[number] = _type(token, added.get(token), str(model.get("unk_token")))
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    if model.get("byte_fallback"):
        return _as_sentence_piece(data, tokens, types, merges)
    cut, notes = _cut(data)
    return Vocabulary("gpt2", tokens, types, merges=merges or [_NO_MERGE], cut=cut, notes=notes)


def _type(token: str, added: dict[str, Any] | None, unknown: str) -> int:
    if token == unknown:
        return UNKNOWN
    if added is not None:
        return CONTROL if added.get("special") else USER_DEFINED
    return BYTE if _BYTE.fullmatch(token) else NORMAL


def _as_sentence_piece(
    data: Any, tokens: list[str], types: list[int], merges: list[str]
) -> Vocabulary:
    """SentencePiece merges the pair whose result has the highest score: the earliest merge's."""
    rank = {merge.replace(" ", "", 1): -float(number) for number, merge in enumerate(merges)}
    scores = [rank.get(token, -1e4) for token in tokens]
    return Vocabulary(
        "llama",
        tokens,
        types,
        scores,
        flags={"add_space_prefix": '"Prepend"' in json.dumps(data.get("normalizer"))},
    )


def _cut(data: Any) -> tuple[str, list[str]]:
    """Returns the name of what cuts a text into words, and a note if none is known."""
    described = json.dumps(data.get("pre_tokenizer")).replace("\\\\", "\\")
    for name, part in _CUTS:
        if part in described:
            return name, []
    if '"Split"' not in described:
        return "gpt-2", []
    return "default", ["llama.cpp may cut texts into words in another way: compare some ids"]


def _of_sentence_piece(path: Path) -> Vocabulary:
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError(f"to read {path}: pip install sentencepiece") from error
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ids = range(model.vocab_size())

    def kind(number: int) -> int:
        for asked, answer in (
            (model.is_unknown, UNKNOWN),
            (model.is_control, CONTROL),
            (model.is_unused, UNUSED),
            (model.is_byte, BYTE),
        ):
            if asked(number):
                return answer
        return NORMAL

    # Whether a space is put before a text shows in the ids of one.
    prefix = model.encode("a", out_type=str)[:1] not in (["a"], [])
    return Vocabulary(
        "llama",
        [model.id_to_piece(number) for number in ids],
        [kind(number) for number in ids],
        [model.get_score(number) for number in ids],
        flags={"add_space_prefix": prefix},
    )


def _of_bytes(pieces: Sequence[bytes | None]) -> Vocabulary:
    """A token per byte, as byte pairs without a merge."""
    if longer := [piece for piece in pieces if piece is not None and len(piece) != 1]:
        raise UserError(
            f"a tokenizer with pieces such as {longer[0]!r} and without files cannot be written"
        )
    shown = _shown_bytes()
    tokens = [
        f"<special_{number}>" if piece is None else shown[piece[0]]
        for number, piece in enumerate(pieces)
    ]
    types = [CONTROL if piece is None else NORMAL for piece in pieces]
    return Vocabulary("gpt2", tokens, types, merges=[_NO_MERGE], cut="gpt-2")


_NO_MERGE = "þ ÿ"
"""Of two bytes that no UTF-8 has: there has to be a list, and an empty one has no type."""


def _shown_bytes() -> dict[int, str]:
    """The characters by which GPT-2 writes bytes: themselves if they are seen, others from 256."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in seen)
    return {byte: chr(byte) for byte in seen} | {b: chr(256 + n) for n, b in enumerate(rest)}
