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
from axlearn_huggingface.gguf_export.cuts import cut_name
from axlearn_huggingface.gguf_export.sentence_piece import MERGES, UNIGRAM, read_model
from axlearn_huggingface.tokenizers.pieces import byte_alphabet

if TYPE_CHECKING:
    from gguf import GGUFWriter

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of tokens there
_MODELS = ("tokenizer.model", "spiece.model")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass
class Vocabulary:
    """Tokens by id, and what else their kind of tokenizer needs.

    Attributes:
        kind: "gpt2" merges bytes, "llama" pieces of SentencePiece, "t5" takes its likeliest, and
            "no_vocab" is none.
        tokens, types: of each id.
        scores: of SentencePiece.
        merges: of byte pairs, "a b" each.
        cut: the name of what cuts a text into words.
        charsmap: how SentencePiece normalises characters.
        flags: further metadata of the tokenizer.
        ids: of special tokens, by their role.
        template: of chats.
        notes: what users should know.
    """

    kind: str
    tokens: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    cut: str = "default"
    charsmap: bytes = b""
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
        if self.charsmap:
            writer.add_precompiled_charsmap(self.charsmap)
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
    if (path := _file(tokenizer)) is None:
        found = _of_bytes(tokenizer.pieces())
    else:
        found = _of_json(path) if path.suffix == ".json" else _of_sentence_piece(path)
    spare = size - len(found.tokens)
    if spare < 0:
        raise UserError(f"the tokenizer has {-spare} ids more than the model, which has {size}")
    found.tokens += [f"[UNUSED_{number}]" for number in range(len(found.tokens), size)]
    found.types += [UNUSED] * spare
    found.scores += [-1e4] * (spare if found.scores else 0)
    found.ids |= {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "padding": tokenizer.pad_id}
    others = [end for end in tokenizer.end_ids if end != tokenizer.eos_id]
    found.ids |= dict(zip(("eot", "eom"), others, strict=False))  # which end texts there, too
    if UNKNOWN in found.types:
        found.ids["unknown"] = found.types.index(UNKNOWN)
    found.flags.setdefault("add_bos_token", tokenizer.bos_id >= 0)
    found.template = tokenizer.chat_template
    return found


def _file(tokenizer: Tokenizer) -> Path | None:
    """Returns the tokenizer.json or the SentencePiece model that a tokenizer is read from."""
    folder = tokenizer_folder(tokenizer)
    if folder is None:
        return None
    there = (folder / name for name in ("tokenizer.json", *_MODELS))
    return next((path for path in there if path.is_file()), None)


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
    name = cut_name(data)
    notes = _differences(data) if name else [_OTHER_CUTS, *_differences(data)]
    return Vocabulary(
        "gpt2", tokens, types, merges=merges or [_NO_MERGE], cut=name or "default", notes=notes
    )


_OTHER_CUTS = "llama.cpp may cut texts into words in another way: compare some ids"


def _differences(data: Any) -> list[str]:
    """Returns what llama.cpp passes over in a tokenizer of byte pairs."""
    notes = []
    if (normalizer := data.get("normalizer")) is not None:
        notes.append(
            f"llama.cpp does not normalise texts ({normalizer.get('type')}): those that are not "
            "normal have other ids"
        )
    keys = ("lstrip", "rstrip", "single_word")
    if loose := [t["content"] for t in data.get("added_tokens", []) if any(map(t.get, keys))]:
        notes.append(f"llama.cpp keeps white space beside {loose[0]}, which the tokenizer takes in")
    return notes


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
    rank: dict[str, float] = {}
    for number, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", "", 1), -float(number))
    scores = [rank.get(token, -1e4) for token in tokens]
    return Vocabulary("llama", tokens, types, scores, flags={"add_space_prefix": _prefix(data)})


def _prefix(data: Any) -> bool:
    """Returns whether a space is put before a text."""
    told = json.dumps([data.get("normalizer"), data.get("pre_tokenizer")])
    return any(each in told for each in ('"Prepend"', '"first"', '"always"'))


def _of_sentence_piece(path: Path) -> Vocabulary:
    model = read_model(path)
    kinds = {MERGES: "llama", UNIGRAM: "t5"}
    if model.kind not in kinds:
        raise UserError(f"{path} is of words or characters; GGUF is written of pieces")
    found = Vocabulary(
        kinds[model.kind],
        model.pieces,
        model.types,
        model.scores,
        flags={"add_space_prefix": model.prefix, "remove_extra_whitespaces": model.trims},
    )
    if model.kind == UNIGRAM:
        found.charsmap = model.charsmap
        if BYTE in model.types:
            found.notes.append("llama.cpp has no bytes for what no piece of a unigram model is")
    elif model.charsmap or model.trims:
        found.notes.append("llama.cpp neither normalises texts nor removes spaces")
    return found


def _of_bytes(pieces: Sequence[bytes | None]) -> Vocabulary:
    """A token per byte, as byte pairs without a merge."""
    if longer := [piece for piece in pieces if piece is not None and len(piece) != 1]:
        raise UserError(
            f"a tokenizer with pieces such as {longer[0]!r} and without files cannot be written"
        )
    shown = {byte: character for character, byte in byte_alphabet().items()}
    tokens = [
        f"<special_{number}>" if piece is None else shown[piece[0]]
        for number, piece in enumerate(pieces)
    ]
    types = [CONTROL if piece is None else NORMAL for piece in pieces]
    return Vocabulary("gpt2", tokens, types, merges=[_NO_MERGE], cut="gpt-2")


_NO_MERGE = "þ ÿ"
"""Of two bytes that no UTF-8 has: there has to be a list, and an empty one has no type."""
