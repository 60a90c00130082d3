"""What a run's directory survives: kill -9, damage, a full disk, a second process."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from axlearn_core.checkpoint import checkpointer, checkpoints
from axlearn_core.training import run_directory


def test_a_save_that_was_cut_short_is_never_counted(train, tmp_path):
    train("checkpoint.every=10")
    (tmp_path / "run/checkpoints/00000020/manifest.json").unlink()
    assert [i.status for i in checkpoints(tmp_path / "run")] == ["complete", "incomplete"]
    out = train("checkpoint.every=10").out
    assert "removed the unfinished save of step 20" in out
    assert "resuming from step 10" in out


def test_a_damaged_checkpoint_is_named_and_kept_and_the_one_before_is_used(train, tmp_path):
    train("checkpoint.every=10")
    folder = tmp_path / "run/checkpoints/00000020"
    data = folder / "state/params.table/0.0"
    data.write_bytes(data.read_bytes()[:-1])
    out = train("checkpoint.every=10").out
    assert "step 20 is damaged: state/params.table/0.0 (params.table[0:26, 0:26]) has" in out
    assert "it is kept as 00000020.damaged and an earlier one is used" in out
    assert "resuming from step 10" in out
    statuses = [(info.step, info.status) for info in checkpoints(tmp_path / "run", verify=True)]
    assert statuses == [(10, "complete"), (20, "complete"), (20, "damaged")]


def test_starting_from_scratch_in_a_used_directory_is_said(train, tmp_path):
    train()
    shutil.rmtree(tmp_path / "run/checkpoints")
    assert "starting from scratch: run holds no complete checkpoint" in train().out


def test_a_directory_whose_run_file_is_damaged_is_refused(train, tmp_path):
    train()
    (tmp_path / "run/run.json").write_text("{")
    assert "run.json is damaged" in train(code=1).err


def test_checkpoints_of_another_model_are_refused_with_their_arrays(train, tmp_path):
    train()
    run = tmp_path / "run/run.json"  # as if the code had changed, and the config had not
    run.write_text(run.read_text().replace('"model.vocab_size": "26"', '"model.vocab_size": "27"'))
    done = train("model.vocab_size=27", "max_step=25", code=1)
    assert "holds another model or learner:" in done.err
    assert re.search(r"params.table is .*26, 26.*expected .*27, 27", done.err)


def test_another_input_is_refused(train, tmp_path):
    train()
    run = tmp_path / "run/run.json"
    run.write_text(run.read_text().replace('"input.seed": "0"', '"input.seed": "7"'))
    done = train("input.seed=7", "max_step=25", code=1)
    assert "the input is not the one that this run was started with:\n  seed: 0 -> 7" in done.err


# A disk of 300 KiB, which ends with the shell that mounted it.
FULL_DISK = """
mount -t tmpfs -o size=300k tmpfs {disk} || exit 77
exec {python} -c '
from pathlib import Path
from axlearn_core.cli.main import main

def train(*words):
    run = ("--dir", "{disk}/run", "log_every=1")
    return main(["train", "axlearn_core.testing.tiny:experiment", *run, *words])

assert train("max_step=5") == 0
filler = Path("{disk}/filler")
try:
    with filler.open("wb", buffering=0) as file:
        for _ in range(180):
            file.write(bytes(1024))
except OSError:
    pass
print("full:", train("max_step=200", "checkpoint.every=10"), flush=True)
assert main(["checkpoints", "ls", "{disk}/run", "--verify"]) == 0
filler.unlink()
print("again:", train("max_step=20"))
'
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small disk")
def test_a_full_disk_is_named_and_costs_nothing_that_was_saved(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL_DISK.format(disk=disk, python=sys.executable)],
        env={**os.environ, "XLA_FLAGS": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounts are allowed here")
    assert "full: 1" in done.stdout, done
    assert done.stderr.count("axl: error: ") == 1
    # Metrics and checkpoints are written side by side; which of them meets the end first varies.
    assert f"could not be saved in {disk}/run" in done.stderr
    assert "the disk is full" in done.stderr or "No space left on device" in done.stderr, done
    assert "Traceback" not in done.stderr
    assert "resuming from step 5" in done.stdout
    assert "again: 0" in done.stdout


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_from_the_start_is_named(train, monkeypatch):
    monkeypatch.setattr(run_directory, "_write_atomically", full)
    done = train(code=1)
    assert "cannot write to run: No space left on device. " in done.err


def test_metrics_that_cannot_be_written_fail_the_saves_and_end_the_run(train, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        done = train("checkpoint.failures=1", code=1)
    assert "step 20 could not be saved in " in done.err
    assert "run: cannot write run/metrics.jsonl: No space left on device." in done.err
    assert "resuming" not in train().out


def test_metrics_that_had_to_wait_are_those_of_a_run_left_alone(train, axl, tiny, monkeypatch):
    """The saves meanwhile fail, so that no checkpoint is ahead of them."""
    axl("train", tiny, "--dir", "alone", "log_every=1")
    pwrite = os.pwrite

    def write(file, data, offset):
        newest = json.loads(data.splitlines()[-1])["step"]
        return full() if 6 <= newest < 10 else pwrite(file, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write)
        done = train("log_every=1", "checkpoint.every=4")
    assert "the checkpoint of step 8 could not be saved" in done.out
    assert Path("run/metrics.jsonl").read_bytes() == Path("alone/metrics.jsonl").read_bytes()
    events = Path("run/events.jsonl").read_text()
    assert events.count("writer_failed") == 1 and "save_failed" in events


def test_a_save_that_fails_for_want_of_space_says_so(train, tmp_path, monkeypatch):
    train("max_step=5")
    with monkeypatch.context() as patch:
        patch.setattr(checkpointer, "write_manifest", full)
        done = train(code=1)
    assert "the checkpoint of step 20 could not be saved in " in done.err
    assert "the disk is full. Earlier checkpoints are intact." in done.err
    assert "resuming from step 5" in train().out
