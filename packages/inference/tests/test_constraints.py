"""Constrained texts match what they must match, whatever the model prefers.

`AXLEARN_SCHEMAS=1000 pytest -s -k random_schemas` on this file tries so many, and tells what a mask
costs.
"""

import json
import os
import random
import re
import sys
import time
from decimal import Decimal, InvalidOperation

import jax
import numpy as np
import pytest

from axlearn_core.errors import UserError
from axlearn_core.testing.tiny import Letters
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.constraints import Constraints
from axlearn_inference.request import Sampling
from axlearn_inference.sampling import draw, rules

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")

SCHEMAS = int(os.environ.get("AXLEARN_SCHEMAS", "50"))
LONGEST = 20_000  # tokens of a random text


class Pieces(Tokenizer):
    """An id for each byte, then one that ends texts, then one for each of some pieces."""

    class Config(Tokenizer.Config):
        pieces: tuple[bytes, ...] = ()

    bos_id = eos_id = pad_id = 256

    def __init__(self, config):
        super().__init__(config)
        self.vocab_size = 257 + len(config.pieces)

    def encode(self, text):
        """The longest piece first, again and again."""
        data, ids, pieces = text.encode(), [], self.pieces()
        while data:
            fits = [each for each, piece in enumerate(pieces) if piece and data.startswith(piece)]
            ids.append(max(fits, key=lambda each: len(pieces[each])))
            data = data[len(pieces[ids[-1]]) :]
        return np.array(ids, np.int32)

    def decode(self, ids):
        pieces = self.pieces()
        return b"".join(pieces[each] or b"" for each in ids).decode(errors="replace")

    def fingerprint(self):
        return repr(self.config.pieces)

    def pieces(self):
        return [*(bytes([byte]) for byte in range(256)), None, *self.config.pieces]


def crossing_pieces():
    """Pieces of JSON of 2 to 6 bytes, wherever its parts begin and end, and of UTF-8 characters."""
    rng = random.Random(0)
    sample = [
        {"a": [1, -2.5e3, None], "bc": {"d": "xy é", "é": True}},
        [False, "", {}, [[]], {"a": 1}],
    ]
    text = b"".join(
        json.dumps(sample, ensure_ascii=False, separators=s).encode() for s in [None, (",", ":")]
    )
    starts = (rng.randrange(len(text) - 6) for _ in range(2000))
    found = {text[start : start + rng.randint(2, 6)] for start in starts}
    return tuple(sorted(piece for piece in found if len(piece) > 1))


VOCABULARIES = {"bytes": (), "pieces": crossing_pieces()}


@pytest.fixture(scope="module", params=VOCABULARIES)
def tokenizer(request):
    return Pieces.Config(pieces=VOCABULARIES[request.param]).instantiate()


@pytest.fixture(scope="module")
def constraints(tokenizer):
    return Constraints(tokenizer)


def allowed(matcher, vocab_size):
    mask = np.full(-(-vocab_size // 32), -1, np.int32)
    matcher.fill_mask(mask)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")  # words are little endian, too
    return np.flatnonzero(bits)


def random_text(constraint, tokenizer, seed):
    """What a model of random scores says, how many tokens it is, and how long the masks took.

    The longer the text, the more it likes to close what is open. Without that, many texts would
    never end: of random JSON, as of any branching process, one part begins more than one other.
    """
    rng = np.random.default_rng(seed)
    pieces = tokenizer.pieces()
    closing = np.array([closed(piece) for piece in pieces]) / 200
    matcher, ids, seconds = constraint.matcher(), [], 0.0
    while len(ids) < LONGEST:
        start = time.perf_counter()
        choice = allowed(matcher, tokenizer.vocab_size)
        seconds += time.perf_counter() - start
        scores = rng.gumbel(size=len(choice)) + len(ids) * closing[choice]
        token = int(choice[scores.argmax()])
        if token in tokenizer.end_ids:
            return tokenizer.decode(ids), len(ids) + 1, seconds
        matcher.accept(token)
        ids.append(token)
    raise AssertionError(f"no end after {LONGEST} tokens: {tokenizer.decode(ids)[:300]}")


def closed(piece):
    """How many brackets a piece closes; a quotation mark may end a string."""
    if piece is None:
        return 1
    opened = sum(map(piece.count, (b"[", b"{")))
    return sum(map(piece.count, (b"]", b"}"))) - opened + (piece == b'"')


def exact(number):
    """Since 0.5000000000000000000001 is above 0.5, and no float says so."""
    try:
        return Decimal(number)
    except InvalidOperation:  # an exponent of some twenty digits
        return float(number)


class RandomSchema:
    """Random schemas of keywords that llguidance supports, all of which something matches."""

    PATTERNS = (
        "^[a-c]{2,5}$",
        "^(red|green)$",
        "[a-z]",
        "^.{0,5}ab.{0,5}$",
        "^[A-Z][a-z]*$",
        "^[0-9]{3}-[0-9]{2}$",
        "^x.{0,9}y$",
    )

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.definitions = {}

    def make(self):
        schema = self.any(depth=3)
        if self.definitions:
            schema = {"$defs": self.definitions, **schema}
        return schema

    def any(self, depth):
        leaves = [self.string, self.number, self.integer, self.enum, self.const, self.simple]
        nodes = [
            self.object,
            self.object,
            self.array,
            self.tuple,
            self.any_of,
            self.all_of,
            self.ref,
        ]
        if depth == 0 or self.rng.random() < 0.25:
            return self.rng.choice(leaves)()
        return self.rng.choice(nodes)(depth - 1)

    def some(self, chance, **keywords):
        """Each keyword by chance."""
        return {key: value for key, value in keywords.items() if self.rng.random() < chance}

    def simple(self):
        kinds = ["null", "boolean", "integer", "number", "string"]
        return self.rng.choice(
            [{"type": "null"}, {"type": "boolean"}, {"type": self.rng.sample(kinds, 2)}, {}]
        )

    def string(self):
        if self.rng.random() < 0.4:
            return {"type": "string", "pattern": self.rng.choice(self.PATTERNS)}
        shortest = self.rng.randint(0, 5)
        longest = shortest + self.rng.randint(0, 10)
        return {"type": "string"} | self.some(0.7, minLength=shortest, maxLength=longest)

    def number(self):
        low = self.rng.randint(-400, 400) / 4  # exact in binary, since that is what schemas hold
        high = low + self.rng.randint(1, 400) / 4
        lower = self.rng.choice(["minimum", "exclusiveMinimum"])
        upper = self.rng.choice(["maximum", "exclusiveMaximum"])
        return {"type": "number"} | self.some(0.6, **{lower: low, upper: high})

    def integer(self):
        if self.rng.random() < 0.2:
            return {"type": "integer", "multipleOf": self.rng.randint(2, 9)}
        low = self.rng.randint(-1000, 1000)
        high = low + self.rng.randint(0, 1000)
        return {"type": "integer"} | self.some(0.6, minimum=low, maximum=high)

    def enum(self):
        values = [0, -7, 1.5, "", "a", 'q"\\', "é\n", None, True, [1, "x"], {"k": [None]}]
        return {"enum": self.rng.sample(values, self.rng.randint(1, 4))}

    def const(self):
        return {"const": self.rng.choice([3, "b c", None, False, [[], {}], {"x": 1, "y": "z"}])}

    def object(self, depth):
        names = self.rng.sample(
            ["a", "b c", "é", 'd"', "long_name", "x1", ""], self.rng.randint(0, 4)
        )
        schema = {"type": "object", "properties": {name: self.any(depth) for name in names}}
        required = [name for name in names if self.rng.random() < 0.6]
        kinds = [False, False, False, {"type": "integer"}, True]
        schema |= {"required": required, "additionalProperties": self.rng.choice(kinds)}
        if self.rng.random() < 0.2:
            schema |= {"patternProperties": {"^p[0-9]$": {"type": "boolean"}}}
        return schema

    def array(self, depth):
        fewest = self.rng.randint(0, 3)
        most = fewest + self.rng.randint(0, 3)
        return {"type": "array", "items": self.any(depth), "maxItems": most} | self.some(
            0.5, minItems=fewest
        )

    def tuple(self, depth):
        items = [self.any(depth) for _ in range(self.rng.randint(1, 3))]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}

    def any_of(self, depth):
        return {"anyOf": [self.any(depth) for _ in range(self.rng.randint(1, 3))]}

    def all_of(self, depth):
        return {
            "allOf": [{"type": "integer", "minimum": 3}, {"maximum": 3 + self.rng.randint(0, 99)}]
        }

    def ref(self, depth):
        """Of a definition that may refer to itself."""
        name = f"node{len(self.definitions)}"
        self.definitions[name] = {}
        again = {"$ref": f"#/$defs/{name}"}
        more = {"type": "array", "items": again, "maxItems": 1}
        after = self.rng.choice([{"anyOf": [again, {"type": "null"}]}, more])
        self.definitions[name] |= {
            "type": "object",
            "properties": {"value": self.any(depth), "next": after},
            "required": ["next"],
            "additionalProperties": False,
        }
        return again


def test_texts_of_random_schemas_are_valid(constraints, tokenizer):
    tokens, seconds = 0, 0.0
    for seed in range(SCHEMAS):
        schema = RandomSchema(seed).make()
        validator = jsonschema.Draft202012Validator
        validator.check_schema(schema)
        text, count, spent = random_text(constraints.json_schema(schema), tokenizer, seed)
        value = json.loads(text, parse_float=exact)
        assert validator(schema).is_valid(value), f"{seed}: {json.dumps(schema)}\n{text}"
        tokens, seconds = tokens + count, seconds + spent
    microseconds = 1e6 * seconds / tokens
    print(
        f"\n{SCHEMAS} schemas, all valid: {tokens} tokens of {tokenizer.vocab_size}, "
        f"{microseconds:.0f} us a mask",
        file=sys.stderr,
    )


def plain_constraints():
    return Constraints(Pieces.Config().instantiate())


def allows(constraint, text):
    matcher = constraint.matcher()
    for token in [*text.encode(), Pieces.eos_id]:
        if token not in allowed(matcher, 257):
            return False
        matcher.accept(token)
    return True


@pytest.mark.parametrize(
    ("low", "high", "inside", "outside"),
    [
        ({"exclusiveMinimum": 0}, {"maximum": 0.5}, ["0.25", "0.5", "0.001"], ["0", "0.0"]),
        ({"exclusiveMinimum": 13.0}, {"exclusiveMaximum": 13.5}, ["13.25"], ["13", "13.5"]),
        ({"minimum": -1.75}, {"exclusiveMaximum": -1}, ["-1.75", "-1.01"], ["-1", "-1.0"]),
        ({"exclusiveMinimum": 2}, {"exclusiveMaximum": 3}, ["2.5"], ["2", "3"]),
        ({"minimum": 2}, {"maximum": 2.5}, ["2", "2.5"], ["1.99", "2.51"]),
    ],
)
def test_numbers_are_within_exclusive_bounds(low, high, inside, outside):
    constraint = plain_constraints().json_schema({"type": "number"} | low | high)
    assert [text for text in inside + outside if allows(constraint, text)] == inside


@pytest.mark.parametrize("pattern", ["[a-z]{3}-[0-9]+", "(yes|no|maybe é)", "a(b|cd)*e", "..?"])
def test_texts_of_a_regex_match_it(constraints, tokenizer, pattern):
    for seed in range(5):
        text, *_ = random_text(constraints.regex(pattern), tokenizer, seed)
        assert re.fullmatch(pattern, text)


def test_texts_of_a_grammar_are_derived_from_it(constraints, tokenizer):
    sums = constraints.grammar(
        """
        start: term ("+" term)*
        term: NUMBER | "(" start ")"
        NUMBER: /[1-9][0-9]?/
        """
    )
    for seed in range(5):
        text, *_ = random_text(sums, tokenizer, seed)
        assert re.fullmatch(r"[0-9+()]+", text)
        assert eval(text) > 0


def test_an_end_is_allowed_where_a_text_may_end_and_forced_where_it_must(constraints, tokenizer):
    matcher = constraints.regex("ab?").matcher()
    end = tokenizer.eos_id
    for token, ends, ended in ((b"a", False, False), (b"b", True, False)):
        assert (end in allowed(matcher, tokenizer.vocab_size)) is ends
        assert matcher.ended is ended
        matcher.accept(token[0])
    assert matcher.ended
    assert allowed(matcher, tokenizer.vocab_size).tolist() == [end]
    matcher.accept(end)
    assert matcher.ended


def test_matchers_of_one_constraint_know_nothing_of_each_other(constraints, tokenizer):
    constraint = constraints.regex("ab")
    first, second = constraint.matcher(), constraint.matcher()
    first.accept(ord("a"))
    assert ord("a") in allowed(second, tokenizer.vocab_size)


def test_a_piece_may_cross_parts_of_a_text(constraints, tokenizer):
    pieces = tokenizer.pieces()
    matcher = constraints.regex(r'\{"a":|\[').matcher()
    found = {pieces[each] for each in allowed(matcher, tokenizer.vocab_size)}
    starts = ['{"a":'[:end].encode() for end in range(1, 6)]
    assert found == {b"[", *starts} & set(pieces)


def test_what_must_follow_is_written_as_the_tokenizer_would(constraints, tokenizer):
    text = '{"a": [null, true]}'
    matcher = constraints.regex(re.escape(text)).matcher()
    ids = []
    while not matcher.ended:
        (token,) = allowed(matcher, tokenizer.vocab_size)
        matcher.accept(int(token))
        ids.append(token)
    assert ids == tokenizer.encode(text).tolist()


def test_a_space_that_a_tokenizer_puts_first_is_not_in_constrained_texts():
    class Spaced(Pieces):
        def encode(self, text):
            return super().encode(" " + text)

    spaced = Spaced.Config(pieces=VOCABULARIES["pieces"]).instantiate()
    text, *_ = random_text(Constraints(spaced).regex('\\{"a":é(1|2)'), spaced, 0)
    assert text in ('{"a":é1', '{"a":é2')


def test_draw_takes_only_what_a_mask_allows():
    tokenizer = Pieces.Config(pieces=VOCABULARIES["pieces"]).instantiate()
    vocab_size = tokenizer.vocab_size + 70  # a model may have more ids than its tokenizer
    masks = np.full((2, -(-vocab_size // 32)), -1, np.int32)
    for row, pattern in enumerate(["[abc]", "é"]):
        Constraints(tokenizer).regex(pattern).matcher().fill_mask(masks[row])
    logits = np.random.default_rng(0).normal(size=(2, vocab_size)).astype(np.float32)
    drawing = rules([Sampling(seed=1)] * 2, vocab_size)
    drawn = jax.jit(draw)(logits, drawing, np.arange(2), mask=masks).token
    assert int(drawn[0]) in b"abc"
    assert drawn[1] == tokenizer.encode("é")[0]


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("regex", "a(b", r"the regex cannot be used: .*a\(b\n +\^\nerror: unclosed group"),
        ("regex", "(?=x)a", "look-around.* is not supported"),
        ("json_schema", '{"type": ', "is no JSON: .*line 1 column 10"),
        ("json_schema", "[1]", r"is \[1\], and must be an object"),
        ("json_schema", '{"type": "strin"}', "the JSON schema cannot be used: Invalid type: strin"),
        ("json_schema", '{"uniqueItems": true, "type": "array"}', 'Unimplemented.*"uniqueItems"'),
        ("json_schema", '{"type": "integer", "minimum": 3, "maximum": 1}', "Unsatisfiable"),
        ("grammar", 'start: "a" b', r'the grammar cannot be used: .*unknown name: "b"'),
    ],
)
def test_a_constraint_that_is_wrong_says_what_and_where(kind, text, message):
    with pytest.raises(UserError, match=re.compile(message, re.DOTALL)):
        getattr(plain_constraints(), kind)(text)


def test_a_text_that_the_vocabulary_cannot_write_is_an_error():
    class Ending(Letters):
        eos_id = 0

        def pieces(self):
            return [None, *super().pieces()[1:]]

    matcher = Constraints(Ending.Config().instantiate()).regex("x[0-9]").matcher()
    matcher.accept(23)
    with pytest.raises(UserError, match="the vocabulary has no token for what must follow"):
        allowed(matcher, 26)


def test_a_tokenizer_without_an_end_is_refused():
    with pytest.raises(UserError, match="Letters has no id that ends a text"):
        Constraints(Letters.Config().instantiate())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setitem(sys.modules, "llguidance.numpy", None)
    with pytest.raises(UserError, match=r"pip install 'axlearn-inference\[constraints\]'"):
        plain_constraints()
