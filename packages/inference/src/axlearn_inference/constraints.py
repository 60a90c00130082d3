"""Texts that match a regular expression, a JSON schema or a grammar."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from axlearn_core.errors import UserError
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.exclusive_bounds import within_exclusive_bounds
from axlearn_inference.request import Constraint, Matcher

if TYPE_CHECKING:
    import llguidance


class Constraints:
    """Makes constraints for the texts of one tokenizer, with llguidance.

    Building it sorts the vocabulary, so keep one for a model. A constraint is checked when it is
    made, and may serve any number of requests.

    Args:
        tokenizer: tells its ids' bytes. Tokens may cross whatever parts a text has. Where there is
            but one way to go on, it is written in the tokens that the tokenizer would take.

    Raises:
        UserError: if llguidance is not installed, or no id ends a text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import llguidance.numpy
        except ImportError:
            raise UserError(
                "constraints need a package that is not installed: "
                "pip install 'axlearn-inference[constraints]'"
            ) from None
        self._library = llguidance
        wrapper = llguidance.TokenizerWrapper(_Pieces(tokenizer))
        ends = [end for end in tokenizer.end_ids if end >= 0]
        self._tokenizer = llguidance.LLTokenizer(wrapper, eos_token=ends)

    def regex(self, pattern: str) -> Constraint:
        """Allows what a regular expression matches from beginning to end.

        Syntax is that of Rust's regex crate: no look-around, no back references.

        Raises:
            UserError: for an expression that is none; it says where.
        """
        return self._checked("regex", self._library.LLMatcher.grammar_from_regex(pattern))

    def json_schema(self, schema: str | Mapping[str, Any]) -> Constraint:
        """Allows JSON that a schema describes, given as text or as what `json.loads` returns.

        Properties come in the order of the schema, without white space between them: with it, a
        weak model might go on blank for ever. Objects may have other properties, unless the schema
        has `"additionalProperties": false`.

        Raises:
            UserError: for text that is no JSON, and a schema that is none, that nothing matches, or
                that has a keyword which is not supported (such as uniqueItems).
        """
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except json.JSONDecodeError as error:
                raise UserError(f"the JSON schema is no JSON: {error}") from None
        if not isinstance(schema, Mapping):
            raise UserError(
                f"the JSON schema is {json.dumps(schema)}, and must be an object; {{}} allows all"
            )
        grammar = self._library.LLMatcher.grammar_from_json_schema(
            json.dumps(within_exclusive_bounds(schema)), defaults={"whitespace_flexible": False}
        )
        return self._checked("JSON schema", grammar)

    def grammar(self, text: str) -> Constraint:
        """Allows what a context-free grammar derives from its rule `start`.

        Syntax is that of Lark: EBNF, with names of terminals in capital letters.

        Raises:
            UserError: for a grammar that is none; it says where.
        """
        return self._checked("grammar", self._library.LLMatcher.grammar_from_lark(text))

    def _checked(self, kind: str, grammar: str) -> Constraint:
        wrong, messages = self._library.LLMatcher.validate_grammar_with_warnings(
            grammar, self._tokenizer
        )
        if wrong:
            raise UserError(f"the {kind} cannot be used: {messages[0].strip()}")
        return _Parsed(self._library, self._tokenizer, kind, grammar)


class _Parsed:
    """A constraint."""

    def __init__(
        self, library: Any, tokenizer: llguidance.LLTokenizer, kind: str, grammar: str
    ) -> None:
        self._kind = kind
        self._fill: Callable[..., None] = library.numpy.fill_next_token_bitmask
        self._words = -(-tokenizer.vocab_size // 32)
        limits = library.LLParserLimits(verbose_errors=False)
        self._begun = library.LLMatcher(tokenizer, grammar, log_level=0, limits=limits)

    def matcher(self) -> Matcher:
        return _Matcher(self._kind, self._begun.deep_copy(), self._fill, self._words)


class _Matcher:
    """One text. The masks are computed without Python's lock, for other threads to go on."""

    def __init__(
        self,
        kind: str,
        matcher: llguidance.LLMatcher,
        fill: Callable[..., None],
        words: int,
    ) -> None:
        self._kind = kind
        self._matcher = matcher
        self._fill = fill
        self._words = words

    def fill_mask(self, mask: NDArray[np.int32]) -> None:
        """Writes which ids may follow; those that no tokenizer has (`mask` is longer) may not.

        Raises:
            UserError: if the text has come to where no id may follow, or too many rules apply.
        """
        mask[self._words :] = 0
        self._fill(self._matcher, mask[None, : self._words])
        self._check()

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    def copy(self) -> Matcher:
        return _Matcher(self._kind, self._matcher.deep_copy(), self._fill, self._words)

    @property
    def ended(self) -> bool:
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            why = self._matcher.get_error().partition("\n")[0]
            if why.startswith("NoExtension"):
                why = "the vocabulary has no token for what must follow"
            raise UserError(f"the {self._kind} cannot be followed any further: {why}")


class _Pieces:
    """A vocabulary as llguidance wants to see it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.pieces()
        ends = [end for end in tokenizer.end_ids if end >= 0]
        if not ends:
            raise UserError(
                f"{type(tokenizer).__qualname__} has no id that ends a text, and a constrained "
                "text must be able to end"
            )
        self.tokens: Sequence[bytes] = [
            f"<special {number}>".encode() if piece is None else piece
            for number, piece in enumerate(pieces)
        ]
        self.special_token_ids = [number for number, piece in enumerate(pieces) if piece is None]
        self.bos_token_id = tokenizer.bos_id if tokenizer.bos_id >= 0 else None
        self.eos_token_id = ends[0]
        self._tokenizer = tokenizer
        self._ids = {piece: number for number, piece in enumerate(pieces) if piece}
        self._longest = max(map(len, self._ids))

    def __call__(self, text: str | bytes) -> list[int]:
        """Returns ids whose bytes are exactly those of the text.

        Those of the tokenizer, but for one that does something else at the beginning of a text,
        such as adding a space, or where a text ends within a character.
        """
        data = text if isinstance(text, bytes) else text.encode()
        with contextlib.suppress(UnicodeDecodeError):
            ids: list[int] = self._tokenizer.encode(data.decode()).tolist()
            if b"".join(self.tokens[each] for each in ids) == data:
                return ids
        return self._greedy(data)

    def _greedy(self, data: bytes) -> list[int]:
        """Returns the longest piece that data begins with, again and again."""
        ids, start = [], 0
        while start < len(data):
            ends = range(min(len(data), start + self._longest), start, -1)
            end = next(end for end in ends if data[start:end] in self._ids)
            ids.append(self._ids[data[start:end]])
            start = end
        return ids
