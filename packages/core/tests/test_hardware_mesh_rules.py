"""Which mesh rule a machine gets, and what a rule changes."""

import pytest

from axlearn_core.config import ConfigModifier, Configurable
from axlearn_core.hardware import (
    HardwareError,
    MeshRule,
    load_mesh_rule,
    machine_name,
    select_mesh_rule,
)
from axlearn_core.plugins import MeshRuleRecord
from axlearn_core.testing.registries import isolated_registry


class Trainer(Configurable):
    class Config(Configurable.Config):
        mesh_shape: dict[str, int] = {"data": -1}
        compute_dtype: str | None = None


class Doubled(ConfigModifier):
    def __call__(self, cfg):
        return cfg


SHARDED = MeshRule.Config(mesh_shape={"fsdp": -1})
NOT_A_RULE = 3


def _record(name, pattern, attribute="SHARDED"):
    return MeshRuleRecord(name, f"{__name__}:{attribute}", "A rule.", pattern=pattern)


def test_the_first_rule_that_matches_wins():
    with isolated_registry(
        _record("small", r"gpu-.+-[1-8]"), _record("any", r"gpu-.+")
    ) as registry:
        assert select_mesh_rule(registry, "gpu-h100-8").name == "small"
        assert select_mesh_rule(registry, "gpu-h100-16").name == "any"
        assert select_mesh_rule(registry, "cpu-host-1") is None


def test_a_pattern_must_match_the_whole_description():
    with isolated_registry(_record("one", r"gpu-h100-1")) as registry:
        assert select_mesh_rule(registry, "gpu-h100-16") is None


def test_a_rule_sets_what_it_names_and_leaves_the_rest():
    with isolated_registry(_record("r", ".*")) as registry:
        rule = load_mesh_rule(select_mesh_rule(registry, machine_name("gpu", "h100", 8)))
    cfg = rule(Trainer.Config(compute_dtype="float16"))
    assert cfg.mesh_shape == {"fsdp": -1}
    assert cfg.compute_dtype == "float16"


def test_a_rule_can_be_any_modifier():
    with isolated_registry(_record("r", ".*", "Doubled")) as registry:
        assert isinstance(load_mesh_rule(select_mesh_rule(registry, "x")), Doubled)


def test_another_target_is_refused():
    with (
        isolated_registry(_record("r", ".*", "NOT_A_RULE")) as registry,
        pytest.raises(HardwareError, match="must be a ConfigModifier or the config of one"),
    ):
        load_mesh_rule(select_mesh_rule(registry, "x"))
