"""What is looked at before jax waits for other processes, and would crash."""

import socket

import jax
import pytest

from axlearn_core.parallel import ProcessError, check_agreement, from_first, joined, raise_together

TIMEOUT = "AXLEARN_INITIALIZATION_TIMEOUT"


def cluster(address, index):
    return {"coordinator_address": address, "num_processes": 2, "process_id": index}


def test_alone_nothing_happens():
    with joined(None, {}):
        assert not jax.distributed.is_initialized()


def test_a_coordinator_that_does_not_answer_is_named_with_the_time_that_it_had():
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    arguments, environment = cluster(f"localhost:{port}", 1), {TIMEOUT: "1"}
    says = rf"localhost:{port} has not answered within 1 s"
    with pytest.raises(ProcessError, match=says), joined(arguments, environment):
        pass


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        says = f"port {port}, .* is in use on this host"
        arguments = cluster(f"localhost:{port}", 0)
        with pytest.raises(ProcessError, match=says), joined(arguments, {}):
            pass


@pytest.mark.parametrize(
    ("address", "environment", "says"),
    [
        ("host0", {}, "must be host:port, such as host0:1234, got 'host0'"),
        ("host0:0", {}, "must be host:port"),
        ("h:1", {"AXLEARN_HEARTBEAT_TIMEOUT": "soon"}, "AXLEARN_HEARTBEAT_TIMEOUT must be whole"),
        ("h:1", {"AXLEARN_LOCAL_DEVICES": "all"}, "AXLEARN_LOCAL_DEVICES must be numbers"),
    ],
)
def test_what_is_no_address_or_number_is_said(address, environment, says):
    with pytest.raises(ProcessError, match=says), joined(cluster(address, 1), environment):
        pass


@pytest.fixture(autouse=True)
def no_exits(monkeypatch):
    """Keeps a failed `joined` from ending this process when Python exits."""
    monkeypatch.setattr("axlearn_core.parallel.distributed.atexit.register", lambda leave: None)


def test_a_process_that_is_alone_acts_and_agrees():
    assert from_first(lambda: {"any": object}) == {"any": object}
    check_agreement({"seed": "0"})
    raise_together(None)
    with pytest.raises(ProcessError, match="mine"):
        raise_together(ProcessError("mine"))
