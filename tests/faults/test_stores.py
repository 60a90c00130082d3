"""Object stores: a run's checkpoints have a second copy, and come back from it."""

import shutil

import pytest

from axlearn_core.checkpoint import choose, read_array, read_manifest
from axlearn_core.checkpoint.store import Store
from axlearn_core.config import ConfigError
from axlearn_core.testing.object_store import fake_object_store

URLS = ["s3://bucket/runs/a", "gs://bucket/runs/a"]


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_object_store() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def final_state(directory):
    folder = choose(directory, None).info.path
    return {n: read_array(folder, a).tobytes() for n, a in read_manifest(folder).arrays.items()}


@pytest.mark.parametrize("url", URLS)
def test_a_run_whose_disk_is_lost_goes_on_from_the_store_with_the_same_bits(
    server, run, tmp_path, url
):
    run("undisturbed", max_step=12)
    run("a", max_step=8, store=url, every=4)
    assert Store(url).steps() == [4, 8]
    assert all(name.startswith("bucket/runs/a/0000000") for name in server.objects)
    shutil.rmtree(tmp_path / "a")
    said = run("a", max_step=12, store=url, every=4)
    assert f"copying the checkpoint of step 8 from {url}" in said
    assert "resuming from step 8" in said
    assert final_state(tmp_path / "a") == final_state(tmp_path / "undisturbed")


def test_the_store_keeps_what_the_rules_keep(server, run):
    run("a", max_step=8, store=URLS[0], every=1, keep=2, keep_every=3)
    assert Store(URLS[0]).steps() == [3, 6, 7, 8]
    assert not any("/00000001/" in name for name in server.objects)


def test_a_copy_that_fails_once_is_said_and_made_up_for(server, run):
    server.failing = 1
    said = run("a", max_step=8, store=URLS[0], every=4)
    assert "the checkpoint of step 4 was not copied: s3://bucket/runs/a does not answer" in said
    assert Store(URLS[0]).steps() == [4, 8]


def test_a_checkpoint_that_was_damaged_in_the_store_is_named_and_the_one_before_used(
    server, run, tmp_path
):
    run("a", max_step=8, store=URLS[0], every=4)
    shutil.rmtree(tmp_path / "a")
    name = "bucket/runs/a/00000008/state/params.table/0.0"
    server.objects[name] = b"\1" + server.objects[name][1:]
    assert [p.split()[0] for p in Store(URLS[0]).problems(8)] == ["state/params.table/0.0"]
    said = run("a", max_step=8, store=URLS[0], every=4)
    assert "step 8 is damaged: state/params.table/0.0 (params.table[0:26, 0:26]) has" in said
    assert "resuming from step 4" in said


def test_an_upload_that_was_cut_short_does_not_count(server, run):
    run("a", max_step=8, store=URLS[0], every=4)
    del server.objects["bucket/runs/a/00000008/manifest.json"]
    assert Store(URLS[0]).steps() == [4]


@pytest.mark.parametrize("url", ["ftp://bucket/a", "s3://", "/a/folder"])
def test_what_is_no_store_is_refused(url):
    with pytest.raises(ConfigError, match="store must be s3://bucket/prefix or gs://"):
        Store(url)
