"""Processes on hosts of their own: network namespaces with addresses, names and cables."""

import subprocess

import pytest

SLOW = "slow:experiment"
COUNT = 2


@pytest.fixture
def start_on(hosts, start):
    """Starts one process on each host, with 4 devices each."""
    within = hosts(COUNT)

    def start_on(*words, **environment):
        return start(COUNT, *words, coordinator="axl0:1234", within=within, **environment)

    return start_on


def test_two_hosts_train_with_the_bits_of_one(start_on, train, tmp_path):
    words = ("train", SLOW, "max_step=4", "--dir")
    ended = [process.finish() for process in start_on(*words, "two")]
    assert [done.code for done in ended] == [0, 0], ended
    (alone,) = train(1, *words[1:], "one")
    assert alone.code == 0, alone
    found, expected = (tmp_path / name / "metrics.jsonl" for name in ("two", "one"))
    assert found.read_bytes() == expected.read_bytes()


def test_a_cut_cable_ends_both(start_on):
    first, second = start_on("train", SLOW, "--dir", "run", AXLEARN_HEARTBEAT_TIMEOUT="10")
    first.wait_for_line("step      1/")
    cut = ["ip", "-n", "axl1", "link", "set", "eth0", "down"]
    subprocess.run(cut, check=True)
    # Nothing closes a connection over a cut cable: JAX ends both for want of heartbeats.
    assert [process.finish().code for process in (first, second)] != [0, 0]
