"""Several processes on this host, supervised."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
from collections.abc import Mapping

from axlearn_core.config import ConfigError
from axlearn_core.hardware import detect
from axlearn_core.hardware.contract import COORDINATOR, PROCESS_COUNT, PROCESS_INDEX
from axlearn_core.launch.contract import Job, Launcher, LaunchError
from axlearn_core.launch.supervisor import Ended, supervise
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
            restarts: how often to start again from the last checkpoint after one has died.
            all_output: show what every process prints, and not only the first.
            port: at which process 0 coordinates the others; by default a free one.
        """

        processes: int = 2
        devices_per_process: int | None = None
        restarts: int = 0
        all_output: bool = False
        port: int | None = None

    def __init__(self, config: Config):
        super().__init__(config)
        for name in ("processes", "devices_per_process"):
            if (value := getattr(config, name)) is not None and value < 1:
                raise ConfigError(f"{name} (={value}) must be at least 1")
        if config.restarts < 0:
            raise ConfigError(f"restarts (={config.restarts}) must be at least 0")

    def text(self, job: Job) -> str:
        port = self.config.port or "PORT"
        lines = []
        for index in range(self.config.processes):
            own = self._variables(index, port, os.environ)
            shown = " ".join(f"{name}={shlex.quote(value)}" for name, value in own.items())
            lines.append(f"{shown} {shlex.join(_command(job))}")
        return "\n".join(lines)

    def launch(self, job: Job) -> int:
        cfg = self.config
        for attempt in range(cfg.restarts + 1):
            port = cfg.port or _free_port()
            environments = [
                {**os.environ, **self._variables(index, port, os.environ)}
                for index in range(cfg.processes)
            ]
            ended = supervise(_command(job), environments, all_output=cfg.all_output)
            if ended.stopped == signal.SIGINT:
                return 130
            if ended.failed is None:
                return 0
            print(_report(ended, last=attempt == cfg.restarts), flush=True)
            if ended.stopped:
                break
            if attempt < cfg.restarts:
                print(f"restart {attempt + 1} of {cfg.restarts}: from the last checkpoint")
        return 1

    def _variables(
        self, index: int, port: int | str, environment: Mapping[str, str]
    ) -> dict[str, str]:
        count = self.config.processes
        return {
            COORDINATOR: f"localhost:{port}",
            PROCESS_COUNT: str(count),
            PROCESS_INDEX: str(index),
            "PYTHONUNBUFFERED": "1",
            **_devices(index, count, self.config.devices_per_process, environment),
        }


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


def _free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _report(ended: Ended, *, last: bool) -> str:
    assert ended.failed is not None
    code = ended.codes[ended.failed]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    said = "".join(f"\n  {line}" for line in ended.last_lines) or " none"
    more = "\nThe same command goes on from the last checkpoint" if last else ""
    return f"process {ended.failed} {how}, and the others with it. Its last lines:{said}{more}"
