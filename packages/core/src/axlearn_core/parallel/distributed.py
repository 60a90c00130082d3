"""Several processes that train as one: how they find each other, and how they part.

JAX's coordination service does the work: one process serves an address, the others connect to it,
and each tells it every few seconds that it lives. Where it fails it ends the process from C++, with
a stack trace and no word of what to do; so what can be known before is looked at here.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jax

from axlearn_core.errors import UserError

INITIALIZATION_TIMEOUT: Final = "AXLEARN_INITIALIZATION_TIMEOUT"
HEARTBEAT_TIMEOUT: Final = "AXLEARN_HEARTBEAT_TIMEOUT"
LOCAL_DEVICES: Final = "AXLEARN_LOCAL_DEVICES"
_INITIALIZATION_SECONDS = 300  # jax's own defaults
_HEARTBEAT_SECONDS = 100
_RETRY_SECONDS = 0.2
# What jax's errors say when another process is gone: those of Gloo (CPU), NCCL (GPU), and gRPC.
_LOST = ("Gloo", "NCCL", "Connection closed", "Connection reset", "coordination service")


class ProcessError(UserError):
    """The processes of a run do not find each other, or do not agree."""


@contextlib.contextmanager
def joined(arguments: Mapping[str, Any] | None, environment: Mapping[str, str]) -> Iterator[None]:
    """Within the block this process is one of those that a backend's arguments describe.

    Call it before anything touches a device. If the block raises, this process ends without waiting
    for the others when Python exits: they may be waiting for it.

    Args:
        arguments: of `jax.distributed.initialize`, as `Hardware.distributed_arguments` gives them.
            None: this process is alone, and nothing happens.
        environment: may hold AXLEARN_INITIALIZATION_TIMEOUT (seconds until all must have joined,
            300), AXLEARN_HEARTBEAT_TIMEOUT (seconds without a sign of life after which a process
            counts as dead and ends all others, 100) and AXLEARN_LOCAL_DEVICES (which of this
            host's devices are this process's, such as "0,1"; jax decides by default).

    Raises:
        ProcessError: if the processes do not all join in time, or one is lost within the block.
    """
    if arguments is None:
        yield
        return
    timeout = _seconds(environment, INITIALIZATION_TIMEOUT, _INITIALIZATION_SECONDS)
    chosen: dict[str, Any] = {
        "heartbeat_timeout_seconds": _seconds(environment, HEARTBEAT_TIMEOUT, _HEARTBEAT_SECONDS)
    }
    if LOCAL_DEVICES in environment:
        chosen["local_device_ids"] = _local_devices(environment[LOCAL_DEVICES])
    try:
        _initialize({**arguments, **chosen}, timeout)
        yield
    except jax.errors.JaxRuntimeError as error:
        _leave_without_waiting(1)
        if not any(word in str(error) for word in _LOST):
            raise
        raise ProcessError(
            "another process of this run has ended or cannot be reached, and nothing can be "
            f"computed without it: {str(error).splitlines()[0]}\nIts own output says why. The last "
            "checkpoint is intact; start all processes again to go on from it"
        ) from error
    except BaseException as error:
        _leave_without_waiting(130 if isinstance(error, KeyboardInterrupt) else 1)
        raise


def _initialize(arguments: dict[str, Any], timeout: int) -> None:
    """Calls `jax.distributed.initialize`, and raises where that would end the process."""
    address = arguments.get("coordinator_address")
    deadline = time.monotonic() + timeout
    if address is not None:
        host, port = _host_and_port(str(address))
        if arguments["process_id"] == 0:
            _check_port_is_free(port)
        else:
            _wait_for_coordinator(host, port, timeout)
    failure: list[BaseException] = []

    def initialize() -> None:
        try:
            # With time to spare, since jax ends the process at the end of its own.
            jax.distributed.initialize(**arguments, initialization_timeout=timeout + 60)
        except BaseException as error:  # handed over to the thread that waits
            failure.append(error)

    # In a thread, so that Ctrl-C and the time limit work while it waits in C++.
    thread = threading.Thread(target=initialize, name="join", daemon=True)
    thread.start()
    thread.join(max(1.0, deadline - time.monotonic()))
    if thread.is_alive():
        raise ProcessError(_not_all_joined(arguments, timeout))
    if failure:
        raise failure[0]


def _not_all_joined(arguments: Mapping[str, Any], timeout: int) -> str:
    count = arguments.get("num_processes")
    who = f"not all of the {count} processes" if count else "not all processes"
    where = arguments.get("coordinator_address", "the address that jax found in the environment")
    return (
        f"{who} have joined at {where} within {timeout} s. Look at the output of the others: one "
        "may have failed, or was never started, or cannot reach that address. To wait longer: "
        f"{INITIALIZATION_TIMEOUT}={2 * timeout}"
    )


def _check_port_is_free(port: int) -> None:
    """Raises if another program of this host serves the port; jax would crash."""
    try:
        with socket.create_server(("", port)):
            pass
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise ProcessError(f"cannot serve port {port}: {error.strerror}") from error
        raise ProcessError(
            f"port {port}, at which process 0 is to coordinate the others, is in use on this host "
            "(`ss -ltnp` shows by whom; it may be an earlier run that has not ended). Give all "
            "processes the address with another port"
        ) from None


def _wait_for_coordinator(host: str, port: int, timeout: int) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:  # not there yet, a name that is not known yet, no route
            problem = error.strerror or str(error)
        if time.monotonic() > deadline:
            raise ProcessError(
                f"the coordinator at {host}:{port} has not answered within {timeout} s (the last "
                f"try: {problem}). Is process 0 running, and has it an error in its output? Is "
                f"{host} its host, as seen from {socket.gethostname()}, and does a firewall let "
                f"port {port} through? To wait longer: {INITIALIZATION_TIMEOUT}={2 * timeout}"
            )
        time.sleep(_RETRY_SECONDS)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ProcessError(
            f"the coordinator's address must be host:port, such as host0:1234, got {address!r}"
        )
    return host.strip("[]"), int(port)


def _seconds(environment: Mapping[str, str], name: str, default: int) -> int:
    given = environment.get(name, "")
    if not given:
        return default
    if not given.isdigit() or int(given) < 1:
        raise ProcessError(f"{name} must be whole seconds, such as {default}, got {given!r}")
    return int(given)


def _local_devices(given: str) -> list[int]:
    words = given.split(",")
    if not all(word.strip().isdigit() for word in words):
        raise ProcessError(f"{LOCAL_DEVICES} must be numbers, such as 0,1, got {given!r}")
    return [int(word) for word in words]


def _leave_without_waiting(code: int) -> None:
    """Makes Python's exit end the process before jax waits for the others to part, too."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)  # runs before what was registered earlier, which jax's is
