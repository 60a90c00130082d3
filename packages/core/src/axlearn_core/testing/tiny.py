"""The smallest things that train: a bigram model, plain gradient descent, and counting.

For tests of plugins that need a whole run (a writer, a hook, a checkpoint format): a step takes a
fraction of a millisecond, and what comes out is known. `experiment()` learns to say the alphabet.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.config import REQUIRED
from axlearn_core.module import ParameterSpec, no_context, zeros
from axlearn_core.training.evaluation import Evaluation
from axlearn_core.training.input import Batch, BatchIterator, BatchShape, Input
from axlearn_core.training.learner import Learner, LearnerUpdate, Params
from axlearn_core.training.model import Loss, Model
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_core.training.trainer import Trainer


class BigramModel(Model):
    """The scores of the next token are a row of a table."""

    class Config(Model.Config):
        vocab_size: int = REQUIRED

    def own_parameters(self) -> dict[str, ParameterSpec]:
        size = self.config.vocab_size
        return {"table": ParameterSpec((size, size), ("embed", "vocab"), zeros)}

    def forward(self, batch: dict[str, jax.Array]) -> Loss:
        scores = jax.nn.log_softmax(self.param("table")[batch["input_ids"]])
        chosen = jnp.take_along_axis(scores, batch["target_ids"][..., None], axis=-1)[..., 0]
        weights = batch["target_weights"]
        return Loss(-jnp.sum(weights * chosen), jnp.sum(weights))

    @no_context
    def init_cache(self, batch_size: int, max_length: int, dtype: str) -> dict[str, Any]:
        return {"length": jnp.zeros(batch_size, jnp.int32)}

    def extend(
        self,
        input_ids: jax.Array,
        cache: dict[str, Any],
        lengths: jax.Array | None = None,
        adapter_ids: jax.Array | None = None,
        last_only: bool = False,
    ) -> tuple[jax.Array, dict[str, Any]]:
        read = jnp.asarray(input_ids.shape[1]) if lengths is None else lengths
        if last_only:
            last = jnp.broadcast_to(read - 1, input_ids.shape[:1])[:, None]
            input_ids = jnp.take_along_axis(input_ids, last, axis=1)
        return self.param("table")[input_ids], {"length": cache["length"] + read}


class GradientDescent(Learner):
    """params - learning_rate * grads, without any state."""

    class Config(Learner.Config):
        learning_rate: float = 10.0

    def init(self, params: Params) -> tuple[()]:
        return ()

    def state_axes(self) -> tuple[()]:
        return ()

    def update(
        self, grads: Params, opt_state: tuple[()], params: Params, step: jax.Array
    ) -> LearnerUpdate:
        rate = self.config.learning_rate
        squares = sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads))
        metrics = {"gradient_norm": jnp.sqrt(squares), "learning_rate": jnp.float32(rate)}
        new = jax.tree.map(lambda p, g: p - rate * g, params, grads)
        return LearnerUpdate(new, opt_state, metrics)


class Letters(Tokenizer):
    """A token per lower-case letter; everything else is left out."""

    class Config(Tokenizer.Config):
        """Nothing to choose."""

    vocab_size = len(string.ascii_lowercase)
    bos_id = eos_id = pad_id = -1  # documents have no ends

    def encode(self, text: str) -> NDArray[np.int32]:
        found = map(string.ascii_lowercase.find, text)
        return np.array([index for index in found if index >= 0], np.int32)

    def decode(self, ids: Sequence[int] | NDArray[Any]) -> str:
        return "".join(string.ascii_lowercase[index] for index in ids if index < 26)

    def fingerprint(self) -> str:
        return hashlib.sha256(string.ascii_lowercase.encode()).hexdigest()

    def pieces(self) -> list[bytes | None]:
        return [letter.encode() for letter in string.ascii_lowercase]


class Counting(Input):
    """Each row counts up from a random letter: "xyzabc"."""

    class Config(Input.Config):
        seq_len: int = 8
        seed: int = 0
        num_batches: int | None = None  # None: without end

    def batches(self, *, process_index: int = 0, process_count: int = 1) -> BatchIterator:
        return _CountingBatches(self, self.local_rows(process_index, process_count))

    def batch_shape(self) -> BatchShape:
        shape = (self.config.batch_size, self.config.seq_len)
        ids, weights = np.dtype(np.int32), np.dtype(np.float32)
        return {
            "input_ids": (shape, ids),
            "target_ids": (shape, ids),
            "target_weights": (shape, weights),
        }

    def describe(self) -> dict[str, Any]:
        return dict(self.config.items())

    def tokenizer(self) -> Tokenizer:
        letters: Letters = Letters.default_config().instantiate()
        return letters

    def characters_per_token(self) -> float:
        return 1.0


class _CountingBatches:
    def __init__(self, source: Counting, rows: range):
        self._config, self._rows, self._made = source.config, rows, 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        cfg = self._config
        if self._made == cfg.num_batches:
            raise StopIteration
        random = np.random.default_rng([cfg.seed, self._made])
        starts = random.integers(Letters.vocab_size, size=cfg.batch_size)[self._rows]
        ids = ((starts[:, None] + np.arange(cfg.seq_len + 1)) % Letters.vocab_size).astype(np.int32)
        self._made += 1
        weights = np.ones((len(starts), cfg.seq_len), np.float32)
        return {"input_ids": ids[:, :-1], "target_ids": ids[:, 1:], "target_weights": weights}

    def get_state(self) -> dict[str, Any]:
        return {"made": self._made}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._made = int(state["made"])


def experiment() -> Trainer.Config:
    """Learns the alphabet in 20 steps."""
    counting = Counting.default_config().set(batch_size=8)
    cfg = Trainer.default_config().set(
        model=BigramModel.default_config().set(vocab_size=Letters.vocab_size),
        learner=GradientDescent.default_config(),
        input=counting,
        max_step=20,
        compile_cache=None,
    )
    held_out = counting.clone(seed=1, num_batches=2)
    cfg.evaluations = {"held_out": Evaluation.default_config().set(input=held_out)}
    return cfg
