"""Compares a model with that of transformers: a tiny random one, saved, read and mapped."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import PreTrainedConfig, PreTrainedModel

from axlearn_core.checkpoint import choose, parameters_of, read_array, read_manifest
from axlearn_core.module import flatten_paths, functional
from axlearn_core.training import Model
from axlearn_huggingface.exporting import export_folder
from axlearn_huggingface.exporting import published as published_checkpoint
from axlearn_huggingface.importing import import_folder
from axlearn_huggingface.weights import WeightMapping, import_weights

# What is compiled here runs once, for a moment.
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}


class Pair:
    """Our model and theirs with the same random weights, which came through a file."""

    def __init__(
        self,
        ours: Model.Config,
        theirs: type[PreTrainedModel],
        config: PreTrainedConfig,
        mapping: WeightMapping,
        directory: Path,
    ):
        self.mapping, self.directory = mapping, directory
        config._attn_implementation = "eager"
        self.theirs = randomized(theirs, config)
        self.tensors = published(self.theirs, directory / "published")
        self.ours = ours.instantiate()
        self.state = import_weights(mapping, self.ours, self.tensors)

    @functools.cached_property
    def _compiled(self):
        return jax.jit(
            lambda state, batch: functional(
                self.ours, state=state, prng_key=None, inputs=(batch,), method="logits"
            )[0],
            compiler_options=QUICK_TO_COMPILE,
        )

    def logits(self, batch):
        return np.asarray(self._compiled(self.state, batch))

    def their_logits(self, ids, **options):
        with torch.no_grad():
            return self.theirs(torch.as_tensor(ids), use_cache=False, **options).logits.numpy()

    def gradients(self, batch, inputs=None):
        """Returns our gradient of the sum of losses, and theirs in our tree.

        Their model gets `inputs`, by default the input ids of the batch.
        """

        def loss(state):
            return functional(self.ours, state=state, prng_key=None, inputs=(batch,))[0].total

        self.theirs.zero_grad()
        if inputs is None:
            inputs = {"input_ids": torch.as_tensor(batch["input_ids"]), "use_cache": False}
        logits = self.theirs(**inputs).logits
        targets = torch.as_tensor(batch["target_ids"]).flatten()
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, reduction="none")
        (losses * torch.as_tensor(batch["target_weights"]).flatten()).sum().backward()
        # The mapping knows the names of files only, so gradients go the way of weights.
        holder = type(self.theirs)(self.theirs.config)
        with torch.no_grad():
            for place, parameter in zip(holder.parameters(), self.theirs.parameters(), strict=True):
                place.copy_(parameter.grad)
        tensors = published(holder, self.directory / "gradients")
        expected = import_weights(self.mapping, self.ours, tensors)
        gradient = jax.jit(jax.grad(loss), compiler_options=QUICK_TO_COMPILE)(self.state)
        return gradient, expected

    def out_and_in_again(self, auto) -> PreTrainedModel:
        """Imports the published folder, exports the run, and lets transformers load that."""
        run, out = self.directory / "run", self.directory / "exported"
        import_folder(self.directory / "published", run)
        held = arrays_of(run)
        for path, array in flatten_paths(self.state).items():
            np.testing.assert_array_equal(held[path.replace("/", ".")], array, err_msg=path)
        export_folder(published_checkpoint(choose(run, None).info), out, shard_bytes=50_000)
        model, report = auto.from_pretrained(
            out, output_loading_info=True, attn_implementation="eager"
        )
        assert not report["missing_keys"] and not report["unexpected_keys"], report
        return model.eval()


def arrays_of(run):
    folder = choose(run, None).info.path
    held = parameters_of(read_manifest(folder).arrays)
    return {name: read_array(folder, info) for name, info in held.items()}


def randomized(theirs: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """Builds their model. Gains and biases start as constants, which would hide mistakes."""
    torch.manual_seed(0)
    model = theirs(config).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        biases = [buffer for name, buffer in model.named_buffers() if name.endswith("bias")]
        for parameter in [*model.parameters(), *biases]:
            if parameter.ndim == 1:
                parameter.add_(torch.as_tensor(0.2 * rng.normal(size=parameter.shape)))
    return model


def published(model: PreTrainedModel, directory: Path) -> dict[str, np.ndarray]:
    """Saves a model, and reads its tensors by the names in the file."""
    model.save_pretrained(directory)
    return load_file(directory / "model.safetensors")


@pytest.fixture(scope="session")
def make_pair():
    """`Pair`, as a fixture because tests are no package."""
    return Pair
