"""BERT and T5 compute what transformers computes with the same weights, in float32."""

import jax
import numpy as np
import pytest
import tokenizers
import torch
import transformers as hf

from axlearn_core import _plugin as core
from axlearn_core.cli.main import main
from axlearn_core.testing.registries import isolated_registry
from axlearn_huggingface import _plugin as huggingface
from axlearn_huggingface import families as weights
from axlearn_huggingface.importing import import_folder
from axlearn_inference import LanguageModel, Request, Sampling, complete
from axlearn_inference import _plugin as inference
from axlearn_layers import _plugin as layers
from axlearn_layers import families as ours

VOCAB, DIM, LAYERS, HEADS, HIDDEN, CLASSES = 101, 48, 3, 6, 80, 5
LENGTH, MEMORY, END = 21, 30, 1
PLUGINS = (core, huggingface, inference, layers)


def bert_sizes():
    sizes = {"vocab_size": VOCAB, "dim": DIM, "num_layers": LAYERS, "num_heads": HEADS}
    return sizes | {"hidden_dim": HIDDEN, "max_length": 40, "eps": 1e-3}


def bert_config(**fields):
    return hf.BertConfig(
        vocab_size=VOCAB,
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        max_position_embeddings=40,
        layer_norm_eps=1e-3,
        pad_token_id=None,  # whose vector torch would not train
        initializer_range=0.2,
        **fields,
    )


def masked_lm():
    return ours.bert(**bert_sizes()), hf.BertForMaskedLM, bert_config(), weights.BERT_WEIGHTS


def classifier():
    cfg = ours.bert_classifier(**bert_sizes(), num_classes=CLASSES)
    theirs = hf.BertForSequenceClassification
    return cfg, theirs, bert_config(num_labels=CLASSES), weights.BERT_WEIGHTS


def t5_sizes():
    sizes = {"vocab_size": VOCAB, "dim": DIM, "num_layers": LAYERS, "num_heads": HEADS}
    return sizes | {"head_dim": 10, "hidden_dim": HIDDEN, "num_decoder_layers": 2}


def t5_config(**fields):
    return hf.T5Config(
        vocab_size=VOCAB,
        d_model=DIM,
        num_layers=LAYERS,
        num_decoder_layers=2,
        num_heads=HEADS,
        d_kv=10,
        d_ff=HIDDEN,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=20,
        initializer_factor=1.0,
        decoder_start_token_id=0,
        **fields,
    )


def t5_buckets():
    return {"num_buckets": 8, "max_distance": 20}


def t5_first():
    cfg = ours.t5(**t5_sizes(), **t5_buckets(), gated=False, tied=True)
    config = t5_config(feed_forward_proj="relu", tie_word_embeddings=True)
    return cfg, hf.T5ForConditionalGeneration, config, weights.T5_WEIGHTS


def t5_second():
    cfg = ours.t5(**t5_sizes(), **t5_buckets())
    config = t5_config(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    return cfg, UntiedT5, config, weights.T5_WEIGHTS


class UntiedT5(hf.T5ForConditionalGeneration):
    """With a head of its own, as in files of version 1.1; transformers 5 ties what it builds."""

    def __init__(self, config):
        super().__init__(config)
        self.lm_head.weight = torch.nn.Parameter(0.2 * torch.randn(VOCAB, DIM))


UntiedT5.__name__ = hf.T5ForConditionalGeneration.__name__  # which its config.json says


def made(family, make_pair, tmp_path_factory):
    return make_pair(*family(), tmp_path_factory.mktemp(family.__name__))


@pytest.fixture(scope="module")
def bert(make_pair, tmp_path_factory):
    return made(masked_lm, make_pair, tmp_path_factory)


@pytest.fixture(scope="module")
def bert_classifier(make_pair, tmp_path_factory):
    return made(classifier, make_pair, tmp_path_factory)


@pytest.fixture(scope="module", params=[t5_first, t5_second], ids=["t5-1.0", "t5-1.1"])
def t5(request, make_pair, tmp_path_factory):
    return made(request.param, make_pair, tmp_path_factory)


def bert_batch():
    rng = np.random.default_rng(0)
    real = np.arange(LENGTH) < np.array([[LENGTH], [13]])
    ids, types = rng.integers(0, VOCAB, (2, LENGTH)), rng.integers(0, 2, (2, LENGTH))
    ours_ = {"input_ids": ids, "token_types": types, "segment_ids": real.astype(np.int32)}
    theirs = {"input_ids": ids, "token_type_ids": types, "attention_mask": real.astype(np.int64)}
    return ours_, {name: torch.as_tensor(value) for name, value in theirs.items()}, real


def t5_batch():
    rng = np.random.default_rng(0)
    real = np.arange(MEMORY) < np.array([[MEMORY], [17]])
    memory, ids = rng.integers(0, VOCAB, (2, MEMORY)), rng.integers(0, VOCAB, (2, LENGTH))
    ours_ = {"encoder_ids": memory, "encoder_segment_ids": real.astype(np.int32), "input_ids": ids}
    theirs = {
        "input_ids": memory,
        "attention_mask": real.astype(np.int64),
        "decoder_input_ids": ids,
    }
    return ours_, {name: torch.as_tensor(value) for name, value in theirs.items()}


def test_bert_logits_are_equal_with_padding_and_token_types(bert):
    batch, theirs, real = bert_batch()
    with torch.no_grad():
        expected = bert.theirs(**theirs).logits.numpy()
    assert expected.std() > 0.5
    np.testing.assert_allclose(bert.logits(batch)[real], expected[real], atol=1e-4)


def test_bert_classes_are_equal_with_padding(bert_classifier):
    batch, theirs, _ = bert_batch()
    with torch.no_grad():
        expected = bert_classifier.theirs(**theirs).logits.numpy()
    np.testing.assert_allclose(bert_classifier.logits(batch), expected, atol=1e-4)


def test_t5_logits_are_equal_with_a_padded_encoder(t5):
    batch, theirs = t5_batch()
    with torch.no_grad():
        expected = t5.theirs(**theirs, use_cache=False).logits.numpy()
    assert expected.std() > 0.5
    np.testing.assert_allclose(t5.logits(batch), expected, atol=1e-4)


def test_t5_decodes_what_transformers_decodes(t5):
    _, theirs = t5_batch()
    real = theirs["attention_mask"].sum(1)
    prompts = [tuple(row[:n].tolist()) for row, n in zip(theirs["input_ids"], real, strict=True)]
    model = LanguageModel("t5", t5.ours, t5.state, None, "float32", VOCAB)
    inputs = {name: theirs[name] for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 8, "eos_token_id": END, "pad_token_id": 0, "do_sample": False}

    greedy = Sampling(temperature=0, repetition_penalty=1.5)
    found = complete(model, [Request(each, 8, greedy, end_ids=(END,)) for each in prompts])
    expected = t5.theirs.generate(**inputs, **options, repetition_penalty=1.5)
    assert [each.ids for each in found] == [until_end(row) for row in expected]


def until_end(row):
    """The ids after the start id, up to the end id, behind which there is padding."""
    ids = row[1:].tolist()
    return ids[: ids.index(END) + 1] if END in ids else ids


def test_an_imported_t5_answers_a_text(make_pair, tmp_path_factory, capfd):
    pair = made(t5_first, make_pair, tmp_path_factory)
    folder, run = pair.directory / "published", pair.directory / "run"
    tokenizer = words()
    tokenizer.save_pretrained(folder)
    inputs = tokenizer("w9 w17 w40", return_tensors="pt")
    assert inputs["input_ids"].tolist() == [[9, 17, 40, END]]
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": END, "num_beams": 3}
    ids = pair.theirs.generate(**inputs, **options)
    plugins = {each.__name__.partition(".")[0]: each for each in PLUGINS}
    with isolated_registry(**plugins):
        import_folder(folder, run)
        asked = ["generate", str(run), "w9 w17 w40", "--beam", "3", "--max-tokens", "8"]
        assert main(asked) == 0
    said, _ = capfd.readouterr()
    assert said.strip() == tokenizer.decode(ids[0], skip_special_tokens=True)


def words():
    """A tokenizer with a word for each id, which puts the end id after a text, as T5's does."""
    names = ["<pad>", "</s>", "<unk>", *(f"w{i}" for i in range(3, VOCAB))]
    vocab = {name: i for i, name in enumerate(names)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", END)]
    )
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **special)


def test_gradients_of_t5_are_equal(t5):
    batch, theirs = t5_batch()
    targets = np.random.default_rng(1).integers(0, VOCAB, (2, LENGTH))
    batch |= {"target_ids": targets, "target_weights": np.ones((2, LENGTH), np.float32)}
    jax.tree.map(compare, *t5.gradients(batch, theirs | {"use_cache": False}))


def test_gradients_of_bert_are_equal(bert):
    batch, theirs, real = bert_batch()
    targets = np.random.default_rng(1).integers(0, VOCAB, (2, LENGTH))
    batch |= {"target_ids": targets, "target_weights": real.astype(np.float32)}
    jax.tree.map(compare, *bert.gradients(batch, theirs))


def compare(ours_, theirs):
    scale = np.abs(theirs).max()
    assert scale > 0
    np.testing.assert_allclose(ours_ / scale, theirs / scale, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "auto"),
    [
        (masked_lm, hf.AutoModelForMaskedLM),
        (classifier, hf.AutoModelForSequenceClassification),
        (t5_first, hf.AutoModelForSeq2SeqLM),
        (t5_second, hf.AutoModelForSeq2SeqLM),
    ],
)
def test_a_folder_goes_in_and_comes_out_as_the_same_model(
    family, auto, make_pair, tmp_path_factory
):
    pair = made(family, make_pair, tmp_path_factory)
    again = pair.out_and_in_again(auto)
    expected, found = pair.theirs.state_dict(), again.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    ids = torch.as_tensor(np.random.default_rng(0).integers(0, VOCAB, (2, LENGTH)))
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if "t5" in family.__name__ else {})
    with torch.no_grad():
        # They may add in another order where a model has a config of its own.
        np.testing.assert_allclose(again(**inputs).logits, pair.theirs(**inputs).logits, atol=1e-5)
