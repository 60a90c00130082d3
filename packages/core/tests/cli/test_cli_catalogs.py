"""axl experiments, axl checkpoints, axl doctor."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy

from axlearn_core.cli import doctor as doctor_module
from axlearn_core.plugins import ExperimentRecord, LayerRecord, get_registry, hookimpl

TINY_RECORD = ExperimentRecord("acme.tiny", "axlearn_core.testing.tiny:experiment", "Count.")


def test_experiments_are_listed_with_summaries(axl):
    out = axl("experiments", records=[TINY_RECORD]).out
    assert [line.split() for line in out.splitlines()] == [
        ["EXPERIMENT", "SUMMARY"],
        ["acme.tiny", "Count."],
    ]
    found = json.loads(axl("experiments", "--json", records=[TINY_RECORD]).out)
    assert found == [{"name": "acme.tiny", "plugin": "test", "summary": "Count."}]


def test_without_experiments_it_says_where_to_get_some(axl):
    assert "pip install axlearn-experiments" in axl("experiments").out


def test_checkpoints_are_listed_with_status(axl, train, tmp_path):
    train("checkpoint.every=10")
    (tmp_path / "run/checkpoints/00000010/config.txt").write_text("tampered")
    rows = [line.split() for line in axl("checkpoints", "ls", "run", "--verify").out.splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["10", "damaged"], ["20", "complete"]]
    assert rows[3][:3] == ["step", "10:", "config.txt"]
    found = json.loads(axl("checkpoints", "ls", "run", "--json").out)
    assert [(c["step"], c["status"]) for c in found] == [(10, "complete"), (20, "complete")]
    assert all(c["bytes"] > 1000 for c in found)


def test_a_checkpoint_shows_what_it_holds(axl, train):
    train("checkpoint.every=10")
    out = axl("checkpoints", "show", "run", "--step", 10).out
    assert out.startswith(f"step        10, saved {time.strftime('%Y-%m-%d')}")
    assert "axlearn-core 0" in out
    assert 'input       {"made": 10}' in out
    assert "train       " in out
    found = json.loads(axl("checkpoints", "show", "run", "--json").out)
    assert found["step"] == 20
    assert found["values"]["held_out"]["tokens"] == 128


@pytest.mark.parametrize("command", ["ls", "show"])
def test_a_missing_directory_is_named(axl, command):
    done = axl("checkpoints", command, "nowhere")
    assert done.code == 1
    assert "there is no directory nowhere" in done.err


def test_checkpoints_and_experiments_do_not_import_jax(train, tmp_path):
    train("max_step=1", "evaluations={}")
    program = (
        "import sys; from axlearn_core.cli.main import main; "
        "codes = [main(line.split()) for line in sys.argv[1:]]; "
        "sys.exit(bool(any(codes) or {'jax', 'orbax', 'tensorstore'} & sys.modules.keys()))"
    )
    lines = [
        "checkpoints ls run --verify",
        "checkpoints show run",
        "checkpoints verify run",
        "checkpoints diff run run",
        "checkpoints export run out.safetensors",
        "experiments",
        "--help",
    ]
    command = [sys.executable, "-c", program, *lines]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done


@pytest.fixture
def trained(train, tmp_path):
    """A run with checkpoints of the steps 2 and 4."""
    train("max_step=4", "checkpoint.every=2", "evaluations={}")
    return tmp_path / "run"


def test_show_lists_arrays(axl, trained):
    assert "params.table  [26, 26]  float32  2.64 KiB  1" in axl("checkpoints", "show", "run").out


def test_verify_names_what_is_damaged_and_ends_with_1(axl, trained):
    assert axl("checkpoints", "verify", "run").code == 0
    (trained / "checkpoints/00000004/state/params.table/0.0").unlink()
    done = axl("checkpoints", "verify", "run")
    assert done.code == 1
    assert done.out.splitlines() == [
        "step 2: intact",
        "step 4: damaged",
        "  state/params.table/0.0 (params.table[0:26, 0:26]) is missing",
    ]


def test_diff_names_config_and_arrays(axl, trained, train):
    axl("train", "axlearn_core.testing.tiny:experiment", "max_step=4", "seed=1",
        "evaluations={}", "learner.learning_rate=5", "--dir", "other")  # fmt: skip
    out = axl("checkpoints", "diff", "run", "other").out
    assert "config   learner.learning_rate: (default) -> 5.0" in out
    assert "config   seed: (default) -> 1" in out
    found = json.loads(axl("checkpoints", "diff", "run", "other", "--json").out)
    assert set(found["arrays"]) == {"params.table", "key"}
    assert "of 676 elements, by " in found["arrays"]["params.table"]
    steps = [f"run/checkpoints/0000000{step}" for step in (2, 4)]
    assert "step " in axl("checkpoints", "diff", *steps).out
    assert axl("checkpoints", "diff", "run", "run").out == "4 arrays are equal, 0 differ\n"


def test_export_writes_the_parameters(axl, trained):
    assert axl("checkpoints", "export", "run", "out.safetensors", "--step", 2).code == 0
    held = safetensors.numpy.load_file("out.safetensors")
    folder = trained / "checkpoints/00000002"
    raw = np.fromfile(folder / "state/params.table/0.0", np.float32).reshape(26, 26)
    assert list(held) == ["table"] and np.array_equal(held["table"], raw)
    assert "is there already" in axl("checkpoints", "export", "run", "out.safetensors").err


def test_rm_deletes_but_not_the_newest(axl, trained):
    assert "step 4 is the newest complete" in axl("checkpoints", "rm", "run", 2, 4).err
    assert axl("checkpoints", "rm", "run", 2).out == "deleted step 2\n"
    assert "no complete checkpoint of step 2" in axl("checkpoints", "rm", "run", 2).err
    assert axl("checkpoints", "rm", "run", 4, "--force").code == 0
    assert not list((trained / "checkpoints").iterdir())


@pytest.fixture
def doctor(axl, monkeypatch, tmp_path):
    """Examines a machine with a home of its own and only core's plugin."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor_module, "discover", lambda: None)
    monkeypatch.setattr(doctor_module, "Registry", lambda _: get_registry())

    def doctor(**plugins):
        done = axl("doctor", "--json", **plugins)
        return done.code, {finding["name"]: finding for finding in json.loads(done.out)}

    return doctor


def test_the_doctor_finds_nothing_wrong_here(doctor):
    code, found = doctor()
    assert code == 0, found
    assert {"python", "jax", "axlearn-core", "hardware", "devices", "disk", "compile cache"} <= (
        found.keys()
    )
    assert found["devices"]["what"] == "8 x cpu (cpu)"


def test_the_doctor_names_a_broken_plugin_and_its_fix(doctor):
    class Broken:
        @hookimpl
        def axlearn_layers(self):
            return [LayerRecord("twice", "a:b", "One."), LayerRecord("twice", "a:c", "Two.")]

    code, found = doctor(acme=Broken())
    assert code == 1
    assert found["acme"] == {
        "name": "acme",
        "ok": False,
        "what": "axlearn_layers returned two records named 'twice'",
        "fix": "give each component of a kind its own name",
    }


def test_the_doctor_finds_a_cache_that_cannot_be_written(doctor, tmp_path):
    (tmp_path / "home").write_text("in the way")
    code, found = doctor()
    assert code == 1
    assert "cannot write to" in found["compile cache"]["what"]
    assert "compile_cache=null" in found["compile cache"]["fix"]


def test_the_doctor_finds_a_disk_with_little_room(doctor, monkeypatch):
    monkeypatch.setattr(doctor_module, "_LITTLE_SPACE", 1 << 60)
    code, found = doctor()
    assert code == 1
    assert found["disk"]["fix"].startswith("make room")


def test_the_doctor_finds_platforms_that_are_not_here(doctor, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    code, found = doctor()
    assert code == 1
    assert "JAX_PLATFORMS=tpu allows no hardware" in found["hardware"]["what"]


def test_the_doctor_speaks_plainly(axl):
    lines = axl("doctor").out.splitlines()
    assert lines[0].startswith("ok   python")
