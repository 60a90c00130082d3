"""JSON in and out, through the registry only."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import (
    REQUIRED,
    ConfigBase,
    ConfigError,
    ConfigOr,
    Configurable,
    UnknownFieldError,
    config_for,
    find,
    from_json,
    paths,
    replace,
    to_json,
    to_text,
)
from axlearn_core.errors import UserError


class Norm(Configurable):
    class Config(Configurable.Config):
        dim: int = REQUIRED
        eps: float = 1e-5


class LayerNorm(Norm):
    class Config(Norm.Config):
        bias: bool = True


class Private(Norm):
    """Nobody registers it."""


def schedule(peak: float, *marks: Any, shape: Any = (), **others: Any) -> float:
    return peak


def relu(x: float) -> float:
    return max(x, 0.0)


class Tree(Configurable):
    class Config(Configurable.Config):
        width: int = 1
        name: str | None = None
        norm: Norm.Config = Norm.default_config()
        maybe: Norm.Config | None = None
        many: list[Norm.Config] | None = None
        table: dict[str, list[Norm.Config]] | None = None
        mixed: tuple[int, Norm.Config] = (1, Norm.default_config())
        pair: tuple[int, ...] = ()
        data: Any = None
        either: Norm.Config | dict[str, int] | None = None
        function: Callable[[float], float] = relu
        child: ConfigOr[float] = 1.0


class Names:
    """A registry of four names."""

    objects = {"p/tree": Tree, "p/layer_norm": LayerNorm, "p/schedule": schedule, "p/relu": relu}

    def name_of(self, obj: Any) -> str | None:
        return next((name for name, known in self.objects.items() if known is obj), None)

    def lookup(self, name: str) -> Any:
        if name not in self.objects:
            raise UserError(f"there is no component {name!r}")
        return self.objects[name]


untimed = settings(deadline=None)


def there_and_back(cfg: Tree.Config) -> Tree.Config:
    return from_json(to_json(cfg, Names()), Tree.Config, Names())


NORMS = st.builds(
    lambda cls, fields: cls.Config(**fields),
    st.sampled_from([Norm, LayerNorm]),
    st.fixed_dictionaries({}, optional={"dim": st.integers(), "eps": st.floats(allow_nan=False)}),
)
ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
PLAIN_KEYS = st.text().filter(lambda key: not key.startswith("$"))
DATA = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(PLAIN_KEYS, inner),
    max_leaves=8,
)
SCHEDULES = st.builds(
    lambda peak, marks, shape, extra: config_for(
        schedule, peak=peak, marks=marks, shape=shape, extra=extra
    ),
    st.floats(allow_nan=False),
    st.lists(DATA, max_size=2).map(tuple),
    DATA,
    DATA,
)
TREES = st.builds(
    lambda fields: Tree.Config(**fields),
    st.fixed_dictionaries(
        {},
        optional={
            "width": st.integers(),
            "name": st.none() | st.text(),
            "norm": NORMS,
            "maybe": st.none() | NORMS.filter(lambda n: type(n) is Norm.Config),
            "many": st.none() | st.lists(NORMS, max_size=3),
            "table": st.none()
            | st.dictionaries(PLAIN_KEYS, st.lists(NORMS, max_size=2), max_size=2),
            "mixed": st.tuples(st.integers(), NORMS),
            "pair": st.lists(st.integers()).map(tuple),
            "data": DATA,
            "either": st.none() | NORMS | st.dictionaries(PLAIN_KEYS, st.integers(), max_size=2),
            "child": st.floats(allow_nan=False) | SCHEDULES,
        },
    ),
)


def typed(value: Any) -> Any:
    """The same tree, with the type of every value beside it."""
    if isinstance(value, ConfigBase):
        return type(value), {name: typed(member) for name, member in value.items()}
    if isinstance(value, dict):
        return dict, {key: typed(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [typed(member) for member in value]
    return type(value), value


@untimed
@given(TREES)
def test_json_restores_the_same_tree(cfg):
    assert typed(there_and_back(cfg)) == typed(cfg)


@untimed
@given(TREES)
def test_text_is_the_same_for_a_clone_and_for_what_json_restored(cfg):
    assert to_text(cfg.clone()) == to_text(cfg)
    assert to_text(there_and_back(cfg)) == to_text(cfg)


@untimed
@given(TREES, TREES)
def test_equal_text_means_equal_trees(first, second):
    assert to_text(first) != to_text(second) or typed(first) == typed(second)


@untimed
@given(TREES)
def test_replace_carries_shared_fields_wherever_a_node_stands(cfg):
    class Swapped(Norm):
        pass

    before = {path: (node.dim, node.eps) for path, node in find(cfg, Norm)}
    report = replace(cfg, Norm, Swapped.default_config())
    assert {swap.path for swap in report} == set(before)
    assert {path: (node.dim, node.eps) for path, node in find(cfg, Swapped)} == before


@untimed
@given(TREES)
def test_a_frozen_tree_equals_its_editable_clone(cfg):
    assert typed(cfg.clone().freeze().clone()) == typed(cfg)


def test_every_value_is_written_so_that_a_changed_default_changes_nothing():
    written = json.loads(to_json(Tree.default_config(), Names()))
    assert written["norm"] == {"dim": {"$required": True}, "eps": 1e-5}
    assert set(written) == {path for path, _ in paths(Tree.default_config()) if "." not in path}


def test_a_component_is_written_by_its_registered_name():
    cfg = Tree.default_config().set(
        norm=LayerNorm.default_config(), child=config_for(schedule, peak=1)
    )
    written = json.loads(to_json(cfg, Names()))
    assert written["norm"]["$component"] == "p/layer_norm"
    assert written["child"]["$call"] == "p/schedule"
    assert written["function"] == {"$ref": "p/relu"}


def test_a_component_that_nobody_registers_cannot_be_written():
    cfg = Tree.default_config().set(many=[Private.default_config()])
    with pytest.raises(
        ConfigError, match=r"many.0 holds Private, which no plugin registers. Announce"
    ):
        to_json(cfg, Names())


@pytest.mark.parametrize("value", [{1}, object(), abs, b"x"])
def test_a_value_that_json_does_not_have_cannot_be_written(value):
    with pytest.raises(ConfigError, match=r"data = .* cannot be written: JSON has no such value"):
        to_json(Tree.default_config().set(data=value), Names())


@pytest.mark.parametrize("key", [1, "$ref"])
def test_a_key_that_json_cannot_tell_from_others_cannot_be_written(key):
    with pytest.raises(ConfigError, match="data: JSON keys are strings without a leading"):
        to_json(Tree.default_config().set(data={key: 1}), Names())


def test_an_unregistered_object_that_is_still_the_default_is_written_as_the_default():
    class Holder(Configurable):
        class Config(Configurable.Config):
            function: Callable[[int], int] = abs

    written = to_json(Holder.default_config(), Names())
    assert json.loads(written) == {"function": {"$default": True}}
    assert from_json(written, Holder.Config, Names()).function is abs


@pytest.mark.parametrize("marker", ["$component", "$call", "$ref"])
def test_a_file_cannot_make_the_program_import_anything(marker):
    module = "this"  # prints a poem when it is imported
    text = json.dumps({"data": {marker: f"{module}:s"}, "width": 1})
    with pytest.raises(UserError, match="there is no component 'this:s'"):
        from_json(text, Tree.Config, Names())
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", ConfigError, "this is not the JSON of a config: Expecting"),
        ("[1]", ConfigError, r"the root must be a JSON object, got \[1\]"),
        ('{"widht": 1}', UnknownFieldError, r"no field 'widht'. Did you mean 'width'\?"),
        ('{"norm": {"eps": "x"}}', ConfigError, r"norm.eps must be float, got 'x'"),
        (
            '{"norm": {"$component": "p/relu"}}',
            ConfigError,
            r"norm: 'p/relu' is .*relu.* not a Config",
        ),
    ],
)
def test_a_file_that_does_not_fit_says_where(text, error, message):
    with pytest.raises(error, match=message):
        from_json(text, Tree.Config, Names())


def test_a_field_that_a_file_lacks_keeps_its_default():
    assert from_json('{"width": 3}', Tree.Config, Names()) == Tree.Config(width=3)
