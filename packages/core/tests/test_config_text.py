"""Canonical text, diff and hash."""

import enum
import functools
import subprocess
import sys
from typing import Any

from axlearn_core.config import (
    REQUIRED,
    Configurable,
    Difference,
    canonical,
    config_for,
    config_hash,
    diff,
    format_value,
    to_text,
)


class Leaf(Configurable):
    class Config(Configurable.Config):
        size: int = 1
        rate: float = 0.5


class BigLeaf(Leaf):
    pass


def schedule(peak: float, steps: int = 10) -> float:
    return peak


class Tree(Configurable):
    class Config(Configurable.Config):
        width: int = REQUIRED
        leaf: Leaf.Config = Leaf.default_config().set(size=4)
        leaves: list[Leaf.Config | None] = [Leaf.default_config()]
        table: dict[str, Any] = {}
        schedule: Any = None


HERE = __name__


def test_a_default_tree_is_one_line():
    assert to_text(Tree.default_config()) == f"# {HERE}.Tree\n"


def test_a_line_for_each_changed_value_in_the_order_of_paths():
    cfg = Tree.default_config().set(width=3, table={"b": 1, "a": [1.0, None]})
    cfg.leaf.rate = 1
    assert to_text(cfg) == (
        f'# {HERE}.Tree\nleaf.rate: 1.0\ntable: {{"a": [1.0, null], "b": 1}}\nwidth: 3\n'
    )


def test_a_child_is_compared_with_the_parent_s_default_child():
    cfg = Tree.default_config()
    cfg.leaf.size = 1
    assert canonical(cfg) == {"leaf.size": "1"}


def test_another_component_is_named_and_compared_with_its_own_defaults():
    cfg = Tree.default_config().set(leaf=BigLeaf.default_config().set(rate=0.25))
    assert canonical(cfg) == {"leaf": f"{HERE}.BigLeaf", "leaf.rate": "0.25"}


def test_a_value_set_to_its_default_makes_no_line():
    assert canonical(Tree.default_config().set(table={}, schedule=None)) == {}


def test_a_list_of_components_that_differs_is_written_member_by_member():
    cfg = Tree.default_config().set(leaves=[Leaf.default_config(), None])
    assert canonical(cfg) == {"leaves.0": f"{HERE}.Leaf", "leaves.1": "null"}


def test_lists_of_different_length_have_different_text():
    one = Tree.default_config().set(leaves=[BigLeaf.default_config()])
    two = Tree.default_config().set(leaves=[BigLeaf.default_config(), None])
    assert len({to_text(one), to_text(two), to_text(Tree.default_config().set(leaves=[]))}) == 3


def test_a_function_s_node_is_named_by_the_function():
    cfg = Tree.default_config().set(schedule=config_for(schedule, peak=1))
    assert canonical(cfg) == {"schedule": f"{HERE}.schedule", "schedule.peak": "1.0"}


def test_types_that_compare_equal_differ_in_text():
    texts = {to_text(Tree.default_config().set(table={"a": value})) for value in (1, 1.0, True)}
    assert len(texts) == 3


def test_a_built_object_s_config_has_the_text_it_had_before():
    cfg = Tree.default_config().set(width=3, table={"a": [1]}, leaves=[BigLeaf.default_config()])
    assert to_text(cfg.instantiate().config) == to_text(cfg)


def test_objects_without_a_name_are_written_without_their_address():
    class Odd:
        pass

    assert " at 0x" not in format_value(Odd())
    assert " at 0x" not in to_text(config_for(functools.partial(schedule, 1.0)))


def test_values_are_written_as_words_would_be():
    class Color(enum.Enum):
        RED = 1

    values = [
        None,
        True,
        1,
        1e-5,
        "a b",
        (1, "x"),
        {"k": [2]},
        {2, 1},
        REQUIRED,
        schedule,
        Color.RED,
    ]
    assert [format_value(value) for value in values] == [
        "null",
        "true",
        "1",
        "1e-05",
        '"a b"',
        '[1, "x"]',
        '{"k": [2]}',
        "{1, 2}",
        "REQUIRED",
        f"{HERE}.schedule",
        "<Color.RED: 1>",
    ]


def test_the_hash_is_that_of_the_text():
    cfg = Tree.default_config()
    assert config_hash(cfg) == config_hash(cfg.clone())
    assert config_hash(cfg) != config_hash(cfg.clone(width=3))
    assert len(config_hash(cfg)) == 16


def test_diff_lists_every_path_that_differs():
    old = Tree.default_config()
    new = old.clone(width=3, leaf=BigLeaf.default_config().set(size=4))
    assert diff(old, new) == [
        Difference("leaf", f"{HERE}.Leaf", f"{HERE}.BigLeaf"),
        Difference("width", "REQUIRED", "3"),
    ]


def test_diff_names_what_only_one_side_has():
    old = Tree.default_config()
    assert diff(old, old.clone(leaves=[]))[0] == Difference("leaves", None, "[]")
    assert diff(old, old) == []


def test_importing_configs_imports_neither_jax_nor_numpy():
    code = "import sys, axlearn_core.config; print(*{'jax', 'jaxlib', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
