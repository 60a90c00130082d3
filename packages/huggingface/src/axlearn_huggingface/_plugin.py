"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import CommandRecord, DataSourceRecord, TokenizerRecord, hookimpl


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


@hookimpl
def axlearn_commands() -> Sequence[CommandRecord]:
    """Commands."""
    where = "axlearn_huggingface.cli"
    return [
        CommandRecord("import", f"{where}.importing:import_group", "Take published weights in."),
        CommandRecord("export", f"{where}.exporting:export_group", "Give weights to others."),
    ]


@hookimpl
def axlearn_data_sources() -> Sequence[DataSourceRecord]:
    """Data sources."""
    return [
        DataSourceRecord(
            "pretrained",
            "axlearn_huggingface.pretrained:Pretrained",
            "The tokenizer of an imported model, and no batches.",
        ),
    ]
