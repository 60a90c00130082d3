"""A mesh that a model makes no use of, and parameters that make no use of a mesh."""

from __future__ import annotations

import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, ones
from axlearn_core.parallel import (
    DEFAULT_RULES,
    check_axes_are_used,
    make_mesh,
    parameter_shardings,
    whole_parameters,
)


def weight(*shape: int, axes: tuple[str | None, ...] = ("embed", "mlp")) -> ParameterSpec:
    return ParameterSpec(shape, axes, ones)


# Axes that are used.

DENSE = {"up": weight(8, 16)}


@pytest.mark.parametrize("axis", ["data", "fsdp", "seq", "model"])
def test_a_dense_model_uses(axis: str) -> None:
    check_axes_are_used(DENSE, make_mesh({axis: 8}), DEFAULT_RULES)


@pytest.mark.parametrize(
    ("axis", "named"), [("expert", "'expert', 'batch'"), ("pipeline", "'stages'")]
)
def test_an_axis_that_no_parameter_has_is_named(axis: str, named: str) -> None:
    message = rf"mesh_shape\.{axis} \(=4\), but nothing of this model .* rules of {named} do name"
    with pytest.raises(ConfigError, match=message):
        check_axes_are_used(DENSE, make_mesh({axis: 4, "data": 2}), DEFAULT_RULES)


def test_a_model_axis_needs_a_parameter() -> None:
    specs = {"table": weight(8, axes=("embed",))}
    with pytest.raises(ConfigError, match=r"mesh_shape\.model \(=2\), but nothing .*'mlp'"):
        check_axes_are_used(specs, make_mesh({"model": 2}), DEFAULT_RULES)


def test_a_seq_axis_needs_a_rule() -> None:
    rules = DEFAULT_RULES | {"seq": None, "residual_seq": None}
    with pytest.raises(ConfigError, match=r"mesh_shape\.seq \(=2\).* no sharding rule does name"):
        check_axes_are_used(DENSE, make_mesh({"seq": 2}), rules)


def test_experts_use_the_expert_axis() -> None:
    specs = {"up": weight(8, 4, 4, axes=("expert", "embed", "mlp"))}
    check_axes_are_used(specs, make_mesh({"expert": 8}), DEFAULT_RULES)


# Parameters that lie whole.

LARGE = {"up": weight(512, 1024), "mix": weight(512, 1024, axes=(None, "head_dim"))}


def test_a_large_parameter_that_no_rule_splits_is_named_with_its_size() -> None:
    assert whole_parameters(LARGE, make_mesh({"fsdp": 4, "model": 2}), DEFAULT_RULES) == [
        "mix (512, 1024), 2.0 MiB, lies whole on every device: no rule of its axes "
        "(None, 'head_dim') splits it over fsdp (=4) x model (=2)"
    ]


def test_small_ones_are_not_worth_a_word() -> None:
    specs = {"up": weight(512, 1024), "scale": weight(512, axes=(None,))}
    assert whole_parameters(specs, make_mesh({"fsdp": 8}), DEFAULT_RULES) == []


def test_a_mesh_for_batches_asks_for_whole_parameters() -> None:
    assert whole_parameters(LARGE, make_mesh({"data": 8}), DEFAULT_RULES) == []


# Axes without a rule.


def test_a_logical_axis_without_a_rule_is_named_with_the_rule_to_write() -> None:
    specs = {"mixer": {"w": weight(4, 6, axes=("embed", "heds"))}, "up": weight(4, 8)}
    with pytest.raises(ConfigError) as error:
        parameter_shardings(specs, make_mesh({"fsdp": 2}), DEFAULT_RULES)
    assert str(error.value).splitlines()[1:-1] == [
        "  mixer/w: axis 'heds' of size 6, shape (4, 6); write sharding_rules.heds=null or a mesh "
        "axis. Did you mean 'heads' or 'kv_heads'?"
    ]


def test_one_device_asks_for_no_rule() -> None:
    parameter_shardings({"w": weight(4, 6, axes=("embed", "heds"))}, make_mesh({}), DEFAULT_RULES)
