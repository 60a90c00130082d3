"""Updates of projections shrink with the width of the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import ConfigError
from axlearn_core.module import ParameterSpec, flatten_paths, ones
from axlearn_learners import SGD, OptaxLearner, mup_simple

WEIGHT = ParameterSpec((2, 2), ("embed", "mlp"), ones)
GAIN = ParameterSpec((2,), ("embed",), ones, weight_decay_scale=0.0)
SPECS = {  # the paths of a language model
    "embedding": {"weight": WEIGHT},
    "stack": {
        "layer": {
            "attention_norm": {"scale": GAIN},
            "attention": {"qkv": {"inner": {"weight": WEIGHT}}, "key_norm": {"scale": GAIN}},
            "feed_forward": {"down": {"weight": WEIGHT}},
        }
    },
    "head": {"weight": WEIGHT},
}
SCALED = {"stack/layer/attention/qkv/inner/weight", "stack/layer/feed_forward/down/weight"}


@pytest.mark.parametrize(("dim", "scale"), [(3072, 0.25), (768, 1.0), (128, 1.0)])
def test_projections_alone_are_scaled_by_the_width(dim, scale):
    sgd = SGD.Config(learning_rate=1.0, momentum=0.0)
    cfg = OptaxLearner.Config(optimizer=sgd, groups=mup_simple(dim), clip_norm=None)
    learner = cfg.instantiate(specs=SPECS)
    zeros = jax.tree.map(lambda spec: jnp.zeros(spec.shape), SPECS)
    grads = jax.tree.map(jnp.ones_like, zeros)
    params = learner.update(grads, learner.init(zeros), zeros, 0).params
    for path, moved in flatten_paths(params).items():
        np.testing.assert_array_equal(moved, -scale if path in SCALED else -1.0, err_msg=path)


def test_a_width_of_zero_is_refused():
    with pytest.raises(ConfigError, match="must be positive"):
        mup_simple(0)
