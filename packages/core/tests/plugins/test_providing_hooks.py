"""What a plugin's hooks return is found under the kind of the hook."""

import pytest

from axlearn_core import plugins
from axlearn_core.plugins import KINDS, RECORD_TYPES, hookimpl
from axlearn_core.testing.registries import isolated_registry


def record(kind, **more):
    return [getattr(plugins, f"{kind}Record")("thing", "acme.things:Thing", "A thing.", **more)]


class Everything:
    """A plugin with one component of each kind."""

    @hookimpl
    def axlearn_layers(self):
        return record("Layer")

    @hookimpl
    def axlearn_models(self):
        return record("Model")

    @hookimpl
    def axlearn_learners(self):
        return record("Learner")

    @hookimpl
    def axlearn_optimizers(self):
        return record("Optimizer")

    @hookimpl
    def axlearn_schedules(self):
        return record("Schedule")

    @hookimpl
    def axlearn_data_sources(self):
        return record("DataSource")

    @hookimpl
    def axlearn_document_sources(self):
        return record("DocumentSource")

    @hookimpl
    def axlearn_preprocessors(self):
        return record("Preprocessor")

    @hookimpl
    def axlearn_tokenizers(self):
        return record("Tokenizer")

    @hookimpl
    def axlearn_hardware(self):
        return record("Hardware", platform="npu")

    @hookimpl
    def axlearn_kernels(self):
        return record("Kernel", op="attention")

    @hookimpl
    def axlearn_mesh_rules(self):
        return record("MeshRule", pattern=r"npu-.+-\d+")

    @hookimpl
    def axlearn_experiments(self):
        return record("Experiment")

    @hookimpl
    def axlearn_writers(self):
        return record("Writer")

    @hookimpl
    def axlearn_checkpoint_formats(self):
        return record("CheckpointFormat")

    @hookimpl
    def axlearn_evaluators(self):
        return record("Evaluator")

    @hookimpl
    def axlearn_launchers(self):
        return record("Launcher")

    @hookimpl
    def axlearn_commands(self):
        return record("Command")


@pytest.mark.parametrize("record_type", RECORD_TYPES, ids=KINDS)
def test_what_a_hook_returns_is_found_under_its_kind(record_type):
    with isolated_registry(acme=Everything()) as registry:
        (found,) = registry.records(record_type.kind)
        assert type(found.record) is record_type
        assert registry.get(record_type.kind, "thing") is found
        assert registry.hook.implementers(record_type.hook) == ("acme",)
        assert registry.unique_name(found) == f"acme/{record_type.kind}/thing"


def test_a_hook_that_provides_is_called_once_when_plugins_are_discovered():
    class Counts:
        calls = 0

        @hookimpl
        def axlearn_layers(self):
            self.calls += 1
            return record("Layer")

    plugin = Counts()
    with isolated_registry(acme=plugin) as registry:
        registry.records("layer")
        registry.resolve("thing")
    assert plugin.calls == 1
