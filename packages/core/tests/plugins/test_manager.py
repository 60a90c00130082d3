"""Discovery over distributions as pip would leave them on disk."""

import importlib
import sys

import pytest

from axlearn_core.plugins import PluginError, discover

LAYER = """
from axlearn_core.plugins import LayerRecord, hookimpl

@hookimpl
def axlearn_layers():
    return [LayerRecord("norm", "acme_good.norms:Norm", "A norm.")]
"""
BROKEN = "import no_such_module"


def hook(body, name="axlearn_layers()", mark="@hookimpl"):
    return f"from axlearn_core.plugins import *\n{mark}\ndef {name}:\n    {body}\n"


def test_a_plugin_is_found_with_its_version_and_components(axlearn_install, find):
    axlearn_install("acme-good", "1.2", LAYER)
    plugin = find("acme-good")
    assert (plugin.status, plugin.version) == ("ok", "1.2")
    assert [c.qualified_name for c in plugin.components] == ["acme-good/norm"]


def test_plugins_come_in_the_order_of_their_names(axlearn_install):
    axlearn_install("zeta")
    axlearn_install("Alpha")
    names = [p.distribution for p in discover({}).plugins]
    assert names == sorted(names) and {"alpha", "zeta"} <= set(names)


def test_two_distributions_with_one_entry_point_name_both_load(axlearn_install, find):
    axlearn_install("acme-one", entry_point="same")
    axlearn_install("acme-two", entry_point="same")
    assert find("acme-one").status == find("acme-two").status == "ok"


def test_of_two_distributions_with_one_module_the_first_stays(axlearn_install, find, tmp_path):
    axlearn_install("acme-good", plugin=LAYER)
    axlearn_install("acme-thief")
    metadata = tmp_path / "site/acme_thief-1.0.dist-info/entry_points.txt"
    metadata.write_text(metadata.read_text().replace("acme_thief.", "acme_good."))
    assert len(find("acme-good").components) == 1
    assert "already registered" in find("acme-thief").problem.what


def test_a_broken_plugin_does_not_stop_another(axlearn_install, find):
    axlearn_install("acme-broken", plugin=BROKEN)
    axlearn_install("acme-good", plugin=LAYER)
    assert find("acme-broken").status == "failed"
    assert find("acme-good").status == "ok"


def test_a_failed_import_is_reported_with_a_fix(axlearn_install, find):
    axlearn_install("acme-broken", plugin=BROKEN)
    problem = find("acme-broken").problem
    assert problem.plugin == "acme-broken"
    assert "importing acme_broken._plugin failed: ModuleNotFoundError" in problem.what
    assert "AXLEARN_DISABLE_PLUGINS=acme-broken" in problem.fix


def test_a_plugin_that_exits_does_not_end_the_process(axlearn_install, find):
    axlearn_install("acme-exit", plugin="raise SystemExit(3)")
    assert "SystemExit: 3" in find("acme-exit").problem.what


def test_a_disabled_plugin_is_not_imported(axlearn_install, find):
    package = axlearn_install("acme-good", plugin=LAYER)
    assert find("acme-good", AXLEARN_DISABLE_PLUGINS="other, Acme_Good").status == "disabled"
    assert f"{package}._plugin" not in sys.modules


def test_disabling_what_is_not_installed_is_a_problem(axlearn_install, find):
    axlearn_install("acme-good")
    plugin = find("acme-god", AXLEARN_DISABLE_PLUGINS="acme-god")
    assert plugin.status == "missing"
    assert "Did you mean 'acme-good'?" in plugin.problem.what


def test_the_package_around_a_plugin_is_not_imported(axlearn_install, find):
    package = axlearn_install("acme-good", plugin=LAYER, modules={"__init__": "raise RuntimeError"})
    assert find("acme-good").status == "ok"
    assert package not in sys.modules


def test_a_plugin_imported_later_is_the_module_that_was_read(axlearn_install):
    package = axlearn_install("acme-good", plugin=LAYER)
    read = discover({}).manager.get_plugin("acme-good:acme-good")
    assert importlib.import_module(f"{package}._plugin") is read


def test_a_plugin_for_another_core_is_not_imported(axlearn_install, find):
    package = axlearn_install("acme-old", plugin=BROKEN, requires=["axlearn_core>=99"])
    assert "it needs axlearn-core >=99, and " in find("acme-old").problem.what
    assert f"{package}._plugin" not in sys.modules


@pytest.mark.parametrize(
    "requirement", ["axlearn-core>=0.0.1", "axlearn-core>=99; extra == 'x'", "jax>=99"]
)
def test_requirements_that_core_meets_or_that_do_not_apply_are_fine(
    axlearn_install, find, requirement
):
    axlearn_install("acme-good", plugin=LAYER, requires=[requirement])
    assert find("acme-good").status == "ok"


def test_an_unreadable_requirement_is_isolated(axlearn_install, find):
    axlearn_install("acme-odd", requires=["axlearn-core >>> 1"])
    assert "requirement 'axlearn-core >>> 1' cannot be read" in find("acme-odd").problem.what


def test_a_distribution_without_metadata_is_named_by_its_entry_point(
    axlearn_install, find, tmp_path
):
    axlearn_install("acme-torn")
    (tmp_path / "site/acme_torn-1.0.dist-info/METADATA").unlink()
    assert find("acme-torn").version == "unknown"


def test_an_unknown_hook_lists_near_names_and_the_known(axlearn_install, find):
    axlearn_install("acme-odd", plugin=hook("return []", "axlearn_layer()"))
    problem = find("acme-odd").problem
    assert "there is no hook axlearn_layer. Did you mean 'axlearn_layers'" in problem.what
    assert "axlearn_run_started" in problem.fix and "axlearn_configure_trainer" in problem.fix


def test_a_marked_function_of_any_name_must_be_a_known_hook(axlearn_install, find):
    axlearn_install("acme-odd", plugin=hook("return []", "layers()"))
    assert "there is no hook layers." in find("acme-odd").problem.what


def test_a_hook_without_the_mark_is_a_problem(axlearn_install, find):
    axlearn_install("acme-odd", plugin=hook("return []", mark=""))
    assert "axlearn_layers looks like a hook but is not marked" in find("acme-odd").problem.what


def test_imported_functions_are_not_taken_for_hooks(axlearn_install, find):
    axlearn_install(
        "acme-good", plugin="from axlearn_core.plugins.hookspecs.providing import axlearn_layers"
    )
    assert find("acme-good").status == "ok"


def test_a_hook_wrapper_is_refused(axlearn_install, find):
    wrapper = hook("return (yield)", mark="@hookimpl(wrapper=True)")
    axlearn_install("acme-odd", plugin=wrapper)
    assert "axlearn_layers is a hook wrapper" in find("acme-odd").problem.what


def test_a_hook_with_arguments_nobody_passes_is_a_problem(axlearn_install, find):
    axlearn_install("acme-odd", plugin=hook("return []", "axlearn_layers(config)"))
    assert "PluginValidationError" in find("acme-odd").problem.what


@pytest.mark.parametrize(
    "result", ["None", "'norm'", "[1]", "[ModelRecord('a', 'pkg:A', 'A.')]", "(r for r in [])"]
)
def test_a_hook_returns_a_list_of_its_records(axlearn_install, find, result):
    axlearn_install("acme-odd", plugin=hook(f"return {result}"))
    assert "axlearn_layers must return a list of LayerRecord; got" in find("acme-odd").problem.what


def test_a_malformed_record_is_the_problem_of_its_plugin(axlearn_install, find):
    axlearn_install("acme-odd", plugin=hook("return [LayerRecord('A', 'a:B', '.')]"))
    assert "axlearn_layers raised RecordError" in find("acme-odd").problem.what


def test_one_name_twice_in_one_plugin_is_a_problem(axlearn_install, find):
    record = "LayerRecord('a', 'pkg:A', 'A.'), LayerRecord('a', 'pkg:B', 'B.')"
    axlearn_install("acme-odd", plugin=hook(f"return [{record}]"))
    assert "two records named 'a'" in find("acme-odd").problem.what


def test_a_failed_plugin_leaves_no_hook_behind(axlearn_install):
    source = hook("raise RuntimeError", "axlearn_run_started()") + hook("return 1")
    axlearn_install("acme-odd", plugin=source)
    implementations = discover({}).manager.hook.axlearn_run_started.get_hookimpls()
    assert "acme-odd:acme-odd" not in [i.plugin_name for i in implementations]


def test_strict_mode_names_every_problem(axlearn_install):
    axlearn_install("acme-broken", plugin=BROKEN)
    axlearn_install("acme-old", requires=["axlearn-core>=99"])
    with pytest.raises(PluginError, match=r"(?s)plugin acme-broken: .*plugin acme-old: .*fix: "):
        discover({"AXLEARN_STRICT_PLUGINS": "1"})


def test_strict_mode_accepts_what_works(axlearn_install, find):
    axlearn_install("acme-good", plugin=LAYER)
    assert find("acme-good", AXLEARN_STRICT_PLUGINS="1").status == "ok"
