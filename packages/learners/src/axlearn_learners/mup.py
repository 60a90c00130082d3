"""Learning rates that carry over from one width to another."""

from __future__ import annotations

from axlearn_core.config import ConfigError
from axlearn_learners.groups import ParameterGroup

PROJECTIONS = "(.*/)?(attention|feed_forward)/(.*/)?weight"


def mup_simple(
    dim: int, *, base_dim: int = 768, path: str = PROJECTIONS
) -> dict[str, ParameterGroup]:
    """Returns groups that scale the updates of projections by min(base_dim / dim, 1).

    The simple variant of muP (arXiv:2203.03466, arXiv:2309.14322) that arXiv:2407.21075 uses: a
    rate found at width `base_dim` serves wider models too. It takes weights that start with
    variance 1 / fan_in, which is the layers' default.

    Args:
        dim: the width of the model.
        base_dim: the width at which the learning rate was found.
        path: regular expression for whole paths: the weights of attention and feed-forward layers.
    """
    if dim < 1 or base_dim < 1:
        raise ConfigError(f"dim (={dim}) and base_dim (={base_dim}) must be positive")
    return {"projections": ParameterGroup(path=path, rate_scale=min(base_dim / dim, 1.0))}
