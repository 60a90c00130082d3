"""Hosts that one machine plays: network namespaces with names, addresses and cables.

Each runs programs of its own and reaches the others by their names, `axl0`, `axl1`, ..., over one
switch. All see the same files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

CUT = ("ip", "link", "set", "eth0", "down")
"""What a host runs to cut its own cable. Nothing closes its connections; nothing comes through."""

_TOOLS = ("ip", "nsenter", "unshare", "hostname")


def why_no_hosts() -> str | None:
    """Returns why this machine cannot play several hosts, or None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
        return f"not installed: {', '.join(missing)}"
    name = f"axl-probe-{os.getpid()}"
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if probe.returncode:
        return f"no network namespaces here: {probe.stderr.strip()}"
    _ip("netns", "delete", name)
    return None


def host_name(index: int) -> str:
    """Returns the name by which the others reach a host."""
    return f"axl{index}"


class Hosts:
    """Hosts by their number.

    Args:
        spaces: the names of their network namespaces.
        table: the file that is their /etc/hosts.
    """

    def __init__(self, spaces: list[str], table: Path):
        self._spaces = spaces
        self._table = table

    def within(self, index: int) -> list[str]:
        """Returns the words before a command that make it run on a host."""
        inside = (
            f'mount --bind {self._table} /etc/hosts && hostname {host_name(index)} && exec "$@"'
        )
        space = ["nsenter", f"--net=/run/netns/{self._spaces[index]}", "unshare", "--uts"]
        return [*space, "--mount", "sh", "-c", inside, "sh"]


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    """Within the block there are so many hosts; `why_no_hosts` says whether there can be."""
    spaces = [f"axl-{os.getpid()}-{index}" for index in range(count)]
    switch = f"axl-{os.getpid()}-switch"
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "hosts"
        lines = [f"10.77.0.{10 + index} {host_name(index)}" for index in range(count)]
        table.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]), encoding="utf-8")
        try:
            _ip("netns", "add", switch)
            _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", switch, "link", "set", "bridge", "up")
            for index, space in enumerate(spaces):
                _add_host(space, index, switch)
            yield Hosts(spaces, table)
        finally:
            for space in (*spaces, switch):
                subprocess.run(["ip", "netns", "delete", space], capture_output=True)


def _add_host(space: str, index: int, switch: str) -> None:
    _ip("netns", "add", space)
    cable = ["link", "add", "eth0", "netns", space, "type", "veth"]
    _ip(*cable, "peer", "name", f"port{index}", "netns", switch)
    _ip("-n", switch, "link", "set", f"port{index}", "master", "bridge", "up")
    _ip("-n", space, "address", "add", f"10.77.0.{10 + index}/24", "dev", "eth0")
    _ip("-n", space, "link", "set", "eth0", "up")
    _ip("-n", space, "link", "set", "lo", "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
