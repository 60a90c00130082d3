"""What transformers reads of an export is what the run is evaluated with: merged, averaged."""

import jax
import numpy as np
import torch
import transformers as hf

from axlearn_core.checkpoint import choose, parameters_of, read_array, read_manifest
from axlearn_core.cli.main import main
from axlearn_core.config import replace
from axlearn_core.module import functional
from axlearn_core.training import Trainer
from axlearn_inference.loading import load
from axlearn_inputs import SyntheticInput
from axlearn_layers import LoRA, Projection
from axlearn_layers.families import llama
from axlearn_learners import AverageWeights, OptaxLearner

VOCAB = 26
IDS = np.random.default_rng(0).integers(VOCAB, size=(2, 9)).astype(np.int32)


def base():
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "hidden_dim": 24}
    learner = OptaxLearner.default_config()
    learner.optimizer.learning_rate = 0.1  # so that three steps change every logit
    data = SyntheticInput.default_config().set(batch_size=8, seq_len=8, vocab_size=VOCAB)
    cfg = Trainer.default_config().set(
        model=llama(vocab_size=VOCAB, **sizes), learner=learner, input=data, max_step=3
    )
    return cfg.set(mesh_shape={"data": 1}, writers=[])


def our_logits(model):
    def logits(variables, ids):
        module, inputs = model.module, ({"input_ids": ids},)
        return functional(module, state=variables, prng_key=None, inputs=inputs, method="logits")[0]

    return np.asarray(jax.jit(logits)(model.variables, IDS))


def exported(cfg, directory):
    """Trains, and exports as users do; returns our logits and those of transformers."""
    run, out = directory / "run", directory / "out"
    cfg.instantiate().run(run)
    assert main(["export", "hf", str(run), str(out)]) == 0
    model, report = hf.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    with torch.no_grad():
        theirs = model.eval()(torch.as_tensor(IDS).long())
    return our_logits(load(run)), theirs.logits.numpy(), model


def checkpoint_array(directory, name):
    folder = choose(directory / "run", None).info.path
    return read_array(folder, parameters_of(read_manifest(folder).arrays)[name])


def test_adapters_are_merged(tmp_path):
    cfg, adapter = base(), LoRA.default_config().set(rank=2)
    replace(cfg.model.stack, Projection, lambda old: adapter.clone(inner=old))
    ours, theirs, _ = exported(cfg, tmp_path)
    assert checkpoint_array(tmp_path, "stack.layer.feed_forward.down.b").any()
    # x W + x A B here, x (W + A B) there, in float32; logits are about 1.
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_a_scale_of_embeddings_that_the_family_has_not_goes_into_the_table(tmp_path):
    cfg = base()
    cfg.model.embedding.scale, cfg.model.head = 4.0, None  # as text.quickstart, whose head is tied
    ours, theirs, model = exported(cfg, tmp_path)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)  # float32 sums in another order
    assert not model.config.tie_word_embeddings


def test_the_mean_of_weights_is_exported_and_not_the_weights(tmp_path):
    cfg = base()
    cfg.learner = AverageWeights.default_config().set(learner=cfg.learner, decay=0.9)
    ours, theirs, model = exported(cfg, tmp_path)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)  # float32 sums in another order
    last = checkpoint_array(tmp_path, "embedding.weight")
    assert np.abs(model.get_input_embeddings().weight.detach().numpy() - last).max() > 0.01
