"""Overrides in words, and where values were set."""

import math
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import (
    REQUIRED,
    ConfigBase,
    ConfigError,
    Configurable,
    apply_overrides,
    config_for,
    format_value,
    paths,
    setting_as,
    where,
)
from axlearn_core.errors import UserError


class Dropout(Configurable):
    class Config(Configurable.Config):
        rate: float = 0.0


class Norm(Configurable):
    class Config(Configurable.Config):
        eps: float = 1e-5


class LayerNorm(Norm):
    class Config(Norm.Config):
        bias: bool = True


def adam(lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> tuple[str, float]:
    return ("adam", lr)


def wrap(inner: Any = None, **options: Any) -> dict[str, Any]:
    return options


class Layer(Configurable):
    class Config(Configurable.Config):
        norm: Norm.Config = Norm.default_config()
        dropout: Dropout.Config = Dropout.default_config()
        extra: Norm.Config | None = None


class Model(Configurable):
    class Config(Configurable.Config):
        layer: Layer.Config = Layer.default_config()
        layers: list[Layer.Config] = [Layer.default_config(), Layer.default_config()]
        norms: tuple[Norm.Config, ...] = (Norm.default_config(), Norm.default_config())
        dropout: Dropout.Config = Dropout.default_config()


class Root(Configurable):
    class Config(Configurable.Config):
        model: Model.Config = Model.default_config()
        optimizer: ConfigBase = config_for(adam)
        max_step: int = REQUIRED
        name: str = "x"
        flag: bool = False
        maybe: int | None = None
        choice: Literal["a", "b"] = "a"
        mesh: tuple[int, ...] = (1, 1)
        widths: list[int] = [1, 2]
        options: dict[str, int] = {"a": 1}
        hidden: int | ConfigBase = 1


NAMES = {
    "layers/layer_norm": LayerNorm,
    "norm": Norm,
    "adam": adam,
    "wrap": wrap,
    "dropout": Dropout,
}


def resolve(name: str) -> Any:
    if name not in NAMES:
        raise UserError(f"there is no component {name!r}")
    return NAMES[name]


def override(*words: str, cfg: ConfigBase | None = None) -> Any:
    return apply_overrides(cfg or Root.default_config(), words, resolve=resolve)


def test_it_edits_in_place_and_returns_the_config():
    cfg = Root.default_config()
    assert override("max_step=3", cfg=cfg) is cfg
    assert cfg.max_step == 3


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("optimizer.lr=3e-4", "optimizer.lr", 3e-4),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("max_step=1e4", "max_step", 10_000),
        ("name=abc", "name", "abc"),
        ("name=5", "name", "5"),
        ("name=a=b", "name", "a=b"),
        ('name="quoted"', "name", "quoted"),
        ("name=", "name", ""),
        ("flag=true", "flag", True),
        ("flag=True", "flag", True),
        ("maybe=7", "maybe", 7),
        ("maybe=None", "maybe", None),
        ("choice=b", "choice", "b"),
        ("mesh=[2, 4]", "mesh", (2, 4)),
        ("widths=[3]", "widths", [3]),
        ("widths.1=5", "widths.1", 5),
        ('options={"b": 2}', "options", {"b": 2}),
        ("options.a=4", "options.a", 4),
        ("mesh.0=8", "mesh.0", 8),
        ("model.layers.1.dropout.rate=0.5", "model.layers.1.dropout.rate", 0.5),
        ("model.norms.1.eps=0.5", "model.norms.1.eps", 0.5),
        ("model.layer.dropout.rate=-inf", "model.layer.dropout.rate", -math.inf),
        ("hidden=64", "hidden", 64),
    ],
)
def test_a_word_sets_a_value(word, path, value):
    found = dict(paths(override(word)))[path]
    assert found == value
    assert type(found) is type(value)


def test_words_apply_in_order():
    assert override("name=a", "name=b").name == "b"


def test_one_star_stands_for_one_segment():
    model = override("model.layers.*.dropout.rate=0.1").model
    assert [layer.dropout.rate for layer in model.layers] == [0.1, 0.1]
    assert (model.layer.dropout.rate, model.dropout.rate) == (0.0, 0.0)


def test_two_stars_stand_for_any_number_of_segments_none_included():
    model = override("model.**.dropout.rate=0.1").model
    rates = [model.dropout.rate, model.layer.dropout.rate, model.layers[1].dropout.rate]
    assert rates == [0.1, 0.1, 0.1]


def test_a_star_inside_a_segment_stands_for_any_characters():
    assert override("model.lay*.dropout.rate=0.1").model.layer.dropout.rate == 0.1


def test_a_registered_name_swaps_a_component_and_carries_its_fields_over():
    cfg = override("model.layer.norm.eps=0.5", "model.layer.norm=layers/layer_norm")
    assert cfg.model.layer.norm == LayerNorm.Config(eps=0.5)


def test_a_swap_by_glob_reaches_lists_and_tuples():
    model = override(
        "model.layers.*.norm=layers/layer_norm", "model.norms.*=layers/layer_norm"
    ).model
    assert [type(layer.norm) for layer in model.layers] == [LayerNorm.Config] * 2
    assert [type(norm) for norm in model.norms] == [LayerNorm.Config] * 2


def test_a_registered_name_fills_an_optional_component_and_null_takes_it_away():
    assert override("model.layer.extra=norm").model.layer.extra == Norm.Config()
    assert override("model.layer.extra=norm", "model.layer.extra=null").model.layer.extra is None


def test_a_registered_function_becomes_a_node_that_calls_it():
    cfg = override("hidden=adam", "hidden.lr=2")
    assert cfg.hidden == config_for(adam, lr=2)


def test_a_literal_replaces_a_component_where_the_field_allows_it():
    assert override("hidden=adam", "hidden=7").hidden == 7


def test_a_swap_warns_of_what_was_set_and_does_not_fit(caplog):
    override(
        "model.layer.norm=layers/layer_norm", "model.layer.norm.bias=false", "model.layer.norm=norm"
    )
    assert "model.layer.norm drops what was set on the old one: bias" in caplog.text


def test_a_function_s_node_takes_a_new_keyword_where_the_function_does():
    assert override("optimizer=wrap", "optimizer.fresh=[1]").optimizer.fresh == [1]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("max_step", r"'max_step' is no override; write path=value, such as max_step=100"),
        ("=3", r"'=3' is no override"),
        ("max_stepp=3", r"matches nothing. There is no field 'max_stepp'. Did you mean 'max_step'"),
        (
            "model.layer.nrm.eps=3",
            r"'model.layer' has no field 'nrm'. Did you mean 'norm'.* Fields there: norm, ",
        ),
        ("model.**.rat=3", r"No field is called 'rat'. Did you mean 'rate'\?"),
        ("model.*.*.*.*.rate=3", r"Fields called 'rate' are at: model.layer.dropout.rate, "),
        ("options.x=3", r"A dict gets a new key when all of it is set: options={...}."),
        ("optimizer.momentum=3", r"'optimizer' has no field 'momentum'"),
        ("widths.7=3", r"'widths' has no field '7'.* Fields there: 0, 1"),
        ("max_step=ten", r"max_step must be int, got 'ten'"),
        ("max_step=1.5", r"max_step must be int, got '1.5'"),
        ("max_step=true", r"max_step must be int, got 'true'"),
        ("choice=c", r"choice must be Literal\['a', 'b'\], got 'c'"),
        ("widths.0=x", r"widths.0 must be int, got 'x'"),
        ("options.a=x", r"options.a must be int, got 'x'"),
        ("mesh.0=x", r"mesh.0 must be int, got 'x'"),
        (
            "model.layer.norm=layer_nrm",
            r"model.layer.norm must be Norm.Config, got 'layer_nrm': there is no component",
        ),
        ("model.layer.norm=dropout", r"model.layer.norm must be Norm.Config, got Dropout.Config"),
        ("model.norms.1=dropout", r"model.norms\[1\] must be Norm.Config, got Dropout.Config"),
    ],
)
def test_a_word_that_makes_no_sense_is_answered_with_what_would(word, message):
    with pytest.raises(ConfigError, match=message):
        override(word)


def test_a_component_cannot_be_named_without_a_registry():
    with pytest.raises(ConfigError, match="names of components cannot be looked up here"):
        apply_overrides(Root.default_config(), ["model.layer.norm=norm"])


def test_paths_lists_everything_that_can_be_named():
    known = dict(paths(Root.default_config()))
    assert known["model.layers.0.norm.eps"] == 1e-5
    assert known["options.a"] == 1
    assert known["mesh.1"] == 1


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(),
        "flag": st.booleans(),
        "max_step": st.integers(),
        "maybe": st.none() | st.integers(),
        "choice": st.sampled_from(["a", "b"]),
        "mesh": st.lists(st.integers()).map(tuple),
        "widths": st.lists(st.integers()),
        "options": st.dictionaries(st.text(), st.integers()),
        "model.dropout.rate": st.floats(allow_nan=False),
        "optimizer.betas": st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    },
)


@settings(deadline=None)
@given(VALUES)
def test_words_written_by_format_value_read_back_to_the_same_values(values):
    cfg = override(*(f"{path}={format_value(value)}" for path, value in values.items()))
    found = dict(paths(cfg))
    assert {path: found[path] for path in values} == values
    assert all(type(found[path]) is type(value) for path, value in values.items())


# Origins


def test_a_value_that_nobody_set_comes_from_the_default():
    assert Root.default_config().origin("name") == "default"
    assert where(Root.default_config(), "model.layer.norm.eps") == "default"


def test_a_value_set_in_python_comes_from_that_file_and_line():
    cfg = Root.default_config()
    line = test_a_value_set_in_python_comes_from_that_file_and_line.__code__.co_firstlineno + 3
    cfg.name = "y"
    assert cfg.origin("name") == f"{__file__}:{line}"
    cfg.set(flag=True)
    assert cfg.origin("flag") == f"{__file__}:{line + 2}"


def test_a_value_set_by_a_word_names_the_word_and_its_number():
    cfg = override("name=y", "model.**.rate=0.5")
    assert cfg.model.layers[0].dropout.origin("rate") == "override 2: model.**.rate=0.5"


def test_a_word_that_changes_a_list_s_member_marks_the_list():
    assert where(override("widths.1=5"), "widths.1") == "override 1: widths.1=5"


def test_origins_survive_cloning_and_assigning():
    cfg = override("name=y")
    assert cfg.clone().origin("name") == "override 1: name=y"


def test_a_default_below_a_component_that_was_set_says_where_that_was_set():
    cfg = override("model.layer.norm=layers/layer_norm")
    expected = (
        "default (model.layer.norm was set at override 1: model.layer.norm=layers/layer_norm)"
    )
    assert where(cfg, "model.layer.norm.bias") == expected


def test_setting_as_names_another_origin_for_a_while():
    cfg = Root.default_config()
    with setting_as("mesh rule 'cpu.*'"):
        cfg.name = "y"
    cfg.flag = True
    assert cfg.origin("name") == "mesh rule 'cpu.*'"
    assert cfg.origin("flag").startswith(__file__)


def test_where_of_an_unknown_path_offers_near_ones():
    with pytest.raises(ConfigError, match=r"there is no 'model.layr'.* Did you mean 'layer'"):
        where(Root.default_config(), "model.layr")


def test_the_origin_of_an_unknown_field_is_an_error():
    with pytest.raises(ConfigError, match="has no field 'nam'"):
        Root.default_config().origin("nam")


def test_a_list_of_names_becomes_a_list_of_components():
    cfg = override('model.norms=["norm", "layers/layer_norm"]')
    assert [type(norm) for norm in cfg.model.norms] == [Norm.Config, LayerNorm.Config]
    assert isinstance(cfg.model.norms, tuple)


def test_a_list_of_names_needs_components_of_the_declared_kind():
    with pytest.raises(ConfigError, match="norms"):
        override('model.norms=["dropout"]')


def test_an_unknown_name_in_a_list_is_named():
    with pytest.raises(ConfigError, match="there is no component 'layer_nrm'"):
        override('model.norms=["norm", "layer_nrm"]')


def test_a_list_of_words_that_belongs_elsewhere_is_refused():
    with pytest.raises(ConfigError, match=r"widths must be list\[int\]"):
        override('widths=["norm"]')
