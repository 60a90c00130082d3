"""Types are checked on assignment, containers element by element."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest

from axlearn_core.config import ConfigBase, ConfigOr, Configurable, FieldTypeError


class Leaf(Configurable):
    class Config(Configurable.Config):
        size: int = 1


class Typed(ConfigBase):
    whole: int = 0
    real: float = 0.0
    flag: bool = False
    maybe: int | None = None
    either: int | float = 0
    choice: Literal["sum", "mean"] = "sum"
    names: list[str] = []
    shape: tuple[int, ...] = ()
    pair: tuple[int, str] = (0, "")
    rates: dict[str, float] = {}
    nested: dict[str, list[tuple[int, int]]] = {}
    tags: frozenset[str] = frozenset()
    function: Callable[[int], int] = abs
    kind: type[Leaf] = Leaf
    leaf: Leaf.Config = Leaf.default_config()
    leaves: list[Leaf.Config] = []
    width: int | ConfigOr[Callable[..., int]] = 1
    sequence: Sequence[int] = ()
    mapping: Mapping[str, int] = {}
    noted: Annotated[int, "unit"] = 0
    free: Any = None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("whole", 3),
        ("flag", True),
        ("maybe", None),
        ("maybe", 3),
        ("choice", "mean"),
        ("names", ["a", "b"]),
        ("shape", (1, 2, 3)),
        ("pair", (1, "a")),
        ("nested", {"a": [(1, 2)]}),
        ("tags", frozenset({"x"})),
        ("function", len),
        ("kind", Leaf),
        ("leaf", Leaf.default_config()),
        ("leaves", [Leaf.default_config()]),
        ("width", 3),
        ("width", Leaf.default_config()),
        ("sequence", (1, 2)),
        ("mapping", {"a": 1}),
        ("noted", 2),
        ("free", object),
    ],
)
def test_a_fitting_value_is_stored_as_it_is(field, value):
    stored = getattr(Typed().set(**{field: value}), field)
    assert stored == value
    assert type(stored) is type(value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("whole", 1.0, r"Typed.whole must be int, got 1.0 of type float"),
        ("whole", True, r"Typed.whole must be int, got True of type bool"),
        ("whole", None, r"Typed.whole must be int, got None"),
        ("real", "1", r"Typed.real must be float, got '1' of type str"),
        ("real", True, r"Typed.real must be float, got True of type bool"),
        ("flag", 1, r"Typed.flag must be bool, got 1 of type int"),
        ("maybe", "x", r"Typed.maybe must be int \| None, got 'x'"),
        ("choice", "max", r"Typed.choice must be Literal\['sum', 'mean'\], got 'max'"),
        ("names", "abc", r"Typed.names must be list\[str\], got 'abc' of type str"),
        ("names", ["a", 3], r"Typed.names\[1\] must be str, got 3 of type int"),
        ("shape", (1, 2.5), r"Typed.shape\[1\] must be int, got 2.5"),
        ("pair", (1,), r"Typed.pair must be tuple\[int, str\], got \(1,\)"),
        ("pair", (1, 2), r"Typed.pair\[1\] must be str, got 2"),
        ("rates", {"a": "b"}, r"Typed.rates\['a'\] must be float, got 'b'"),
        ("rates", {1: 2.0}, r"Typed.rates\[1\] must be str, got 1"),
        (
            "nested",
            {"a": [(1, 2), (1, "x")]},
            r"Typed.nested\['a'\]\[1\]\[1\] must be int, got 'x'",
        ),
        ("tags", frozenset({1}), r"Typed.tags\[1\] must be str"),
        ("function", 3, r"Typed.function must be Callable\[\[int\], int\], got 3"),
        ("kind", int, r"Typed.kind must be type\[.*Leaf\], got <class 'int'>"),
        ("leaf", 3, r"Typed.leaf must be Leaf.Config, got 3"),
        (
            "leaf",
            Configurable.default_config(),
            r"must be Leaf.Config, got Configurable.Config\(\)",
        ),
        ("leaves", [Leaf.default_config(), 3], r"Typed.leaves\[1\] must be Leaf.Config, got 3"),
        ("width", "x", r"Typed.width must be int \| Callable\[..., int\] \| ConfigBase, got 'x'"),
    ],
)
def test_a_misfit_says_where_what_was_expected_and_what_came(field, value, message):
    with pytest.raises(FieldTypeError, match=message):
        Typed().set(**{field: value})


def test_a_misfit_leaves_the_old_value():
    cfg = Typed(whole=3)
    with pytest.raises(FieldTypeError):
        cfg.whole = "x"
    assert cfg.whole == 3


def test_an_int_becomes_a_float_for_a_float():
    stored = Typed(real=3, rates={"a": 1})
    assert (type(stored.real), type(stored.rates["a"])) == (float, float)


def test_an_int_stays_an_int_where_both_are_allowed():
    assert type(Typed(either=1).either) is int


@pytest.mark.parametrize(("field", "value"), [("shape", [1, 2]), ("names", ("a",))])
def test_lists_and_tuples_become_what_is_declared(field, value):
    stored = getattr(Typed().set(**{field: value}), field)
    assert type(stored) is type(getattr(Typed(), field))
    assert list(stored) == list(value)


def test_a_default_of_another_type_is_found_when_the_config_is_made():
    class Wrong(ConfigBase):
        size: int = "big"

    with pytest.raises(FieldTypeError, match=r"Wrong.size must be int, got 'big'"):
        Wrong()


def test_a_list_changed_in_place_is_checked_when_it_is_frozen():
    cfg = Typed()
    cfg.names.append(3)
    with pytest.raises(FieldTypeError, match=r"Typed.names\[0\] must be str, got 3"):
        cfg.freeze()


def test_a_long_value_is_cut_short_in_the_message():
    with pytest.raises(FieldTypeError) as caught:
        Typed().set(whole="x" * 10_000)
    assert len(str(caught.value)) < 200
