"""The experiments as configs. That they train is shown in tests/integration and quickstart."""

import jax
import pytest

from axlearn_core.config import find, to_text
from axlearn_core.module import parameter_count
from axlearn_core.training import Trainer
from axlearn_experiments import llama_1b, llama_85m, llama_tiny, markov, quickstart
from axlearn_inputs import PackedInput, PrepareSpec
from axlearn_layers import Embedding
from axlearn_layers.families import llama

EXPERIMENTS = [quickstart, markov, llama_tiny, llama_85m, llama_1b]


def size(cfg: Trainer.Config) -> int:
    model = cfg.model.instantiate(name="model")
    jax.eval_shape(model.initialize, jax.random.key(0))  # allocates nothing
    return parameter_count(model.parameter_specs())


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda f: f.__name__)
def test_each_call_gives_a_config_of_its_own(experiment):
    first, second = experiment(), experiment()
    first.max_step = 1
    assert second.max_step != 1
    assert to_text(experiment()) == to_text(second)


def test_llama_1b_has_the_published_number_of_parameters():
    # As stated for Llama 3.2 1B, whose embedding is tied.
    assert size(llama_1b()) == 1_235_814_400


@pytest.mark.parametrize(
    ("experiment", "millions"), [(quickstart, 1.3), (llama_tiny, 10.0), (llama_85m, 135.3)]
)
def test_smaller_ones_have_the_size_that_their_page_states(experiment, millions):
    assert size(experiment()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_a_tied_model_has_one_table():
    model = llama(
        vocab_size=64, dim=8, num_layers=1, num_heads=2, num_kv_heads=1, hidden_dim=16, tied=True
    )
    assert [path for path, _ in find(model, Embedding)] == ["embedding"]


@pytest.mark.parametrize("experiment", [quickstart, llama_tiny], ids=lambda f: f.__name__)
def test_training_and_evaluation_read_the_same_prepared_data(experiment):
    sources = [
        (node.directory, node.source.seq_len)
        for _, node in find(experiment(), PackedInput)
        if isinstance(node, PackedInput.Config) and isinstance(node.source, PrepareSpec)
    ]
    assert len(sources) == 2
    assert len(set(sources)) == 1


@pytest.mark.parametrize("experiment", [quickstart, llama_tiny], ids=lambda f: f.__name__)
def test_the_model_has_an_id_for_every_token(experiment):
    cfg = experiment()
    assert cfg.model.vocab_size == cfg.input.source.tokenizer.vocab_size
