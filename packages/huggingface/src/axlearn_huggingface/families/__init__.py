"""Of each published family: the mapping of its weights."""

from axlearn_huggingface.families.bert import BERT_WEIGHTS
from axlearn_huggingface.families.deepseek import DEEPSEEK_V3_WEIGHTS
from axlearn_huggingface.families.gemma import GEMMA2_WEIGHTS, GEMMA3_WEIGHTS
from axlearn_huggingface.families.gpt2 import GPT2_WEIGHTS
from axlearn_huggingface.families.llama import LLAMA_WEIGHTS
from axlearn_huggingface.families.mamba import MAMBA2_WEIGHTS
from axlearn_huggingface.families.mixtral import MIXTRAL_WEIGHTS
from axlearn_huggingface.families.olmo import OLMO2_WEIGHTS
from axlearn_huggingface.families.phi import PHI3_WEIGHTS
from axlearn_huggingface.families.qwen import QWEN2_WEIGHTS, QWEN3_MOE_WEIGHTS, QWEN3_WEIGHTS
from axlearn_huggingface.families.t5 import T5_WEIGHTS

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
]
