"""What holds for any values: in every kind of layer, in mixtures of experts, in the loss.

What is compiled is chosen, once for all examples of a property; values, routes and documents are
drawn. Only the loss compiles in each example, since its lengths are what is drawn.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_core.config import replace
from axlearn_core.kernels import SoftTargets, causal, cross_entropy, same_segment, window
from axlearn_core.module import functional, zeros
from axlearn_layers import (
    Alibi,
    Attention,
    BranchNormBlock,
    CapacityDispatch,
    CausalLM,
    DenseFeedForward,
    DoRA,
    Dropless,
    ExpertFunction,
    GatedDeltaNet,
    GatedFeedForward,
    LatentAttention,
    LayerList,
    LayerNorm,
    LearnedPositions,
    Linear,
    LoRA,
    Mamba2,
    MixtureOfExperts,
    MultiLoRA,
    ParallelBlock,
    PostNormBlock,
    Projection,
    QKNorm,
    QueryOnly,
    Remat,
    Repeat,
    Residual,
    RMSNorm,
    Rotary,
    Routing,
    SandwichBlock,
    SequenceInfo,
    SharedBias,
    SharedKeys,
    SigmoidRouter,
    SoftmaxRouter,
    T5Bias,
    TransformerBlock,
)

DIM, VOCAB, SEQ, ROWS = 8, 11, 8, 9
VALUES = settings(max_examples=20, derandomize=True, deadline=None)
# Of float32 sums of a few dozen terms around 1, in another order.
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}

HEADS = {"num_heads": 4, "num_kv_heads": 2, "head_dim": 4}
ROTARY = Rotary.default_config()
T5 = T5Bias.Config(num_buckets=4, max_distance=4)
DENSE = DenseFeedForward.Config(hidden_dim=12)
GATED = GatedFeedForward.Config(hidden_dim=12)
SPARSE = MixtureOfExperts.Config(hidden_dim=6, num_experts=4, top_k=2)
RMS, LAYER_NORM = RMSNorm.default_config(), LayerNorm.default_config()


def attention(**fields):
    return Attention.Config(**HEADS, **fields)


def block(kind, mixer, feed_forward, norm=RMS):
    return kind.Config(attention=mixer, feed_forward=feed_forward, norm=norm)


LOCAL = causal() & window(3) & same_segment()
LATENT = LatentAttention.Config(num_heads=4, kv_rank=4, content_dim=4, rotary_dim=2, value_dim=6)
MAMBA = Mamba2.Config(head_dim=4, state_dim=4, chunk_size=3)
DELTA_NET = GatedDeltaNet.Config(num_heads=2, key_dim=4, value_dim=4, chunk_size=3)
SHARED = SharedBias.Config(
    inner=SharedKeys.Config(
        first=block(TransformerBlock, attention(qkv=ROTARY, offers_keys=True), GATED),
        rest=block(
            ParallelBlock, attention(qkv=Rotary.Config(inner=QueryOnly.default_config())), DENSE
        ),
    ),
    bias=T5.clone(num_heads=4),
)

# Together they hold every kind of block, mixer, feed-forward layer and norm.
STACKS = {
    "positions": [
        block(TransformerBlock, attention(qkv=ROTARY), GATED),
        block(PostNormBlock, attention(qkv=ROTARY, mask=LOCAL), DENSE, LAYER_NORM),
    ],
    "biases": [
        block(BranchNormBlock, attention(bias=Alibi.default_config(), sinks=True), SPARSE),
        block(SandwichBlock, attention(bias=T5), GATED, LAYER_NORM),
    ],
    "recurrent": [
        block(ParallelBlock, MAMBA, DENSE, LAYER_NORM),
        block(TransformerBlock, DELTA_NET, GATED),
    ],
    "latent": [
        Residual.Config(inner=LATENT),
        block(
            ParallelBlock,
            attention(qkv=QKNorm.default_config(), gate=Linear.default_config(), logit_cap=2.0),
            SPARSE,
        ),
    ],
    "shared": [SHARED],
}

seeds = st.integers(0, 2**32 - 1)
# Where the documents of a row end; what remains is padding.
layouts = st.sets(st.integers(1, SEQ), min_size=1).map(sorted)


@pytest.fixture(scope="module", params=STACKS)
def layers(request):
    return STACKS[request.param]


def model_config(layers):
    positions = LearnedPositions.Config(max_length=SEQ)
    stack = LayerList.Config(layers=layers)
    return CausalLM.Config(vocab_size=VOCAB, dim=DIM, stack=stack, positions=positions)


def packed_rows(rows):
    """Segment ids and positions of rows, each given by the ends of its documents."""
    segments, positions = np.zeros((2, len(rows), SEQ), np.int32)
    for row, ends in enumerate(rows):
        for number, (start, end) in enumerate(documents(ends), 1):
            segments[row, start:end] = number
            positions[row, start:end] = np.arange(end - start)
    return segments, positions


def documents(ends):
    return zip([0, *ends[:-1]], ends, strict=True)


@pytest.fixture(scope="module")
def logits(make, layers):
    """From ROWS rows of tokens and the ends of their documents to logits."""
    lm, state = make.build(model_config(layers))

    @jax.jit
    def run(state, batch):
        return functional(lm, state=state, prng_key=None, inputs=(batch,), method="logits")[0]

    def logits(ids, ends):
        segments, positions = packed_rows(ends)
        batch = {"input_ids": ids, "segment_ids": segments, "positions": positions}
        return np.asarray(run(state, batch))

    return logits


@VALUES
@given(seed=seeds)
def test_a_later_token_changes_no_earlier_output(logits, seed):
    ids = np.random.default_rng(seed).integers(0, VOCAB, SEQ, np.int32)
    changed = np.where(np.eye(SEQ, dtype=bool), (ids + 1) % VOCAB, ids)
    before, *after = logits(np.stack([ids, *changed]), [[SEQ]] * ROWS)
    for place, row in enumerate(after):
        np.testing.assert_allclose(row[:place], before[:place], **TOLERANCE)
        assert not np.allclose(row[place], before[place], **TOLERANCE)


@VALUES
@given(ends=layouts, seed=seeds)
def test_packed_documents_equal_separate_ones(logits, ends, seed):
    packed = np.random.default_rng(seed).integers(0, VOCAB, SEQ, np.int32)
    rows = np.zeros((ROWS, SEQ), np.int32)
    rows[0] = packed
    for row, (start, end) in enumerate(documents(ends), 1):
        rows[row, : end - start] = packed[start:end]
    lengths = [[end - start] for start, end in documents(ends)]
    unused = [[SEQ]] * (ROWS - 1 - len(lengths))
    together, *alone = logits(rows, [ends, *lengths, *unused])
    for (start, end), row in zip(documents(ends), alone, strict=False):
        np.testing.assert_allclose(together[start:end], row[: end - start], **TOLERANCE)


def assert_close(actual, expected):
    def close(a, b):  # relative to an array's largest number
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())

    jax.tree.map(close, actual, expected)


@pytest.fixture(scope="module")
def ways(make, layers):
    """Loss and gradients of two layers: one after the other, scanned, and scanned with remat."""
    layer = LayerList.Config(layers=layers)
    scanned = Repeat.Config(input_dim=DIM, layer=layer, num_layers=2)
    remat = scanned.clone(remat=Remat.Config(save="block_hidden|attention_.*"))
    unrolled = LayerList.Config(input_dim=DIM, layers=[layer] * 2)
    stacks = [cfg.instantiate() for cfg in (unrolled, scanned, remat)]
    _, state = make.build(scanned)

    def one_by_one(state):
        return {
            f"layer{i}": jax.tree.map(lambda leaf, i=i: leaf[i], state["layer"]) for i in range(2)
        }

    @jax.jit
    def run(state, x, info, cotangents):
        def loss(state, x, stack):
            state = one_by_one(state) if stack is stacks[0] else state
            y, _ = functional(stack, state=state, prng_key=None, inputs=(x, info))
            return jnp.vdot(cotangents, y)

        return [jax.value_and_grad(loss, argnums=(0, 1))(state, x, stack) for stack in stacks]

    return partial(run, state)


@settings(VALUES, max_examples=5)
@given(ends=st.tuples(layouts, layouts), seed=seeds)
def test_scan_and_remat_equal_the_layers_one_by_one(ways, ends, seed):
    segments, positions = packed_rows(ends)
    x, cotangents = np.random.default_rng(seed).normal(size=(2, 2, SEQ, DIM)).astype(np.float32)
    expected, *others = ways(x, SequenceInfo(positions, segments), cotangents)
    for other in others:
        assert_close(other, expected)


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
    axes = ("expert", None, None)
    experts = ExpertFunction(lambda w, rows, multiply: multiply(rows, *w), [weights], [axes])
    y, _ = functional(layer, state={}, prng_key=None, inputs=(x, routing, experts))
    return jnp.vdot(cotangents, y)


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


ADAPTERS = {
    "lora": LoRA.Config(rank=2),
    "dora": DoRA.Config(rank=2),
    "multi lora": MultiLoRA.Config(rank=2, num_adapters=3),
}


@pytest.fixture(scope="module")
def with_adapters(make, layers):
    """From a batch to the logits without adapters, and with untrained ones of each kind."""
    models = [make.build(model_config(layers))]
    for adapter in ADAPTERS.values():
        cfg = model_config(layers)
        replace(cfg, Projection, lambda old, adapter=adapter: adapter.clone(inner=old))
        lm, state = make.build(cfg)
        models.append((lm, untrained(state, lm.parameter_specs(), models[0][1])))

    @jax.jit
    def run(states, batch):
        return [
            functional(lm, state=state, prng_key=None, inputs=(batch,), method="logits")[0]
            for (lm, _), state in zip(models, states, strict=True)
        ]

    return partial(run, [state for _, state in models])


def untrained(state, specs, base):
    """Adapters as they start, around the parameters of a model without them."""
    if not isinstance(state, dict):
        return base
    if not state.keys() >= {"inner", "a"}:
        return {name: untrained(state[name], specs[name], base[name]) for name in state}
    own = {
        name: 0 * state[name] if specs[name].initializer is zeros else state[name]
        for name in state.keys() - {"inner"}
    }
    return {**own, "inner": base}


@VALUES
@given(seed=seeds)
def test_adapters_change_nothing_at_first(with_adapters, seed):
    rng = np.random.default_rng(seed)
    ids, rows_use = rng.integers(0, VOCAB, (ROWS, SEQ)), rng.integers(-1, 3, ROWS)
    base, *adapted = with_adapters({"input_ids": ids, "adapter_ids": rows_use})
    for logits in adapted:
        np.testing.assert_array_equal(logits, base)


def formula(hidden, table, weights, p, *, z_loss_scale, label_smoothing, logit_cap):
    """The loss of distributions p, [..., vocab], and its gradients: all logits, in float64."""
    hidden, table, weights, p = (np.asarray(a, np.float64) for a in (hidden, table, weights, p))
    logits, slope = hidden @ table.T, 1.0
    if logit_cap is not None:
        slope = 1 / np.cosh(logits / logit_cap) ** 2
        logits = logit_cap * np.tanh(logits / logit_cap)
    log_partition = np.log(np.exp(logits).sum(-1, keepdims=True))
    mass, z = p.sum(-1, keepdims=True), z_loss_scale
    q = (1 - label_smoothing) * p + label_smoothing * mass / VOCAB
    losses = (q * (log_partition - logits)).sum(-1) + z * log_partition[..., 0] ** 2
    softmax = np.exp(logits - log_partition)
    by_logits = softmax * (mass + 2 * z * log_partition) - q
    by_logits *= weights[..., None] * slope
    by_table = np.einsum("btv,btd->vd", by_logits, hidden)
    return (weights * losses).sum(), (by_logits @ table, by_table)


options = st.builds(
    dict,
    z_loss_scale=st.sampled_from([0.0, 0.01]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    logit_cap=st.sampled_from([None, 1.5]),
)


@settings(VALUES, max_examples=40)
@given(
    length=st.integers(1, 10),
    chunk_size=st.integers(1, 12),
    listed=st.none() | st.integers(1, VOCAB + 2),  # None is a hard target; some come twice
    options=options,
    seed=seeds,
)
def test_the_chunked_loss_equals_that_of_all_logits(length, chunk_size, listed, options, seed):
    rng = np.random.default_rng(seed)
    draw = lambda *size: rng.normal(size=size).astype(np.float32)  # noqa: E731
    hidden, table = draw(2, length, DIM), draw(VOCAB, DIM)
    weights = np.maximum(draw(2, length), 0)  # half of them are 0
    ids = rng.integers(0, VOCAB, (2, length, listed or 1))
    p = np.ones(ids.shape, np.float32)
    if listed:
        p = rng.uniform(size=ids.shape).astype(np.float32)
        p /= p.sum(-1, keepdims=True) / rng.uniform(0.5, 1)  # cut off, as a teacher's best few
    targets = SoftTargets(ids, p) if listed else ids[..., 0]

    @jax.jit
    def chunked(hidden, table):
        def loss(hidden, table):
            sums = cross_entropy(hidden, table, targets, weights, chunk_size=chunk_size, **options)
            return sums.total

        return jax.value_and_grad(loss, argnums=(0, 1))(hidden, table)

    dense = np.einsum("btkv,btk->btv", np.eye(VOCAB)[ids], np.float64(p))
    total, gradients = chunked(hidden, table)
    expected, expected_gradients = formula(hidden, table, weights, dense, **options)
    np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-6)
    for actual, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=5e-6)
