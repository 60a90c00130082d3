"""Real processes that train as one, over the CPU's collectives."""

import re
import signal

import pytest

from axlearn_core.checkpoint import checkpoints, choose, read_array, read_manifest

SLOW = "slow:experiment"
TINY = "axlearn_core.testing.tiny:experiment"


def metrics(directory):
    """What a run has written: floats are written so that they read back to the same bits."""
    return (directory / "metrics.jsonl").read_bytes()


def final_state(directory):
    folder = choose(directory, None).info.path
    return {n: read_array(folder, a).tobytes() for n, a in read_manifest(folder).arrays.items()}


def test_four_processes_stop_together_and_one_then_two_go_on_with_the_bits_of_one(
    start, train, tmp_path
):
    """Two of the four hold one half of a batch, since the model axis is spread over both."""
    four = start(4, "train", SLOW, "--dir", "run")
    four[0].wait_for_line("step      3/")
    four[2].send(signal.SIGTERM)
    ended = [process.finish() for process in four]
    assert [done.code for done in ended] == [0, 0, 0, 0], ended
    (saved,) = checkpoints(tmp_path / "run", verify=True)
    assert saved.status == "complete"
    assert f"preempted after step {saved.step} of 100000; everything is saved" in ended[0].out
    for quiet in ended[1:]:
        assert [line for line in quiet.out.splitlines() if "[Gloo]" not in line] == []

    # One that ends evaluates, which the run left alone does at its own end only.
    for count, step, words in ((1, saved.step, ["evaluations={}"]), (2, saved.step + 2, [])):
        ended = train(count, SLOW, f"max_step={step + 2}", *words, "--dir", "run")
        assert [done.code for done in ended] == [0] * count, ended
        assert f"resuming from step {step}" in ended[0].out
    (alone,) = train(1, SLOW, f"max_step={saved.step + 4}", "--dir", "alone")
    assert alone.code == 0
    assert final_state(tmp_path / "run") == final_state(tmp_path / "alone")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "alone")


def test_a_process_with_another_config_and_another_plugin_is_named_before_the_first_step(
    train, tmp_path
):
    def different(words, environment):
        return (*words, "seed=1"), {**environment, "AXLEARN_DISABLE_PLUGINS": "axlearn-layers"}

    ended = train(2, TINY, "--dir", "run", different=different)
    for done in ended:
        assert done.code == 1
        assert re.search(r"differ from process 0 on \S+ \(left\):\n  process 1 on ", done.err)
        assert re.search(r"config seed: 0 -> 1\n", done.err)
        assert re.search(r"plugin axlearn-layers: \S+ -> \(absent\)", done.err)
    assert not (tmp_path / "run").exists()


def test_the_others_end_when_one_is_killed(start, tmp_path):
    first, second = start(2, "train", SLOW, "--dir", "run", AXLEARN_HEARTBEAT_TIMEOUT="10")
    first.wait_for_line("step      1/")
    second.send(signal.SIGKILL)
    done = first.finish()
    # Gloo sees the connection close. Where nothing does, JAX aborts for want of a heartbeat.
    assert done.code in (1, -signal.SIGABRT), done
    if done.code == 1:
        assert "another process of this run has ended or cannot be reached" in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize("index, says", [(0, "not all of the 2 processes"), (1, "coordinator at")])
def test_a_process_whose_peer_never_comes_says_so(start, index, says):
    (process,) = start(
        1,
        "train",
        TINY,
        AXLEARN_COORDINATOR="localhost:1",
        AXLEARN_PROCESS_COUNT="2",
        AXLEARN_PROCESS_INDEX=str(index),
        AXLEARN_INITIALIZATION_TIMEOUT="1",
    )
    done = process.finish()
    assert done.code == 1
    assert says in done.err
    assert "AXLEARN_INITIALIZATION_TIMEOUT=2" in done.err
