"""Whole runs of small experiments, in this process."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from axlearn_core import _plugin
from axlearn_core.observe.progress import Progress
from axlearn_core.plugins import hookimpl
from axlearn_core.testing.registries import isolated_registry
from axlearn_core.training.trainer import Result


class Run(NamedTuple):
    directory: Path
    out: str
    result: Result | None  # None where it failed
    error: Exception | None

    @property
    def metrics(self):
        return (self.directory / "metrics.jsonl").read_bytes()


@pytest.fixture
def run(tmp_path):
    """Runs a config in a folder of tmp_path, with core's plugin and those given by name."""

    def run(config, name="run", *, records=(), changes=(), fails=(), **plugins):
        out, directory = io.StringIO(), tmp_path / name
        result = error = None
        with isolated_registry(*records, axlearn_core=_plugin, **plugins):
            trainer = config.instantiate()
            progress = Progress(config.max_step, out)
            try:
                result = trainer.run(directory, changes=changes, progress=progress)
            except fails as expected:
                error = expected
        assert error or not fails, "the run did not fail"
        return Run(directory, out.getvalue(), result, error)

    return run


@pytest.fixture
def observer():
    """Makes a plugin of functions by hook, `step_completed=...`, each taking the event."""

    def observer(**functions):
        plugin = SimpleNamespace()
        for name, function in functions.items():

            def hook(event, function=function):
                function(event)

            setattr(plugin, f"axlearn_{name}", hookimpl(hook))
        return plugin

    return observer
