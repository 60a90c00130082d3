"""kill -9 again and again: what is left is always enough to go on with the same bits.

`axl drill EXPERIMENT --faults "kill -9" --repeat 3` does it at more than thirty points, each in a
run of its own; docs/drill.md has the table.
"""

import pytest

from axlearn_core.drill import Drill, Fault, Strike
from axlearn_core.drill.log import read_log
from axlearn_core.drill.points import POINTS
from axlearn_core.launch.local import Local

TINY = "axlearn_core.testing.tiny:experiment"
# One run, killed in session after session. The first leaves a checkpoint for the second to restore.
KILLS = Fault(
    "kill -9 again and again",
    (
        Strike("after the manifest"),
        Strike("inside a restore", within=0.1),
        Strike("during compile", within=0.2),
        Strike("between prefetch and step", nth=3),
        Strike("while arrays are written", within=0.02),
        Strike("before the manifest"),
    ),
)


@pytest.fixture
def drill(tmp_path):
    words = ("max_step=20", "checkpoint.every=4", "log_every=1", f"compile_cache={tmp_path}/cache")
    return Drill(TINY, words, tmp_path / "drill", Local.Config(processes=1).instantiate())


def test_a_run_that_is_killed_again_and_again_ends_with_the_bits_of_one_left_alone(drill, tmp_path):
    drill.undisturbed()
    outcome = drill.run(KILLS)
    assert outcome.struck and outcome.survived, outcome
    assert outcome.replayed > 0
    *_, last = sorted((tmp_path / "drill/logs/kill-9-again-and-again-0").iterdir())
    (passes,) = [e["counts"] for e in read_log(last / "0.jsonl") if e["event"] == "passes"]
    assert passes.keys() >= POINTS.keys()  # those that the drill knows are those that a run passes
