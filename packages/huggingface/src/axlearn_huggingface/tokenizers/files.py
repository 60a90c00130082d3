"""The files of a tokenizer, which strangers may have written: sizes are limited, types checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from axlearn_huggingface.tokenizers.errors import TokenizerError

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
TEMPLATE = "chat_template.jinja"
GENERATION = "generation_config.json"

_MOST_BYTES = 256 << 20  # the largest published tokenizer.json have some 40 MB
_MOST_BYTES_OF_SETTINGS = 16 << 20  # some list all of their tokens there

_NAMED = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_LISTED = ("additional_special_tokens", "extra_special_tokens")


class Settings(NamedTuple):
    """What the files beside the tokenizer's own say.

    Attributes:
        named: special tokens by their role, such as {"eos_token": "</s>"}.
        special: all special tokens that are named anywhere.
        chat_template: jinja.
        end_ids: after which generation ends.
    """

    named: Mapping[str, str]
    special: frozenset[str]
    chat_template: str | None
    end_ids: tuple[int, ...]


def read_bytes(path: Path, most: int = _MOST_BYTES) -> bytes:
    """Reads a file of limited size.

    Raises:
        TokenizerError: if it cannot be read, is no plain file or is larger.
    """
    if not path.is_file():
        raise TokenizerError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error}") from error
    if len(content) > most:
        raise TokenizerError(f"{path} is no tokenizer's: it has more than {most >> 20} MiB")
    return content


def parse_object(content: bytes, path: Path) -> dict[str, Any]:
    """Parses a file of JSON that holds an object.

    Raises:
        TokenizerError: if it holds anything else.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise TokenizerError(f"{path} holds no JSON object")
    return found


def read_settings(folder: Path) -> Settings:
    """Reads what there is beside the tokenizer's own file.

    Raises:
        TokenizerError: if a file cannot be understood.
    """
    config = _object(folder / CONFIG)
    tokens = {**_object(folder / SPECIAL_TOKENS), **config}
    named = {role: name for role in _NAMED if (name := _content(tokens.get(role)))}
    special = set(named.values())
    for key in _LISTED:
        listed = tokens.get(key)
        if isinstance(listed, list):
            special |= {name for token in listed if (name := _content(token))}
        elif isinstance(listed, dict):  # by names that a chat template uses
            own = {role: name for role, token in listed.items() if (name := _content(token))}
            named = {**own, **named}
            special |= set(own.values())
    added = config.get("added_tokens_decoder")
    for token in added.values() if isinstance(added, dict) else ():
        if isinstance(token, dict) and token.get("special") and (name := _content(token)):
            special.add(name)
    return Settings(
        named,
        frozenset(special),
        _chat_template(folder, config),
        _end_ids(_object(folder / GENERATION)),
    )


def _object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    return parse_object(read_bytes(path, _MOST_BYTES_OF_SETTINGS), path)


def _content(token: Any) -> str | None:
    """A token is its text, or an object that holds it."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The template for chats without a purpose of their own: the file's, else the config's."""
    path = folder / TEMPLATE
    if path.exists():
        try:
            return read_bytes(path, _MOST_BYTES_OF_SETTINGS).decode()
        except UnicodeDecodeError as error:
            raise TokenizerError(f"{path} is not UTF-8: {error}") from error
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        templates = [each for each in found if isinstance(each, dict)]
        by_name = {str(each.get("name")): each.get("template") for each in templates}
        found = by_name.get("default")
    return found if isinstance(found, str) else None


def _end_ids(generation: Mapping[str, Any]) -> tuple[int, ...]:
    found = generation.get("eos_token_id")
    listed = found if isinstance(found, list) else [found]
    return tuple(number for number in listed if type(number) is int)
