"""Losses among several processes: the others leave, and all go on with the same bits.

`axl drill EXPERIMENT --processes 4 --spares 1` does more of it; docs/drill.md has the table.
"""

import pytest

from axlearn_core.drill import Drill, Fault, Strike
from axlearn_core.launch.local import Local

TINY = "axlearn_core.testing.tiny:experiment"
LOSSES = Fault(
    "a hang, then loss of the coordinator",
    (
        Strike("after a step", nth=9, action="SIGSTOP", whom="last"),
        Strike("after a step", nth=9, whom="first"),
    ),
)


@pytest.fixture
def drill(tmp_path, monkeypatch):
    monkeypatch.setenv("AXLEARN_HEARTBEAT_TIMEOUT", "5")
    words = ("max_step=30", "log_every=1", f"compile_cache={tmp_path}/cache")
    # Each process has one half of the parameters, which nobody else has.
    words += ('mesh_shape={"fsdp": 2}', "copies.every=2", f"copies.directory={tmp_path}/memory")
    local = Local.Config(processes=2, devices_per_process=1, spares=1).instantiate()
    return Drill(TINY, words, tmp_path / "drill", local)


def test_after_losses_the_state_comes_from_the_nearest_copy_with_the_same_bits(drill):
    drill.undisturbed()
    outcome = drill.run(LOSSES)
    assert outcome.struck and outcome.survived, outcome
    first, second = outcome.sources
    # The spare place that the process which hung has left for holds nothing yet.
    assert (first["own"], first["fetched"], first["storage"]) == (1, 1, 0)
    assert (second["own"], second["fetched"], second["storage"]) == (2, 0, 0)
    assert outcome.replayed < 12  # storage has nothing at all: without copies all would be replayed
