"""What the compiled training step of a whole model does with memory."""

import math
import re

import jax
import pytest

from axlearn_core.module import flatten_paths
from axlearn_core.training import Trainer
from axlearn_inputs import SyntheticInput
from axlearn_layers.families import llama
from axlearn_learners import OptaxLearner


@pytest.fixture(scope="module")
def program():
    model = llama(vocab_size=96, dim=48, num_layers=3, num_heads=4, num_kv_heads=2, hidden_dim=112)
    data = SyntheticInput.default_config().set(vocab_size=96, seq_len=8, batch_size=8)
    learner = OptaxLearner.default_config()
    learner.optimizer.learning_rate = 1e-3
    cfg = Trainer.default_config().set(model=model, learner=learner, input=data, max_step=1)
    # Sums between virtual devices of one CPU have buffers of their own.
    trainer = cfg.set(mesh_shape={"data": 1}).instantiate()
    program = trainer.program(trainer.placement())
    return program, program.compile_train_step(trainer.input.batch_shape()).result()


def test_every_array_of_the_state_is_written_in_place(program):
    analysis = program[1].run.memory_analysis()
    state = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(program[0].state))
    assert analysis.alias_size_in_bytes == state


def test_the_step_copies_no_layer_stack_of_the_state(program):
    """XLA copies what it cannot prove to be read before it is overwritten, once per step."""
    shapes = {
        f"f32[{','.join(map(str, x.shape))}]"
        for x in flatten_paths(program[0].state.params).values()
        if x.size > 1000
    }
    entry = program[1].run.as_text().partition("\nENTRY ")[2]
    copied = {shape for shape in re.findall(r"= (\S+\])\S* copy\(", entry)}
    assert shapes
    assert not shapes & copied
