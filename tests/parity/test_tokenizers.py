"""Tokenizers give the ids and the text that transformers gives from the same folder."""

import json

import pytest
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from axlearn_huggingface.tokenizers import BytePairTrainer, HuggingFaceTokenizer
from axlearn_inputs.corpora import moby_dick

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from(" \n\t019<|im_start>"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    trainer = BytePairTrainer.Config(vocab_size=600, chatml=True, special_tokens=("<|tool|>",))
    trainer.instantiate().train(moby_dick.chapters()[:4], directory)
    return directory


@pytest.fixture(scope="module")
def both(folder):
    ours = HuggingFaceTokenizer.Config(path=str(folder)).instantiate()
    return ours, hf.PreTrainedTokenizerFast.from_pretrained(folder)


@settings(deadline=None, max_examples=200)
@given(text=TEXTS)
def test_any_text_has_the_same_ids(both, text):
    ours, theirs = both
    assert ours.encode(text).tolist() == theirs.encode(text, split_special_tokens=True)
    marked = ours.encode_markup(text).tolist()
    assert marked == theirs.encode(text)
    assert ours.decode(marked) == theirs.decode(marked, skip_special_tokens=True)


def test_a_chapter_has_the_same_ids(both):
    ours, theirs = both
    chapter = moby_dick.chapters()[7]
    assert ours.encode(chapter).tolist() == theirs.encode(chapter)


def test_chats_are_written_with_the_same_special_tokens(both):
    ours, theirs = both
    assert ours.chat_template == theirs.chat_template
    assert (ours.eos_id, ours.pad_id) == (theirs.eos_token_id, theirs.pad_token_id)
    messages = [{"role": "user", "content": "Thar she blows <|tool|>"}]
    text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert ours.encode_markup(text).tolist() == list(ids)


def test_what_transformers_saves_is_read_alike(both, tmp_path):
    ours, theirs = both
    theirs.save_pretrained(tmp_path)
    again = HuggingFaceTokenizer.Config(path=str(tmp_path)).instantiate()
    text = "the whale <|tool|> in 1851\n"
    assert again.encode(text).tolist() == ours.encode(text).tolist()
    assert again.encode_markup(text).tolist() == ours.encode_markup(text).tolist()
    assert again.chat_template == ours.chat_template


@pytest.mark.parametrize("adds", [True, False])
def test_a_bos_is_what_transformers_adds(folder, tmp_path, adds):
    content = json.loads((folder / "tokenizer.json").read_text())
    if adds:
        name = "<|im_start|>"
        here = {"Sequence": {"id": "A", "type_id": 0}}
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": name, "type_id": 0}}, here],
            "pair": [here, here],
            "special_tokens": {name: {"id": name, "ids": [2], "tokens": [name]}},
        }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    config = {"eos_token": "<|im_end|>", "bos_token": "<|im_start|>", "add_bos_token": not adds}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = HuggingFaceTokenizer.Config(path=str(tmp_path)).instantiate()
    theirs = hf.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    bos = [ours.bos_id] if ours.bos_id >= 0 else []
    assert bos == ([2] if adds else [])
    assert [*bos, *ours.encode("a whale").tolist()] == theirs.encode("a whale")
