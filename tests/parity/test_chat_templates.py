"""Prompts of chat templates, beside those of transformers."""

import numpy as np
import pytest
import tokenizers
import transformers

from axlearn_core.training.tokenizer import Tokenizer
from axlearn_inference.chat import ChatTemplate

NAMES = ["<|begin|>", "<|im_start|>", "<|im_end|>"]
TEMPLATES = {
    "white space": """
    {% for message in messages %}
        {%- if loop.first and tools %}
            {{- bos_token }}
            {% for tool in tools %}
    {{ tool | tojson }}
            {% endfor %}
        {% endif %}
<|im_start|>{{ message['role'] | capitalize }}: {{ message.content | trim }}<|im_end|>
    {% endfor %}
    {% if add_generation_prompt %}<|im_start|>{% endif %}""",
    "loops": """{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}\
{% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages[::-1] %}\
{% if loop.index > 2 %}{% break %}{% endif %}{{ ns.last ~ m.content.split('?')[0] }}{% endfor %}\
{{ {'b': 1, 'a': [true, none, 'é<']} | tojson(indent=4) }}""",
    "macros": """{% macro turn(role, text) %}{{ '<|im_start|>' + role + text }}{% endmacro %}\
{% for m in messages %}{{ turn(m.role, m.content) }}{{ eos_token if eos_token is defined else '' }}\
{% endfor %}{% generation %}end{% endgeneration %}""",
}
MESSAGES = [
    {"role": "system", "content": "  Be | brief.\n"},
    {"role": "user", "content": "Is 3 < 4 & 'x' > \"é\"?"},
    {"role": "assistant", "content": "<think>hm</think>Yes|no"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def theirs():
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE({letter: i for i, letter in enumerate(alphabet)}, [])
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(NAMES)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=NAMES[0], eos_token=NAMES[2]
    )


@pytest.fixture(scope="module")
def ours(theirs):
    class Same(Tokenizer):
        class Config(Tokenizer.Config):
            """Nothing to choose."""

        vocab_size, bos_id, eos_id, pad_id = len(theirs), 256, 258, 258
        special_tokens = {"bos_token": NAMES[0], "eos_token": NAMES[2]}
        special_names = NAMES

        def encode(self, text):
            return self.encode_markup(text)

        def encode_markup(self, text):
            return np.array(theirs(text, add_special_tokens=False)["input_ids"])

        def decode(self, ids):
            return theirs.decode(ids)

        def fingerprint(self):
            return "same"

    return Same.default_config().instantiate()


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("tools", [[], TOOLS])
def test_prompts_are_those_of_transformers(theirs, ours, name, tools):
    template = TEMPLATES[name]
    expected = theirs.apply_chat_template(
        MESSAGES,
        tools=tools or None,
        chat_template=template,
        add_generation_prompt=True,
        return_dict=False,
    )
    assert ChatTemplate(template, ours).encode(MESSAGES, tools) == expected
