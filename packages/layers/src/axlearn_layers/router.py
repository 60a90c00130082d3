"""Which tokens go to which experts."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.module import (
    Layer,
    ParameterSpec,
    ParameterSpecs,
    map_specs,
    no_context,
    zeros,
)
from axlearn_layers.linear import Linear, Projection


class Routing(NamedTuple):
    """Each token's experts, no two the same. With a weight of 0 an expert adds nothing."""

    experts: jax.Array  # [batch, seq, choices] int32
    weights: jax.Array  # [batch, seq, choices] float32, of the experts' outputs


class Router(Layer):
    """Routes tokens by a linear map of each, computed in float32."""

    class Config(Layer.Config):
        # All set by the mixture.
        input_dim: int = REQUIRED
        num_experts: int = REQUIRED
        top_k: int = REQUIRED  # experts per token, on average if not always
        projection: Projection.Config = Linear.default_config()

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if not 1 <= cfg.top_k <= cfg.num_experts:
            raise ConfigError(
                f"top_k (={cfg.top_k}) must be between 1 and num_experts (={cfg.num_experts}): "
                "a token cannot go to more experts than there are"
            )
        self.projection: Projection = self.add_child(
            "projection",
            cfg.projection.set(
                input_dim=cfg.input_dim,
                output_dim=cfg.num_experts,
                input_axes="embed",
                output_axes=None,  # small, and every token needs all of it
            ),
        )

    @no_context
    def parameter_specs(self) -> ParameterSpecs:
        """Of float32 also where the model computes in bfloat16, or near scores would be equal."""
        return map_specs(
            lambda spec: dataclasses.replace(spec, keeps_precision=True), super().parameter_specs()
        )

    def forward(self, x: jax.Array) -> Routing:
        """Routes x, [batch, seq, input_dim]."""
        raise NotImplementedError(type(self))

    def _logits(self, x: jax.Array) -> jax.Array:
        return self.projection.forward(x.astype(jnp.float32))


class TopKRouter(Router):
    """Each token takes the experts of its highest scores s_e, which are its weights as well.

    Three ways to keep experts equally busy, with f_e = E * (expert e's share of all choices) and
    p_e = s_e / sum(s):
      balance_loss_scale * sum_e f_e p_e, 1 at best (arXiv:2101.03961; transformers' is top_k times
        this). f is of each sequence (arXiv:2412.19437), and then N micro-batches give the loss of
        one batch; or of the batch, as in the first papers.
      z_loss_scale * logsumexp(logits)^2 keeps the logits small (arXiv:2202.08906).
      bias_rate * sign(1 - f_e) is added to a bias of expert e after each (micro-)batch. The bias
        takes part in the choice but not in the weight, and has no gradient (arXiv:2408.15664).

    With `num_groups`, experts lie in groups, and a token's experts in the `top_groups` of them
    whose two best scores have the highest sum (DeepSeek-V3, arXiv:2412.19437).
    """

    class Config(Router.Config):
        normalize: bool = True  # divide the weights by their sum
        scale: float = 1.0  # multiplies the weights at last
        balance_loss_scale: float = 0.0  # 0.01, typically
        balance_over: Literal["sequence", "batch"] = "sequence"
        z_loss_scale: float = 0.0  # 0.001, typically
        bias_rate: float | None = None  # None is no bias; DeepSeek-V3 takes 0.001
        num_groups: int = 1
        top_groups: int = 1

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        cfg = self.config
        if cfg.num_experts % cfg.num_groups:
            raise ConfigError(
                f"num_groups (={cfg.num_groups}) must divide num_experts (={cfg.num_experts})"
            )
        reachable = cfg.num_experts // cfg.num_groups * cfg.top_groups
        if not 1 <= cfg.top_groups <= cfg.num_groups or reachable < cfg.top_k:
            raise ConfigError(
                f"top_groups (={cfg.top_groups}) must be between 1 and num_groups "
                f"(={cfg.num_groups}) and hold at least top_k (={cfg.top_k}) experts, "
                f"not {reachable}"
            )

    @no_context
    def own_parameters(self) -> dict[str, ParameterSpec]:
        cfg = self.config
        if cfg.bias_rate is None:
            return {}
        return {"bias": ParameterSpec((cfg.num_experts,), (None,), zeros, trainable=False)}

    def forward(self, x: jax.Array) -> Routing:
        cfg = self.config
        logits = self._logits(x)
        scores = self._scores(logits)
        preferred = scores if cfg.bias_rate is None else scores + self.param("bias")
        _, experts = jax.lax.top_k(
            jax.lax.stop_gradient(self._in_best_groups(preferred)), cfg.top_k
        )
        weights = jnp.take_along_axis(scores, experts, axis=-1)
        if cfg.normalize:
            weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-20)
        self._keep_balance(logits, scores, experts)
        return Routing(experts, cfg.scale * weights)

    def _scores(self, logits: jax.Array) -> jax.Array:
        """Returns [..., num_experts] positive scores."""
        raise NotImplementedError(type(self))

    def _in_best_groups(self, scores: jax.Array) -> jax.Array:
        """Returns the scores, -inf outside of the best groups."""
        cfg = self.config
        if cfg.top_groups == cfg.num_groups:
            return scores
        grouped = scores.reshape(*scores.shape[:-1], cfg.num_groups, -1)
        best_two = jax.lax.top_k(grouped, min(2, grouped.shape[-1]))[0].sum(axis=-1)
        _, groups = jax.lax.top_k(best_two, cfg.top_groups)
        allowed = jax.nn.one_hot(groups, cfg.num_groups, dtype=bool).any(axis=-2)
        return jnp.where(allowed[..., None], grouped, -jnp.inf).reshape(scores.shape)

    def _keep_balance(self, logits: jax.Array, scores: jax.Array, experts: jax.Array) -> None:
        cfg = self.config
        chosen = jax.nn.one_hot(experts, cfg.num_experts).sum(axis=-2)  # [batch, seq, experts]
        of_sequence = chosen.mean(axis=1, keepdims=True) * (cfg.num_experts / cfg.top_k)
        of_batch = of_sequence.mean(axis=0, keepdims=True)
        load = of_batch[0, 0]
        self.add_summary("load", load / cfg.num_experts)  # shares that sum to 1
        if cfg.balance_loss_scale:
            share = of_sequence if cfg.balance_over == "sequence" else of_batch
            probabilities = scores / scores.sum(axis=-1, keepdims=True)
            balance = jnp.sum(share * probabilities, axis=-1)
            self.add_loss("balance", cfg.balance_loss_scale * balance)
            self.add_summary("balance", balance.mean())
        if cfg.z_loss_scale:
            z = jax.nn.logsumexp(logits, axis=-1) ** 2
            self.add_loss("z", cfg.z_loss_scale * z)
            self.add_summary("z", z.mean())
        if cfg.bias_rate is not None and self.is_training:
            step = cfg.bias_rate * jnp.sign(1 - load)
            self.add_state_update("bias", self.param("bias") + step)


class SoftmaxRouter(TopKRouter):
    """s = softmax(x W) over all experts (GShard, arXiv:2006.16668; Mixtral, arXiv:2401.04088)."""

    def _scores(self, logits: jax.Array) -> jax.Array:
        return jax.nn.softmax(logits, axis=-1)


class SigmoidRouter(TopKRouter):
    """s = sigmoid(x W), each expert for itself (DeepSeek-V3, arXiv:2412.19437)."""

    def _scores(self, logits: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(logits)


class ExpertChoiceRouter(Router):
    """Each expert takes its seq * top_k / E best tokens of each sequence (arXiv:2202.09368).

    Balanced by construction; a token may get any number of experts. Whether a token is taken
    depends on later ones, so a model that generates should not use it. For the dispatch every
    token chooses all experts, most with weight 0: `CapacityDispatch` passes over those, at a
    capacity factor of 1, while `Dropless` would compute them.
    """

    def forward(self, x: jax.Array) -> Routing:
        cfg = self.config
        scores = jax.nn.softmax(self._logits(x), axis=-1)
        count = max(1, x.shape[1] * cfg.top_k // cfg.num_experts)
        by_expert = jnp.swapaxes(jax.lax.stop_gradient(scores), 1, 2)
        _, tokens = jax.lax.top_k(by_expert, count)
        taken = jnp.put_along_axis(jnp.zeros_like(by_expert), tokens, 1.0, axis=-1, inplace=False)
        weights = scores * jnp.swapaxes(taken, 1, 2)
        self.add_summary("unrouted_fraction", jnp.mean(weights.max(axis=-1) == 0))
        experts = jnp.broadcast_to(jnp.arange(cfg.num_experts), scores.shape)
        return Routing(experts, weights)
