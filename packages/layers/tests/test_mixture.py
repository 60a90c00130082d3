"""Mixture of experts: against float64 loops over tokens, and what must not change."""

import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError, replace
from axlearn_core.kernels import recording_choices
from axlearn_core.module import functional
from axlearn_core.parallel import (
    DEFAULT_RULES,
    Placement,
    make_mesh,
    parameter_shardings,
    placing,
)
from axlearn_core.training.step import cast_floats
from axlearn_layers import (
    CapacityDispatch,
    Dropless,
    ExpertChoiceRouter,
    FeedForward,
    GatedFeedForward,
    MixtureOfExperts,
    SigmoidRouter,
    SoftmaxRouter,
    flops_per_token,
)

DIM, HIDDEN, EXPERTS, TOP_K = 6, 10, 4, 2
ROOMY = CapacityDispatch.default_config().set(factor=EXPERTS / TOP_K)
DISPATCHES = [Dropless.default_config(), ROOMY]


def mixture(**fields):
    sizes = {"input_dim": DIM, "hidden_dim": HIDDEN, "num_experts": EXPERTS, "top_k": TOP_K}
    return MixtureOfExperts.default_config().set(**(sizes | fields))


def run(layer, state, x, is_training=False):
    @jax.jit
    def compiled(state, x):
        return functional(layer, state=state, prng_key=None, inputs=(x,), is_training=is_training)

    return compiled(state, x)


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def expert(state, index, x):
    gate_up = x @ state["experts"]["gate_up"][index].reshape(DIM, 2 * HIDDEN)
    gate, up = np.split(gate_up, 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * up @ state["experts"]["down"][index]


def softmax(logits):
    return (e := np.exp(logits - logits.max(-1, keepdims=True))) / e.sum(-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def token_by_token(state, x, scores, normalize, scale):
    """The definition: a loop over tokens and their experts."""
    y = np.zeros_like(x)
    for place in np.ndindex(x.shape[:2]):
        score = scores(x[place] @ state["router"]["projection"]["weight"])
        best = np.argsort(-score)[:TOP_K]
        total = score[best].sum() if normalize else 1
        for index in best:
            y[place] += scale * score[index] / total * expert(state, index, x[place])
    return y


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 8, DIM)).astype(np.float32)


@pytest.mark.parametrize("dispatch", DISPATCHES, ids=["dropless", "capacity"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("router", "scores"), [(SoftmaxRouter, softmax), (SigmoidRouter, sigmoid)], ids=["soft", "sig"]
)
def test_equals_a_loop_over_tokens(make, x, dispatch, normalize, router, scores):
    cfg = router.default_config().set(normalize=normalize, scale=2.5)
    layer, state = make.build(mixture(router=cfg, dispatch=dispatch))
    expected = token_by_token(float64(state), x.astype(np.float64), scores, normalize, 2.5)
    np.testing.assert_allclose(make.call(layer, state, x), expected, atol=1e-5)


def test_gradients_of_both_dispatches_agree(make, x):
    def gradients(dispatch):
        layer, state = make.build(mixture(dispatch=dispatch))
        return jax.jit(jax.grad(lambda s, x: (run(layer, s, x)[0] ** 2).sum(), (0, 1)))(state, x)

    dropless, capacity = map(gradients, DISPATCHES)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), dropless, capacity)


def test_dropless_takes_a_kernel_for_the_platform_or_the_one_that_it_is_given(make, x):
    with recording_choices() as choices:
        for kernel in (None, "reference"):
            layer, state = make.build(
                mixture(dispatch=Dropless.default_config().set(kernel=kernel))
            )
            run(layer, state, x)
    ragged = [choice for choice in choices if choice.op == "ragged_matmul"]
    assert [choice.forced for choice in ragged] == [False, False, True, True]  # in and out
    assert ragged[2].name == "axlearn-core/ragged_matmul.reference"


def all_to_the_first(state):
    """Makes every token prefer expert 0, then 1, ..., if its first feature is 1."""
    weight = np.zeros((DIM, EXPERTS), np.float32)
    weight[0] = -np.arange(EXPERTS)
    return {**state, "router": {"projection": {"weight": weight}}}


def test_capacity_drops_later_tokens_and_says_how_many(make, x):
    x = x.copy()
    x[..., 0] = 1
    layer, state = make.build(mixture(dispatch=ROOMY.clone(factor=1.0)))  # 4 of 8 tokens
    y, side = run(layer, all_to_the_first(state), x)
    assert side.summaries["dispatch"]["dropped_fraction"] == 0.5
    assert (np.abs(y[:, :4]).min(axis=-1) > 0).all()
    np.testing.assert_array_equal(y[:, 4:], 0)


def test_load_is_each_experts_share(make, x):
    x = x.copy()
    x[..., 0] = 1
    layer, state = make.build(mixture())
    _, side = run(layer, all_to_the_first(state), x)
    np.testing.assert_allclose(side.summaries["router"]["load"], [0.5, 0.5, 0, 0])


def test_shared_experts_see_every_token(make, x):
    shared = GatedFeedForward.default_config().set(hidden_dim=5)
    layer, state = make.build(mixture(shared=shared))
    routed = {k: v for k, v in state.items() if k != "shared"}
    plain = mixture().instantiate()
    alone = GatedFeedForward.Config(input_dim=DIM, hidden_dim=5).instantiate()
    expected = make.call(plain, routed, x) + make.call(alone, state["shared"], x)
    np.testing.assert_allclose(make.call(layer, state, x), expected, atol=1e-6)


def test_groups_limit_where_a_token_may_go(make, rng):
    router = SigmoidRouter.Config(
        input_dim=8, num_experts=8, top_k=2, num_groups=4, top_groups=2, bias_rate=0.1
    )
    layer, state = make.build(router)
    state["projection"]["weight"] = np.eye(8, dtype=np.float32)
    state["bias"] = np.zeros(8, np.float32)
    # The highest score is alone in its group; groups 1 and 2 have the highest sums of two.
    x = np.float32([[[4, -9, 2, 2.5, 3, 3.5, -9, -9]]])
    routing = make.call(layer, state, x)
    np.testing.assert_array_equal(routing.experts, [[[5, 4]]])


def test_bias_moves_against_the_load_and_changes_the_choice_not_the_weight(make, x):
    x = x.copy()
    x[..., 0] = 1
    router = SigmoidRouter.default_config().set(bias_rate=0.1, normalize=False)
    layer, state = make.build(mixture(router=router))
    state["router"] = {
        **all_to_the_first(state)["router"],
        "bias": np.float32([-9, 0, 0, 0]),
    }
    _, side = run(layer, state, x, is_training=True)
    updated = side.state_updates["router"]["bias"]
    np.testing.assert_allclose(updated, [-8.9, -0.1, -0.1, 0.1], atol=1e-6)
    assert not run(layer, state, x)[1].state_updates
    routing, _ = functional(
        layer.router, state=state["router"], prng_key=None, inputs=(x,), is_training=False
    )
    assert (np.sort(routing.experts) == [1, 2]).all()
    np.testing.assert_allclose(routing.weights[0, 0], sigmoid(-np.float64([1, 2])), atol=1e-6)


def test_bias_is_no_trainable_parameter():
    router = SigmoidRouter.default_config().set(bias_rate=0.1)
    spec = mixture(router=router).instantiate().parameter_specs()["router"]["bias"]
    assert not spec.trainable


@pytest.mark.parametrize("over", ["sequence", "batch"])
def test_balance_and_z_losses_equal_their_formulas(make, x, over):
    router = SoftmaxRouter.default_config().set(
        balance_loss_scale=0.5, balance_over=over, z_loss_scale=0.25
    )
    layer, state = make.build(mixture(router=router))
    _, side = run(layer, state, x)
    logits = x.astype(np.float64) @ float64(state)["router"]["projection"]["weight"]
    scores = softmax(logits)
    chosen = np.zeros(scores.shape)
    np.put_along_axis(chosen, np.argsort(-scores)[..., :TOP_K], 1, axis=-1)
    share = chosen.mean(axis=1 if over == "sequence" else (0, 1), keepdims=True)
    balance = (share * EXPERTS / TOP_K * scores).sum(-1)
    z = np.log(np.exp(logits).sum(-1)) ** 2
    losses = side.losses["router"]
    np.testing.assert_allclose(losses["balance"], 0.5 * balance, rtol=1e-5)
    np.testing.assert_allclose(losses["z"], 0.25 * z, rtol=1e-4)


def test_expert_choice_fills_every_expert_with_its_best_tokens(make, x):
    cfg = mixture(
        router=ExpertChoiceRouter.default_config(),
        dispatch=CapacityDispatch.default_config().set(factor=1.0),
    )
    layer, state = make.build(cfg)
    y, side = run(layer, state, x)
    assert side.summaries["dispatch"]["dropped_fraction"] == 0
    exact, x64 = float64(state), x.astype(np.float64)
    scores = softmax(x64 @ exact["router"]["projection"]["weight"])
    expected = np.zeros_like(x64)
    for row in range(2):
        for index in range(EXPERTS):
            best = np.argsort(-scores[row, :, index])[: 8 * TOP_K // EXPERTS]
            outputs = expert(exact, index, x64[row, best])
            expected[row, best] += scores[row, best, index, None] * outputs
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_only_chosen_experts_count_as_flops():
    layer = mixture().instantiate()
    expected = 2 * DIM * EXPERTS + TOP_K * 6 * DIM * HIDDEN
    assert flops_per_token(layer, 8) == pytest.approx(expected)


def test_weights_are_split_by_expert():
    specs = mixture().instantiate().parameter_specs()["experts"]
    assert specs["gate_up"].axes == ("expert", "embed", None, "mlp")
    assert specs["down"].axes == ("expert", "mlp", "embed")
    assert specs["down"].fan_in_axes == (1,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 5}, r"top_k \(=5\) must be between 1 and num_experts \(=4\)"),
        (
            {"router": SoftmaxRouter.default_config().set(num_groups=3)},
            r"num_groups \(=3\) must divide num_experts \(=4\)",
        ),
        (
            {"router": SoftmaxRouter.default_config().set(num_groups=4, top_groups=1)},
            r"top_groups \(=1\).*at least top_k \(=2\) experts, not 1",
        ),
    ],
)
def test_impossible_routing_is_refused_when_built(fields, message):
    with pytest.raises(BuildError, match=message):
        mixture(**fields).instantiate()


def moe_lm(make, **router):
    cfg = make.llama()
    experts = MixtureOfExperts.default_config().set(num_experts=4, top_k=2)
    experts.router.set(**router)
    replace(cfg, FeedForward, experts)
    return cfg


def model_loss(lm, state, batch, is_training):
    @jax.jit
    def run(state, batch):
        return functional(lm, state=state, prng_key=None, inputs=(batch,), is_training=is_training)

    return run(state, batch)


def test_one_replace_makes_a_dense_model_sparse(make):
    cfg = moe_lm(make)
    specs = cfg.instantiate().parameter_specs()["stack"]["layer"]["feed_forward"]
    assert specs["experts"]["down"].shape == (2, 4, 24, 16)
    assert specs["experts"]["down"].axes == ("layers", "expert", "mlp", "embed")


def test_the_model_adds_auxiliary_losses_by_target_weight_in_training_only(make):
    lm, state = make.build(moe_lm(make, balance_loss_scale=0.1, z_loss_scale=0.1))
    batch = make.batch()
    batch["target_weights"][0, :7] = 0
    (plain, side), (trained, _) = (model_loss(lm, state, batch, train) for train in (False, True))
    losses = side.losses["stack"]["layer"]["feed_forward"]["router"]
    expected = sum(np.sum(batch["target_weights"] * np.float64(loss)) for loss in losses.values())
    assert losses["balance"].shape == (2, 2, 12)  # layers, batch, seq
    np.testing.assert_allclose(trained.total - plain.total, expected, rtol=1e-4)


def test_micro_batches_have_the_loss_of_one_batch(make):
    lm, state = make.build(moe_lm(make, balance_loss_scale=0.1, z_loss_scale=0.1))
    batch = make.batch(batch=4)
    batch["target_weights"][0, :7] = 0
    halves = [jax.tree.map(lambda a, i=i: a[i::2], batch) for i in range(2)]
    np.testing.assert_allclose(
        *(
            sum(model_loss(lm, state, part, True)[0].total for part in parts)
            for parts in ([batch], halves)
        ),
        rtol=1e-6,
    )


def test_decoding_equals_the_whole_sequence(make):
    lm, state = make.build(moe_lm(make))
    batch = make.batch(batch=1, seq=5)
    expected = make.call(lm, state, batch, method="logits")
    prefix, cache = make.call(
        lm, state, batch["input_ids"][:, :4], lm.init_cache(1, 8), method="extend"
    )
    last, _ = make.call(lm, state, batch["input_ids"][:, 4:], cache, method="extend")
    np.testing.assert_allclose(np.concatenate([prefix, last], 1), expected, atol=1e-5)


@pytest.mark.parametrize("dispatch", DISPATCHES, ids=["dropless", "capacity"])
def test_experts_on_several_devices_have_the_loss_of_one(make, dispatch):
    if jax.device_count() < 8:
        pytest.skip("needs 8 virtual devices")
    cfg = make.llama(vocab_size=40)
    sparse = MixtureOfExperts.default_config().set(num_experts=4, top_k=2, dispatch=dispatch)
    replace(cfg, FeedForward, sparse)
    lm, state = make.build(cfg)
    batch = make.batch(batch=4)
    expected = model_loss(lm, state, batch, False)[0].total
    mesh = make_mesh({"expert": 2, "fsdp": 2}, jax.devices()[:4])
    placement = Placement(mesh, DEFAULT_RULES)
    placed = jax.device_put(state, parameter_shardings(lm.parameter_specs(), mesh, DEFAULT_RULES))
    rows = jax.device_put(batch, placement.sharding("batch", "seq"))
    with placing(placement):
        result = model_loss(lm, placed, rows, False)[0].total
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_model_in_bfloat16_routes_in_float32():
    layer = mixture().instantiate()
    params = jax.eval_shape(layer.initialize, jax.random.key(0))
    cast = jax.eval_shape(lambda x: cast_floats(x, layer.parameter_specs(), "bfloat16"), params)
    assert cast["router"]["projection"]["weight"].dtype == "float32"
    assert cast["experts"]["down"].dtype == "bfloat16"
