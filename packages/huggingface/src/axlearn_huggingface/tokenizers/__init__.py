"""Tokenizers of published models, and one that is trained."""

from axlearn_huggingface.tokenizers.byte_pair import BytePairTrainer
from axlearn_huggingface.tokenizers.errors import TokenizerError
from axlearn_huggingface.tokenizers.hugging_face import HuggingFaceTokenizer
from axlearn_huggingface.tokenizers.tiktoken import TiktokenTokenizer

__all__ = ["BytePairTrainer", "HuggingFaceTokenizer", "TiktokenTokenizer", "TokenizerError"]
