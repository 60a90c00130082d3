import jax
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.module import functional
from axlearn_layers import MultiTokenLM, SequenceInfo


def config(make, **fields):
    cfg = MultiTokenLM.default_config().set(lm=make.llama(), **fields)
    cfg.depth.layer = cfg.lm.stack.layer
    return cfg


@pytest.fixture
def packed(make):
    """Two rows: documents of 5, 6 and 1 of padding; one document of 12."""
    batch = make.batch()
    batch["segment_ids"] = np.array([[1] * 5 + [2] * 6 + [0], [1] * 12], np.int32)
    batch["positions"] = np.array([[*range(5), *range(6), 0], [*range(12)]], np.int32)
    ends = np.zeros((2, 12), bool)
    ends[0, [4, 10, 11]] = True  # a document's last token has no target
    batch["target_weights"] = np.where(ends, 0, batch["target_weights"])
    return batch


def train(model, state, batch):
    @jax.jit
    def run(state):
        return functional(model, state=state, prng_key=None, inputs=(batch,), is_training=True)[0]

    return run(state)


def norm(x, scale):
    x = np.asarray(x, np.float64)
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def test_training_adds_the_mean_of_the_depths_losses(make, packed):
    """Document by document, as in the paper: each depth one token shorter than that before."""
    model, state = make.build(config(make, num_depths=2, loss_weight=0.5))
    table, head = state["lm"]["embedding"]["weight"], state["lm"]["head"]["weight"]
    further = 0.0
    for row, part in ((0, slice(0, 5)), (0, slice(5, 11)), (1, slice(0, 12))):
        ids = packed["input_ids"][row, part][None]
        targets = packed["target_ids"][row, part]
        weights = packed["target_weights"][row, part]
        hidden = np.asarray(make.call(model.lm, state["lm"], {"input_ids": ids}, method="hidden"))
        for k, depth in enumerate(model.depths, start=1):
            own = state[f"depth{k}"]
            length = ids.shape[1] - k
            both = [
                norm(hidden[:, :length], own["hidden_norm"]["scale"]),
                norm(table[ids[:, k:]], own["embedding_norm"]["scale"]),
            ]
            joined = sum(x @ own["projection"]["weight"][i] for i, x in enumerate(both))
            x = joined.astype(np.float32)
            hidden = np.asarray(make.call(depth.layer, own["layer"], x, SequenceInfo()))
            logits = norm(hidden, own["output_norm"]["scale"])[0] @ head.T
            chosen = logits[range(length), targets[k:]]
            losses = np.log(np.exp(logits).sum(-1)) - chosen
            further += (weights[k:] * losses).sum()
    plain = make.call(model.lm, state["lm"], packed)
    loss = train(model, state, packed)
    np.testing.assert_allclose(loss.total - plain.total, 0.5 / 2 * further, rtol=1e-4)
    assert loss.weight == plain.weight == model.target_weight(packed)


def test_evaluation_gives_the_loss_of_the_language_model_alone(make, packed):
    model, state = make.build(config(make))
    alone = make.call(model.lm, state["lm"], packed)
    np.testing.assert_array_equal(make.call(model, state, packed).total, alone.total)


def test_depths_train_the_shared_table_and_their_own_parameters(make, packed):
    model, state = make.build(config(make))
    packed["target_weights"][:, 0] = 0

    def further(state):
        loss = functional(model, state=state, prng_key=None, inputs=(packed,), is_training=True)[0]
        return loss.total - functional(model, state=state, prng_key=None, inputs=(packed,))[0].total

    gradient = jax.jit(jax.grad(further))(state)
    for leaf in jax.tree.leaves(gradient["depth1"]):
        assert np.abs(leaf).max() > 1e-5
    for part in ("embedding", "head", "stack"):
        assert all(np.abs(leaf).max() > 1e-5 for leaf in jax.tree.leaves(gradient["lm"][part]))


def test_each_depth_reports_its_own_loss(make, packed):
    model, state = make.build(config(make, num_depths=2))
    _, side = functional(model, state=state, prng_key=None, inputs=(packed,), is_training=True)
    assert side.summaries["lm"]["loss"].keys() == {"cross_entropy", "accuracy"}
    assert side.summaries["depth2"]["loss"].keys() == {"cross_entropy", "accuracy"}


def test_decoding_is_that_of_the_language_model(make):
    model, state = make.build(config(make))
    ids = make.batch()["input_ids"]
    extended, cache = make.call(model, state, ids, model.init_cache(2, 12), method="extend")
    logits = make.call(model, state, {"input_ids": ids}, method="logits")
    alone = make.call(model.lm, state["lm"], {"input_ids": ids}, method="logits")
    np.testing.assert_array_equal(logits, alone)
    np.testing.assert_allclose(extended, logits, atol=1e-5)
    assert cache["length"].tolist() == [12, 12]


def test_flops_of_a_depth_are_a_layer_a_projection_and_a_head(make):
    model = config(make, num_depths=2).instantiate()
    tokens, seq = 2 * 12, 12
    weights = 16 * 8 * 4 + 16 * 16 + 16 * 48 + 24 * 16 + 2 * 16 * 16 + 16 * 37
    depth = 6 * weights * tokens + 3 * tokens * 4 * seq * 16
    shapes = {"input_ids": (2, 12)}
    assert model.flops_per_step(shapes) == model.lm.flops_per_step(shapes) + 2 * depth


def test_no_depths_are_refused(make):
    with pytest.raises(BuildError, match=r"num_depths \(=0\).*take the CausalLM itself"):
        config(make, num_depths=0).instantiate()
