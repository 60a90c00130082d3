import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.module import functional
from axlearn_layers import Remat, Repeat, SequenceInfo, SequenceLayer, TransformerBlock


def stack_config(make, **fields):
    stack = make.llama().stack.clone(input_dim=16, **fields)
    return stack


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 6, 16)).astype(np.float32)


def test_scanned_layers_equal_one_block_after_the_other(make, x):
    cfg = stack_config(make, num_layers=3)
    stack, state = make.build(cfg)
    block = cfg.layer.clone(input_dim=16).instantiate()
    expected = x
    for index in range(3):
        one = jax.tree.map(lambda leaf, i=index: leaf[i], state["layer"])
        expected = make.call(block, one, expected, SequenceInfo())
    np.testing.assert_allclose(make.call(stack, state, x, SequenceInfo()), expected, atol=1e-5)


@pytest.mark.parametrize(
    "remat", [Remat.Config(), Remat.Config(save="block_.*"), Remat.Config(save="attention_context")]
)
def test_remat_changes_no_gradient(make, x, remat):
    def gradients(config):
        stack, state = make.build(config)
        return jax.grad(lambda state: make.call(stack, state, x, SequenceInfo()).sum())(state)

    plain, rematerialised = (
        gradients(stack_config(make, remat=policy)) for policy in (None, remat)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, rematerialised)


def kept_floats(make, x, remat):
    stack, state = make.build(stack_config(make, remat=remat))
    _, pullback = jax.vjp(lambda x: make.call(stack, state, x, SequenceInfo()), x)
    return sum(leaf.size for leaf in jax.tree.leaves(pullback))


def test_remat_keeps_what_it_names_and_less_than_none(make, x):
    nothing = kept_floats(make, x, Remat.Config())
    hidden = kept_floats(make, x, Remat.Config(save="block_hidden"))
    everything = kept_floats(make, x, None)
    assert hidden == nothing + 2 * x.size  # of two layers
    assert hidden < everything


def test_parameters_are_stacked_along_an_axis_named_layers(make):
    specs = stack_config(make, num_layers=5).instantiate().parameter_specs()
    weight = specs["layer"]["feed_forward"]["down"]["weight"]
    assert (weight.shape, weight.axes) == ((5, 24, 16), ("layers", "mlp", "embed"))
    assert weight.fan_in_axes == (1,)


def test_initialized_shapes_are_those_declared(make):
    stack = stack_config(make, num_layers=3).instantiate()
    declared = jax.tree.map(lambda spec: spec.shape, stack.parameter_specs())
    made = jax.eval_shape(stack.initialize, jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, made) == declared


def test_program_does_not_grow_with_depth(make, x):
    def program_size(num_layers):
        stack = stack_config(make, num_layers=num_layers).instantiate()
        state = jax.eval_shape(stack.initialize, jax.random.key(0))

        def loss(state):
            return make.call(stack, state, x, SequenceInfo()).sum()

        return len(jax.jit(jax.grad(loss)).lower(state).as_text())

    assert program_size(320) <= 1.1 * program_size(32) <= 1.21 * program_size(4)


class Reporting(SequenceLayer):
    """Adds 1 and reports what came in."""

    class Config(SequenceLayer.Config):
        pass

    def forward(self, x, info):
        self.add_summary("mean", x.mean())
        return x + 1


def test_summaries_come_once_per_layer():
    stack = Repeat.Config(input_dim=4, num_layers=3, layer=Reporting.default_config())
    _, side = functional(
        stack.instantiate(),
        state={},
        prng_key=None,
        inputs=(jnp.zeros((1, 2, 4)), SequenceInfo()),
    )
    np.testing.assert_array_equal(side.summaries["layer"]["mean"], [0, 1, 2])


def test_a_stack_repeats_stacks(make, x):
    inner = stack_config(make).clone(num_layers=2)
    outer = Repeat.Config(input_dim=16, num_layers=3, layer=inner)
    stack, state = make.build(outer)
    assert state["layer"]["layer"]["feed_forward"]["down"]["weight"].shape == (3, 2, 24, 16)
    assert make.call(stack, state, x, SequenceInfo()).shape == x.shape


def test_no_layers_is_refused():
    cfg = Repeat.Config(input_dim=4, num_layers=0, layer=Reporting.default_config())
    with pytest.raises(BuildError, match=r"num_layers \(=0\) must be at least 1"):
        cfg.instantiate()


def test_block_adds_to_the_residual_stream(make, x):
    cfg = TransformerBlock.Config(input_dim=16)
    cfg.attention.num_heads = 2
    cfg.feed_forward.hidden_dim = 8
    block = cfg.instantiate()
    state = block.initialize(jax.random.key(0))
    for branch in ("attention", "feed_forward"):
        state[branch] = jax.tree.map(jnp.zeros_like, state[branch])
    np.testing.assert_array_equal(make.call(block, state, x, SequenceInfo()), x)
