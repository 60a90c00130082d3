"""How tokens come to their experts and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp

from axlearn_core.config import REQUIRED, ConfigError
from axlearn_core.kernels import (
    QuantizedFormat,
    quantized_matmul,
    quantized_ragged_matmul,
    ragged_matmul,
)
from axlearn_core.module import Module
from axlearn_core.module.context import Tree
from axlearn_core.parallel import GATHERED, Exchange, constrain, gathered, mesh_axes, per_device
from axlearn_layers.router import Routing


class Multiply(Protocol):
    """Multiplies rows [..., in] by the weights [num_experts, in, out] of their experts.

    With a format, by products of numbers of eight bits.
    """

    def __call__(
        self, rows: jax.Array, weights: jax.Array, format: QuantizedFormat | None = None
    ) -> jax.Array: ...


class ExpertFunction(NamedTuple):
    """The experts as a function of their parameters, to be called where the rows come to."""

    compute: Callable[[Tree, jax.Array, Multiply], jax.Array]  # rows -> outputs, both [..., dim]
    parameters: Tree
    axes: Tree  # the logical axes of each parameter, "expert" first


class Dispatch(Module):
    """Groups tokens by expert, has the experts compute them, and sums the outputs of each token."""

    class Config(Module.Config):
        # Set by the mixture.
        num_experts: int = REQUIRED
        top_k: int = REQUIRED

    def forward(self, x: jax.Array, routing: Routing, experts: ExpertFunction) -> jax.Array:
        """y_t = sum_e w_te expert_e(x_t): [batch, seq, dim] -> the same shape."""
        raise NotImplementedError(type(self))


class Dropless(Dispatch):
    """Sorts all choices by expert and multiplies ragged groups (MegaBlocks, arXiv:2211.15841).

    No token is dropped and none is padded, however unequal the experts' loads: see
    `axlearn_core.kernels.ragged_matmul`.

    On several devices each sorts its own tokens, and sends them to the devices that hold their
    experts and back (`axlearn_core.parallel.Exchange`). How many come is known only then, so a
    device has room for as many as there could be: of n devices, n times its own. `room` bounds
    that, at the price of dropping what finds none. Where `mlp` is divided as well, the parts of the
    outputs are added up when each token has one.
    """

    class Config(Dispatch.Config):
        kernel: str | None = None  # forces an implementation; None takes the best that is there
        # For how many rows a device has room, as a multiple of the mean; None is for any number.
        room: float | None = None

    def __init__(self, config: Config, **place: Any):
        super().__init__(config, **place)
        room = self.config.room
        if room is not None and room < 1:
            raise ConfigError(
                f"room (={room}) must be at least 1, the mean of all devices; or None, with "
                "which nothing is ever dropped"
            )

    def forward(self, x: jax.Array, routing: Routing, experts: ExpertFunction) -> jax.Array:
        leaves, tree = jax.tree.flatten(experts.parameters)
        axes = cast(Any, tree).flatten_up_to(experts.axes)
        tokens = ("batch", "seq", None)
        # Devices with other tokens need a parameter whole, those with the same only a part of it.
        shared = set(mesh_axes("mlp")) & set(mesh_axes("expert", "batch", "seq"))
        keep = ("expert",) if shared else ("expert", "mlp")
        parts = "mlp" if "mlp" in keep and any("mlp" in names for names in axes) else None

        def own(x: jax.Array, chosen: jax.Array, weights: jax.Array, *leaves: jax.Array) -> Any:
            whole = [gathered(w, names, keep=keep) for w, names in zip(leaves, axes, strict=True)]
            compute = partial(experts.compute, jax.tree.unflatten(tree, whole))
            y, dropped = self._own(x, Routing(chosen, weights), compute)
            return y[None], dropped.reshape(1, 1)

        if mesh_axes(*(n for names in axes for n in names if n is not None and n not in keep)):
            # Kept for the backward pass, the parameters of all layers would be whole everywhere.
            policy = jax.checkpoint_policies.save_anything_except_these_names(GATHERED)
            own = jax.checkpoint(own, policy=policy, prevent_cse=False)
        everywhere = per_device(
            own, [tokens, tokens, tokens, *axes], [(parts, *tokens), ("batch", "seq")]
        )
        y, dropped = everywhere(x, *routing, *leaves)
        if self.config.room is not None:
            self.add_summary("dropped_fraction", dropped.sum() / routing.experts.size)
        return cast(jax.Array, y.sum(axis=0))

    def _own(
        self, x: jax.Array, routing: Routing, compute: Callable[[jax.Array, Multiply], jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Computes this device's tokens; returns also how many choices were dropped."""
        cfg = self.config
        choices = routing.experts.shape[-1]
        experts = routing.experts.reshape(-1)
        order = jnp.argsort(experts, stable=True)
        back = jnp.argsort(order)
        sizes = jnp.bincount(experts, length=cfg.num_experts).astype(jnp.int32)
        exchange = Exchange(
            sizes,
            "expert",
            rows=len(experts),
            distinct=choices,
            room=None if cfg.room is None else math.ceil(cfg.room * len(experts)),
        )

        def multiply(
            rows: jax.Array, weights: jax.Array, format: QuantizedFormat | None = None
        ) -> jax.Array:
            if format is None:
                return ragged_matmul(rows, weights, exchange.sizes, implementation=cfg.kernel)
            return quantized_ragged_matmul(
                rows, weights, exchange.sizes, format, implementation=cfg.kernel
            )

        rows = _sort(x.reshape(-1, x.shape[-1]), order, back, choices)
        outputs = exchange.back(compute(exchange.there(rows), multiply), len(rows))
        outputs = _unsort(outputs, order, back).reshape(*x.shape[:2], choices, -1)
        y = jnp.einsum("bskd,bsk->bsd", outputs, routing.weights.astype(outputs.dtype))
        return y, exchange.dropped


class CapacityDispatch(Dispatch):
    """Gives each expert room for C tokens of each sequence (GShard, arXiv:2006.16668).

    C = ceil(factor * seq * top_k / num_experts). Where more come, first choices go before second
    ones and earlier tokens before later ones; those without room are dropped: that expert adds
    nothing to them. Shapes are static and all is one-hot matrix products, whose parts move between
    devices that hold different experts as all-to-all.
    """

    class Config(Dispatch.Config):
        factor: float = 1.25

    def forward(self, x: jax.Array, routing: Routing, experts: ExpertFunction) -> jax.Array:
        cfg = self.config
        seq = x.shape[1]
        capacity = min(seq, math.ceil(cfg.factor * seq * cfg.top_k / cfg.num_experts))
        chosen = jax.nn.one_hot(routing.experts, cfg.num_experts)
        chosen = chosen * (routing.weights > 0)[..., None]  # [batch, seq, choices, experts]
        slot = jax.nn.one_hot(_place_in_line(chosen), capacity)  # zeros where there is no room
        taken = jnp.einsum("bske,bskc->bsec", chosen, slot).astype(x.dtype)
        weights = jnp.einsum("bsk,bske,bskc->bsec", routing.weights, chosen, slot).astype(x.dtype)
        self.add_summary("dropped_fraction", 1 - taken.astype(jnp.float32).sum() / chosen.sum())

        def multiply(
            rows: jax.Array, weights: jax.Array, format: QuantizedFormat | None = None
        ) -> jax.Array:
            if format is None:
                return jnp.einsum("ebcd,edf->ebcf", rows, weights)
            return jax.vmap(lambda rows, weight: quantized_matmul(rows, weight, format))(
                rows, weights
            )

        rows = _of_experts(_of_sequences(jnp.einsum("bsd,bsec->ebcd", x, taken)))
        outputs = experts.compute(experts.parameters, rows, multiply)
        return jnp.einsum("ebcd,bsec->bsd", _of_sequences(_of_experts(outputs)), weights)


# Both places of [expert, batch, capacity, dim]: what is between them is the all-to-all. Without the
# first one a compiler may gather the tokens instead, and each device choose its own.


def _of_sequences(rows: jax.Array) -> jax.Array:
    return constrain(rows, None, "batch", None, None)


def _of_experts(rows: jax.Array) -> jax.Array:
    return constrain(rows, "expert", "batch", None, None)


def _place_in_line(chosen: jax.Array) -> jax.Array:
    """Returns how many choices of the same expert go before each, [batch, seq, choices] int32."""
    batch, seq, choices, experts = chosen.shape
    line = jnp.swapaxes(chosen, 1, 2).reshape(batch, choices * seq, experts)
    before = (jnp.cumsum(line, axis=1) - line).reshape(batch, choices, seq, experts)
    return jnp.sum(jnp.swapaxes(before, 1, 2) * chosen, axis=-1).astype(jnp.int32)


# Both ways are gathers, also in the backward pass, where jax would scatter: slower, and on some
# hardware in another order each time.


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _sort(tokens: jax.Array, order: jax.Array, back: jax.Array, choices: int) -> jax.Array:
    """[tokens, dim] -> [tokens * choices, dim], each token once per choice, by expert."""
    return tokens[order // choices]


def _sort_forward(
    tokens: jax.Array, order: jax.Array, back: jax.Array, choices: int
) -> tuple[jax.Array, jax.Array]:
    return tokens[order // choices], back


def _sort_backward(
    choices: int, back: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, None, None]:
    by_token = gradient[back].reshape(-1, choices, gradient.shape[-1])
    return by_token.sum(axis=1), None, None


_sort.defvjp(_sort_forward, _sort_backward)


@jax.custom_vjp
def _unsort(rows: jax.Array, order: jax.Array, back: jax.Array) -> jax.Array:
    """Puts rows by expert into the order of tokens again."""
    return rows[back]


def _unsort_forward(
    rows: jax.Array, order: jax.Array, back: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return rows[back], order


def _unsort_backward(order: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None, None]:
    return gradient[order], None, None


_unsort.defvjp(_unsort_forward, _unsort_backward)
