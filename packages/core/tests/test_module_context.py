"""Invocation contexts: parameters and keys go in, side outputs come out, nothing stays behind."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.config import BuildError
from axlearn_core.module import (
    Layer,
    Module,
    Normal,
    ParameterSpec,
    current_context,
    functional,
    no_context,
    ones,
)

KEY = jax.random.key(7)
X = jnp.arange(3.0)


class Scale(Layer):
    """Multiplies by a parameter; reports its mean."""

    def own_parameters(self):
        return {"weight": ParameterSpec((3,), ("embed",), ones)}

    def forward(self, x):
        y = x * self.param("weight")
        self.add_summary("mean", y.mean())
        return y


class Noise(Layer):
    """Draws numbers of its own."""

    def forward(self, x):
        return x + jax.random.normal(self.prng_key(), x.shape)

    def twice(self, x):
        return jax.random.normal(self.prng_key("a")), jax.random.normal(self.prng_key("b"))

    def again(self, x):
        return jax.random.normal(self.prng_key("a")), jax.random.normal(self.prng_key("a"))


def module_of(children, forward, base=Layer, **members):
    """Makes a module with the given children (name to class) and `forward(self, x)`."""

    def __init__(self, config, **extra):
        base.__init__(self, config, **extra)
        for name, kind in children.items():
            setattr(self, name, self.add_child(name, kind.default_config()))

    members = {"__init__": __init__, "forward": forward, **members}
    return type("Parent", (base,), members).default_config().instantiate()


def call(module, *inputs, state=None, key=KEY, **options):
    state = module.initialize(KEY) if state is None else state
    return functional(module, state=state, prng_key=key, inputs=inputs, **options)


# Names and structure.


def test_path_names_all_ancestors():
    inner = type("Inner", (Layer,), {"__init__": lambda self, c, **k: init_with_leaf(self, c, k)})
    outer = module_of({"inner": inner}, None)
    assert outer.inner.leaf.path == "root.inner.leaf"


def init_with_leaf(self, config, extra):
    Layer.__init__(self, config, **extra)
    self.leaf = self.add_child("leaf", Scale.default_config())


def test_two_children_of_one_name_are_refused():
    def __init__(self, config, **extra):
        Layer.__init__(self, config, **extra)
        self.add_child("a", Scale.default_config())
        self.add_child("a", Scale.default_config())

    with pytest.raises(BuildError, match="already has a child 'a'"):
        type("Twins", (Layer,), {"__init__": __init__}).default_config().instantiate()


@pytest.mark.parametrize("name", ["_private", "two words", "a.b"])
def test_a_childs_name_must_be_a_public_identifier(name):
    with pytest.raises(BuildError, match="public identifier"):
        module_of({name: Scale}, None)


def test_a_parameter_and_a_child_of_one_name_are_refused():
    def own_parameters(self):
        return {"a": ParameterSpec((), (), ones)}

    module = module_of({"a": Scale}, None, own_parameters=own_parameters)
    with pytest.raises(ValueError, match="both a parameter and a child called 'a'"):
        module.parameter_specs()


# Calls.


def test_a_child_sees_its_own_parameters():
    module = module_of({"scale": Scale}, lambda self, x: self.scale.forward(x))
    y, _ = call(module, X, state={"scale": {"weight": jnp.full(3, 2.0)}})
    np.testing.assert_array_equal(y, 2 * X)


def test_inputs_may_be_keywords():
    y, _ = functional(Scale.Config().instantiate(), state={"weight": 2}, prng_key=None,
                      inputs={"x": X})  # fmt: skip
    np.testing.assert_array_equal(y, 2 * X)


def test_a_bare_array_as_inputs_is_explained():
    with pytest.raises(TypeError, match=r"write inputs=\(x,\)"):
        functional(Scale.Config().instantiate(), state={}, prng_key=None, inputs=X)


def test_any_public_method_can_be_called():
    module = module_of({}, None, double=lambda self, x: 2 * x)
    assert call(module, 4, method="double")[0] == 8


def test_is_training_reaches_every_child():
    probe = type("Probe", (Layer,), {"forward": lambda self: self.is_training})
    module = module_of({"probe": probe}, lambda self: self.probe.forward())
    assert [call(module, is_training=flag)[0] for flag in (True, False)] == [True, False]


def test_a_grandchild_can_be_called_directly():
    inner = type("Inner", (Layer,), {"__init__": lambda self, c, **k: init_with_leaf(self, c, k)})
    module = module_of({"inner": inner}, lambda self, x: self.inner.leaf.forward(x))
    _, outputs = call(module, X)
    assert outputs.summaries["inner"]["leaf"]["mean"] == 1


def test_an_inherited_method_that_calls_super_stays_in_its_context():
    child = type("Child", (Scale,), {"forward": lambda self, x: 1 + Scale.forward(self, x)})
    _, outputs = call(child.default_config().instantiate(), X)
    assert list(outputs.summaries) == ["mean"]


def test_calling_a_module_that_is_no_descendant_is_explained():
    stranger = Scale.default_config().instantiate(name="stranger")
    module = module_of({}, lambda self, x: stranger.forward(x))
    with pytest.raises(ValueError, match=r"stranger was called from root, .*not its ancestor"):
        call(module, X)


def test_parameters_outside_a_call_are_explained():
    with pytest.raises(RuntimeError, match=r"run functional\(module"):
        Scale.default_config().instantiate().forward(X)


def test_a_missing_parameter_is_named_with_what_is_there():
    with pytest.raises(ValueError, match="root was called without its parameter 'weight'; got: w"):
        call(Scale.default_config().instantiate(), X, state={"w": X})


def test_another_modules_parameters_are_out_of_reach():
    module = module_of({"scale": Scale}, lambda self, x: self.scale.param("weight"))
    with pytest.raises(RuntimeError, match=r"root\.scale is not the module being called"):
        call(module, X)


def test_a_failed_call_leaves_no_context_behind():
    with pytest.raises(ValueError, match="without its parameter"):
        call(Scale.default_config().instantiate(), X, state={})
    with pytest.raises(RuntimeError, match="no module is being called"):
        current_context()


def test_an_override_of_a_method_without_context_needs_none_either():
    class Special(Layer):
        def parameter_specs(self):
            return {}

    stranger = Special.default_config().instantiate(name="stranger")
    assert call(module_of({}, lambda self: stranger.parameter_specs()))[0] == {}


def test_a_method_may_be_marked_as_needing_no_context():
    class Sized(Module):
        @no_context
        def size(self):
            return 3

    stranger = Sized.default_config().instantiate()
    assert call(module_of({}, lambda self: stranger.size()))[0] == 3


def test_threads_share_an_instance_with_different_states():
    meeting = threading.Barrier(2, timeout=30)

    def forward(self, x):
        meeting.wait()  # both are inside the call now
        return self.scale.forward(x)

    module = module_of({"scale": Scale}, forward)
    results = {}

    def run(factor):
        results[factor] = call(module, X, state={"scale": {"weight": jnp.full(3, factor)}})

    threads = [threading.Thread(target=run, args=(factor,)) for factor in (2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for factor, (y, outputs) in results.items():
        np.testing.assert_array_equal(y, factor * X)
        assert outputs.summaries["scale"]["mean"] == factor


# Random keys.


def noise(*names, **fields):
    children = dict.fromkeys(names, Noise)
    return module_of(children, lambda self, x: [c.forward(x) for c in self.children.values()])


def test_a_new_sibling_changes_nobodys_random_numbers():
    (alone,), _ = call(noise("a"), X)
    (_, beside), _ = call(noise("b", "a"), X)
    np.testing.assert_array_equal(alone, beside)


def test_siblings_draw_different_numbers():
    (a, b), _ = call(noise("a", "b"), X)
    assert (a != b).all()


def test_the_second_call_of_a_child_draws_other_numbers():
    module = module_of({"a": Noise}, lambda self, x: (self.a.forward(x), self.a.forward(x)))
    (first, second), _ = call(module, X)
    assert (first != second).all()


def test_purposes_have_keys_of_their_own():
    first, second = call(Noise.default_config().instantiate(), X, method="twice")[0]
    assert first != second


def test_one_purpose_has_one_key_in_a_call():
    first, second = call(Noise.default_config().instantiate(), X, method="again")[0]
    assert first == second


def test_a_purpose_and_a_child_of_the_same_name_draw_different_numbers():
    def forward(self, x):
        return jax.random.normal(self.prng_key("a"), x.shape), self.a.forward(0 * x)

    (own, childs), _ = call(module_of({"a": Noise}, forward), X)
    assert (own != childs).all()


@pytest.mark.parametrize(
    "key",
    [
        jax.random.PRNGKey(0),
        jax.random.key(0),
        jax.random.key(0, impl="rbg"),
        jax.random.key(0, impl="unsafe_rbg"),
    ],
    ids=["raw", "threefry", "rbg", "unsafe_rbg"],
)
def test_any_key_type_works(key):
    module = noise("a", "b")
    (a, b), _ = jax.jit(lambda key: call(module, X, key=key))(key)
    assert (a != b).all()


def test_randomness_without_a_key_is_explained():
    with pytest.raises(ValueError, match=r"root\.a needs a random key; pass prng_key"):
        call(noise("a"), X, key=None)


def test_a_call_without_randomness_needs_no_key():
    module = module_of({"scale": Scale}, lambda self, x: self.scale.forward(x))
    assert call(module, X, key=None)[0] is not None


# Side outputs.


def test_side_outputs_are_nested_by_child():
    module = module_of({"scale": Scale}, lambda self, x: self.scale.forward(x))
    assert call(module, X)[1].summaries == {"scale": {"mean": 1.0}}


def test_each_kind_of_side_output_comes_out_in_its_field():
    def forward(self):
        self.add_summary("a", 1)
        self.add_state_update("b", 2)
        self.add_module_output("c", 3)

    _, outputs = call(module_of({}, forward))
    assert outputs.summaries == {"a": 1}
    assert outputs.state_updates == {"b": 2}
    assert outputs.module_outputs == {"c": 3}


@pytest.mark.parametrize("kind", ["summary", "state_update", "module_output", "loss"])
def test_a_name_can_be_added_once_per_call(kind):
    def forward(self):
        getattr(self, f"add_{kind}")("a", 1)
        getattr(self, f"add_{kind}")("a", 2)

    with pytest.raises(ValueError, match=r"'a' is already in the .* of root"):
        call(module_of({}, forward))


def test_a_child_called_twice_says_how_to_keep_its_side_outputs_apart():
    module = module_of({"s": Scale}, lambda self, x: self.s.forward(self.s.forward(x)))
    with pytest.raises(ValueError, match="give each call a child of its own"):
        call(module, X)


def test_a_summary_cannot_take_a_childs_name():
    def forward(self, x):
        self.scale.forward(x)
        self.add_summary("scale", 1)

    with pytest.raises(ValueError, match="'scale' is already in the summaries of root"):
        call(module_of({"scale": Scale}, forward), X)


def test_a_parent_sees_the_losses_of_its_children():
    class Penalty(Layer):
        def forward(self, x):
            self.add_loss("square", x**2)

    def forward(self, x):
        self.a.forward(x)
        self.b.forward(2 * x)
        return sum(self.auxiliary_losses())

    y, outputs = call(module_of({"a": Penalty, "b": Penalty}, forward), X)
    np.testing.assert_array_equal(y, 5 * X**2)
    np.testing.assert_array_equal(outputs.losses["b"]["square"], 4 * X**2)


def test_side_outputs_of_one_call_are_not_in_the_next():
    module = module_of({"scale": Scale}, lambda self, x: self.scale.forward(x))
    call(module, X)
    assert call(module, 2 * X)[1].summaries == {"scale": {"mean": 2.0}}


# Parameters.


def test_initial_values_do_not_depend_on_siblings():
    class Random(Layer):
        def own_parameters(self):
            normal = Normal.default_config().instantiate()
            return {"weight": ParameterSpec((3,), ("embed",), normal)}

    alone = module_of({"a": Random}, None).initialize(KEY)
    beside = module_of({"b": Random, "a": Random}, None).initialize(KEY)
    np.testing.assert_array_equal(alone["a"]["weight"], beside["a"]["weight"])


def test_abstract_initialisation_allocates_nothing():
    class Huge(Layer):
        def own_parameters(self):
            normal = Normal.default_config().instantiate()
            return {"weight": ParameterSpec((1 << 30, 1 << 20), ("vocab", "embed"), normal)}

    state = jax.eval_shape(Huge.default_config().instantiate().initialize, KEY)
    assert state["weight"].shape == (1 << 30, 1 << 20)  # 4 PiB


def test_axes_must_name_every_dimension():
    with pytest.raises(ValueError, match="needs 2 logical axes"):
        ParameterSpec((3, 4), ("embed",), ones)


# What is provided from above.


class Reader(Layer):
    """Returns what is provided."""

    def forward(self):
        return self.provided("ids")


def provider(provide):
    middle = type(module_of({"reader": Reader}, lambda self: self.reader.forward()))
    return module_of({"middle": middle}, provide)


def test_what_is_provided_reaches_descendants_within_the_block_only():
    def forward(self):
        with self.provide("ids", 1):
            inside = self.middle.forward(), self.middle.reader.forward()
        return inside, self.middle.forward(), self.provided("ids")

    assert functional(provider(forward), state={}, prng_key=None, inputs=())[0] == (
        (1, 1),
        None,
        None,
    )


def test_the_nearest_provider_counts_and_none_takes_away():
    def forward(self):
        with self.provide("ids", 1), self.provide("other", 3):
            with self.provide("ids", 2):
                nearest = self.middle.forward()
            with self.provide("ids", None):
                return nearest, self.middle.forward(), self.provided("other")

    result = functional(provider(forward), state={}, prng_key=None, inputs=())[0]
    assert result == (2, None, 3)


def test_side_outputs_and_random_keys_are_the_same_where_something_is_provided():
    def plain(self, x):
        return self.scale.forward(x), self.noise.forward(x)

    def providing(self, x):
        with self.provide("ids", 1):
            return self.scale.forward(x), self.noise.forward(x)

    state = {"scale": {"weight": X}}
    children = {"scale": Scale, "noise": Noise}
    (a, b), (c, d) = (
        jax.tree.flatten(
            functional(module_of(children, forward), state=state, prng_key=KEY, inputs=(X,))
        )
        for forward in (plain, providing)
    )
    assert b == d
    jax.tree.map(np.testing.assert_array_equal, a, c)
