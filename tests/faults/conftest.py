"""Whole runs of the tiny experiment, in this process."""

import io

import pytest

from axlearn_core.observe.progress import Progress
from axlearn_core.testing.tiny import experiment


@pytest.fixture
def run(tmp_path):
    """Trains in a folder of tmp_path with values of the checkpoint's config; returns what it said."""

    def run(name, *, max_step, change=None, **checkpoint):
        cfg = experiment().set(max_step=max_step, log_every=1)
        cfg.learner.total_steps = 100
        cfg.checkpoint.set(**checkpoint)
        if change is not None:
            change(cfg)
        out = io.StringIO()
        trainer = cfg.instantiate()
        try:
            trainer.run(tmp_path / name, progress=Progress(max_step, out))
        finally:
            (tmp_path / f"{name}.out").write_text(out.getvalue())
        return out.getvalue()

    return run
