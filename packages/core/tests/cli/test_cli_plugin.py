"""`axl plugin new`: what it writes, and what it refuses. That it works is in tests/new_plugins."""

import importlib
import sys
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from axlearn_core.cli.templates import TEMPLATES, rendering
from axlearn_core.plugins import KINDS, discover
from axlearn_core.testing.distributions import write_metadata

every_kind = pytest.mark.parametrize("kind", TEMPLATES)


@pytest.fixture
def new(axl):
    """Runs `axl plugin new` in an empty folder and expects an exit code."""

    def new(*words, code=0):
        done = axl("plugin", "new", *words)
        assert done.code == code, done
        return done

    return new


@pytest.fixture
def written(new, tmp_path):
    """Writes a plugin of a kind and returns its folder."""

    def written(kind):
        new("acme-parts", "--kind", kind)
        return tmp_path / "acme-parts"

    return written


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def test_a_template_is_of_a_kind_that_plugins_can_have():
    assert set(TEMPLATES) < set(KINDS)


@every_kind
def test_all_that_is_python_compiles(written, kind):
    files = list(written(kind).rglob("*.py"))
    assert len(files) >= 5
    for file in files:
        compile(file.read_text(), file, "exec")


@every_kind
def test_core_reads_its_records(written, kind, monkeypatch):
    source = written(kind) / "src"
    write_metadata(source, "acme-parts", requires=project(source.parent)["dependencies"])
    monkeypatch.syspath_prepend(source)
    importlib.invalidate_caches()
    try:
        (plugin,) = [p for p in discover({}).plugins if p.distribution == "acme-parts"]
    finally:
        sys.modules.pop("acme_parts._plugin", None)
    assert plugin.status == "ok", plugin.problem
    (component,) = plugin.components
    assert component.kind == kind
    module, attribute = component.record.target.split(":")
    defined = (source / module.replace(".", "/")).with_suffix(".py").read_text()
    assert f"class {attribute}" in defined or f"def {attribute}" in defined


@every_kind
def test_it_takes_the_installed_core(written, kind):
    (core,) = [
        requirement
        for requirement in map(Requirement, project(written(kind))["dependencies"])
        if requirement.name == "axlearn-core"
    ]
    assert core.specifier.contains(version("axlearn-core"))


@pytest.mark.parametrize(
    ("core", "expected"),
    [("0.1.0", ">=0.1,<0.2"), ("0.12.3", ">=0.12,<0.13"), ("1.4.2", ">=1.4,<2")],
)
def test_the_range_ends_where_core_may_change(monkeypatch, core, expected):
    monkeypatch.setattr(rendering, "version", lambda name: core)
    assert rendering.core_range() == expected


def test_it_shows_the_files_and_what_to_type_next(new):
    assert (
        new("acme-norms").out
        == """\
acme-norms/
  README.md
  noxfile.py
  pyproject.toml
  src/
    acme_norms/
      __init__.py
      _plugin.py
      norm.py
      py.typed
  tests/
    conftest.py
    test_norm.py
    test_plugin.py

next:
  cd acme-norms
  pip install -e '.[test]'
  pytest
  axl config show text.quickstart model.stack.layer.norm=acme-norms/scale_norm
"""
    )


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("Acme_Layers", "acme-layers"),
        ("acme--layers", "acme-layers"),
        ("acme layers!", "acme-layers"),
        ("../layers", "layers"),
        ("9lives", "acme-9lives"),
        ("lambda", "acme-lambda"),
        ("_", "acme"),
        ("JSON", "acme-json"),
    ],
)
def test_a_bad_name_is_answered_with_a_good_one(new, tmp_path, name, suggestion):
    error = new(name, code=1).err
    assert f"got {name!r}. Write: axl plugin new {suggestion}\n" in error
    assert not list(tmp_path.iterdir())
    new(suggestion)


@pytest.mark.parametrize("name", ["json", "axlearn-core"])
def test_a_name_that_would_hide_a_module_is_refused(new, name):
    assert f"Write: axl plugin new acme-{name}" in new(name, code=1).err


def test_an_existing_folder_stays_as_it_is(new, tmp_path):
    (tmp_path / "acme-norms").mkdir()
    assert "there is already acme-norms: take another name" in new("acme-norms", code=1).err
    assert not list((tmp_path / "acme-norms").iterdir())


def test_an_unknown_kind_is_answered_with_near_ones(new):
    error = new("acme-norms", "--kind", "optimiser", code=2).err
    assert "there is no kind 'optimiser'. Did you mean 'optimizer'? Write one of command," in error


def test_a_kind_without_a_template_is_told_so(new):
    assert "there is no template 'schedule'." in new("acme", "--kind", "schedule", code=2).err
