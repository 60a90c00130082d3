"""Mappings: what they convert, and what they say when something does not fit."""

import jax
import numpy as np
import pytest

from axlearn_core.config import REQUIRED
from axlearn_core.module import FanIn, Layer, ParameterSpec, flatten_paths, no_context
from axlearn_huggingface.families import LLAMA_WEIGHTS, MIXTRAL_WEIGHTS
from axlearn_huggingface.weights import (
    LazyTensors,
    Rule,
    WeightMapping,
    WeightsError,
    export_weights,
    import_weights,
    imported,
    named_parameters,
    within,
)
from axlearn_layers import LayerList, Repeat
from axlearn_layers.families import llama, mixtral

SIZES = {
    "vocab_size": 11,
    "dim": 8,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "hidden_dim": 6,
}


class Flat(Layer):
    """Parameters of the shapes that its config gives."""

    class Config(Layer.Config):
        shapes: dict[str, tuple[int, ...]] = REQUIRED

    @no_context
    def own_parameters(self):
        initializer = FanIn.default_config().instantiate()
        return {
            name: ParameterSpec(shape, (None,) * len(shape), initializer)
            for name, shape in self.config.shapes.items()
        }


def flat(**shapes):
    return Flat.default_config().set(shapes=shapes).instantiate()


def tensors_for(model, mapping=LLAMA_WEIGHTS):
    """Random tensors of the shapes that an export has, in float32."""
    rng = np.random.default_rng(0)
    state = jax.eval_shape(model.initialize, jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    exported = export_weights(mapping, model, zeros)
    return {k: rng.normal(size=v.shape).astype(np.float32) for k, v in exported.items()}


@pytest.fixture
def model():
    return llama(**SIZES).instantiate()


@pytest.fixture
def tensors(model):
    return tensors_for(model)


def arranged(stack):
    """The same layers in another stack."""
    cfg = llama(**SIZES)
    block = cfg.stack.layer
    cfg.stack = stack(block)
    return cfg.instantiate()


ARRANGEMENTS = {
    "list": lambda block: LayerList.default_config().set(layers=[block] * 3),
    "loop after a layer": lambda block: LayerList.default_config().set(
        layers=[block, Repeat.default_config().set(layer=block, num_layers=2)]
    ),
    "loop of a list": lambda block: Repeat.default_config().set(
        layer=LayerList.default_config().set(layers=[block] * 3), num_layers=1
    ),
}


def test_layers_are_numbered_below_their_stack(model):
    names = set(named_parameters(model))
    assert {"embedding/weight", "norm/scale", "head/weight"} < names
    assert {f"stack/{i}/attention/qkv/inner/projection/weight" for i in range(3)} < names


@pytest.mark.parametrize("stack", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_weights_convert_alike_however_layers_are_arranged(model, tensors, stack):
    other = arranged(stack)
    assert list(named_parameters(other)) == list(named_parameters(model))
    exported = export_weights(LLAMA_WEIGHTS, other, import_weights(LLAMA_WEIGHTS, other, tensors))
    assert exported.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(exported[name], tensor)


def test_queries_of_a_group_lie_before_its_key_and_value(model, tensors):
    state = import_weights(LLAMA_WEIGHTS, model, tensors)
    fused = state["stack"]["layer"]["attention"]["qkv"]["inner"]["projection"]["weight"]
    assert fused.shape == (3, 8, 2, 4, 2)  # layer, embed, kv_heads, group + 2, head_dim
    query, key, value = (
        tensors[f"model.layers.1.self_attn.{name}_proj.weight"].T for name in "qkv"
    )
    for head in range(2):
        by_head = slice(2 * head, 2 * head + 2)
        np.testing.assert_array_equal(fused[1, :, head, 2], key[:, by_head])
        np.testing.assert_array_equal(fused[1, :, head, 3], value[:, by_head])
        for member in range(2):
            start = (2 * head + member) * 2
            np.testing.assert_array_equal(fused[1, :, head, member], query[:, start : start + 2])


def test_experts_are_stacked():
    model = mixtral(**SIZES, num_experts=12, top_k=2).instantiate()
    tensors = tensors_for(model, MIXTRAL_WEIGHTS)
    state = import_weights(MIXTRAL_WEIGHTS, model, tensors)
    gate_up = state["stack"]["layer"]["feed_forward"]["experts"]["gate_up"]
    for expert in (2, 10):  # numbers, not text
        up = tensors[f"model.layers.0.block_sparse_moe.experts.{expert}.w3.weight"]
        np.testing.assert_array_equal(gate_up[0, expert, :, 1], up.T)


def test_an_axis_is_cut_inside_of_another_and_rotary_pairs_are_unzipped():
    # DeepSeek-V3 (arXiv:2412.19437): a head is a part without positions, then pairs of neighbours.
    rule = Rule(
        {"query": "rank heads nope", "rotary": "rank heads (2 half)"},
        {"q_b_proj.weight": "(heads (nope + (half 2))) rank"},
    )
    model = flat(query=(5, 3, 4), rotary=(5, 3, 6))
    theirs = np.random.default_rng(0).normal(size=(3 * 10, 5)).astype(np.float32)
    mapping = WeightMapping((rule,))
    state = import_weights(mapping, model, {"q_b_proj.weight": theirs})
    by_head = theirs.reshape(3, 10, 5).transpose(2, 0, 1)
    np.testing.assert_array_equal(state["query"], by_head[..., :4])
    evens_then_odds = np.concatenate([by_head[..., 4::2], by_head[..., 5::2]], axis=-1)
    np.testing.assert_array_equal(state["rotary"], evens_then_odds)
    exported = export_weights(mapping, model, state)
    np.testing.assert_array_equal(exported["q_b_proj.weight"], theirs)


def test_sizes_that_no_shape_tells_are_given_by_the_rule():
    def convert(**sizes):
        rule = Rule({"a": "(x + (2 y))"}, {"b": "(x + (y 2))"}, sizes=sizes)
        tensors = {"b": np.arange(7, dtype=np.float32)}
        return import_weights(WeightMapping((rule,)), flat(a=(7,)), tensors)["a"]

    assert convert(x=3).tolist() == [0, 1, 2, 3, 5, 4, 6]
    with pytest.raises(WeightsError, match=r"size of x, y does not follow"):
        convert()


def test_each_tensor_is_read_once_and_each_layers_array_is_handed_on_when_complete(model, tensors):
    read = []

    def load(name):
        read.append(name)
        return tensors[name]

    lazy = LazyTensors({name: lambda name=name: load(name) for name in tensors})
    arrays = imported(LLAMA_WEIGHTS, model, lazy)
    first, array = next(arrays)
    assert first.path == "stack/layer/attention/qkv/inner/projection/weight"
    assert (first.indices, array.shape) == ((0,), (8, 2, 4, 2))
    assert read == [f"model.layers.0.self_attn.{name}_proj.weight" for name in "qkv"]
    list(arrays)
    assert sorted(read) == sorted(tensors)


def test_an_export_makes_a_tensor_when_it_is_read(model, tensors):
    state = import_weights(LLAMA_WEIGHTS, model, tensors)
    exported = export_weights(LLAMA_WEIGHTS, model, state)
    state["embedding"]["weight"][...] = 7
    assert (exported["model.embed_tokens.weight"] == 7).all()


def test_arrays_have_the_dtype_of_their_parameters(tensors):
    cfg = llama(**SIZES)
    cfg.embedding.dtype = "bfloat16"
    state = import_weights(LLAMA_WEIGHTS, cfg.instantiate(), tensors)
    assert state["embedding"]["weight"].dtype == "bfloat16"
    assert state["head"]["weight"].dtype == "float32"


def test_names_may_lack_the_prefix():
    mapping = WeightMapping((Rule({"a": "x"}, {"b": "x"}),), prefix="base.")
    tensor = np.ones(3, np.float32)
    for name in ("b", "base.b"):
        state = import_weights(mapping, flat(a=(3,)), {name: tensor})
        assert list(export_weights(mapping, flat(a=(3,)), state)) == ["base.b"]


def tied():
    return llama(**SIZES, tied=True).instantiate()


def test_a_tied_model_takes_a_head_that_equals_the_table(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    state = import_weights(LLAMA_WEIGHTS, tied(), tensors)
    assert "head" not in state
    assert "lm_head.weight" not in export_weights(LLAMA_WEIGHTS, tied(), state)


def test_a_tied_model_refuses_another_head(tensors):
    with pytest.raises(WeightsError, match=r"lm_head.weight differs from .*build it untied"):
        import_weights(LLAMA_WEIGHTS, tied(), tensors)


def test_an_untied_model_is_told_what_a_missing_head_means(model, tensors):
    del tensors["lm_head.weight"]
    with pytest.raises(WeightsError, match=r"tensors that are not there(.|\n)*build a tied model"):
        import_weights(LLAMA_WEIGHTS, model, tensors)


def test_missing_tensors_are_listed_once_with_near_names(model, tensors):
    for layer in range(3):
        name = f"model.layers.{layer}.self_attn."
        tensors[name + "query_proj.weight"] = tensors.pop(name + "q_proj.weight")
    with pytest.raises(WeightsError) as error:
        import_weights(LLAMA_WEIGHTS, model, tensors)
    message = str(error.value)
    near = "model.layers.*.self_attn.query_proj.weight"
    assert "3 tensors that are not there" in message
    assert "model.layers.*.self_attn.q_proj.weight (3 times) Did you mean" in message
    assert f"'{near}'" in message
    assert (
        f"3 tensors that no rule uses (build the model with the part, or add a rule):\n  {near}"
        in message
    )


def test_tensors_that_are_no_parameters_are_ignored(model, tensors):
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(2)
    import_weights(LLAMA_WEIGHTS, model, tensors)


def test_extra_tensors_are_refused(model, tensors):
    tensors["model.layers.1.self_attn.q_proj.bias"] = np.ones(8)
    with pytest.raises(WeightsError, match=r"1 tensors? that no rule uses .*\n.*q_proj\.bias"):
        import_weights(LLAMA_WEIGHTS, model, tensors)


def test_a_wrong_shape_names_both_sides(model, tensors):
    name = "model.layers.1.self_attn.k_proj.weight"
    tensors[name] = tensors[name][:3]
    with pytest.raises(
        WeightsError,
        match=r"layers.1.self_attn.k_proj.weight has the shape \(3, 8\), but \(4, 8\) .*"
        r"stack/1/attention/qkv/inner/projection/weight \(8, 2, 4, 2\) \(embed kv .*sizes of the",
    ):
        import_weights(LLAMA_WEIGHTS, model, tensors)


def convert(rules, model, **tensors):
    arrays = {name: np.zeros(shape, np.float32) for name, shape in tensors.items()}
    return import_weights(WeightMapping(tuple(rules)), model, arrays)


def test_a_rule_that_matches_nothing_is_refused():
    rules = [Rule({"weight": "x"}, {"w": "x"}), Rule({"bias": "x"}, {"b": "x"})]
    with pytest.raises(
        WeightsError, match=r"rules that match no parameter .*optional=True.*\n *bias"
    ):
        convert(rules, flat(weight=(2,)), w=(2,))


def test_an_optional_rule_may_match_nothing():
    rules = [Rule({"weight": "x"}, {"w": "x"}), Rule({"bias": "x"}, {"b": "x"}, optional=True)]
    assert convert(rules, flat(weight=(2,)), w=(2,)).keys() == {"weight"}


def test_a_parameter_without_a_rule_is_refused_with_the_rule_that_may_be_meant():
    rules = [Rule({"wieght": "x"}, {"w": "x"})]
    with pytest.raises(WeightsError, match=r"that no rule sets .*\n *weight Did you mean 'wieght'"):
        convert(rules, flat(weight=(2,)), w=(2,))


def test_two_rules_on_a_parameter_are_refused():
    rules = [Rule({"weight": "x"}, {"w": "x"}), Rule({"w.*": "x"}, {"v": "x"})]
    with pytest.raises(WeightsError, match=r"that two rules set \(narrow.*\n *weight"):
        convert(rules, flat(weight=(2,)), w=(2,), v=(2,))


def test_two_parameters_of_one_tensor_are_refused():
    rules = [Rule({"[ab]": "x"}, {"w": "x"})]
    with pytest.raises(WeightsError, match=r"that two parameters need .*\n *w"):
        convert(rules, flat(a=(2,), b=(2,)), w=(2,))


def test_axes_that_do_not_fit_a_parameter_are_refused():
    rules = [Rule({"weight": "x (y 3)"}, {"w": "(y 3) x"})]
    with pytest.raises(WeightsError, match=r"rule weight = w does not fit weight \(2, 4\) .*be 4"):
        convert(rules, flat(weight=(2, 4)), w=(4, 2))


def test_sides_that_do_not_correspond_are_refused_where_the_rule_is_written():
    with pytest.raises(ValueError, match=r"pieces of ours, a b \| a, are not those of theirs, a b"):
        Rule({"ours": "a (b + 1)"}, {"theirs": "(a b)"})


def test_names_that_capture_different_fields_are_refused_where_the_rule_is_written():
    with pytest.raises(ValueError, match="must have the same"):
        Rule({"{layer}/a": "x", "b": "y"}, {"{layer}.a": "x", "b": "y"})


def test_within_prefixes_both_sides():
    (rule,) = within("stack/{layer}/", "h.{layer}.", Rule({"w": "x"}, {"v": "x"}, optional=True))
    assert rule == Rule({"stack/{layer}/w": "x"}, {"h.{layer}.v": "x"}, optional=True)


def test_layers_stacked_by_something_else_are_refused():
    class Hidden(Flat):
        @no_context
        def parameter_specs(self):
            return {"inside": super().parameter_specs()}

    layer = Hidden.default_config().set(shapes={"weight": (2,)}).instantiate()
    with pytest.raises(WeightsError, match="has to be a Stack"):
        named_parameters(layer)


def test_imported_arrays_are_all_that_the_model_declares(model, tensors):
    state = flatten_paths(import_weights(LLAMA_WEIGHTS, model, tensors))
    declared = flatten_paths(model.parameter_specs())
    assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in declared.items()}
