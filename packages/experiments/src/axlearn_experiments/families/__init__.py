"""Published model families: a function that returns a config, and a mapping of the weights."""

from axlearn_experiments.families.afm import afm
from axlearn_experiments.families.bert import BERT_WEIGHTS, bert, bert_classifier
from axlearn_experiments.families.deepseek import DEEPSEEK_V3_WEIGHTS, deepseek_v3
from axlearn_experiments.families.gemma import GEMMA2_WEIGHTS, GEMMA3_WEIGHTS, gemma2, gemma3
from axlearn_experiments.families.gpt2 import GPT2_WEIGHTS, gpt2
from axlearn_experiments.families.llama import LLAMA_WEIGHTS, llama
from axlearn_experiments.families.mamba import MAMBA2_WEIGHTS, mamba2
from axlearn_experiments.families.mixtral import MIXTRAL_WEIGHTS, mixtral
from axlearn_experiments.families.olmo import OLMO2_WEIGHTS, olmo2
from axlearn_experiments.families.phi import PHI3_WEIGHTS, phi3
from axlearn_experiments.families.qwen import (
    QWEN2_WEIGHTS,
    QWEN3_MOE_WEIGHTS,
    QWEN3_WEIGHTS,
    qwen2,
    qwen3,
    qwen3_moe,
)
from axlearn_experiments.families.t5 import T5_WEIGHTS, t5

__all__ = [
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
    "afm",
    "bert",
    "bert_classifier",
    "deepseek_v3",
    "gemma2",
    "gemma3",
    "gpt2",
    "llama",
    "mamba2",
    "mixtral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "t5",
]
