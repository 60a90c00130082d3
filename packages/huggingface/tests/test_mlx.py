"""What mlx-lm computes otherwise is refused."""

import pytest

from axlearn_core.errors import UserError
from axlearn_huggingface.exporting import Published
from axlearn_huggingface.mlx import for_mlx
from axlearn_huggingface.weights import LazyTensors


@pytest.mark.parametrize(
    ("model_type", "config", "why"),
    [
        ("bert", {}, "mlx-lm has no bert"),
        ("mamba2", {"layer_norm_epsilon": 1e-6}, "eps of 1e-05 before its layers"),
        ("mamba2", {"layer_norm_epsilon": 1e-5, "n_groups": 2}, "each of its 2 groups"),
    ],
)
def test_models_that_differ_are_refused(model_type, config, why):
    with pytest.raises(UserError, match=why):
        for_mlx(Published(model_type, config, LazyTensors({}), None, []))
