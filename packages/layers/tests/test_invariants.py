"""What holds for any combination of layers and any values.

Each new shape or combination compiles, so these are few; values, routes and segments are many.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import replace
from axlearn_core.kernels import causal, same_segment, window
from axlearn_core.module import functional
from axlearn_layers import (
    Alibi,
    Attention,
    BranchNormBlock,
    CapacityDispatch,
    CausalLM,
    DenseFeedForward,
    Dropless,
    GatedDeltaNet,
    GatedFeedForward,
    LayerList,
    LayerNorm,
    LearnedPositions,
    Linear,
    LoRA,
    Mamba2,
    MixtureOfExperts,
    ParallelBlock,
    PostNormBlock,
    Projection,
    QKNorm,
    Remat,
    Repeat,
    RMSNorm,
    Rotary,
    Routing,
    SandwichBlock,
    SequenceInfo,
    SigmoidRouter,
    SoftmaxRouter,
    T5Bias,
    TransformerBlock,
)

DIM, VOCAB, SEQ, ROWS = 8, 11, 8, 9
VALUES = settings(max_examples=20, derandomize=True, deadline=None)
COMBINATIONS = settings(max_examples=4, derandomize=True, deadline=None)
# Of float32 sums of a few dozen terms around 1, in another order.
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}

HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 4}
LOCAL = causal() & window(3) & same_segment()
MIXERS = {
    "rotary": Attention.Config(qkv=Rotary.default_config(), **HEADS),
    "local": Attention.Config(qkv=Rotary.default_config(), mask=LOCAL, **HEADS),
    "alibi": Attention.Config(bias=Alibi.default_config(), sinks=True, **HEADS),
    "t5": Attention.Config(bias=T5Bias.Config(num_buckets=4, max_distance=4), **HEADS),
    "gated": Attention.Config(
        qkv=QKNorm.default_config(), gate=Linear.default_config(), logit_cap=2.0, **HEADS
    ),
    "mamba2": Mamba2.Config(head_dim=4, state_dim=4, chunk_size=3),
    "delta net": GatedDeltaNet.Config(num_heads=2, key_dim=4, value_dim=4, chunk_size=3),
}
FEED_FORWARDS = {
    "dense": DenseFeedForward.Config(hidden_dim=12),
    "gated": GatedFeedForward.Config(hidden_dim=12),
    "sparse": MixtureOfExperts.Config(hidden_dim=6, num_experts=4, top_k=2),
}
BLOCKS = {
    kind.__name__: kind
    for kind in (TransformerBlock, PostNormBlock, BranchNormBlock, SandwichBlock, ParallelBlock)
}
NORMS = {"rms": RMSNorm.default_config(), "layer": LayerNorm.default_config()}

blocks = st.tuples(*(st.sampled_from(list(x)) for x in (BLOCKS, MIXERS, FEED_FORWARDS, NORMS)))
seeds = st.integers(0, 2**32 - 1)


def block_config(choice):
    kind, mixer, feed_forward, norm = choice
    return BLOCKS[kind].Config(
        input_dim=DIM,
        attention=MIXERS[mixer],
        feed_forward=FEED_FORWARDS[feed_forward],
        norm=NORMS[norm],
    )


def model_config(*choices):
    stack = LayerList.Config(layers=[block_config(choice) for choice in choices])
    positions = LearnedPositions.Config(max_length=SEQ)
    return CausalLM.Config(vocab_size=VOCAB, dim=DIM, stack=stack, positions=positions)


def logits_of(make, cfg):
    lm, state = make.build(cfg)

    @jax.jit
    def logits(state, batch):
        return functional(lm, state=state, prng_key=None, inputs=(batch,), method="logits")[0]

    return lambda **batch: np.asarray(logits(state, batch))


@COMBINATIONS
@given(first=blocks, second=blocks, seed=seeds)
def test_a_later_token_changes_no_earlier_output(make, first, second, seed):
    logits = logits_of(make, model_config(first, second))
    ids = np.random.default_rng(seed).integers(0, VOCAB, SEQ, np.int32)
    changed = np.where(np.eye(SEQ, dtype=bool), (ids + 1) % VOCAB, ids)
    before, *after = logits(input_ids=np.stack([ids, *changed]))
    for place, row in enumerate(after):
        np.testing.assert_allclose(row[:place], before[:place], **TOLERANCE)
        assert not np.allclose(row[place], before[place], **TOLERANCE)


@COMBINATIONS
@given(first=blocks, second=blocks, layouts=st.lists(st.sets(st.integers(1, 7)), min_size=3))
def test_packed_documents_equal_separate_ones(make, first, second, layouts):
    logits = logits_of(make, model_config(first, second))
    ids = np.random.default_rng(0).integers(0, VOCAB, SEQ, np.int32)

    def run(rows):
        """Rows of documents (first, end), one after the other; what remains is padding."""
        shape = (ROWS, SEQ)
        batch = {
            name: np.zeros(shape, np.int32) for name in ("input_ids", "segment_ids", "positions")
        }
        for row, documents in enumerate(rows):
            at = 0
            for number, (start, end) in enumerate(documents, 1):
                here = np.s_[row, at : at + end - start]
                batch["input_ids"][here] = ids[start:end]
                batch["segment_ids"][here] = number
                batch["positions"][here] = np.arange(end - start)
                at += end - start
        return logits(**batch)

    for layout in layouts[:3]:
        ends = [0, *sorted(layout)]
        documents = list(zip(ends, [*ends[1:], SEQ], strict=True))
        packed, *separate = run([documents, *([document] for document in documents)])
        for (start, end), alone in zip(documents, separate, strict=False):
            np.testing.assert_allclose(packed[start:end], alone[: end - start], **TOLERANCE)


def loss_and_gradients(make, cfg, state, x):
    layer = cfg.instantiate()

    @jax.jit
    @jax.value_and_grad
    def run(state, x):
        y, _ = functional(layer, state=state, prng_key=None, inputs=(x, SequenceInfo()))
        return jnp.vdot(np.random.default_rng(1).normal(size=x.shape), y)

    return run(state, x)


def assert_close(actual, expected):
    def close(a, b):  # relative to an array's largest number
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())

    jax.tree.map(close, actual, expected)


REMATS = [Remat.Config(), Remat.Config(save="block_hidden"), Remat.Config(save="attention_.*")]


@COMBINATIONS
@given(choice=blocks, num_layers=st.integers(1, 3), remat=st.sampled_from([None, *REMATS]))
def test_a_scan_equals_its_layers_one_by_one(make, choice, num_layers, remat):
    layer = block_config(choice)
    repeat = Repeat.Config(input_dim=DIM, layer=layer, num_layers=num_layers, remat=remat)
    _, scanned = make.build(repeat)
    unrolled = {
        f"layer{i}": jax.tree.map(lambda leaf, i=i: leaf[i], scanned["layer"])
        for i in range(num_layers)
    }
    x = np.random.default_rng(0).normal(size=(2, SEQ, DIM)).astype(np.float32)
    loss, gradients = loss_and_gradients(make, repeat, scanned, x)
    # Without remat, so that this also says that remat changes nothing.
    layers = LayerList.Config(input_dim=DIM, layers=[layer] * num_layers)
    expected_loss, expected = loss_and_gradients(make, layers, unrolled, x)
    assert_close(loss, expected_loss)
    for i in range(num_layers):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], gradients["layer"])
        assert_close(one, expected[f"layer{i}"])


@cache
def mixture(router, dispatch, top_k):
    cfg = MixtureOfExperts.Config(
        input_dim=DIM,
        hidden_dim=6,
        num_experts=4,
        top_k=top_k,
        router=router.default_config(),
        dispatch=dispatch.default_config(),
    )
    if dispatch is CapacityDispatch:
        cfg.dispatch.factor = 4 / top_k  # room for all tokens at one expert
    layer = cfg.instantiate()
    dense = GatedFeedForward.Config(input_dim=DIM, hidden_dim=6).instantiate()

    @jax.jit
    def both(state, one, x):
        run = lambda layer, state: functional(layer, state=state, prng_key=None, inputs=(x,))[0]  # noqa: E731
        return run(layer, state), run(dense, one)

    return both


@VALUES
@given(
    router=st.sampled_from([SoftmaxRouter, SigmoidRouter]),
    dispatch=st.sampled_from([Dropless, CapacityDispatch]),
    top_k=st.sampled_from([1, 3]),
    router_scale=st.sampled_from([0.0, 1.0, 10.0]),  # all alike, mixed, nearly one
    seed=seeds,
)
def test_equal_experts_are_one_dense_layer(router, dispatch, top_k, router_scale, seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    gate_up, down = draw(DIM, 2, 6), draw(6, DIM)
    state = {
        "router": {"projection": {"weight": router_scale * draw(DIM, 4)}},
        "experts": {"gate_up": np.stack([gate_up] * 4), "down": np.stack([down] * 4)},
    }
    one = {"gate_up": {"weight": gate_up}, "down": {"weight": down}}
    sparse, dense = mixture(router, dispatch, top_k)(state, one, draw(2, SEQ, DIM))
    assert_close(sparse, dense)


@jax.jit
@jax.value_and_grad
def dispatched(x, routing, weights, cotangents):
    """Each token through its experts, here one matrix each; and the gradient by x."""
    layer = Dropless.Config(num_experts=4, top_k=2).instantiate()
    tokens, _ = functional(layer, state={}, prng_key=None, inputs=(x, routing))
    return jnp.vdot(cotangents, tokens.combine(tokens.multiply(tokens.rows, weights)))


routes = st.lists(st.integers(0, 3), min_size=2 * SEQ * 2, max_size=2 * SEQ * 2)


@VALUES
@given(route=routes | st.integers(0, 3).map(lambda e: [e] * (2 * SEQ * 2)), seed=seeds)
def test_dropless_drops_nothing_whatever_the_route(route, seed):
    rng = np.random.default_rng(seed)
    x, cotangents = rng.normal(size=(2, 2, SEQ, DIM)).astype(np.float32)
    weights = rng.normal(size=(4, DIM, DIM)).astype(np.float32)
    experts = np.reshape(route, (2, SEQ, 2)).astype(np.int32)
    routing = Routing(experts, rng.uniform(size=experts.shape).astype(np.float32))
    matrices = np.einsum("bsk,bskde->bsde", routing.weights, np.float64(weights)[experts])
    total, gradient = dispatched(x, routing, weights, cotangents)
    by_x = np.einsum("bsde,bse->bsd", matrices, cotangents)
    np.testing.assert_allclose(total, np.vdot(by_x, x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient, by_x, rtol=1e-4, atol=1e-5)


ADAPTERS = {"lora": LoRA.Config(rank=2)}


@pytest.mark.parametrize("adapter", ADAPTERS)
@settings(COMBINATIONS, max_examples=2)
@given(choice=blocks, seed=seeds)
def test_adapters_change_nothing_at_first(make, adapter, choice, seed):
    cfg = model_config(choice)
    base = cfg.clone()
    replace(cfg, Projection, lambda old: ADAPTERS[adapter].clone(inner=old))
    lm, plain = cfg.instantiate(), base.instantiate()
    state = jax.jit(lm.initialize)(jax.random.key(seed % 100, impl="unsafe_rbg"))
    ids = np.random.default_rng(seed).integers(0, VOCAB, (2, SEQ), np.int32)
    adapted = make.call(lm, state, {"input_ids": ids}, method="logits")
    expected = make.call(plain, without_adapters(state), {"input_ids": ids}, method="logits")
    np.testing.assert_allclose(adapted, expected, **TOLERANCE)


def without_adapters(state):
    """The parameters of what is wrapped, in the wrapper's place."""
    if not isinstance(state, dict):
        return state
    if "inner" in state and state["inner"].keys() <= {"weight", "bias"}:
        return state["inner"]
    return {name: without_adapters(value) for name, value in state.items()}
