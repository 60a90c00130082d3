"""A tiny published model in a folder."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from axlearn_huggingface.families import LLAMA
from axlearn_huggingface.weights import export_weights

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_theta": 500.0,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
}


def random_tensors(config, dtype="float32", family=LLAMA):
    model = family.model(config).instantiate(name="model")
    state = jax.eval_shape(model.initialize, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    rng = np.random.default_rng(0)
    shapes = export_weights(family.weights, model, zeros).shapes
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


@pytest.fixture
def published(tmp_path):
    """Writes a folder: `published(config changes, files=shards)`."""

    def write(name="published", files=1, dtype="float32", **changes):
        folder = tmp_path / name
        folder.mkdir()
        config = CONFIG | changes
        (folder / "config.json").write_text(json.dumps(config))
        tensors = random_tensors(config, dtype)
        if files == 1:
            save_file(tensors, folder / "model.safetensors")
            return folder, tensors
        weight_map = {}
        for number in range(files):
            part = dict(list(tensors.items())[number::files])
            save_file(part, folder / f"part-{number}.safetensors")
            weight_map |= dict.fromkeys(part, f"part-{number}.safetensors")
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder, tensors

    return write
