"""Edits of whole trees: visit, find, missing, replace, merged, and modifiers."""

import pytest

from axlearn_core.config import (
    REQUIRED,
    ConfigBase,
    ConfigError,
    ConfigModifier,
    Configurable,
    FieldTypeError,
    Replacement,
    config_for,
    find,
    merged,
    missing,
    replace,
    to_text,
    visit,
)


class Norm(Configurable):
    class Config(Configurable.Config):
        dim: int = REQUIRED
        eps: float = 1e-5


class LayerNorm(Norm):
    class Config(Norm.Config):
        bias: bool = True


class RMSNorm(Norm):
    class Config(Norm.Config):
        scale: float = 1.0


class Wrapped(Norm):
    class Config(Norm.Config):
        inner: Norm.Config = REQUIRED


class Block(Configurable):
    class Config(Configurable.Config):
        width: int = REQUIRED
        norm: Norm.Config = LayerNorm.default_config().set(eps=1e-3)
        sizes: list[int] = [1]


class WideBlock(Block):
    class Config(Block.Config):
        factor: int = 2


class Stack(Configurable):
    class Config(Configurable.Config):
        block: Block.Config = Block.default_config()
        many: list[Block.Config] = [Block.default_config(), Block.default_config()]
        table: dict[str, Norm.Config | None] = {"a": LayerNorm.default_config(), "b": None}
        pair: tuple[Norm.Config, ...] = (LayerNorm.default_config(), RMSNorm.default_config())
        nested: dict[str, list[tuple[Norm.Config, ...]]] = {"x": [(LayerNorm.default_config(),)]}


EVERY_LAYER_NORM = [
    "block.norm",
    "many.0.norm",
    "many.1.norm",
    "table.a",
    "pair.0",
    "nested.x.0.0",
]


def scale_by(factor: float = 1.0) -> float:
    return factor


def test_visit_sees_every_node_parents_first():
    seen = []
    visit(Stack.default_config(), lambda path, node: seen.append(path))
    assert seen == [
        "",
        "block",
        "block.norm",
        "many.0",
        "many.0.norm",
        "many.1",
        "many.1.norm",
        "table.a",
        "pair.0",
        "pair.1",
        "nested.x.0.0",
    ]


def test_visit_may_edit_the_nodes():
    cfg = Stack.default_config()
    visit(cfg, lambda path, node: node.set(eps=0) if isinstance(node, Norm.Config) else None)
    assert {node.eps for _, node in find(cfg, Norm)} == {0.0}


def test_find_gives_paths_and_live_nodes_in_containers_too():
    cfg = Stack.default_config()
    found = find(cfg, LayerNorm)
    assert [path for path, _ in found] == EVERY_LAYER_NORM
    for _, node in found:
        node.eps = 0.5
    assert cfg.nested["x"][0][0].eps == 0.5


def test_find_includes_subclasses_and_takes_config_classes():
    cfg = Stack.default_config()
    assert len(find(cfg, Norm)) == len(find(cfg, Norm.Config)) == 7


def test_find_knows_the_nodes_of_a_function():
    cfg = Stack.default_config()
    assert find(config_for(chain, parts=(config_for(scale_by), cfg)), scale_by)[0][0] == "parts.0"


def chain(*parts):
    return parts


def test_missing_lists_the_paths_that_are_required():
    assert missing(Block.default_config()) == ["width", "norm.dim"]
    assert "nested.x.0.0.dim" in missing(Stack.default_config())


# replace


def test_replace_swaps_every_node_of_the_kind_in_lists_dicts_and_tuples():
    cfg = Stack.default_config()
    report = replace(cfg, LayerNorm, RMSNorm.default_config())
    assert [swap.path for swap in report] == EVERY_LAYER_NORM
    assert find(cfg, LayerNorm) == []
    assert len(find(cfg, RMSNorm)) == 7
    assert isinstance(cfg.pair, tuple)
    assert isinstance(cfg.nested["x"][0], tuple)


def test_replace_carries_over_the_fields_that_both_declare():
    cfg = Stack.default_config()
    cfg.many[1].norm.set(dim=8, eps=0.25)
    replace(cfg, LayerNorm, RMSNorm.default_config())
    assert (cfg.many[1].norm.dim, cfg.many[1].norm.eps) == (8, 0.25)


def test_what_new_sets_explicitly_wins():
    cfg = Stack.default_config()
    cfg.block.norm.set(dim=8, eps=0.25)
    replace(cfg, LayerNorm, RMSNorm.default_config().set(eps=1e-5))
    assert (cfg.block.norm.dim, cfg.block.norm.eps) == (8, 1e-5)


def test_what_new_sets_explicitly_below_one_of_its_fields_wins_too():
    cfg = Stack.default_config()
    cfg.block.norm.set(dim=8, eps=0.25)
    new = WideBlock.default_config()
    new.norm.eps = 1e-3
    replace(cfg, Block, new)
    assert (cfg.block.norm.dim, cfg.block.norm.eps) == (8, 1e-3)


def test_a_list_of_new_that_was_edited_in_place_wins():
    cfg = Stack.default_config()
    new = WideBlock.default_config()
    new.sizes.append(2)
    replace(cfg, Block, new)
    assert cfg.block.sizes == [1, 2]


def test_what_the_class_of_new_sets_in_its_body_is_not_explicit():
    cfg = Stack.default_config()
    cfg.block.norm.eps = 0.25
    replace(cfg, Block, WideBlock.default_config())
    assert cfg.block.norm.eps == 0.25


def test_a_required_value_is_not_carried_over():
    cfg = Stack.default_config()
    replace(cfg, LayerNorm, RMSNorm.default_config().set(dim=4))
    assert cfg.block.norm.dim == 4


def test_fields_that_new_does_not_declare_are_reported_as_dropped():
    report = replace(Stack.default_config(), LayerNorm, RMSNorm.default_config())
    assert report[0] == Replacement("block.norm", ("bias",))


def test_fields_that_new_declares_with_another_type_are_reported_as_dropped():
    class OddNorm(Norm):
        class Config(Norm.Config):
            bias: str = "none"

    cfg = Stack.default_config()
    assert replace(cfg, LayerNorm, OddNorm.default_config())[0].dropped == ("bias",)
    assert cfg.block.norm.bias == "none"


def test_new_is_not_mutated_and_not_shared():
    new = RMSNorm.default_config()
    cfg = Stack.default_config()
    replace(cfg, LayerNorm, new)
    cfg.block.norm.eps = 0.5
    assert new == RMSNorm.default_config()
    assert cfg.pair[0].eps == 1e-5


def test_configs_beside_a_swapped_one_stay_the_same_objects():
    cfg = Stack.default_config()
    beside = cfg.pair[1]
    replace(cfg, LayerNorm, RMSNorm.default_config())
    assert cfg.pair[1] is beside


def test_a_node_inside_a_swapped_node_is_not_swapped_again():
    cfg = Stack.default_config()
    new = WideBlock.default_config()
    assert [swap.path for swap in replace(cfg, Block, new)] == ["block", "many.0", "many.1"]


def test_replace_by_a_function_wraps_what_is_there():
    cfg = Stack.default_config()
    cfg.block.norm.dim = 8
    report = replace(cfg, LayerNorm, lambda old: Wrapped.Config(inner=old))
    assert [swap.path for swap in report] == EVERY_LAYER_NORM
    assert not any(swap.dropped for swap in report)
    assert isinstance(cfg.block.norm, Wrapped.Config)
    assert (cfg.block.norm.inner.dim, cfg.block.norm.inner.eps) == (8, 1e-3)
    assert cfg.block.norm.dim is REQUIRED  # nothing is carried over


def test_what_a_function_made_is_copied_into_each_place():
    cfg, made = Stack.default_config(), RMSNorm.default_config()
    replace(cfg, LayerNorm, lambda old: made)
    made.scale = 2.0
    assert cfg.many[0].norm.scale == 1.0


def test_a_function_that_makes_no_config_is_refused():
    with pytest.raises(
        ConfigError, match=r"made None of LayerNorm.Config; it must return a config"
    ):
        replace(Stack.default_config(), LayerNorm, lambda old: None)


def test_replace_that_matches_nothing_is_an_error_that_lists_what_is_there():
    with pytest.raises(
        ConfigError, match=r"found no WideBlock to replace. The tree holds: Block, "
    ):
        replace(Stack.default_config(), WideBlock, Block.default_config())


def test_replace_of_the_root_is_an_error():
    with pytest.raises(ConfigError, match=r"the root itself is a Stack.* use merged"):
        replace(Stack.default_config(), Stack, Stack.default_config())


def test_replace_by_something_that_the_field_cannot_hold_says_where():
    with pytest.raises(FieldTypeError, match=r"block.norm must be Norm.Config, got Block.Config"):
        replace(Stack.default_config(), LayerNorm, Block.default_config())


def test_replace_swaps_nodes_of_a_function():
    cfg = config_for(chain, parts=(config_for(scale_by, factor=2.0),))
    replace(cfg, scale_by, Norm.default_config())
    assert isinstance(cfg.parts[0], Norm.Config)


def test_any_keyword_is_not_a_declared_field():
    def anything(**keywords):
        return keywords

    cfg = config_for(chain, parts=(config_for(scale_by, factor=2.0),))
    assert replace(cfg, scale_by, config_for(anything))[0].dropped == ("factor",)


def test_merged_keeps_where_values_were_set():
    old = LayerNorm.default_config().set(eps=0.5)
    new, _ = merged(old, RMSNorm.default_config())
    assert new.origin("eps") == old.origin("eps")
    assert new.origin("scale") == "default"


class Precise(Norm):
    class Config(Norm.Config):
        eps = 1e-9


def test_merged_says_where_a_carried_default_comes_from():
    new, _ = merged(Precise.default_config(), RMSNorm.default_config())
    assert new.eps == 1e-9
    assert new.origin("eps") == "default of Precise.Config, carried over"


# Modifiers


class SetEps(ConfigModifier):
    class Config(ConfigModifier.Config):
        eps: float = REQUIRED

    def __call__(self, cfg: ConfigBase) -> ConfigBase:
        cfg = cfg.clone()
        for _, norm in find(cfg, Norm):
            norm.eps = self.config.eps
        return cfg


def test_a_modifier_is_built_from_a_config_and_what_it_returns_counts():
    modifier = SetEps.default_config().set(eps=0.5).instantiate()
    cfg = Stack.default_config()
    changed = modifier(cfg)
    assert changed.block.norm.eps == 0.5
    assert to_text(cfg) == to_text(Stack.default_config())


def test_a_modifier_has_to_say_what_it_does():
    with pytest.raises(NotImplementedError):
        ConfigModifier.default_config().instantiate()(Stack.default_config())
