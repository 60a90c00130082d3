"""Several processes on this host, supervised."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from collections.abc import Mapping

from axlearn_core.config import ConfigError
from axlearn_core.errors import EXIT_HUNG
from axlearn_core.hardware import detect
from axlearn_core.hardware.contract import COORDINATOR, PLACE, PROCESS_COUNT, PROCESS_INDEX
from axlearn_core.launch.contract import Job, Launcher, LaunchError
from axlearn_core.launch.supervisor import Ended, Shown, supervise
from axlearn_core.plugins import get_registry

_FORCED_DEVICES = "--xla_force_host_platform_device_count"


class Local(Launcher):
    """Runs the processes here, and starts all of them again when one dies."""

    class Config(Launcher.Config):
        """Options of `axl launch local`.

        Attributes:
            processes: how many.
            devices_per_process: each gets its own; by default GPUs are shared out evenly, and the
                CPU is one device to each process.
            spares: places for further processes, each with devices and storage of its own; one of
                them takes over from a place whose process has died or hung.
            restarts: how often to start again from the last checkpoint after one has died, or hung
                and was ended by its watchdog (code 75).
            all_output: show what every process prints, and not only the first.
            port: at which process 0 coordinates the others; by default a free one.
        """

        processes: int = 2
        devices_per_process: int | None = None
        spares: int = 0
        restarts: int = 0
        all_output: bool = False
        port: int | None = None

    def __init__(self, config: Config):
        super().__init__(config)
        for name in ("processes", "devices_per_process"):
            if (value := getattr(config, name)) is not None and value < 1:
                raise ConfigError(f"{name} (={value}) must be at least 1")
        for name in ("restarts", "spares"):
            if (value := getattr(config, name)) < 0:
                raise ConfigError(f"{name} (={value}) must be at least 0")

    def text(self, job: Job) -> str:
        lines = []
        for own in self.variables(Places(self.config.processes), self.config.port or "PORT"):
            shown = " ".join(f"{name}={shlex.quote(value)}" for name, value in own.items())
            lines.append(f"{shown} {shlex.join(_command(job))}")
        return "\n".join(lines)

    def launch(self, job: Job) -> int:
        cfg = self.config
        places = Places(cfg.processes, cfg.spares)
        for attempt in range(cfg.restarts + 1):
            environments = [
                {**os.environ, **own} for own in self.variables(places, cfg.port or free_port())
            ]
            shown: Shown = "all" if cfg.all_output else "first"
            ended = supervise(_command(job), environments, shown=shown)
            if ended.stopped == signal.SIGINT:
                return 130
            if ended.failed is None:
                return 0
            print(_report(ended, last=attempt == cfg.restarts), flush=True)
            if ended.stopped:
                break
            if attempt < cfg.restarts:
                if moved := places.replace(ended.failed):
                    print(moved)
                print(f"restart {attempt + 1} of {cfg.restarts}: from the last checkpoint")
        return 1

    def variables(self, places: Places, port: int | str) -> list[dict[str, str]]:
        """Returns what each process has in its environment besides what is there already.

        Raises:
            LaunchError: if this host has not enough devices.
        """
        cfg = self.config
        total = cfg.processes + cfg.spares
        return [
            {
                COORDINATOR: f"localhost:{port}",
                PROCESS_COUNT: str(cfg.processes),
                PROCESS_INDEX: str(index),
                PLACE: str(place),
                "PYTHONUNBUFFERED": "1",
                **_devices(place, total, cfg.devices_per_process, os.environ),
            }
            for index, place in enumerate(places.taken)
        ]


class Places:
    """Where on this host the processes run: each place has devices and storage of its own.

    Attributes:
        taken: the place of each process.
    """

    def __init__(self, processes: int, spares: int = 0):
        self.taken = list(range(processes))
        self._spares = list(range(processes, processes + spares))

    def replace(self, process: int) -> str | None:
        """Gives a process a spare place if there is one left, and says so."""
        if not self._spares:
            return None
        left, self.taken[process] = self.taken[process], self._spares.pop(0)
        return f"process {process} leaves place {left} for the spare place {self.taken[process]}"


def _devices(
    index: int, count: int, each: int | None, environment: Mapping[str, str]
) -> dict[str, str]:
    """Returns the variables that give a process its devices.

    Raises:
        LaunchError: if this host has not enough of them.
    """
    probe = detect(get_registry(), environment).probe
    if probe.platform == "cpu":
        if each is None:
            return {}
        flags = environment.get("XLA_FLAGS", "").split()  # jax takes only one of the two
        kept = " ".join(flag for flag in flags if not flag.startswith(_FORCED_DEVICES))
        return {"JAX_NUM_CPU_DEVICES": str(each), "XLA_FLAGS": kept}
    each = each or probe.count // count
    if each * count > probe.count or not each:
        raise LaunchError(
            f"{count} processes with {each or 1} devices each need {count * (each or 1)}, and here "
            f"are {probe.count} ({probe.description}). Start fewer processes, or give each fewer "
            "devices"
        )
    return {"AXLEARN_LOCAL_DEVICES": ",".join(map(str, range(index * each, (index + 1) * each)))}


def _command(job: Job) -> list[str]:
    return [sys.executable, "-m", "axlearn_core.cli.main", *job.words]


def free_port() -> int:
    """Returns a port of this host that nobody serves."""
    with socket.create_server(("localhost", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _report(ended: Ended, *, last: bool) -> str:
    assert ended.failed is not None
    code = ended.codes[ended.failed]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    how = "hung, and its watchdog ended it" if code == EXIT_HUNG else how
    said = "".join(f"\n  {line}" for line in ended.last_lines) or " none"
    more = "\nThe same command goes on from the last checkpoint" if last else ""
    return f"process {ended.failed} {how}, and the others with it. Its last lines:{said}{more}"
