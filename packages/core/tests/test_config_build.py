"""Building: a private frozen config, all missing fields at once, errors with paths."""

import threading

import pytest

from axlearn_core.config import (
    REQUIRED,
    BuildError,
    ConfigBase,
    ConfigError,
    Configurable,
    FrozenConfigError,
    MissingFieldsError,
    config_for,
    maybe_instantiate,
)


class Attention(Configurable):
    class Config(Configurable.Config):
        hidden_dim: int = REQUIRED
        num_heads: int = 4

    def __init__(self, config):
        super().__init__(config)
        if config.hidden_dim % config.num_heads:
            raise ValueError(
                f"num_heads (={config.num_heads}) must divide hidden_dim (={config.hidden_dim})"
            )
        self.head_dim = config.hidden_dim // config.num_heads


class Layer(Configurable):
    class Config(Configurable.Config):
        dim: int = REQUIRED
        self_attention: Attention.Config = Attention.default_config()
        sizes: list[int] = [1]
        table: dict[str, list[int]] = {"a": [1]}

    def __init__(self, config):
        super().__init__(config)
        config.self_attention.hidden_dim = config.dim
        self.self_attention = config.self_attention.instantiate()


class Decoder(Configurable):
    class Config(Configurable.Config):
        dim: int = REQUIRED
        layer: Layer.Config = Layer.default_config()

    def __init__(self, config):
        super().__init__(config)
        self.layers = [config.layer.clone(dim=config.dim).instantiate() for _ in range(2)]


class Model(Configurable):
    class Config(Configurable.Config):
        decoder: Decoder.Config = Decoder.default_config()

    def __init__(self, config):
        super().__init__(config)
        self.decoder = config.decoder.instantiate()


class Trainer(Configurable):
    class Config(Configurable.Config):
        model: Model.Config = Model.default_config()

    def __init__(self, config):
        super().__init__(config)
        self.model = config.model.instantiate()


def trainer_config(dim: int = 256) -> Trainer.Config:
    cfg = Trainer.default_config()
    cfg.model.decoder.dim = dim
    return cfg


def test_dimensions_flow_from_parent_to_child():
    layers = trainer_config().instantiate().model.decoder.layers
    assert [layer.self_attention.head_dim for layer in layers] == [64, 64]


def test_building_leaves_the_config_as_it_was():
    cfg = trainer_config()
    before = cfg.clone()
    cfg.instantiate()
    assert cfg == before
    cfg.model.decoder.dim = 8


def test_self_config_is_the_same_object_each_time():
    layer = Layer.default_config().set(dim=8).instantiate()
    assert layer.config is layer.config


def test_a_built_object_keeps_its_config_when_the_original_changes():
    cfg = Layer.default_config().set(dim=8)
    layer = cfg.instantiate()
    cfg.dim = 16
    assert layer.config.dim == 8


def test_a_built_object_s_config_is_frozen_with_its_lists_and_dicts():
    layer = Layer.default_config().set(dim=8).instantiate()
    with pytest.raises(FrozenConfigError, match=r"Layer.Config.dim belongs to an object"):
        layer.config.dim = 9
    with pytest.raises(FrozenConfigError, match="this list belongs"):
        layer.config.sizes.append(2)
    with pytest.raises(FrozenConfigError, match="this list belongs"):
        layer.config.table["a"].append(2)
    with pytest.raises(FrozenConfigError, match="this dict belongs"):
        layer.config.table["b"] = []


def test_extra_arguments_reach_the_constructor():
    class Named(Configurable):
        def __init__(self, config, *, name):
            super().__init__(config)
            self.name = name

    assert Named.default_config().instantiate(name="x").name == "x"


def test_maybe_instantiate_builds_a_config_and_passes_a_value_through():
    assert maybe_instantiate(3) == 3
    assert isinstance(maybe_instantiate(Configurable.default_config()), Configurable)


def test_a_plain_record_builds_nothing():
    with pytest.raises(ConfigError, match="is a plain record and builds nothing; nest it"):
        ConfigBase().instantiate()


# Missing fields.


class Leaf(Configurable):
    class Config(Configurable.Config):
        size: int = REQUIRED
        rate: float = REQUIRED


class Holder(Configurable):
    class Config(Configurable.Config):
        one: Leaf.Config = Leaf.default_config()
        many: list[Leaf.Config] = [Leaf.default_config(), Leaf.default_config().set(size=1, rate=0)]
        table: dict[str, tuple[Leaf.Config, ...]] = {"a": (Leaf.default_config().set(size=1),)}

    def __init__(self, config):
        super().__init__(config)
        self.one = config.one.instantiate()
        self.many = [leaf.instantiate() for leaf in config.many]
        self.table = [leaf.instantiate() for leaf in config.table["a"]]


def test_all_missing_fields_are_listed_at_once_in_lists_and_dicts_too():
    with pytest.raises(MissingFieldsError) as caught:
        Holder.default_config().instantiate()
    assert caught.value.paths == (
        "one.size",
        "one.rate",
        "many.0.size",
        "many.0.rate",
        "table.a.0.rate",
    )
    assert "5 required fields are not set:\n  one.size\n" in str(caught.value)
    assert "Set each one, e.g. one.size=<value>." in str(caught.value)


def test_a_parent_that_trips_over_a_child_it_lacks_hides_no_other_missing_field():
    class Tripping(Configurable):
        class Config(Configurable.Config):
            leaf: Leaf.Config = Leaf.default_config().set(size=1)

        def __init__(self, config):
            super().__init__(config)
            self.size = config.leaf.instantiate().config.size

    class Two(Configurable):
        class Config(Configurable.Config):
            first: Tripping.Config = Tripping.default_config()
            second: Tripping.Config = Tripping.default_config()

        def __init__(self, config):
            super().__init__(config)
            self.parts = [config.first.instantiate(), config.second.instantiate()]

    with pytest.raises(MissingFieldsError) as caught:
        Two.default_config().instantiate()
    assert caught.value.paths == ("first.leaf.rate", "second.leaf.rate")


def test_unset_fields_below_a_node_that_could_not_be_built_are_counted_but_not_listed():
    cfg = Decoder.default_config()
    with pytest.raises(MissingFieldsError, match="may fill in 2 more below them") as caught:
        cfg.instantiate()
    assert caught.value.paths == ("dim",)
    assert caught.value.perhaps == ("layer.dim", "layer.self_attention.hidden_dim")


def test_a_field_that_the_parent_fills_in_is_not_missing():
    Layer.default_config().set(dim=8).instantiate()


def test_after_a_failed_build_the_next_one_works():
    with pytest.raises(MissingFieldsError):
        Leaf.default_config().instantiate()
    assert Leaf.default_config().set(size=1, rate=1).instantiate().config.size == 1


# Errors.


def test_an_error_carries_the_path_of_the_node_and_the_reason():
    cfg = trainer_config(256)
    cfg.model.decoder.layer.self_attention.num_heads = 6
    with pytest.raises(BuildError) as caught:
        cfg.instantiate()
    assert str(caught.value) == (
        "building model.decoder.layer.self_attention failed: "
        "num_heads (=6) must divide hidden_dim (=256)"
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_at_the_root_names_its_class():
    with pytest.raises(BuildError, match=r"^building Attention failed: num_heads \(=3\) must"):
        Attention.default_config().set(hidden_dim=8, num_heads=3).instantiate()


def test_an_error_inside_a_list_carries_the_index():
    cfg = config_for(list_of, trainers=[trainer_config(4), trainer_config(5)])
    with pytest.raises(
        BuildError, match=r"building trainers.1.model.decoder.layer.self_attention failed"
    ):
        cfg.instantiate()


def list_of(trainers: list[Trainer]) -> list[Trainer]:
    return trainers


def test_a_wrong_type_set_while_building_carries_the_path():
    class Clumsy(Configurable):
        class Config(Configurable.Config):
            leaf: Leaf.Config = Leaf.default_config()

        def __init__(self, config):
            super().__init__(config)
            config.leaf.size = "big"

    with pytest.raises(BuildError, match=r"leaf.size must be int, got 'big'"):
        Clumsy.default_config().instantiate()


def test_a_list_spoilt_in_place_is_found_before_its_object_is_made():
    class Summing(Configurable):
        class Config(Configurable.Config):
            sizes: list[int] = []

        def __init__(self, config):
            super().__init__(config)
            self.total = sum(config.sizes)

    cfg = config_for(list_of, trainers=[Summing.default_config()])
    cfg.trainers[0].sizes.append("x")
    with pytest.raises(BuildError, match=r"trainers.0.sizes\[0\] must be int, got 'x'"):
        cfg.instantiate()


# Classes.


def test_a_subclass_without_a_config_gets_one_of_its_own():
    class Special(Attention):
        pass

    assert Special.Config is not Attention.Config
    assert isinstance(Special.default_config().set(hidden_dim=4).instantiate(), Special)


def test_a_subclass_of_two_configurables_has_the_fields_of_both():
    class Both(Attention, Leaf):
        pass

    assert {name for name, _ in Both.default_config().items()} == {
        "hidden_dim",
        "num_heads",
        "size",
        "rate",
    }


def test_a_config_that_does_not_extend_the_parent_s_is_refused():
    with pytest.raises(ConfigError, match=r"write `class Config\(Attention.Config\):`"):

        class Stray(Attention):
            class Config(Configurable.Config):
                other: int = 1


def test_a_config_borrowed_from_another_class_is_refused():
    with pytest.raises(ConfigError, match=r"Borrower.Config must be a class of its own"):

        class Borrower(Attention):
            Config = Attention.Config


def test_default_config_is_fresh_each_time():
    assert Layer.default_config() == Layer.default_config()
    assert Layer.default_config() is not Layer.default_config()


def test_threads_build_independently():
    barrier = threading.Barrier(2)

    class Meeting(Configurable):
        class Config(Configurable.Config):
            leaf: Leaf.Config = Leaf.default_config()

        def __init__(self, config):
            super().__init__(config)
            barrier.wait(timeout=10)  # both threads are inside a build now
            self.leaf = config.leaf.instantiate()

    outcomes: dict[str, object] = {}

    def build(name: str, cfg: Meeting.Config) -> None:
        try:
            outcomes[name] = cfg.instantiate().leaf.config.size
        except MissingFieldsError as error:
            outcomes[name] = error.paths

    good = Meeting.default_config()
    good.leaf.set(size=3, rate=1)
    threads = [
        threading.Thread(target=build, args=("good", good)),
        threading.Thread(target=build, args=("bad", Meeting.default_config())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"good": 3, "bad": ("leaf.size", "leaf.rate")}
