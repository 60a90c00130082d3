"""That the experiment has the parts of all three plugins, and learns with them."""

import json

import pytest
from acme_attention import DifferentialAttention, XPos
from acme_optimizers import CautiousAdamW, SquareRootCooldown
from acme_sums import AlphabetTokenizer, Sums
from axlearn_core.config import find
from axlearn_layers import Attention, Rotary

from acme_experiments import sums

PARTS = [
    DifferentialAttention,
    XPos,
    CautiousAdamW,
    SquareRootCooldown,
    Sums,
    AlphabetTokenizer,
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_it_has_a_part_of_each_plugin(part):
    assert find(sums(), part)


@pytest.mark.parametrize("part", [Attention, Rotary], ids=lambda part: part.__name__)
def test_no_old_part_is_left(part):
    assert not find(sums(), part)


def test_the_loss_falls(tmp_path):
    cfg = sums().set(max_step=20, log_every=1, compile_cache=None, evaluations={})
    cfg.instantiate().run(tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.5 * losses[0]
