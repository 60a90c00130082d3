"""How texts are cut into words before pairs of bytes are merged, by llama.cpp's names of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cuts = tuple[str, ...]  # patterns, each of which cuts what those before it have left

_DIGIT = r"\p{N}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_START = r"[^\r\n\p{L}\p{N}]?"


def _with_digits(digits: str) -> str:
    """GPT-4's, from which those of Llama 3 and Qwen2 are."""
    return rf"{_SHORT}|{_START}\p{{L}}+|{digits}|{_SIGNS}|{_SPACES}"


def _with_case(digits: str, short: str) -> str:
    """GPT-4o's, from which Mistral's are."""
    words = rf"{_START}{_UPPER}*{_LOWER}+{short}|{_START}{_UPPER}+{_LOWER}*{short}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
)

_NAMES: dict[Cuts, str] = {
    (_GPT2,): "gpt-2",
    (_DIGIT, _GPT2): "smollm",
    (_with_digits(_DIGIT),): "qwen2",
    (_with_digits(r"\p{N}{1,3}"),): "dbrx",
    (_with_case(r"\p{N}{1,3}", f"{_SHORT}?"),): "gpt-4o",
    _DEEPSEEK: "deepseek-v3",
}
# Where a word that is a token is one, whatever the merges (`ignore_merges`).
_NAMES_OF_WHOLE: dict[Cuts, str] = {
    (_with_digits(r"\p{N}{1,3}"),): "llama-bpe",
    (_with_case(_DIGIT, ""),): "tekken",
}


def cut_name(tokenizer: Mapping[str, Any]) -> str | None:
    """Returns the name of what cuts a tokenizer.json's texts, None if there is none known."""
    cuts = _cuts(tokenizer.get("pre_tokenizer"))
    if cuts is None:
        return None
    names = _NAMES_OF_WHOLE if tokenizer["model"].get("ignore_merges") else _NAMES
    return names.get(cuts)


def _cuts(part: Any) -> Cuts | None:
    """Returns the patterns of a pre-tokenizer, None if it does more than to cut by patterns."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "Sequence":
        each = [_cuts(inner) for inner in part["pretokenizers"]]
        if None in each:
            return None
        return tuple(pattern for cuts in each for pattern in cuts or ())
    if kind == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        pattern = part["pattern"].get("Regex")
        return None if pattern is None else (pattern,)
    if kind == "Digits" and part.get("individual_digits"):
        return (_DIGIT,)
    if kind == "ByteLevel" and not part.get("add_prefix_space"):
        return (_GPT2,) if part.get("use_regex", True) else ()
    return None
