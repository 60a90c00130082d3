"""Copies of the state beside the processes: what they hold, and when they are not used."""

import json
import shutil
import urllib.error

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from axlearn_core.checkpoint.copies import Copies
from axlearn_core.checkpoint.copy_file import read_copy, write_copy
from axlearn_core.checkpoint.peers import Server, fetch, send
from axlearn_core.config import ConfigError

NAME = "00000012.0123456789abcdef"


@pytest.fixture
def state():
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"))
    rows = NamedSharding(mesh, PartitionSpec("fsdp"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return {
        "weights": jax.device_put(jnp.arange(12, dtype=jnp.bfloat16).reshape(4, 3), rows),
        # A sum over replicas would lose this sign.
        "zero": jax.device_put(jnp.float32(-0.0), everywhere),
        "halted": jax.device_put(jnp.bool_(False), everywhere),
    }


@pytest.fixture
def make(tmp_path, state):
    (tmp_path / "run").mkdir()
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )

    def make(directory=tmp_path / "run", every=2):
        config = Copies.Config(every=every, directory=str(tmp_path / "memory"))
        return config.instantiate(directory=directory, like=like)

    return make


@pytest.fixture
def save(make, state):
    def save(*steps):
        copies = make()
        for step in steps:
            copies.save(step, state, {"step": step})
        copies._wait()

    return save


def files(tmp_path):
    return sorted(tmp_path.glob("memory/*/*/*"))


def test_a_copy_has_the_bits_and_the_shardings_of_the_state(make, save, state):
    save(2)
    copies = make()
    found = copies.find(0, 100)
    restored, facts = copies.restore(found)
    assert (found.step, found.own, facts) == (2, 1, {"step": 2})
    for name, value in state.items():
        assert np.asarray(restored[name]).tobytes() == np.asarray(value).tobytes()
        assert restored[name].sharding == value.sharding


def test_replicas_are_written_once(save, tmp_path, state):
    save(2)
    (file,) = files(tmp_path)
    pieces = read_copy(file.read_bytes()).pieces
    assert sum(piece.nbytes for piece in pieces.values()) == sum(x.nbytes for x in state.values())


def test_the_newest_two_stay(save, tmp_path):
    save(2, 4, 6)
    assert [file.name[:8] for file in files(tmp_path)] == ["00000004", "00000006"]


def test_only_what_is_newer_than_the_checkpoint_and_older_than_the_end_is_used(make, save):
    save(4, 6)
    copies = make()
    assert copies.find(0, 6).step == 4
    assert copies.find(6, 100) is None


def test_a_damaged_copy_is_passed_over(make, save, tmp_path):
    save(2, 4)
    newest = files(tmp_path)[-1]
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    assert make().find(0, 100).step == 2


def test_a_copy_that_is_lost_after_it_was_found_is_said(make, save, tmp_path, caplog):
    save(2)
    copies = make()
    found = copies.find(0, 100)
    files(tmp_path)[0].unlink()
    assert copies.restore(found) is None
    assert "cannot be used" in caplog.text


def test_copies_of_another_run_in_the_same_place_are_not_used(make, save, tmp_path):
    save(2)
    shutil.rmtree(tmp_path / "run")  # and another begins where it was
    (tmp_path / "run").mkdir()
    assert make().find(0, 100) is None


def test_other_parts_of_the_arrays_are_other_copies(make, save, tmp_path, state):
    save(2)
    like = {**state, "weights": state["weights"].astype(jnp.float32)}
    config = Copies.Config(every=2, directory=str(tmp_path / "memory"))
    assert config.instantiate(directory=tmp_path / "run", like=like).find(0, 100) is None


def test_a_disk_that_is_full_is_said_and_costs_only_the_copy(make, state, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    copies = make()
    monkeypatch.setattr("axlearn_core.checkpoint.copies.write_copy", full)
    copies.save(2, state, {})
    copies._wait()
    assert "a copy of the state could not be kept, and is left out" in caplog.text


def test_at_the_end_of_a_run_they_are_removed(make, state, tmp_path):
    copies = make()
    copies.save(2, state, {})
    copies.remove()
    assert files(tmp_path) == []


def test_without_an_interval_there_are_none_and_no_folder(make, tmp_path):
    copies = make(every=None)
    assert not copies.due(2)
    assert copies.find(0, 100) is None
    copies.remove()
    assert not (tmp_path / "memory").exists()


def test_an_interval_below_one_is_refused(make):
    with pytest.raises(ConfigError, match=r"every \(=0\) must be at least 1, or null"):
        make(every=0)


@pytest.mark.parametrize(
    "data", [b"", b"{}\n", b"[1]\n", b"\xff\n", b'{"sha256": 1}\nx', b"null\n"]
)
def test_bytes_that_are_no_copy_are_none(data):
    assert read_copy(data) is None


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    server = Server(tmp_path / "served", "secret")
    yield server
    server.close()


def test_peers_give_each_other_files(server, tmp_path):
    write_copy(tmp_path / NAME, {"step": 12}, {("a", "0:1"): np.ones(1, np.float32)})
    send(server.address, tmp_path / NAME, "secret")
    assert [path.name for path in (tmp_path / "served").iterdir()] == [NAME]
    data = fetch(server.address, NAME, "secret")
    assert data == (tmp_path / NAME).read_bytes()
    assert read_copy(data).facts == {"step": 12}


@pytest.mark.parametrize(
    "name, token", [(NAME, "guess"), (f"../{NAME}", "secret"), ("x", "secret")]
)
def test_nothing_else_is_served_and_to_nobody_else(server, tmp_path, name, token):
    (tmp_path / NAME).write_text("outside")
    (tmp_path / "served" / NAME).write_text("inside")
    (tmp_path / "served/x").write_text("inside")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(server.address, name, token)


def test_a_run_goes_on_from_the_newest_copy_with_the_same_bits(tmp_path, monkeypatch):
    from axlearn_core.testing import tiny

    def train(name, **fields):
        config = tiny.experiment().set(log_every=1, **fields)
        return config.instantiate().run(tmp_path / name)

    copies = Copies.Config(every=3, directory=str(tmp_path / "memory"))
    monkeypatch.setattr(Copies, "remove", lambda self: self._wait())  # as if it were killed
    train("run", copies=copies)
    shutil.rmtree(tmp_path / "run/checkpoints")
    train("run", copies=copies)
    train("alone")
    found, expected = (tmp_path / name / "metrics.jsonl" for name in ("run", "alone"))
    assert found.read_bytes() == expected.read_bytes()
    restored = json.loads((tmp_path / "run/restores.jsonl").read_text())
    assert restored == {"step": 18, "own": 1, "fetched": 0, "storage": 0}
