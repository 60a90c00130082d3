import re
import threading

import pytest

from axlearn_core.config import Configurable
from axlearn_core.plugins import (
    AmbiguousNameError,
    ExperimentRecord,
    LayerRecord,
    ModelRecord,
    OptimizerRecord,
    PluginError,
    Registry,
    ScheduleRecord,
    TargetError,
    UnknownComponentError,
    discover,
    get_registry,
    hookimpl,
    use_registry,
)
from axlearn_core.testing.distributions import write_distribution
from axlearn_core.testing.registries import isolated_registry

CONFIGURABLE = f"{Configurable.__module__}:Configurable"
NORM = LayerRecord("rms_norm", CONFIGURABLE, "A norm.")


class Provides:
    """A plugin that provides one layer."""

    def __init__(self, record):
        self.record = record

    @hookimpl
    def axlearn_layers(self):
        return [self.record]


def two_norms():
    return isolated_registry(axlearn_layers=Provides(NORM), acme_layers=Provides(NORM))


@pytest.mark.parametrize(
    "name", ["rms_norm", "axlearn-layers/rms_norm", "layers/rms_norm", "layer/rms_norm"]
)
def test_a_name_may_be_bare_or_qualified_by_distribution_or_kind(name):
    with isolated_registry(axlearn_layers=Provides(NORM)) as registry:
        assert registry.get("layer", name).record is NORM


def test_a_name_resolves_across_kinds():
    model = ModelRecord("rms_norm", "pkg:Model", "A model.")
    with isolated_registry(NORM, model) as registry:
        assert [c.kind for c in registry.resolve("rms_norm")] == ["layer", "model"]
        assert [c.kind for c in registry.resolve("model/rms_norm")] == ["model"]
        assert registry.resolve("other/rms_norm") == ()


def test_an_unknown_name_is_answered_with_near_names_and_all():
    with isolated_registry(NORM) as registry, pytest.raises(UnknownComponentError) as error:
        registry.get("layer", "rms_nrm")
    assert str(error.value) == (
        "there is no layer 'rms_nrm'. Did you mean 'rms_norm'? Installed: rms_norm."
    )


def test_an_unknown_qualified_name_is_answered_with_those_of_its_distribution():
    acme = Provides(LayerRecord("scale_norm", "pkg:A", "A."))
    with (
        isolated_registry(axlearn_layers=Provides(NORM), acme_norms=acme) as registry,
        pytest.raises(UnknownComponentError) as error,
    ):
        registry.get("layer", "acme-norms/tanh")
    assert str(error.value) == "there is no layer 'acme-norms/tanh'. In acme-norms: scale_norm."


def test_a_long_list_is_left_to_the_command():
    records = [LayerRecord(f"layer{i}", "pkg:A", "A.") for i in range(50)]
    with (
        isolated_registry(*records) as registry,
        pytest.raises(UnknownComponentError, match=r"'x'\. `axl components layer` lists them\.$"),
    ):
        registry.get("layer", "x")


def test_an_unknown_name_points_to_plugins_that_are_not_in_use():
    with (
        isolated_registry(NORM, acme=Provides(None)) as registry,
        pytest.raises(UnknownComponentError, match=r"Not in use: acme \(`axl plugins` says why\)"),
    ):
        registry.get("layer", "other")


def test_an_unknown_kind_is_answered_with_the_kinds():
    with isolated_registry() as registry, pytest.raises(PluginError, match="Did you mean 'layer'"):
        registry.get("layr", "x")


def test_of_two_plugins_with_one_name_both_stay_and_are_marked():
    with two_norms() as registry:
        first, second = registry.records("layer")
        assert registry.conflicts(first) == (second,)
        assert registry.get("layer", "acme-layers/rms_norm").distribution == "acme-layers"


def test_the_bare_name_of_two_offers_the_qualified_forms():
    offer = "write axlearn-layers/rms_norm or acme-layers/rms_norm"
    with two_norms() as registry, pytest.raises(AmbiguousNameError, match=offer):
        registry.get("layer", "rms_norm")


def test_lookup_imports_the_target():
    with isolated_registry(NORM) as registry:
        assert registry.lookup("layer/rms_norm") is Configurable


@pytest.mark.parametrize("target", ["no_such_module:A", "axlearn_core.config:NoSuchName"])
def test_a_target_that_cannot_be_imported_names_the_plugin_and_a_fix(target):
    with isolated_registry(LayerRecord("a", target, "A.")) as registry:
        match = rf"(?s)layer test/a: importing {target} failed: .*pip install --upgrade test"
        with pytest.raises(TargetError, match=match):
            registry.load("layer", "a")


def test_a_target_that_cannot_be_imported_names_the_line_of_its_package(tmp_path, monkeypatch):
    modules = {"__init__": "\nfrom acme_lines.norm import Gone\n", "norm": "Norm = 1\n"}
    write_distribution(tmp_path, "acme-lines", modules=modules)
    monkeypatch.syspath_prepend(tmp_path)
    with isolated_registry(LayerRecord("a", "acme_lines.norm:Norm", "A.")) as registry:
        place = re.escape(f"({tmp_path / 'acme_lines' / '__init__.py'}:2)")
        with pytest.raises(TargetError, match=rf"cannot import name 'Gone' .*{place}"):
            registry.load("layer", "a")


def test_typed_getters_return_the_target():
    records = (
        NORM,
        OptimizerRecord("sgd", "math:sqrt", "A function."),
        ExperimentRecord("text.tiny", "math:sqrt", "A function."),
    )
    with isolated_registry(*records) as registry:
        assert registry.layer("rms_norm") is Configurable
        assert registry.optimizer("sgd")(4.0) == 2.0
        assert registry.experiment("text.tiny")(9.0) == 3.0


def test_typed_getters_refuse_another_type():
    records = LayerRecord("a", "math:pi", "A."), ScheduleRecord("a", "math:pi", "A.")
    with isolated_registry(*records) as registry:
        with pytest.raises(TargetError, match="layer test/a must be a subclass of Configurable"):
            registry.layer("a")
        with pytest.raises(TargetError, match="schedule test/a must be a class or function"):
            registry.schedule("a")


def test_a_class_knows_its_registered_name():
    with isolated_registry(axlearn_layers=Provides(NORM)) as registry:
        assert registry.name_of(Configurable) == "axlearn-layers/rms_norm"
        assert registry.name_of(Registry) is None
        assert registry.name_of(3) is None


def test_a_registered_name_leads_back_to_its_class():
    other = ModelRecord("rms_norm", "axlearn_core.plugins.registry:Registry", "Same name.")
    with isolated_registry(NORM, other) as registry:
        assert registry.name_of(Registry) == "test/model/rms_norm"
        assert registry.lookup("test/model/rms_norm") is Registry


def test_the_fingerprint_holds_the_versions_in_use(axlearn_install):
    axlearn_install("acme-good", "1.2.3")
    axlearn_install("acme-broken", plugin="import no_such_module")
    axlearn_install("acme-off")
    fingerprint = Registry(discover({"AXLEARN_DISABLE_PLUGINS": "acme-off"})).fingerprint()
    assert fingerprint["acme-good"] == "1.2.3"
    assert not {"acme-broken", "acme-off"} & fingerprint.keys()


def test_the_process_discovers_once_even_from_many_threads(monkeypatch):
    monkeypatch.setattr("axlearn_core.plugins.registry._registry", None)
    found = []
    threads = [threading.Thread(target=lambda: found.append(get_registry())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_problems_are_logged_at_first_use(axlearn_install, caplog):
    axlearn_install("acme-broken", plugin="import no_such_module")
    get_registry()
    assert "plugin acme-broken: importing" in caplog.text


def test_a_registry_can_stand_in_for_the_process_wide_one():
    before = get_registry()
    with use_registry(Registry()) as empty:
        assert get_registry() is empty and empty.records() == ()
    assert get_registry() is before
