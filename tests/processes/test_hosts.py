"""Processes on hosts of their own: network namespaces with addresses, names and cables."""

import json
import subprocess

import pytest

from axlearn_core.drill.hosts import CUT

SLOW = "slow:experiment"
COUNT = 2


@pytest.fixture
def start_on(hosts, start):
    """Starts one process on each of two hosts, with 4 devices each; axl2 is a spare one."""
    within = hosts(COUNT + 1)

    def start_on(numbers, *words, **options):
        return start(
            COUNT,
            *words,
            coordinator="axl0:1234",
            within=lambda index: within(numbers[index]),
            **options,
        )

    start_on.cut = lambda number: subprocess.run([*within(number), *CUT], check=True)
    return start_on


def test_two_hosts_train_with_the_bits_of_one_also_after_a_spare_one_replaced_a_lost_one(
    start_on, train, tmp_path
):
    words = ("train", SLOW, "copies.every=3", f"copies.directory={tmp_path}/memory")
    run = ("--dir", "run")
    first, second = start_on((0, 1), *words, *run, AXLEARN_HEARTBEAT_TIMEOUT="10")
    first.wait_for_line("step      8/")
    start_on.cut(1)
    # Nothing closes a connection over a cut cable: JAX ends both for want of heartbeats.
    assert [process.finish().code for process in (first, second)] != [0, 0]

    def spare(words, environment):  # which has nothing in its memory
        return words, {**environment, "AXLEARN_PLACE": "2"}

    ended = start_on((0, 2), *words, "max_step=40", *run, different=spare)
    ended = [process.finish() for process in ended]
    assert [done.code for done in ended] == [0, 0], ended
    assert "1 of 2 processes have a copy, 1 took one from another" in ended[0].out
    (restored,) = (tmp_path / "run/restores.jsonl").read_text().splitlines()
    assert json.loads(restored)["step"] >= 6

    (alone,) = train(1, SLOW, "max_step=40", "--dir", "one")
    assert alone.code == 0, alone
    found, expected = (tmp_path / name / "metrics.jsonl" for name in ("run", "one"))
    assert found.read_bytes() == expected.read_bytes()
