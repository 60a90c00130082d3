"""The contracts themselves: they pass what is right, and find what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from axlearn_core.module import FanIn, Layer, ParameterSpec
from axlearn_core.plugins import LayerRecord, ModelRecord
from axlearn_core.testing.contracts import LayerContract, ModelContract, check_coverage
from axlearn_core.testing.registries import isolated_registry
from axlearn_core.testing.tiny import BigramModel

RECORD = LayerRecord("scaling", f"{__name__}:Scaling", "Multiplies.")
BIGRAM = ModelRecord("bigram", "axlearn_core.testing.tiny:BigramModel", "A table.")


class Scaling(Layer):
    """y = x W, what a good layer does; the layers below each do one thing wrong."""

    def own_parameters(self):
        initializer = FanIn.default_config().instantiate()
        return {"weight": ParameterSpec((4, 2), (self.axis, "mlp"), initializer)}

    axis = "embed"

    def forward(self, x):
        return x @ self.param("weight").astype(x.dtype)


class OtherShape(Scaling):
    def initialize(self, key):
        return {"weight": jnp.ones((4, 4))}


class UnknownAxis(Scaling):
    axis = "emebd"


class Idle(Scaling):
    def forward(self, x):
        return x + 0 * self.param("weight").sum().astype(x.dtype)


class Infinite(Scaling):
    def forward(self, x):
        return x * jnp.sqrt(0 * self.param("weight").sum()).astype(x.dtype)


class Widening(Scaling):
    def forward(self, x):
        return x @ self.param("weight").astype("float32")


class Remembering(Scaling):
    """Computes something else when it is traced."""

    def forward(self, x):
        return (2 if isinstance(x, jax.core.Tracer) else 1) * super().forward(x)


class OfRows(LayerContract):
    kind = Scaling

    def config(self):
        return self.kind.default_config()

    def inputs(self, rng):
        return (rng.normal(size=(4, 3, 4)).astype(np.float32),)


class TestScaling(OfRows):
    @pytest.fixture(autouse=True)
    def registered(self):
        with isolated_registry(RECORD):
            yield


class TestBigramModel(ModelContract):
    @pytest.fixture(autouse=True)
    def registered(self):
        with isolated_registry(BIGRAM):
            yield

    def config(self):
        return BigramModel.Config(vocab_size=8)

    def inputs(self, rng):
        ids = rng.integers(0, 8, (2, 4, 6), np.int32)
        weights = rng.uniform(size=(4, 6)).astype(np.float32)
        return ({"input_ids": ids[0], "target_ids": ids[1], "target_weights": weights},)


@pytest.mark.parametrize(
    ("layer", "test"),
    [
        (OtherShape, "test_initialized_parameters_are_as_declared"),
        (UnknownAxis, "test_logical_axes_have_sharding_rules"),
        (Idle, "test_every_trainable_parameter_has_a_gradient"),
        (Infinite, "test_gradients_are_finite"),
        (Remembering, "test_compiled_equals_eager"),
        (Scaling, "test_the_registry_knows_its_name"),
    ],
)
def test_what_is_wrong_fails(layer, test):
    contract = type(f"Of{layer.__name__}", (OfRows,), {"kind": layer})()
    with pytest.raises(AssertionError), isolated_registry():
        getattr(contract, test)()


def test_an_output_wider_than_the_input_fails():
    contract = type("OfWidening", (OfRows,), {"kind": Widening})()
    with pytest.raises(AssertionError):
        contract.test_outputs_have_the_dtype_of_the_inputs("float32")


def test_an_author_is_told_what_to_define():
    with pytest.raises(NotImplementedError, match=r"Contract needs an example.*config\(self\)"):
        LayerContract().config()


def test_a_component_without_contract_is_named_with_what_to_write():
    with (
        isolated_registry(RECORD, BIGRAM),
        pytest.raises(AssertionError, match=r"1 of 2(.|\n)*class TestScaling\(LayerContract\)"),
    ):
        check_coverage("test", [TestBigramModel])


def test_coverage_counts_what_is_registered():
    with isolated_registry(RECORD, BIGRAM):
        report = check_coverage("test", [TestScaling, TestBigramModel, OfRows, 1])
    assert report == "2 of 2 components of test are under contract"
