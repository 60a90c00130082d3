"""What every layer keeps to, and that none is forgotten."""

from axlearn_core.testing.contracts import LayerContract, check_coverage
from axlearn_layers.testing import SequenceContract

from acme_attention import DifferentialAttention, XPos

SIZES = {"input_dim": 8, "num_heads": 8, "num_kv_heads": 4, "head_dim": 4}


class TestDifferentialAttention(SequenceContract):
    def config(self):
        return DifferentialAttention.Config(qkv=XPos.default_config(), **SIZES)


class TestXPos(LayerContract):
    def config(self):
        return XPos.Config(**SIZES)

    def inputs(self, rng):
        positions = rng.integers(50, size=(4, 6)).astype("int32")
        return rng.normal(size=(4, 6, 8)).astype("float32"), positions


def test_every_component_is_under_contract():
    check_coverage("acme-attention", globals().values())
