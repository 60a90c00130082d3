"""What looks at a whole parameter sees one layer of a stack at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from axlearn_core.module import ParameterSpec, ones
from axlearn_learners import per_layer

WEIGHT = ParameterSpec((4, 3), ("embed", "mlp"), ones)
SPECS = {"stack": {"weight": WEIGHT.stacked(2, "layers")}, "head": {"weight": WEIGHT}}


def normalized():
    """Gives every parameter the length 1."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda u: u / jnp.linalg.norm(u.ravel()), updates)
    )


def test_each_layer_of_a_stack_is_a_parameter_of_its_own():
    rng = np.random.default_rng(0)
    updates = jax.tree.map(lambda s: np.float32(rng.normal(size=s.shape)), SPECS)
    transformation = per_layer(normalized(), SPECS)
    got, _ = transformation.update(updates, transformation.init(updates))
    lengths = [np.linalg.norm(x) for x in (*got["stack"]["weight"], got["head"]["weight"])]
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-6)
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, updates)
