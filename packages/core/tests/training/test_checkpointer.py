"""Saving a state and reading it back, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from axlearn_core.checkpoint import (
    checkpoints,
    damage,
    problems,
    read_array,
    read_manifest,
    schedule,
    step_folder,
)
from axlearn_core.checkpoint.checkpointer import (
    Checkpointer,
    CheckpointError,
    flatten_state,
    read_facts,
    restore,
    restore_part,
)
from axlearn_core.config import ConfigError
from axlearn_core.parallel import make_mesh

AXES = {"table": ("fsdp", "model"), "rows": ("fsdp",), "count": (), "mask": (None,)}


def state():
    random = np.random.default_rng(0)
    table = random.integers(0, 2**32, (16, 8), np.uint32).view(np.float32)  # NaNs of all kinds too
    return {
        "table": table,
        "rows": jnp.asarray(random.normal(size=(8, 3)), jnp.bfloat16),
        "count": np.int32(7),
        "mask": np.array([True, False]),
    }


def placed(tree, mesh, axes=AXES):
    shardings = {k: NamedSharding(mesh, PartitionSpec(*axes[k])) for k in tree}
    return jax.device_put(tree, shardings)


def like(tree, mesh, axes=AXES):
    def struct(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)

    return jax.tree.map(struct, placed(tree, mesh, axes))


def bits(tree):
    return {name: (x.dtype, x.shape, np.asarray(x).tobytes()) for name, x in tree.items()}


FACTS = {"input": {}, "input_description": {}, "plugins": {}}  # which every checkpoint has


@pytest.fixture
def checkpointer(tmp_path):
    made = []

    def checkpointer(**fields):
        config = Checkpointer.default_config().set(**fields)
        made.append(config.instantiate(directory=tmp_path))
        return made[-1]

    yield checkpointer
    for each in made:
        each.close()


@pytest.fixture
def saved(checkpointer, tmp_path):
    """Saves a state at a step, in a mesh, and waits for it."""

    def saved(tree=None, step=1, mesh=None, **fields):
        tree = state() if tree is None else tree
        writer = checkpointer(**fields)
        writer.save(
            step, placed(tree, make_mesh(mesh or {"data": 1})), {**FACTS, "n": step}, {"a.txt": "A"}
        )
        writer.wait()
        return step_folder(tmp_path, step)

    return saved


def test_what_is_restored_has_the_bits_that_were_saved(saved):
    restored = restore(saved(), like(state(), make_mesh({"data": 1})))
    assert bits(restored) == bits(state())


@pytest.mark.parametrize("to", [{"fsdp": 4}, {"fsdp": 2, "model": 4}, {"model": 8}, {"data": 1}])
@pytest.mark.parametrize("at", [{"fsdp": 8}, {"fsdp": 4, "model": 2}])
def test_a_state_can_be_restored_onto_another_mesh(saved, at, to):
    wanted = like(state(), make_mesh(to))
    restored = restore(saved(mesh=at), wanted)
    assert bits(restored) == bits(state())
    assert all(restored[name].sharding == wanted[name].sharding for name in AXES)


def test_a_state_can_be_restored_by_other_sharding_rules(saved):
    rules = {"table": (None, "fsdp"), "rows": (), "count": (), "mask": ("model",)}
    mesh = make_mesh({"fsdp": 4, "model": 2})
    restored = restore(saved(mesh={"fsdp": 4, "model": 2}), like(state(), mesh, rules))
    assert bits(restored) == bits(state())
    assert restored["table"].sharding.spec == PartitionSpec(None, "fsdp")


def test_a_part_is_read_without_a_byte_of_the_rest(saved):
    folder = saved(mesh={"fsdp": 4})
    for shard in (folder / "state" / "table").glob("[0-9]*"):
        shard.unlink()
    wanted = {**like(state(), make_mesh({"data": 1})), "table": None}
    part = restore_part(folder, wanted)
    assert part.pop("table") is None
    expected = state()
    del expected["table"]
    assert bits(part) == bits(expected)


def test_a_part_is_cast_as_it_is_read(saved):
    wanted = like({"rows": state()["rows"].astype(jnp.float16)}, make_mesh({"fsdp": 2}))
    part = restore_part(saved(), wanted)
    assert bits(part) == bits({"rows": state()["rows"].astype(jnp.float16)})
    assert part["rows"].sharding == wanted["rows"].sharding


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("other", (8, 3), "other is not in the checkpoint"),
        ("rows", (9, 3), r"expected bfloat16\[9"),
    ],
)
def test_a_part_that_is_not_there_is_named(saved, name, shape, message):
    wanted = {name: jax.ShapeDtypeStruct(shape, jnp.bfloat16)}
    with pytest.raises(CheckpointError, match=message):
        restore_part(saved(), wanted)


def test_a_save_holds_the_state_of_its_step_while_donated_steps_go_on(checkpointer, tmp_path):
    mesh = make_mesh({"data": 1})
    tree = {"rows": np.zeros((1 << 20, 3), np.float32)}
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    writer, now = checkpointer(keep=9), placed(tree, mesh)
    for number in range(1, 7):
        now = step(now)
        if number % 2 == 0:
            writer.save(number, now, {}, {})
    writer.wait()
    for number in (2, 4, 6):
        restored = restore(step_folder(tmp_path, number), like(tree, mesh))
        assert (np.unique(restored["rows"])).tolist() == [number]


def test_a_checkpoint_holds_the_facts_and_texts_given_with_it(saved):
    folder = saved(step=3)
    assert read_facts(folder) == {**FACTS, "n": 3}
    assert (folder / "a.txt").read_text() == "A"


def test_facts_are_those_of_the_call_even_if_they_change_while_it_saves(checkpointer, tmp_path):
    writer, facts = checkpointer(), {**FACTS, "values": {"loss": 1.0}}
    writer.save(1, placed(state(), make_mesh({"data": 1})), facts, {})
    facts["values"]["loss"] = 2.0
    writer.wait()
    assert read_facts(step_folder(tmp_path, 1)) == {**FACTS, "values": {"loss": 1.0}}


def test_a_save_that_ended_is_told_once(checkpointer, tmp_path):
    writer = checkpointer()
    writer.save(1, placed(state(), make_mesh({"data": 1})), {}, {})
    writer.wait()
    assert writer.poll() == [(1, step_folder(tmp_path, 1))]
    assert writer.poll() == []


def test_the_newest_are_kept(saved, tmp_path):
    for step in (5, 10, 15, 20):
        saved(step=step, keep=2)
    assert [info.step for info in checkpoints(tmp_path)] == [15, 20]


def test_retention_leaves_what_was_set_aside(saved, tmp_path):
    folder = saved(step=1)
    folder.rename(folder.with_name(f"{folder.name}.damaged"))
    for step in (2, 3, 4):
        saved(step=step, keep=1)
    found = [(info.step, info.status) for info in checkpoints(tmp_path)]
    assert found == [(1, "damaged"), (4, "complete")]


def test_a_saved_checkpoint_is_intact(saved):
    assert damage(saved()) is None


def another(**changes):
    return {k: v for k, v in (state() | changes).items() if v is not None}


@pytest.mark.parametrize(
    "wanted, problem",
    [
        (another(mask=None), "mask is only in the checkpoint"),
        (
            another(table=np.zeros((16, 4), np.float32)),
            r"table is float32\[16, 8\], expected",
        ),
        (another(count=np.float32(1)), r"count is int32\[\], expected float32\[\]"),
    ],
)
def test_the_checkpoint_of_another_model_is_refused(saved, wanted, problem):
    with pytest.raises(CheckpointError, match=problem):
        restore(saved(), like(wanted, make_mesh({"data": 1})))


def test_arrays_that_a_checkpoint_lacks_are_listed(saved):
    wanted = like(state(), make_mesh({"data": 1}))
    with pytest.raises(CheckpointError, match="mask is not in the checkpoint"):
        restore(saved(another(mask=None)), wanted)


def test_a_save_that_fails_names_its_step_and_keeps_the_others(saved, tmp_path):
    folder = saved(step=1)
    step_folder(tmp_path, 2).write_text("in the way")
    with pytest.raises(CheckpointError, match=r"step 2 could not be saved.*intact"):
        saved(step=2, failures=0)
    assert damage(folder) is None


def test_an_object_that_is_no_json_fails_at_once(checkpointer):
    with pytest.raises(TypeError):
        checkpointer().save(1, placed(state(), make_mesh({"data": 1})), {"a": object()}, {})


def test_arrays_are_named_by_their_path():
    assert flatten_state({"a": {"b": 1}, "c": (2, 3)}) == {"a.b": 1, "c.0": 2, "c.1": 3}


@pytest.mark.parametrize("fields", [{"keep": 0}, {"every": 0}, {"keep_every": 0}, {"failures": -1}])
def test_a_policy_that_keeps_nothing_is_refused(checkpointer, fields):
    with pytest.raises(ConfigError, match="must be at least"):
        checkpointer(**fields)


def test_a_checkpoint_is_due_at_every_multiple(checkpointer):
    writer = checkpointer(every=3)
    assert [step for step in range(1, 10) if writer.due(step)] == [3, 6, 9]


def test_without_a_distance_none_is_due(checkpointer):
    assert not any(checkpointer(every=None).due(step) for step in range(1, 10))


@pytest.mark.parametrize("at", [{"data": 1}, {"fsdp": 4, "model": 2}])
def test_numpy_alone_reads_what_was_saved(saved, at):
    folder = saved(mesh=at)
    held = {name: read_array(folder, info) for name, info in read_manifest(folder).arrays.items()}
    assert bits(held) == bits(state())


def test_the_manifest_says_which_part_of_which_array_a_file_is(saved):
    arrays = read_manifest(saved(mesh={"fsdp": 4, "model": 2})).arrays
    assert len(arrays["table"].shards) == 8
    assert arrays["table"].shards["state/table/1.0"] == ((4, 8), (0, 4))
    assert arrays["rows"].shards["state/rows/3.0"] == ((3, 4), (0, 3))  # copies share the work
    assert arrays["count"].shards == {"state/count/0": ()}
    assert arrays["rows"].dtype == "bfloat16"


def test_a_damaged_shard_is_named_by_array_part_and_file(saved):
    folder = saved(mesh={"fsdp": 4, "model": 2})
    data = bytearray((folder / "state/table/1.0").read_bytes())
    data[3] ^= 1
    (folder / "state/table/1.0").write_bytes(data)
    (folder / "state/rows/3.0").unlink()
    assert sorted(line.partition(" has ")[0] for line in problems(folder)) == [
        "state/rows/3.0 (rows[3:4, 0:3]) is missing",
        "state/table/1.0 (table[4:8, 0:4])",
    ]


@pytest.mark.parametrize("count", [8, 4, 2, 1])
def test_a_state_goes_on_to_fewer_and_to_more_devices(saved, checkpointer, tmp_path, count):
    wanted = like(state(), make_mesh({"fsdp": count}, jax.devices()[:count]))
    restored = restore(saved(mesh={"fsdp": 4, "model": 2}), wanted)
    writer = checkpointer()
    writer.save(2, restored, {}, {})
    writer.wait()
    back = restore(step_folder(tmp_path, 2), like(state(), make_mesh({"fsdp": 8})))
    assert bits(back) == bits(state())


def test_a_checkpoint_of_an_older_version_is_read(saved):
    import orbax.checkpoint as ocp

    folder = saved() / "older"
    with ocp.StandardCheckpointer() as writer:
        writer.save(folder / "state", placed(state(), make_mesh({"data": 1})))
    assert bits(restore(folder, like(state(), make_mesh({"fsdp": 8})))) == bits(state())


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"keep_best": 1}, "keep_best and best_metric need each other"),
        ({"best_metric": "held_out/loss"}, "keep_best and best_metric need each other"),
        ({"every_minutes": 0.0}, "must be above 0"),
        ({"store": "/a/folder"}, "store must be s3://bucket/prefix"),
    ],
)
def test_a_policy_without_sense_is_refused(checkpointer, fields, says):
    with pytest.raises(ConfigError, match=says):
        checkpointer(**fields)


def test_after_some_minutes_one_is_due(checkpointer, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now[0])
    writer = checkpointer(every=None, every_minutes=2.0)
    assert not writer.due(1)
    now[0] += 121.0
    assert writer.due(2)
    writer.save(2, placed(state(), make_mesh({"data": 1})), {}, {})
    assert not writer.due(3)
