"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import TokenizerRecord, hookimpl


@hookimpl
def axlearn_tokenizers() -> Sequence[TokenizerRecord]:
    """Tokenizers."""
    return [
        TokenizerRecord(
            "huggingface",
            "axlearn_huggingface.tokenizers.hugging_face:HuggingFaceTokenizer",
            "A published model's, from its folder or tokenizer.json.",
        ),
        TokenizerRecord(
            "tiktoken",
            "axlearn_huggingface.tokenizers.tiktoken:TiktokenTokenizer",
            "Byte pairs by a given file of ranks.",
        ),
        TokenizerRecord(
            "bpe",
            "axlearn_huggingface.tokenizers.byte_pair:BytePairTrainer",
            "Byte pairs, trained on the text that is being prepared.",
        ),
    ]
