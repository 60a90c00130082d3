"""A tiny Llama with random weights, and letters for its ids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import functional
from axlearn_inference import LanguageModel
from axlearn_layers.families import llama

LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"


class Letters:
    """A token per character; the last id is special."""

    eos_id = len(LETTERS)
    end_ids = (eos_id,)

    def encode(self, text):
        return np.array([LETTERS.index(character) for character in text], np.int32)

    def decode(self, ids):
        return "".join(LETTERS[i] for i in ids if i < len(LETTERS))


@pytest.fixture(scope="session")
def model():
    vocab = len(LETTERS) + 1
    cfg = llama(vocab_size=vocab, dim=16, num_layers=2, num_heads=4, num_kv_heads=2, hidden_dim=24)
    module = cfg.instantiate(name="model")
    variables = jax.jit(module.initialize)(jax.random.key(0))
    # Sharper than a new model's, so that no two scores are close.
    variables["head"]["weight"] *= 4
    return LanguageModel("tiny", module, variables, Letters(), "float32", vocab)


@pytest.fixture(scope="session")
def drawn():
    """Parameters of a module that are all far from zero, so that positions and ids decide alike."""

    def drawn(module):
        rng = np.random.default_rng(0)

        def draw(leaf):
            return jnp.asarray(rng.normal(scale=0.5, size=leaf.shape), leaf.dtype)

        return jax.tree.map(draw, jax.eval_shape(module.initialize, jax.random.key(0)))

    return drawn


@pytest.fixture(scope="session")
def next_scores(model):
    """Scores of what follows each token, by one forward pass over whole texts."""

    @jax.jit
    def whole(ids):
        scores, _ = functional(
            model.module,
            state=model.variables,
            prng_key=None,
            inputs=({"input_ids": ids},),
            method="logits",
        )
        return scores

    def next_scores(ids):
        padded = np.zeros((1, 32), np.int32)
        padded[0, : len(ids)] = ids
        return np.asarray(whole(padded), np.float64)[0, : len(ids)]

    return next_scores
