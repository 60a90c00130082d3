"""Of each published family: its `config.json` and the mapping of its weights."""

from axlearn_huggingface.families.bert import BERT, BERT_CLASSIFIER, BERT_WEIGHTS
from axlearn_huggingface.families.deepseek import DEEPSEEK_V3, DEEPSEEK_V3_WEIGHTS
from axlearn_huggingface.families.gemma import GEMMA2, GEMMA2_WEIGHTS, GEMMA3, GEMMA3_WEIGHTS
from axlearn_huggingface.families.gpt2 import GPT2, GPT2_WEIGHTS
from axlearn_huggingface.families.llama import LLAMA, LLAMA_WEIGHTS, MISTRAL
from axlearn_huggingface.families.mamba import MAMBA2, MAMBA2_WEIGHTS
from axlearn_huggingface.families.mixtral import MIXTRAL, MIXTRAL_WEIGHTS
from axlearn_huggingface.families.olmo import OLMO2, OLMO2_WEIGHTS
from axlearn_huggingface.families.phi import PHI3, PHI3_WEIGHTS
from axlearn_huggingface.families.qwen import (
    QWEN2,
    QWEN2_WEIGHTS,
    QWEN3,
    QWEN3_MOE,
    QWEN3_MOE_WEIGHTS,
    QWEN3_WEIGHTS,
)
from axlearn_huggingface.families.t5 import T5, T5_WEIGHTS

FAMILIES = (
    LLAMA,
    MISTRAL,
    MIXTRAL,
    QWEN2,
    QWEN3,
    QWEN3_MOE,
    GEMMA2,
    GEMMA3,
    OLMO2,
    PHI3,
    DEEPSEEK_V3,
    GPT2,
    MAMBA2,
    BERT,
    BERT_CLASSIFIER,
    T5,
)
"""Of those that fit a model, the first counts."""

__all__ = [
    "FAMILIES",
    "BERT",
    "BERT_CLASSIFIER",
    "DEEPSEEK_V3",
    "GEMMA2",
    "GEMMA3",
    "GPT2",
    "LLAMA",
    "MISTRAL",
    "MAMBA2",
    "MIXTRAL",
    "OLMO2",
    "PHI3",
    "QWEN2",
    "QWEN3",
    "QWEN3_MOE",
    "T5",
    "BERT_WEIGHTS",
    "DEEPSEEK_V3_WEIGHTS",
    "GEMMA2_WEIGHTS",
    "GEMMA3_WEIGHTS",
    "GPT2_WEIGHTS",
    "LLAMA_WEIGHTS",
    "MAMBA2_WEIGHTS",
    "MIXTRAL_WEIGHTS",
    "OLMO2_WEIGHTS",
    "PHI3_WEIGHTS",
    "QWEN2_WEIGHTS",
    "QWEN3_MOE_WEIGHTS",
    "QWEN3_WEIGHTS",
    "T5_WEIGHTS",
]
