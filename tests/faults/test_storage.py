"""What storage does to a run: it fails, fills up, is slow, damages, or is lost altogether."""

import errno
import io
import os
import shutil
import time

import pytest

from axlearn_core.checkpoint import checkpointer as saving
from axlearn_core.checkpoint import checkpoints, choose, read_array, read_manifest
from axlearn_core.checkpoint.checkpointer import CheckpointError
from axlearn_core.checkpoint.store import Store
from axlearn_core.config import ConfigError
from axlearn_core.observe.progress import Progress
from axlearn_core.testing.object_store import fake_object_store
from axlearn_core.testing.tiny import experiment

URLS = ["s3://bucket/runs/a", "gs://bucket/runs/a"]


@pytest.fixture
def run(tmp_path):
    """Trains with values of the checkpoint's config; returns what it said, or its error."""

    def run(name, *, max_step=8, vocab_size=26, fails=(), **checkpoint):
        cfg = experiment().set(max_step=max_step, log_every=1, evaluations={})
        cfg.model.vocab_size = vocab_size
        cfg.checkpoint.set(**{"every": 4, **checkpoint})
        out = io.StringIO()
        try:
            cfg.instantiate().run(tmp_path / name, progress=Progress(max_step, out))
        except fails as error:
            return out.getvalue() + str(error)
        assert not fails, out.getvalue()
        return out.getvalue()

    return run


def steps(directory):
    return [(info.step, info.status) for info in checkpoints(directory, verify=True)]


def final_state(directory):
    folder = choose(directory, None).info.path
    return {n: read_array(folder, a).tobytes() for n, a in read_manifest(folder).arrays.items()}


def failing(monkeypatch, times, code):
    """Makes so many writes of a manifest fail, which comes after that of the arrays."""
    left, write = [times], saving.write_manifest

    def write_manifest(folder, step):
        if left[0] > 0:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        write(folder, step)

    monkeypatch.setattr(saving, "write_manifest", write_manifest)


@pytest.mark.parametrize(
    "code, says",
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "Read-only file system"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_save_that_fails_once_is_said_and_the_next_one_succeeds(
    run, monkeypatch, tmp_path, code, says
):
    failing(monkeypatch, 1, code)
    said = run("a")
    assert "the checkpoint of step 4 could not be saved in " in said
    assert f"{says}. Training goes on, and the next save tries again (failure 1 in a row" in said
    assert steps(tmp_path / "a") == [(8, "complete")]


def test_the_last_save_is_tried_again_at_once(run, monkeypatch, tmp_path):
    failing(monkeypatch, 2, errno.EIO)
    assert "(failure 2 in a row" in run("a", every=None)
    assert steps(tmp_path / "a") == [(8, "complete")]


def test_saves_that_fail_one_after_the_other_end_the_run_with_the_reason(
    run, monkeypatch, tmp_path
):
    run("a", max_step=4)
    failing(monkeypatch, 9, errno.ENOSPC)
    said = run("a", max_step=100, fails=CheckpointError)
    assert "step 16 could not be saved" in said
    assert "the disk is full. Earlier checkpoints are intact. Make room" in said
    assert steps(tmp_path / "a") == [(4, "complete")]
    monkeypatch.undo()
    assert "resuming from step 4" in run("a")


def test_a_save_that_succeeds_forgets_the_failures_before(run, monkeypatch, tmp_path):
    write, left = saving.write_manifest, iter([1, 1, 0, 1, 1, 0, 1, 1, 0])

    def write_manifest(folder, step):
        if next(left):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        write(folder, step)

    monkeypatch.setattr(saving, "write_manifest", write_manifest)
    run("a", max_step=36, keep=9)
    assert steps(tmp_path / "a") == [(step, "complete") for step in (12, 24, 36)]


def test_arrays_that_cannot_be_written_are_no_checkpoint(run, monkeypatch, tmp_path):
    """As if the disk refused Orbax's folder, and not a file after it."""
    make = saving.Checkpointer._make_room
    monkeypatch.setattr(
        saving.Checkpointer,
        "_make_room",
        lambda self, step, folder, before: (
            (make(self, step, folder, before), (folder / saving.STATE).write_text("in the way"))
            if step == 4
            else (make(self, step, folder, before),)
        )[0],
    )
    said = run("a")
    assert "the checkpoint of step 4 could not be saved" in said
    assert steps(tmp_path / "a") == [(8, "complete")]


def test_with_slow_storage_a_save_is_put_off_and_no_step_waits(run, monkeypatch, tmp_path):
    begun, write = [], saving.write_manifest

    def write_manifest(folder, step):
        begun.append(step)
        time.sleep(0.5)  # many steps of this model
        write(folder, step)

    monkeypatch.setattr(saving, "write_manifest", write_manifest)
    said = run("a", max_step=40, keep=99, put_off=True)
    assert "waited" not in said
    assert begun[0] == 4 and begun[-1] == 40
    assert steps(tmp_path / "a") == [(step, "complete") for step in begun]


def test_with_slow_storage_the_run_says_that_it_waits(run, monkeypatch, tmp_path):
    monkeypatch.setattr(saving, "_LONG", 0.0)
    assert "until the checkpoint of step 4 was written: save less often" in run("a", max_step=9)
    assert steps(tmp_path / "a") == [(4, "complete"), (8, "complete"), (9, "complete")]


def flip(folder):
    path = folder / "state/params.table/0.0"
    data = bytearray(path.read_bytes())
    data[100] ^= 16
    path.write_bytes(data)


def truncate(folder):
    os.truncate(folder / "state/params.table/0.0", 10)


def remove_shard(folder):
    (folder / "state/params.table/0.0").unlink()


def remove_array(folder):
    shutil.rmtree(folder / "state/params.table")


def add_shard(folder):
    (folder / "state/params.table/1.0").write_bytes(b"of another model")


def rename_earlier(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("00000004"), folder)


SHARD = "state/params.table/0.0 (params.table[0:26, 0:26])"


@pytest.mark.parametrize(
    "harm, says",
    [
        (flip, f"{SHARD} has the checksum"),
        (truncate, f"{SHARD} has 10 bytes, expected 2704"),
        (remove_shard, f"{SHARD} is missing"),
        (remove_array, "state/params.table/.zarray is missing"),
        (add_shard, "state/params.table/1.0 does not belong to this checkpoint"),
        (rename_earlier, "manifest.json is that of step 4"),
    ],
)
def test_damage_is_named_and_set_aside_and_the_checkpoint_before_gives_the_same_bits(
    run, tmp_path, harm, says
):
    run("a")
    undamaged = final_state(tmp_path / "a")
    harm(tmp_path / "a/checkpoints/00000008")
    said = run("a")
    assert f"the checkpoint of step 8 is damaged: {says}" in said
    assert "it is kept as 00000008.damaged and an earlier one is used" in said
    assert "resuming from step 4" in said
    assert final_state(tmp_path / "a") == undamaged
    assert [s for s, status in steps(tmp_path / "a") if status == "damaged"] == [8]


def test_the_checkpoint_of_another_model_is_refused_whole(run, tmp_path):
    run("a")
    run("other", vocab_size=30)
    shutil.rmtree(tmp_path / "a/checkpoints/00000008")
    shutil.copytree(tmp_path / "other/checkpoints/00000008", tmp_path / "a/checkpoints/00000008")
    said = run("a", max_step=12, fails=CheckpointError)
    assert "params.table is float32[30, 30], expected float32[26, 26]" in said


def test_foreign_files_beside_checkpoints_are_left_alone(run, tmp_path):
    run("a")
    (tmp_path / "a/checkpoints/notes.txt").write_text("mine")
    (tmp_path / "a/checkpoints/12").write_text("no folder")
    (tmp_path / "a/checkpoints/best").mkdir()
    assert "resuming from step 8" in run("a", max_step=12)
    assert {"notes.txt", "12", "best"} <= {p.name for p in (tmp_path / "a/checkpoints").iterdir()}


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_object_store() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.parametrize("url", URLS)
def test_a_run_whose_disk_is_lost_goes_on_from_the_store_with_the_same_bits(
    server, run, tmp_path, url
):
    run("undisturbed", max_step=12)
    run("a", store=url)
    assert Store(url).steps() == [4, 8]
    assert all(name.startswith("bucket/runs/a/0000000") for name in server.objects)
    shutil.rmtree(tmp_path / "a")
    said = run("a", max_step=12, store=url)
    assert f"copying the checkpoint of step 8 from {url}" in said
    assert "resuming from step 8" in said
    assert final_state(tmp_path / "a") == final_state(tmp_path / "undisturbed")


def test_the_store_keeps_what_the_rules_keep(server, run):
    run("a", store=URLS[0], every=1, keep=2, keep_every=3)
    assert Store(URLS[0]).steps() == [3, 6, 7, 8]
    assert not any("/00000001/" in name for name in server.objects)


def test_a_copy_that_fails_once_is_said_and_made_up_for(server, run):
    server.failing = 1
    said = run("a", store=URLS[0])
    assert "the checkpoint of step 4 was not copied: s3://bucket/runs/a does not answer" in said
    assert Store(URLS[0]).steps() == [4, 8]


def test_a_checkpoint_that_was_damaged_in_the_store_is_named_and_the_one_before_used(
    server, run, tmp_path
):
    run("a", store=URLS[0])
    shutil.rmtree(tmp_path / "a")
    name = "bucket/runs/a/00000008/state/params.table/0.0"
    server.objects[name] = b"\1" + server.objects[name][1:]
    assert [p.split()[0] for p in Store(URLS[0]).problems(8)] == ["state/params.table/0.0"]
    said = run("a", store=URLS[0])
    assert "step 8 is damaged: state/params.table/0.0 (params.table[0:26, 0:26]) has" in said
    assert "resuming from step 4" in said


def test_an_upload_that_was_cut_short_does_not_count(server, run):
    run("a", store=URLS[0])
    del server.objects["bucket/runs/a/00000008/manifest.json"]
    assert Store(URLS[0]).steps() == [4]


@pytest.mark.parametrize("url", ["ftp://bucket/a", "s3://", "/a/folder"])
def test_what_is_no_store_is_refused(url):
    with pytest.raises(ConfigError, match="store must be s3://bucket/prefix or gs://"):
        Store(url)
