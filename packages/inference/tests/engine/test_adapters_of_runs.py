"""What a run has trained is loaded from its directory."""

import sys

import jax
import numpy as np

import axlearn_core._plugin
import axlearn_layers._plugin
from axlearn_core.checkpoint import choose, parameters_of, read_array, read_manifest
from axlearn_core.cli.main import main
from axlearn_core.testing.registries import isolated_registry
from axlearn_inference import LanguageModel
from axlearn_inference.engine import Adapters
from axlearn_layers.families import llama

HEADS = {"num_heads": 2, "num_kv_heads": 1}
SIZES = {"vocab_size": 26, "dim": 8, "num_layers": 2, "hidden_dim": 8, **HEADS}
EXPERIMENT = f"""
from axlearn_core.config import replace
from axlearn_core.testing import tiny
from axlearn_layers import LoRA, Projection
from axlearn_layers.families import llama

def tuned():
    model = llama(**{SIZES})
    lora = LoRA.default_config().set(rank=2, alpha=6.0)
    replace(model, Projection, lambda old: lora.clone(inner=old))
    cfg = tiny.experiment().set(model=model, max_step=1, evaluations={{}}, mesh_shape={{"data": 1}})
    return cfg
"""


def test_the_adapter_of_a_run_fills_a_place(tmp_path, monkeypatch, caplog):
    (tmp_path / "lora_experiment.py").write_text(EXPERIMENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    module = llama(**SIZES).instantiate()
    variables = jax.jit(module.initialize)(jax.random.key(0))
    adapters = Adapters(LanguageModel("tiny", module, variables, None, "float32", 26), rank=4)
    with isolated_registry(
        axlearn_core=axlearn_core._plugin, axlearn_layers=axlearn_layers._plugin
    ):
        assert main(["train", "lora_experiment:tuned", "--dir", str(run)]) == 0
        adapters.load_run("tuned", run)
    sys.modules.pop("lora_experiment")
    # Norms, embedding and head, which that run has not frozen.
    assert "tuned has trained embedding.weight and 4 others besides" in caplog.text

    folder = choose(run, None).info.path
    arrays = parameters_of(read_manifest(folder).arrays)
    place = adapters.place("tuned")
    own = [name for name in arrays if name.endswith(".b")]
    assert own
    for name in own:
        held = read_array(folder, arrays[name])
        assert held.any()
        for number, layer in enumerate(held):
            leaf = adapters.variables
            for key in name.replace("layer.", f"layer{number}.").split("."):
                leaf = leaf[key]
            filled = np.asarray(leaf)[place]  # [rank, ...]
            np.testing.assert_array_equal(filled[:2], layer * 3)  # alpha / rank
            assert not filled[2:].any()
