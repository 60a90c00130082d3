# Specifications have docstrings for bodies.
# mypy: disable-error-code="empty-body"
"""Hooks that change a run.

Process: every process, which must come to the same result: a hook does not ask for the time, the
    host or a random number.
On an exception: the command stops with an error that names the plugin. So it does if the hook
    returns anything but a config of the type it was given.
"""

from __future__ import annotations

from typing import TypeVar

from axlearn_core.plugins.hookspecs.marks import hookspec

Cfg = TypeVar("Cfg")


@hookspec
def axlearn_configure_trainer(cfg: Cfg) -> Cfg:
    """Returns the trainer's config to use instead of `cfg`, which may be edited in place.

    When: an experiment's config is made from its name, after mesh rule and overrides and before
        anything is built. A trainer that Python code builds itself is not changed.
    How often: once for every config that is made: by `axl train`, and by `axl config`, which shows
        what would be trained. `axl eval` and `axl generate` read the config of the checkpoint, and
        make it anew only where it could not be saved. Plugins follow one another, each with what
        the one before returned, in the reverse order of their names.

    Example:
        from axlearn_core.plugins import hookimpl


        @hookimpl
        def axlearn_configure_trainer(cfg):
            cfg.log_every = min(cfg.log_every, 50)
            return cfg
    """
