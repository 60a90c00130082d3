"""What a directory holds: complete, unfinished and damaged checkpoints, without any array."""

import pytest

from axlearn_core.checkpoint import (
    checkpoints,
    damage,
    newest_intact,
    remove_incomplete,
    set_aside,
    step_folder,
)
from axlearn_core.checkpoint.manifest import write_manifest
from axlearn_core.checkpoint.retention import Retention, remove_old


@pytest.fixture
def make(tmp_path):
    """Writes checkpoints of some steps; without a manifest they are unfinished."""

    def make(*steps, complete=True):
        for step in steps:
            folder = step_folder(tmp_path, step)
            (folder / "state").mkdir(parents=True)
            (folder / "state/array").write_bytes(bytes(range(100)))
            if complete:
                write_manifest(folder, step)

    return make


def found(directory, **options):
    return [(info.step, info.status) for info in checkpoints(directory, **options)]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_directory_without_checkpoints_has_none(tmp_path):
    assert checkpoints(tmp_path) == []
    assert newest_intact(tmp_path) == (None, [])


def test_they_are_listed_by_step(make, tmp_path):
    make(20, 5, 100)
    assert found(tmp_path) == [(5, "complete"), (20, "complete"), (100, "complete")]


def test_other_files_are_none(make, tmp_path):
    make(1)
    (tmp_path / "checkpoints/notes").mkdir()
    (tmp_path / "checkpoints/00000002").write_text("a file")
    (tmp_path / "checkpoints/00000001.orbax-checkpoint-tmp").mkdir()
    assert [status for _, status in found(tmp_path)] == ["complete", "incomplete"]


def test_the_newest_that_is_intact_is_used(make, tmp_path):
    make(1, 2, 3)
    flip(step_folder(tmp_path, 3) / "state/array")
    info, damaged = newest_intact(tmp_path)
    assert info.step == 2
    assert [bad.step for bad in damaged] == [3]


def test_an_unfinished_one_does_not_count(make, tmp_path):
    make(1)
    make(2, complete=False)
    assert newest_intact(tmp_path).info.step == 1


def test_unfinished_ones_are_removed_and_named(make, tmp_path):
    make(1)
    make(2, 3, complete=False)
    assert remove_incomplete(tmp_path) == [2, 3]
    assert found(tmp_path) == [(1, "complete")]


def test_retention_deletes_neither_unfinished_nor_damaged_ones(make, tmp_path):
    make(1, 2, 4, 5)
    make(3, complete=False)
    set_aside(checkpoints(tmp_path)[0])
    remove_old(tmp_path, Retention(1))
    assert found(tmp_path) == [(1, "damaged"), (3, "incomplete"), (5, "complete")]


def test_one_that_was_set_aside_is_not_used_again(make, tmp_path):
    make(1, 2)
    set_aside(newest_intact(tmp_path).info)
    assert newest_intact(tmp_path).info.step == 1


def test_setting_aside_the_same_step_twice_keeps_both(make, tmp_path):
    for _ in range(3):
        make(1)
        set_aside(checkpoints(tmp_path)[-1]._replace(path=step_folder(tmp_path, 1)))
    assert found(tmp_path) == [(1, "damaged")] * 3


def test_verifying_finds_damage_that_a_listing_does_not(make, tmp_path):
    make(1)
    flip(step_folder(tmp_path, 1) / "state/array")
    assert found(tmp_path) == [(1, "complete")]
    assert found(tmp_path, verify=True) == [(1, "damaged")]


def test_listing_reads_no_array_even_of_one_that_was_set_aside(make, tmp_path):
    make(1)
    set_aside(checkpoints(tmp_path)[0])
    flip(tmp_path / "checkpoints/00000001.damaged/state/array")
    assert [info.problem for info in checkpoints(tmp_path)] == ["set aside"]
    assert "checksum" in checkpoints(tmp_path, verify=True)[0].problem


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    "harm, says",
    [
        (flip, "state/array has the checksum"),
        (shorten, "state/array has 99 bytes, expected 100"),
        (lambda path: path.unlink(), "state/array is missing"),
        (lambda path: (path.parents[1] / "manifest.json").write_text("{"), "manifest.json cannot"),
        (lambda path: (path.parents[1] / "manifest.json").write_text("[]"), "manifest.json cannot"),
        (lambda path: (path.parents[1] / "manifest.json").unlink(), "manifest.json cannot"),
    ],
)
def test_damage_names_the_file(make, tmp_path, harm, says):
    make(1)
    folder = step_folder(tmp_path, 1)
    assert damage(folder) is None
    harm(folder / "state/array")
    assert says in damage(folder)


VALUES = {1: 5.0, 2: 1.0, 3: 4.0, 4: 2.0, 5: 3.0, 6: float("nan")}


def facts(step):
    """Step 5 was saved with a loss that was measured at step 4."""
    return {"values": {"held": {"loss": VALUES[step]}}, "measured": {"held": min(step, 4)}}


@pytest.mark.parametrize(
    "rules, kept",
    [
        ({}, [6]),
        ({"every": 3}, [3, 6]),
        ({"best": 2, "metric": "held/loss"}, [2, 4, 6]),
        ({"best": 1, "metric": "held/loss", "highest": True}, [1, 6]),
        ({"best": 9, "metric": "held/loss"}, [1, 2, 3, 4, 6]),
        ({"best": 1, "metric": "other/loss", "every": 4}, [4, 6]),
    ],
)
def test_a_checkpoint_stays_that_any_rule_keeps(rules, kept):
    steps = list(VALUES)
    assert sorted(set(steps) - Retention(1, **rules).outdated(steps, facts)) == kept


def test_the_newest_stay_whatever_their_metric_is(make, tmp_path):
    make(1, 2, 3)
    remove_old(tmp_path, Retention(2, best=1, metric="held/loss"))
    assert found(tmp_path) == [(2, "complete"), (3, "complete")]


def test_a_checkpoint_that_was_renamed_to_another_step_is_damaged(make, tmp_path):
    make(1)
    step_folder(tmp_path, 1).rename(step_folder(tmp_path, 2))
    assert damage(step_folder(tmp_path, 2)) == "manifest.json is that of step 1"


def test_a_foreign_file_among_the_arrays_is_damage(make, tmp_path):
    make(1)
    (step_folder(tmp_path, 1) / "state/manifest.ocdbt").write_text("another layout")
    assert damage(step_folder(tmp_path, 1)).startswith("state/manifest.ocdbt does not belong")


@pytest.mark.parametrize(
    "manifest",
    [
        '{"step": 1, "files": {"../../secret": {"bytes": 1, "sha256": "0"}}}',
        '{"step": 1, "files": {"/etc/passwd": {"bytes": 1, "sha256": "0"}}}',
        '{"step": 1, "files": {"state/array": 7}}',
        '{"step": 1, "files": {}, "arrays": {"a": {"shape": ["x"]}}}',
        '{"step": "one", "files": {}}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_is_none_is_damage_and_leads_nowhere(make, tmp_path, manifest):
    make(1)
    (step_folder(tmp_path, 1) / "manifest.json").write_text(manifest)
    assert damage(step_folder(tmp_path, 1)).startswith("manifest.json ")
