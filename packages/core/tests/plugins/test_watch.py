"""What discovery sees while it reads a plugin. Clocks are the tests' own."""

import sys
import threading
from types import SimpleNamespace

import pytest

from axlearn_core.plugins import Plugin, PluginError, discover, watch
from axlearn_core.plugins.watch import SLOW_SECONDS, Watch

LAYER = """
from axlearn_core.plugins import LayerRecord, hookimpl

@hookimpl
def axlearn_layers():
    {body}
    return [LayerRecord("norm", "acme.norms:Norm", "A norm.")]
"""


@pytest.fixture
def heavy(axlearn_install, monkeypatch):
    """Installs a package that counts as heavy in this test, and returns its name."""
    monkeypatch.setattr(watch, "HEAVY", ("acme_runtime",))
    return axlearn_install("acme-runtime")


@pytest.fixture
def clock(monkeypatch):
    """A clock that plugins set forward: `import acme_clock; acme_clock.now += 2`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setitem(sys.modules, "acme_clock", clock)
    return clock


def watched(distribution, **options):
    found = discover({}, Watch(**options)).plugins
    return next(plugin for plugin in found if plugin.distribution == distribution)


def test_the_seconds_of_a_plugin_are_those_of_its_import_and_of_its_hooks(axlearn_install, clock):
    source = "import acme_clock\nacme_clock.now += 2\n" + LAYER.format(body="acme_clock.now += 3")
    axlearn_install("acme-slow", plugin=source)
    axlearn_install("acme-zero")
    assert watched("acme-slow", clock=lambda: clock.now).import_seconds == 5
    assert watched("acme-zero", clock=lambda: clock.now).import_seconds == 0


def test_a_plugin_is_slow_above_the_limit():
    assert Plugin("acme", "1", "acme", "ok", import_seconds=SLOW_SECONDS).slowness is None
    slowness = Plugin("acme", "1", "acme", "ok", import_seconds=1.25).slowness
    assert slowness.plugin == "acme"
    assert "importing it takes 1.2 s, for which every axl command waits" in slowness.what
    assert "(at most 0.5 s are fine)" in slowness.what
    assert "python -X importtime" in slowness.fix


def test_a_heavy_import_is_a_problem_of_a_plugin_that_stays_in_use(axlearn_install, find, heavy):
    source = f"from acme_plain import norms\n{LAYER.format(body='')}"
    axlearn_install("acme-plain", plugin=source, modules={"norms": f"\nimport {heavy}"})
    plugin = find("acme-plain")
    assert (plugin.status, len(plugin.components)) == ("ok", 1)
    chain = "(acme_plain._plugin:1 > acme_plain.norms:2 > acme_runtime)"
    assert f"it imports acme_runtime when axl reads it {chain}" in plugin.problem.what
    assert "take the import out of acme_plain._plugin" in plugin.problem.fix


def test_a_heavy_import_in_a_hook_is_one_too(axlearn_install, find, heavy):
    axlearn_install("acme-plain", plugin=LAYER.format(body=f"import {heavy}"))
    assert "(acme_plain._plugin:6 > acme_runtime)" in find("acme-plain").problem.what


def test_of_a_package_between_only_the_line_into_it_is_shown(axlearn_install, find, heavy):
    axlearn_install("acme-tools", modules={"a": "import acme_tools.b", "b": f"import {heavy}"})
    axlearn_install("acme-plain", plugin="import acme_tools.a")
    assert "(acme_plain._plugin:1 > acme_tools.a:1 > acme_runtime)" in (
        find("acme-plain").problem.what
    )


def test_looking_for_a_heavy_package_is_fine(axlearn_install, find, heavy):
    axlearn_install(
        "acme-plain", plugin=f"import importlib.util\nimportlib.util.find_spec('{heavy}')"
    )
    assert find("acme-plain").problem is None


def test_the_failure_of_a_plugin_counts_more_than_its_heavy_import(axlearn_install, find, heavy):
    axlearn_install("acme-plain", plugin=f"import {heavy}\n1 / 0")
    assert "ZeroDivisionError" in find("acme-plain").problem.what


def test_strict_mode_makes_a_heavy_import_an_error(axlearn_install, heavy):
    axlearn_install("acme-plain", plugin=f"import {heavy}")
    with pytest.raises(PluginError, match="plugin acme-plain: it imports acme_runtime"):
        discover({"AXLEARN_STRICT_PLUGINS": "1"})


def test_discovery_leaves_no_finder_behind(axlearn_install):
    before = list(sys.meta_path)
    axlearn_install("acme-broken", plugin="1 / 0")
    discover({})
    assert sys.meta_path == before


def test_a_plugin_that_takes_long_is_named_while_one_waits(axlearn_install, monkeypatch):
    said, heard = [], threading.Event()
    monkeypatch.setitem(sys.modules, "acme_gate", heard)

    def say(message):
        said.append(message)
        heard.set()

    axlearn_install("acme-waits", plugin="import acme_gate\nacme_gate.wait(60)")
    plugin = watched("acme-waits", patience=0.0, say=say)
    assert plugin.status == "ok"
    assert (
        "still importing plugin acme-waits after 0 s; to go without it: "
        "AXLEARN_DISABLE_PLUGINS=acme-waits"
    ) in said


def test_of_quick_plugins_nothing_is_said(axlearn_install):
    said = []
    axlearn_install("acme-quick")
    watched("acme-quick", patience=600.0, say=said.append)
    assert said == []


def test_an_interrupt_says_which_plugin_was_imported(axlearn_install):
    axlearn_install("acme-hang", plugin="raise KeyboardInterrupt")
    way_out = "to go without it: AXLEARN_DISABLE_PLUGINS=acme-hang"
    with pytest.raises(KeyboardInterrupt, match=f"while plugin acme-hang was imported; {way_out}"):
        discover({})


def test_what_a_plugin_prints_does_not_get_into_the_output(axlearn_install, find, capsys):
    axlearn_install("acme-loud", plugin="print('welcome')")
    find("acme-loud")
    assert capsys.readouterr() == ("", "welcome\n")
