"""Published weights become a run, and a run published weights."""

import json
import tracemalloc

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from axlearn_core.checkpoint import checkpoints, choose, parameters_of, read_array, read_manifest
from axlearn_core.cli.checkpoints import checkpoints_group
from axlearn_core.config import find
from axlearn_core.errors import UserError
from axlearn_core.module import Layer, flatten_paths
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh
from axlearn_core.plugins import get_registry
from axlearn_core.testing.tiny import Letters
from axlearn_core.training.saved_run import load_run, saved_config
from axlearn_huggingface import importing
from axlearn_huggingface.cli.exporting import export_group
from axlearn_huggingface.cli.importing import import_group
from axlearn_huggingface.exporting import export_folder
from axlearn_huggingface.exporting import published as published_checkpoint
from axlearn_huggingface.families import LLAMA_WEIGHTS
from axlearn_huggingface.folder import Folder
from axlearn_huggingface.importing import family_of, import_folder, kept_dtype
from axlearn_huggingface.pretrained import Pretrained
from axlearn_huggingface.weights import WeightsError, import_onto_mesh, import_weights, imported


def arrays(directory):
    folder = choose(directory, None).info.path
    held = parameters_of(read_manifest(folder).arrays)
    return {name.replace(".", "/"): read_array(folder, info) for name, info in held.items()}


def model_of(directory):
    config = saved_config(choose(directory, None).info, get_registry())
    return config.model.instantiate(name="model")


def model_of_folder(folder):
    config = Folder(folder).config
    return family_of(config).model(config).instantiate(name="model")


def test_a_checkpoint_holds_what_the_mapping_makes_of_the_tensors(published, tmp_path):
    folder, tensors = published(files=2)
    import_folder(folder, tmp_path / "run")
    expected = flatten_paths(import_weights(LLAMA_WEIGHTS, model_of(tmp_path / "run"), tensors))
    found = arrays(tmp_path / "run")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_it_is_a_checkpoint_like_any_other(published, tmp_path):
    folder, _ = published()
    import_folder(folder, tmp_path / "run")
    assert [(i.step, i.status) for i in checkpoints(tmp_path / "run", verify=True)] == [
        (0, "complete")
    ]
    for command in (["ls"], ["show"], ["verify"]):
        done = CliRunner().invoke(checkpoints_group, [*command, str(tmp_path / "run")])
        assert done.exit_code == 0, done.output
    run = load_run(choose(tmp_path / "run", None).info, get_registry())
    assert int(run.state.step) == 0
    with pytest.raises(UserError, match="initialize_from"):
        run.trainer.input.batches()


def test_files_are_cut_as_the_mesh_cuts_arrays_and_any_mesh_reads_them(published, tmp_path):
    folder, _ = published()
    import_folder(folder, tmp_path / "whole")
    import_folder(folder, tmp_path / "cut", overrides=['mesh_shape={"data": 2, "fsdp": 4}'])
    info = choose(tmp_path / "cut", None).info
    down = read_manifest(info.path).arrays["params.stack.layer.feed_forward.down.weight"]
    assert (down.shape, down.chunk) == ((2, 24, 16), (1, 24, 4))
    one, other = arrays(tmp_path / "whole"), arrays(tmp_path / "cut")
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array, err_msg=name)
    run = load_run(info, get_registry())
    read = flatten_paths(run.state.params)["stack/layer/feed_forward/down/weight"]
    np.testing.assert_array_equal(read, one["stack/layer/feed_forward/down/weight"])


def test_weights_go_onto_a_mesh_without_a_whole_model_on_the_host(published):
    folder, tensors = published()
    model = model_of_folder(folder)
    placement = Placement(make_mesh({"fsdp": 2, "model": 2, "data": -1}), DEFAULT_RULES)
    placed = import_onto_mesh(LLAMA_WEIGHTS, model, tensors, placement)
    expected = import_weights(LLAMA_WEIGHTS, model, tensors)
    jax.tree.map(np.testing.assert_array_equal, placed, expected)
    down = placed["stack"]["layer"]["feed_forward"]["down"]["weight"]
    assert down.sharding.shard_shape(down.shape) == (2, 12, 8)


@pytest.mark.parametrize(
    ("given", "asked", "expected"),
    [("bfloat16", None, "bfloat16"), ("bfloat16", "float32", "float32"), ("float16", None, None)],
)
def test_the_dtype_is_kept_or_as_asked(published, tmp_path, given, asked, expected):
    folder, _ = published(dtype=given)
    made = import_folder(folder, tmp_path / "run", dtype=asked)
    assert made.dtype == (expected or given)
    layers = find(saved_config(choose(tmp_path / "run", None).info, get_registry()).model, Layer)
    assert {layer.dtype for _, layer in layers} == {made.dtype}
    assert {array.dtype.name for array in arrays(tmp_path / "run").values()} == {made.dtype}


def test_several_dtypes_become_the_one_that_holds_all():
    assert kept_dtype({"BF16", "F32"}) == "float32"
    with pytest.raises(WeightsError, match="U8"):
        kept_dtype({"U8"})


def test_memory_is_bounded_by_three_tensors(published, tmp_path):
    folder, tensors = published(
        vocab_size=4096, hidden_size=64, intermediate_size=1024, num_hidden_layers=8
    )
    largest = max(tensor.nbytes for tensor in tensors.values())
    assert sum(tensor.nbytes for tensor in tensors.values()) > 8 * largest
    del tensors
    model = model_of_folder(folder)
    tracemalloc.start()
    with Folder(folder).tensors() as lazy:
        for _ in imported(LLAMA_WEIGHTS, model, lazy):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The tensor that is read, what it becomes, the one before, and a little that is no array.
    assert peak < 3 * largest + 2**18


def published_of(directory):
    return published_checkpoint(choose(directory, None).info)


def test_a_directory_that_is_there_stays_as_it_is(published, tmp_path):
    folder, _ = published()
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="is there already"):
        import_folder(folder, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_texts_are_copied_and_code_is_not(published, tmp_path, monkeypatch):
    letters = Letters.default_config()
    monkeypatch.setattr(importing, "tokenizer_config", lambda texts: letters)
    folder, _ = published()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "generation_config.json").write_text("{}")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    made = import_folder(folder, tmp_path / "run")
    assert made.texts == ["tokenizer.json", "generation_config.json"]
    copied = sorted(path.name for path in (tmp_path / "run/tokenizer").iterdir())
    assert copied == sorted(made.texts)


def test_what_an_imported_model_says_of_its_length_is_remembered(published, tmp_path):
    folder, _ = published()
    import_folder(folder, tmp_path / "run")
    config = saved_config(choose(tmp_path / "run", None).info, get_registry())
    assert isinstance(config.input, Pretrained.Config)
    assert config.input.max_length == 64


def test_commands_take_a_folder_in_and_give_it_out_again(published, tmp_path):
    folder, tensors = published()
    run, out = str(tmp_path / "run"), tmp_path / "out"
    done = CliRunner().invoke(import_group, ["hf", str(folder), run])
    assert (done.exit_code, "llama, float32" in done.output) == (0, True), done.output
    words = ["hf", run, str(out), "--shard-size", "0.000002", "--max-length", "99"]
    done = CliRunner().invoke(export_group, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(load_file(out / index["weight_map"][name])[name], tensor)
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["rope_theta"], config["max_position_embeddings"]) == (500.0, 99)
    assert config["bos_token_id"] is None


def test_an_export_never_overwrites(published, tmp_path):
    folder, _ = published()
    import_folder(folder, tmp_path / "run")
    with pytest.raises(UserError, match="is there already"):
        export_folder(published_of(tmp_path / "run"), folder)


def test_what_cannot_be_kept_leaves_nothing(published, tmp_path):
    folder, tensors = published()
    integers = {name: np.zeros(x.shape, np.uint8) for name, x in tensors.items()}
    save_file(integers, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="quantised is not read"):
        import_folder(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()
