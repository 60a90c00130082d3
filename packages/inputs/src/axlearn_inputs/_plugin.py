"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import CommandRecord, DataSourceRecord, TokenizerRecord, hookimpl


@hookimpl
def axlearn_data_sources() -> Sequence[DataSourceRecord]:
    """Data sources."""
    return [
        DataSourceRecord(
            "packed",
            "axlearn_inputs.packed:PackedInput",
            "Prepared text: packed rows from disk, with exact resume.",
        ),
        DataSourceRecord(
            "synthetic",
            "axlearn_inputs.synthetic:SyntheticInput",
            "Tokens of a random Markov chain: no files, and something to learn.",
        ),
    ]


@hookimpl
def axlearn_tokenizers() -> Sequence[TokenizerRecord]:
    """Tokenizers."""
    return [
        TokenizerRecord(
            "byte", "axlearn_inputs.tokenizers.byte:ByteTokenizer", "A token per byte of UTF-8."
        ),
        TokenizerRecord(
            "sentencepiece",
            "axlearn_inputs.tokenizers.sentence_piece:SentencePieceTrainer",
            "Subwords, trained on the text that is being prepared.",
        ),
        TokenizerRecord(
            "sentencepiece-model",
            "axlearn_inputs.tokenizers.sentence_piece:SentencePieceTokenizer",
            "Subwords by a given SentencePiece model file.",
        ),
    ]


@hookimpl
def axlearn_commands() -> Sequence[CommandRecord]:
    """Sub-commands of axl."""
    return [
        CommandRecord(
            "data",
            "axlearn_inputs.cli:data",
            "Prepare training data, and look at what was prepared.",
        )
    ]
