"""What waits in the host's memory: the same numbers, another place.

A CPU has the kinds of memory that accelerators have, all of them in the same place, so that the
program is the same one.
"""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.training import Trainer
from axlearn_core.training.offload import check_host_memory
from axlearn_core.training.share import place_batch
from axlearn_experiments.text import trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers import Remat
from axlearn_layers.families import llama


def config(*, offload_optimizer: bool = False, remat: Remat.Config | None = None) -> Trainer.Config:
    model = llama(vocab_size=64, dim=32, num_layers=2, num_heads=2, num_kv_heads=2, hidden_dim=64)
    model.stack.remat = remat
    data = SyntheticInput.default_config().set(vocab_size=64, seq_len=16, batch_size=4)
    cfg = trainer(model, data, peak_rate=1e-2, max_step=2)
    return cfg.set(compile_cache=None, mesh_shape={"fsdp": 2}, offload_optimizer=offload_optimizer)


@cache
def usual() -> Any:
    return after_a_step(config())


def after_a_step(cfg: Trainer.Config) -> Any:
    run: Trainer = cfg.instantiate()
    where = run.placement()
    program = run.program(where)
    step = program.compile_train_step(run.input.batch_shape()).result().run
    state, _ = step(program.initial_state(), place_batch(next(run.input.batches()), where))
    return state


def test_the_optimizers_state_waits_in_host_memory_and_changes_nothing() -> None:
    state = after_a_step(config(offload_optimizer=True))
    moments = [x for x in jax.tree.leaves(state.learner) if x.ndim]
    assert {x.sharding.memory_kind for x in moments} == {"pinned_host"}
    assert {x.sharding.memory_kind for x in jax.tree.leaves(state.params)} == {"device"}
    jax.tree.map(np.testing.assert_array_equal, state, usual())


def test_a_run_with_an_offloaded_state_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    cfg = config(offload_optimizer=True)
    cfg.learner.total_steps = 2
    cfg.clone(max_step=1).instantiate().run(tmp_path)
    result = cfg.instantiate().run(tmp_path)
    assert (result.step, result.reason) == (2, "completed")


def test_offloaded_activations_change_nothing() -> None:
    offload = Remat.default_config().set(offload="block_hidden")
    params = after_a_step(config(remat=offload)).params
    # What is made again instead of kept may be fused otherwise: one float32 rounding.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, params, usual().params)


def test_devices_without_host_memory_are_refused() -> None:
    memory = SimpleNamespace(kind="device")
    device = SimpleNamespace(device_kind="Acme 1", addressable_memories=lambda: [memory])
    mesh: Any = SimpleNamespace(devices=np.array([device]))
    with pytest.raises(ConfigError, match=r"pinned_host\); Acme 1 has device\. Set it to false"):
        check_host_memory(mesh)
