"""What a Hugging Face folder may hold, and what it must not do."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from axlearn_huggingface.folder import INDEX, Folder
from axlearn_huggingface.importing import import_folder
from axlearn_huggingface.weights import WeightsError


def read(folder):
    with Folder(folder).tensors() as tensors:
        return {name: tensors[name] for name in tensors}


@pytest.mark.parametrize("files", [1, 3])
def test_tensors_are_read_from_one_file_or_several(published, files):
    folder, tensors = published(files=files)
    found = read(folder)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_pickle_is_refused_with_the_command_that_converts_it(published):
    folder, _ = published()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pickle(.|\n)*save_pretrained\("):
        Folder(folder)


def reindexed(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "outside", ["{}/secret", "../secret", "sub/../../secret", "..", "", "a\\b"]
)
def test_a_name_in_an_index_cannot_leave_the_folder(published, tmp_path, outside):
    folder, tensors = published(files=2)
    save_file(tensors, tmp_path / "secret")
    name = outside.format(tmp_path)
    reindexed(folder, lambda names: names.update(dict.fromkeys(names, name)))
    with pytest.raises(WeightsError, match=r"is not the name of a file|lacks"):
        Folder(folder)


def test_a_link_cannot_leave_the_folder(published, tmp_path):
    folder, _ = published()
    (folder / "model.safetensors").rename(tmp_path / "secret")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsError, match="link to a file outside"):
        Folder(folder)


def test_links_of_the_cache_of_downloads_lead_to_its_blobs(published, tmp_path):
    folder, tensors = published()
    snapshot, blobs = tmp_path / "models--a/snapshots/123", tmp_path / "models--a/blobs"
    snapshot.parent.mkdir(parents=True)
    blobs.mkdir()
    folder.rename(snapshot)
    for path in list(snapshot.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    assert read(snapshot).keys() == tensors.keys()


def test_a_shard_that_is_missing_is_named(published):
    folder, _ = published(files=3)
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks part-1\.safetensors"):
        Folder(folder)


def test_a_tensor_that_a_shard_lacks_is_named(published):
    folder, _ = published(files=2)
    reindexed(folder, lambda names: names.update({"model.more.weight": "part-0.safetensors"}))
    with pytest.raises(WeightsError, match=r"part-0\.safetensors lacks model\.more\.weight"):
        read(folder)


def test_a_tensor_in_two_shards_is_refused(published):
    folder, tensors = published(files=2)
    part = load_file(folder / "part-1.safetensors")
    name = next(iter(tensors))
    save_file(part | {name: tensors[name]}, folder / "part-1.safetensors")
    with pytest.raises(WeightsError, match=f"holds {name}"):
        read(folder)


def test_an_index_with_a_key_twice_is_refused(published):
    folder, _ = published(files=2)
    (folder / INDEX).write_text('{"weight_map": {"a": "x", "a": "y"}}')
    with pytest.raises(WeightsError, match="a key twice"):
        Folder(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, '{"weight_map": []}', '{"weight_map": {"a": 3}}']
)
def test_an_index_that_is_none_is_refused(published, text):
    folder, _ = published(files=2)
    (folder / INDEX).write_text(text)
    with pytest.raises(WeightsError):
        Folder(folder)


@pytest.mark.parametrize("keep", [4, 100, -10])
def test_a_file_that_was_cut_short_is_refused_and_nothing_is_left(published, tmp_path, keep):
    folder, _ = published()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged"):
        import_folder(folder, tmp_path / "run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["published"]


def test_a_tensor_of_another_shape_leaves_nothing(published, tmp_path):
    folder, tensors = published()
    name = "model.layers.1.mlp.down_proj.weight"
    save_file(tensors | {name: tensors[name][:, :5].copy()}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=f"{name} has the shape"):
        import_folder(folder, tmp_path / "run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["published"]
