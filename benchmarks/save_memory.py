"""How much more memory a process takes that saves all the time: one copy of the state, at most.

Two children make the same steps of a model whose state is one large table; one of them saves after
every step, without waiting. What is compared is the most that each has held (VmHWM) before its last
save. `copies` is the difference over the size of the state.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

VOCABULARY = 6000  # a table of 137 MiB
STEPS = 8


def child(every: int | None) -> None:
    import orbax.checkpoint  # noqa: F401 - whose code both hold

    from axlearn_core import _plugin
    from axlearn_core.plugins import hookimpl
    from axlearn_core.testing.registries import isolated_registry
    from axlearn_core.testing.tiny import experiment

    peaks = []

    class Observer:
        @hookimpl
        def axlearn_step_completed(self, event: object) -> None:
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    cfg = experiment().set(max_step=STEPS, evaluations={}, log_every=1)
    cfg.model.vocab_size = VOCABULARY
    cfg.checkpoint.set(every=every, keep=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        isolated_registry(axlearn_core=_plugin, acme=Observer()),
    ):
        cfg.instantiate().run(Path(folder) / "run")
    print(json.dumps(peaks[-1]))


def peak(every: str) -> int:
    done = subprocess.run(
        [sys.executable, __file__, every], check=True, capture_output=True, text=True
    )
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    state = 4 * VOCABULARY**2
    alone, saving = peak("none"), peak("1")
    result = {
        "ratio": (saving - alone) / state,
        "state_MB": state / 1e6,
        "without_saves_MB": alone / 1e6,
        "with_saves_MB": saving / 1e6,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    if sys.argv[1:]:
        child(None if sys.argv[1] == "none" else int(sys.argv[1]))
    else:
        main()
