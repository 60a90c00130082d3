"""Processes on hosts of their own: network namespaces with addresses, names and cables."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SLOW = "slow:experiment"
COUNT = 2


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def why_not():
    """Returns why this machine cannot play several hosts, or None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in ("ip", "unshare", "hostname") if not shutil.which(tool)]:
        return f"not installed: {', '.join(missing)}"
    probe = subprocess.run(["ip", "netns", "add", "axl-probe"], capture_output=True, text=True)
    if probe.returncode:
        return f"no network namespaces here: {probe.stderr.strip()}"
    ip("netns", "delete", "axl-probe")
    return None


@pytest.fixture
def hosts():
    """Makes hosts axl0, axl1, ... with the addresses 10.77.0.10, ... on one switch."""
    if reason := why_not():
        pytest.skip(reason)
    names = [f"axl{index}" for index in range(COUNT)]
    table = "".join(f"10.77.0.1{index} {name}\n" for index, name in enumerate(names))
    try:
        ip("netns", "add", "axl-switch")
        ip("-n", "axl-switch", "link", "add", "bridge", "type", "bridge")
        ip("-n", "axl-switch", "link", "set", "bridge", "up")
        for index, name in enumerate(names):
            ip("netns", "add", name)
            cable = ["link", "add", "eth0", "netns", name, "type", "veth"]
            ip(*cable, "peer", "name", f"port{index}", "netns", "axl-switch")
            ip("-n", "axl-switch", "link", "set", f"port{index}", "master", "bridge", "up")
            ip("-n", name, "address", "add", f"10.77.0.1{index}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            folder = Path("/etc/netns") / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{table}")
        yield names
    finally:
        for name in (*names, "axl-switch"):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)


@pytest.fixture
def start_on(hosts, start):
    """Starts one process on each host, with 4 devices each."""

    def within(index):
        rename = ["unshare", "--uts", "sh", "-c", f'hostname {hosts[index]} && exec "$@"', "sh"]
        return ["ip", "netns", "exec", hosts[index], *rename]

    def start_on(*words, **environment):
        coordinator = f"{hosts[0]}:1234"
        return start(COUNT, *words, coordinator=coordinator, within=within, **environment)

    return start_on


def test_two_hosts_train_with_the_bits_of_one(start_on, train, tmp_path):
    words = ("train", SLOW, "max_step=4", "--dir")
    ended = [process.finish() for process in start_on(*words, "hosts")]
    assert [done.code for done in ended] == [0, 0], ended
    (alone,) = train(1, *words[1:], "one")
    assert alone.code == 0, alone
    found, expected = (tmp_path / name / "metrics.jsonl" for name in ("hosts", "one"))
    assert found.read_bytes() == expected.read_bytes()


def test_a_cut_cable_ends_both(start_on):
    first, second = start_on("train", SLOW, "--dir", "run", AXLEARN_HEARTBEAT_TIMEOUT="10")
    first.wait_for_line("step      1/")
    ip("-n", "axl1", "link", "set", "eth0", "down")
    # Nothing closes a connection over a cut cable: JAX ends both for want of heartbeats.
    assert [process.finish().code for process in (first, second)] != [0, 0]
