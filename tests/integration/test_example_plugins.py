"""The plugins of `examples/plugins` use only public names, as those of a stranger have to."""

import ast
import importlib
import inspect
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PLUGINS = sorted((ROOT / "examples" / "plugins").glob("*/pyproject.toml"))
FILES = sorted(path for project in PLUGINS for path in project.parent.rglob("*.py"))
MODULES = [path for path in FILES if path.parent.parent.name == "src" and path.name[0] != "_"]

every_plugin = pytest.mark.parametrize("project", PLUGINS, ids=lambda path: path.parent.name)
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def imported(tree):
    """Yields the dotted name of everything that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(tree):
    """Yields module and name of everything that a file imports from packages of this repository."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("axlearn_"):
            yield from ((node.module, alias.name) for alias in node.names)


def own_names(tree):
    """Returns the names that a file defines, as functions or classes or attributes of objects."""
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    return defined | {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


def private_uses(source):
    """Lists the private names that a file takes from elsewhere."""
    tree = ast.parse(source)
    imports = [name for name in imported(tree) if any(map(is_private, name.split(".")))]
    reads = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr)
    ]
    return imports + sorted(set(reads) - own_names(tree))


def private_overrides(cls):
    """Lists the private methods of axlearn's classes that a subclass defines again."""
    bases = [base for base in cls.__mro__[1:] if base.__module__.startswith("axlearn_")]
    methods = {n for base in bases for n, x in vars(base).items() if inspect.isfunction(x)}
    return sorted(name for name in methods & vars(cls).keys() if is_private(name))


@every_file
def test_it_takes_no_private_name_from_another_package(path):
    assert private_uses(path.read_text(encoding="utf-8")) == []


@every_file
def test_all_that_it_imports_from_here_is_declared_public(path):
    """That is, some `__all__` lists it."""
    for module, name in ours(ast.parse(path.read_text(encoding="utf-8"))):
        assert name in getattr(importlib.import_module(module), "__all__", []), (module, name)


@every_module
def test_its_classes_override_no_private_method(path, monkeypatch):
    for project in PLUGINS:
        monkeypatch.syspath_prepend(project.parent / "src")
    module = importlib.import_module(f"{path.parent.name}.{path.stem}")
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass)]
    own = [cls for cls in classes if cls.__module__ == module.__name__]
    assert {cls.__name__: private_overrides(cls) for cls in own if private_overrides(cls)} == {}


@every_plugin
def test_it_takes_the_packages_of_this_repository(project):
    declared = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, declared["dependencies"]):
        folder = ROOT / "packages" / requirement.name.removeprefix("axlearn-")
        if requirement.name.startswith("axlearn-"):
            ours = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
            assert requirement.specifier.contains(Version(ours)), requirement


def test_these_checks_see_what_is_private():
    assert private_uses("from axlearn_core._plugin import axlearn_layers") == [
        "axlearn_core._plugin.axlearn_layers"
    ]
    assert private_uses("self.add_child(name)._initializer") == ["_initializer"]
    assert private_uses("self._own = 1\nself._own") == []
    base = type("Base", (), {"__module__": "axlearn_layers", "_compute": lambda self: None})
    assert private_overrides(type("Mine", (base,), {"_compute": None, "_own": None})) == [
        "_compute"
    ]
