"""What this package provides. It imports nothing heavy: every `axl` command reads it."""

from axlearn_core.plugins import DataSourceRecord, TokenizerRecord, hookimpl


@hookimpl
def axlearn_data_sources() -> list[DataSourceRecord]:
    return [
        DataSourceRecord(
            "sums",
            "acme_sums.sums:Sums",
            "Sums such as 34+8=42, of which the answers are to be learned.",
        ),
    ]


@hookimpl
def axlearn_tokenizers() -> list[TokenizerRecord]:
    return [
        TokenizerRecord(
            "alphabet",
            "acme_sums.tokenizer:AlphabetTokenizer",
            "A token per character of a closed alphabet.",
        ),
    ]
