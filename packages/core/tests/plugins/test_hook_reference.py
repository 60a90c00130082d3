"""What is said about hooks is complete, and its examples are plugins."""

import json
import re
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

from axlearn_core.cli.main import axl
from axlearn_core.plugins import RECORD_TYPES, PluginError
from axlearn_core.plugins.hookspecs import specifications
from axlearn_core.plugins.manager import Plugin, new_manager, register
from axlearn_core.plugins.reference import FACTS, hook_references

TESTS = Path(__file__).parents[1]
HOOKS = hook_references()
each_hook = pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)


def test_every_hook_is_in_the_reference():
    assert list(HOOKS) == list(specifications())


@each_hook
def test_a_hook_says_when_how_often_where_and_what_an_exception_does(hook):
    assert hook.summary.endswith(".")
    assert [fact for fact in FACTS if not hook.facts.get(fact)] == []


@each_hook
def test_a_hook_that_provides_says_what_its_target_is_and_who_reads_it(hook):
    told = {"Target", "Read by"} & hook.facts.keys()
    assert len(told) == (2 if hook.role == "provide" else 0)


@each_hook
def test_every_field_has_a_meaning(hook):
    assert [field.name for field in hook.fields if not field.meaning] == []


def test_a_record_has_the_fields_of_all_records_and_its_own():
    fields = ["name", "target", "summary", "op", "platform"]
    assert [f.name for f in HOOKS["axlearn_kernels"].fields] == fields
    records = [hook.record for hook in HOOKS.values() if hook.role == "provide"]
    assert records == list(RECORD_TYPES)


@each_hook
def test_an_example_is_a_plugin_that_implements_its_hook(hook):
    module = types.ModuleType("acme._plugin")
    exec(compile(hook.example, hook.name, "exec"), vars(module))
    manager = new_manager()
    plugin = register(manager, Plugin("acme", "0", "acme", "ok"), module)
    assert plugin.status == "ok", plugin.problem
    assert [caller.name for caller in manager.get_hookcallers(module)] == [hook.name]
    assert len(plugin.components) == (1 if hook.role == "provide" else 0)


@each_hook
def test_a_test_implements_the_hook(hook):
    implementation = re.compile(rf"\bdef {hook.name}\(")
    found = [t for t in TESTS.rglob("test_*.py") if implementation.search(t.read_text("utf-8"))]
    assert found, f"no test below {TESTS} has a plugin with {hook.name}; write one"


@each_hook
def test_axl_hooks_tells_all_of_it(hook):
    told = CliRunner().invoke(axl, ["hooks", hook.name], catch_exceptions=False).output
    words = told.split()
    for text in (hook.summary, hook.example, *hook.facts.values()):
        assert " ".join(text.split()) in " ".join(words)


def test_axl_hooks_gives_one_hook_as_json():
    told = json.loads(CliRunner().invoke(axl, ["hooks", "axlearn_kernels", "--json"]).output)
    assert told["record"] == "KernelRecord" and told["deprecated"] is None
    assert told["fields"][-2]["name"] == "op" and "axlearn-core" in told["plugins"]


def test_an_unknown_hook_is_answered_with_near_names():
    error = CliRunner().invoke(axl, ["hooks", "axlearn_kernel"]).exception
    assert isinstance(error, PluginError)
    assert "no hook 'axlearn_kernel'. Did you mean 'axlearn_kernels'" in str(error)
