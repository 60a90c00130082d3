"""A hook whose time is over says so to those who implement it, and goes on working."""

import json
import warnings

import pytest
from click.testing import CliRunner

from axlearn_core.cli.main import axl
from axlearn_core.plugins import HookDeprecation, hookimpl
from axlearn_core.plugins.hookspecs import deprecated_hookspec, observing
from axlearn_core.plugins.reference import hook_references
from axlearn_core.testing import Finding, check_plugin
from axlearn_core.testing.registries import isolated_registry

PLUGIN = """
from axlearn_core.plugins import hookimpl

@hookimpl
def axlearn_run_started(event):
    pass
"""
NEW = PLUGIN.replace("run_started", "step_completed")
WHAT = "axlearn_run_started is deprecated since axlearn-core 0.3, and gone in 0.5"
INSTEAD = "implement axlearn_step_completed"


@pytest.fixture(autouse=True)
def deprecated(monkeypatch):
    """As if axlearn_run_started were deprecated."""

    @deprecated_hookspec(since="0.3", removed_in="0.5", instead=INSTEAD)
    def axlearn_run_started(event):
        """A run is about to make its first step."""

    monkeypatch.setattr(observing, "axlearn_run_started", axlearn_run_started)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_plugin_stays_in_use_and_knows_what_it_implements(axlearn_install, find):
    axlearn_install("acme-old", plugin=PLUGIN)
    plugin = find("acme-old", AXLEARN_STRICT_PLUGINS="1")
    assert plugin.status == "ok" and plugin.problem is None
    (deprecation,) = plugin.deprecations
    assert (deprecation.hook, deprecation.since) == ("axlearn_run_started", "0.3")
    assert (deprecation.removed_in, deprecation.instead) == ("0.5", INSTEAD)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_plugins_that_do_not_implement_it_hear_nothing(axlearn_install, find):
    axlearn_install("acme-new", plugin=NEW)
    assert find("acme-new").deprecations == ()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_axl_plugins_names_plugin_hook_version_and_way_out(axlearn_install):
    axlearn_install("acme-old", plugin=PLUGIN)
    output = CliRunner().invoke(axl, ["plugins"], catch_exceptions=False).output
    assert f"\nacme-old: {WHAT}\n  fix: {INSTEAD}\n" in output


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_axl_plugins_as_json_has_its_parts(axlearn_install):
    axlearn_install("acme-old", plugin=PLUGIN)
    axlearn_install("acme-new", plugin=NEW)
    output = CliRunner().invoke(axl, ["plugins", "--json"], catch_exceptions=False).output
    plugins = {plugin["distribution"]: plugin for plugin in json.loads(output)}
    (deprecation,) = plugins["acme-old"]["deprecations"]
    assert deprecation["hook"] == "axlearn_run_started" and deprecation["removed_in"] == "0.5"
    assert plugins["acme-new"]["deprecations"] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_doctor_finds_it(axlearn_install):
    axlearn_install("acme-old", plugin=PLUGIN)
    assert Finding("warning", WHAT, INSTEAD) in check_plugin("acme-old")


def test_the_author_gets_a_warning_at_the_implementation(axlearn_install, find):
    package = axlearn_install("acme-old", plugin=PLUGIN)
    with pytest.warns(HookDeprecation, match=f"{WHAT}: {INSTEAD}") as caught:
        find("acme-old")
    assert caught[0].filename.endswith(f"{package}/_plugin.py")


def test_where_warnings_are_errors_it_is_the_problem_of_that_plugin_alone(axlearn_install, find):
    axlearn_install("acme-old", plugin=PLUGIN)
    axlearn_install("acme-new", plugin=NEW)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HookDeprecation)
        assert find("acme-old").problem.what == WHAT
        assert find("acme-new").status == "ok"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_hook_is_still_called():
    class Old:
        seen = None

        @hookimpl
        def axlearn_run_started(self, event):
            self.seen = event

    old = Old()
    with isolated_registry(acme=old) as registry:
        registry.hook.axlearn_run_started("event")
    assert old.seen == "event"


def test_the_reference_says_it_too():
    assert hook_references()["axlearn_run_started"].deprecation.what == WHAT
    output = CliRunner().invoke(axl, ["hooks", "axlearn_run_started"]).output
    assert "Deprecated" in output and INSTEAD in " ".join(output.split())
    assert f"Deprecated: {INSTEAD}." in CliRunner().invoke(axl, ["hooks"]).output
