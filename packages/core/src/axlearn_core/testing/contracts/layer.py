"""The contract of layers, and of modules without parameters."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import ParameterSpec, flatten_paths, map_specs
from axlearn_core.parallel import DEFAULT_RULES, Placement, make_mesh, parameter_shardings, placing
from axlearn_core.parallel.sharding import Rules
from axlearn_core.testing.contracts.config import ConfigContract
from axlearn_core.testing.contracts.subject import KEY, Subject, compiled, is_float
from axlearn_core.testing.contracts.trees import assert_trees_close
from axlearn_core.testing.devices import eight_devices

MESH = {"expert": 2, "fsdp": 2, "model": 2}


class LayerContract(ConfigContract):
    """A layer computes the same under every transformation, wherever its numbers are.

    The smallest sizes do; those of dimensions with a logical axis must be even, or a mesh cannot
    split them. A test file of a plugin holds::

        class TestScaleNorm(LayerContract):
            def config(self):
                return ScaleNorm.default_config()

            def inputs(self, rng):
                return (rng.normal(size=(4, 6, 8)).astype("float32"),)
    """

    method: ClassVar[str] = "forward"
    # Of all float outputs; None is the dtype of the inputs, or of the parameters where no input is
    # a float.
    output_dtype: ClassVar[str | None] = None
    # Whether bfloat16 may come in; a batch keeps its dtypes, whatever a model computes in.
    narrow_inputs: ClassVar[bool] = True
    # Paths of the parameters whose gradient is 0 in this example, such as those of idle experts.
    zero_gradients: ClassVar[frozenset[str]] = frozenset()
    rules: ClassVar[Rules] = DEFAULT_RULES  # that know the parameters' logical axes
    # float32 keeps 24 bits, 6e-8. The sums of an example are short, but another order of them,
    # fused operations and what is made of differences lose some of the bits.
    tolerance: ClassVar[float] = 1e-5

    def inputs(self, rng: np.random.Generator) -> tuple[Any, ...]:
        """Returns example arguments of the method: trees of arrays, float32 where they are floats.

        The first dimension of what has a batch is best 4, which the mesh of the tests splits.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs example inputs: define inputs(self, rng) and return the "
            f"arguments of {self.method}() as a tuple, made with the numpy generator"
        )

    def call(self, layer: Any, *inputs: Any) -> Any:
        """Calls the layer, and returns a tree of arrays.

        Override it for methods that take or return anything else.
        """
        return getattr(layer, self.method)(*inputs)

    def subject(self) -> Subject:
        contract: Any = type(self)  # hashable, which mypy does not see
        return _subject(contract)

    # Parameters.

    def test_initialized_parameters_are_as_declared(self) -> None:
        subject = self.subject()
        declared = map_specs(ParameterSpec.struct, subject.specs)
        assert _structs(subject.initialized[0]) == declared

    def test_abstract_initialization_gives_the_same_shapes(self) -> None:
        subject = self.subject()
        abstract = jax.eval_shape(subject.host.initialize, KEY)
        assert _structs(abstract) == _structs(subject.initialized[0])

    def test_logical_axes_have_sharding_rules(self) -> None:
        for path, spec in flatten_paths(self.subject().specs).items():
            assert len(spec.axes) == len(spec.shape), path
            unknown = set(spec.axes) - {None, *self.rules}
            assert not unknown, (
                f"no sharding rule splits the axis {unknown} of {path}. Known: "
                f"{', '.join(self.rules)}. Use one of these, or None, or set `rules` to your own"
            )

    # Numbers.

    def test_compiled_equals_eager(self) -> None:
        subject = self.subject()
        eager = subject.run("plain", subject.state, subject.inputs)
        assert_trees_close(subject.results[0], eager, tolerance=self.tolerance)

    def test_gradients_are_finite(self) -> None:
        _, *gradients = self.subject().differentiated
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
            assert np.isfinite(leaf).all(), f"the gradient of {jax.tree_util.keystr(path)} is not"

    def test_every_trainable_parameter_has_a_gradient(self) -> None:
        _, gradients, _ = self.subject().differentiated
        flat = flatten_paths(gradients.get("layer", {}))
        zero = {path for path, leaf in flat.items() if not np.any(leaf)}
        assert zero == self.zero_gradients, (
            f"the gradients of {sorted(zero)} are 0. Change the example so that every parameter "
            "has a part in the outputs; or list them in `zero_gradients` if that must be so"
        )

    @pytest.mark.parametrize("stored", ["bfloat16", "float32"])
    def test_outputs_have_the_dtype_of_the_inputs(self, stored: str) -> None:
        subject = self.subject()
        state = _cast(subject.state, stored)
        inputs = _cast(subject.inputs, "bfloat16") if self.narrow_inputs else subject.inputs
        outputs, _ = jax.eval_shape(partial(subject.run, "plain"), state, inputs)
        following = "bfloat16" if any(map(is_float, jax.tree.leaves(inputs))) else stored
        got = {str(x.dtype) for x in jax.tree.leaves(outputs) if is_float(x)}
        declared = self.output_dtype or following
        assert got <= {declared}, (
            f"outputs are {', '.join(sorted(got))} and must be {declared}, with parameters stored "
            f"as {stored}. Cast what is computed more exactly back: y.astype(x.dtype). Set "
            "`output_dtype` if the layer promises another dtype"
        )

    def test_a_sibling_changes_no_number(self) -> None:
        subject = self.subject()
        assert_trees_close(*subject.initialized, tolerance=0)
        run = compiled(partial(subject.train, subject.beside, "plain"))
        result = run(subject.state, subject.inputs)
        assert_trees_close(result, subject.differentiated[0], tolerance=self.tolerance)

    # Transformations.

    @pytest.mark.parametrize("method", ["scanned", "mapped"])
    def test_copies_at_once_equal_one_after_the_other(self, method: str) -> None:
        subject = self.subject()
        stacked = jax.tree.map(lambda *copies: jnp.stack(copies), *subject.copies)
        result = compiled(partial(subject.run, method))(stacked, subject.inputs)
        expected = jax.tree.map(lambda *copies: jnp.stack(copies), *subject.results)
        assert_trees_close(result, expected, tolerance=self.tolerance)

    def test_remat_changes_neither_results_nor_gradients(self) -> None:
        subject = self.subject()
        again = subject.differentiate("rematerialised")
        assert_trees_close(again, subject.differentiated, tolerance=self.tolerance)

    def test_a_mesh_of_8_devices_changes_nothing(self) -> None:
        placement = Placement(make_mesh(MESH, eight_devices()), self.rules)
        subject = self.subject()
        shardings = parameter_shardings(subject.specs, placement.mesh, self.rules)
        state = jax.device_put(subject.state, shardings)
        inputs = jax.tree.map(lambda x: _placed(x, placement), subject.inputs)
        with placing(placement):
            result = compiled(partial(subject.run, "plain"))(state, inputs)
        assert_trees_close(result, subject.results[0], tolerance=self.tolerance)


@cache
def _subject(contract: type[LayerContract]) -> Subject:
    one = contract()
    return Subject(one.config(), one.call, one.inputs)


def _structs(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype) if is_float(x) else x, tree)


def _placed(x: jax.Array, placement: Placement) -> jax.Array:
    """Splits the first dimension as a batch, if the mesh divides it."""
    sharding = placement.sharding("batch", *[None] * (x.ndim - 1))
    ways = MESH["expert"] * MESH["fsdp"]
    placed: jax.Array = jax.device_put(x, sharding if x.ndim and x.shape[0] % ways == 0 else None)
    return placed
