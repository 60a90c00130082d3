"""Published model families: functions that return a config."""

from axlearn_layers.families.afm import afm
from axlearn_layers.families.bert import bert, bert_classifier
from axlearn_layers.families.deepseek import deepseek_v3
from axlearn_layers.families.gemma import gemma2, gemma3
from axlearn_layers.families.gpt2 import gpt2
from axlearn_layers.families.llama import llama
from axlearn_layers.families.mamba import mamba2
from axlearn_layers.families.mixtral import mixtral
from axlearn_layers.families.olmo import olmo2
from axlearn_layers.families.phi import phi3
from axlearn_layers.families.qwen import (
    qwen2,
    qwen3,
    qwen3_moe,
)
from axlearn_layers.families.t5 import t5

__all__ = [
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
