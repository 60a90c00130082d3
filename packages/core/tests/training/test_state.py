"""The train state: how it is made, split and joined."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from axlearn_core.module import Normal, ParameterSpec
from axlearn_core.testing.tiny import BigramModel, GradientDescent
from axlearn_core.training.state import initial_state, merge_trees, split_trainable, state_axes

RANDOM = Normal.default_config().set(stddev=1.0).instantiate()
names = st.sampled_from("abcde")
declared = st.booleans().map(lambda yes: ParameterSpec((), (), RANDOM, trainable=yes))
specs = st.recursive(
    st.dictionaries(names, declared, min_size=1, max_size=4),
    lambda inner: st.dictionaries(names, inner | declared, min_size=1, max_size=4),
    max_leaves=12,
)


def numbered(tree):
    """The same tree with a different number at each leaf."""
    leaves, shape = jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, ParameterSpec))
    return jax.tree.unflatten(shape, range(len(leaves)))


@given(specs)
def test_what_is_split_merges_to_what_it_was(specs):
    values = numbered(specs)
    assert merge_trees(*split_trainable(values, specs)) == values


@given(specs)
def test_splitting_puts_every_leaf_where_it_belongs(specs):
    trainable, rest = split_trainable(specs, specs)
    is_spec = {"is_leaf": lambda x: isinstance(x, ParameterSpec)}
    assert all(spec.trainable for spec in jax.tree.leaves(trainable, **is_spec))
    assert not any(spec.trainable for spec in jax.tree.leaves(rest, **is_spec))


@given(specs)
def test_splitting_leaves_no_empty_branch(specs):
    def empty(tree):
        return any(v == {} or (isinstance(v, dict) and empty(v)) for v in tree.values())

    assert not any(empty(part) for part in split_trainable(numbered(specs), specs))


def test_merging_prefers_the_second():
    assert merge_trees({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}


def test_merging_changes_neither():
    first, second = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge_trees(first, second)
    assert (first, second) == ({"a": {"b": 1}}, {"a": {"c": 2}})


class Random(BigramModel):
    def own_parameters(self):
        return {"table": ParameterSpec((4, 4), ("embed", "vocab"), RANDOM)}


def make(seed):
    model = Random.default_config().set(vocab_size=4).instantiate(name="model")
    learner = GradientDescent.default_config().instantiate(specs=model.parameter_specs())
    return initial_state(model, learner, seed)


def test_a_seed_gives_the_same_state_every_time():
    for one, other in zip(jax.tree.leaves(make(3)), jax.tree.leaves(make(3)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_other_parameters_and_another_key():
    one, other = make(3), make(4)
    assert not np.array_equal(one.params["table"], other.params["table"])
    assert not np.array_equal(one.key, other.key)


def test_a_state_begins_at_step_0_and_not_halted():
    state = make(0)
    assert (int(state.step), bool(state.halted)) == (0, False)


def test_every_array_of_a_state_has_its_axes():
    model = Random.default_config().set(vocab_size=4).instantiate(name="model")
    learner = GradientDescent.default_config().instantiate(specs=model.parameter_specs())
    leaves, tree = jax.tree.flatten(make(0))
    axes = tree.flatten_up_to(state_axes(model, learner))
    assert [leaf.ndim for leaf in leaves] == [len(names) for names in axes]
