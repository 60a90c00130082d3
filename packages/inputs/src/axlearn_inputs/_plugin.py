"""What this package provides."""

from collections.abc import Sequence

from axlearn_core.plugins import (
    CommandRecord,
    DataSourceRecord,
    DocumentSourceRecord,
    PreprocessorRecord,
    TokenizerRecord,
    hookimpl,
)


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
            "documents",
            "axlearn_inputs.document_input:DocumentInput",
            "Text as it comes: read, filtered, tokenized and packed while training.",
        ),
        DataSourceRecord(
            "mixture",
            "axlearn_inputs.mixture:MixtureInput",
            "Rows of several inputs by weights, which may change at a step.",
        ),
        DataSourceRecord(
            "synthetic",
            "axlearn_inputs.synthetic:SyntheticInput",
            "Tokens of a random Markov chain: no files, and something to learn.",
        ),
    ]


@hookimpl
def axlearn_document_sources() -> Sequence[DocumentSourceRecord]:
    """Sources of documents."""
    return [
        DocumentSourceRecord(
            "jsonl",
            "axlearn_inputs.sources.lines:JsonLines",
            "An object of JSON per line; also .gz and .zst.",
        ),
        DocumentSourceRecord(
            "text-lines",
            "axlearn_inputs.sources.lines:TextLines",
            "A document per line of text; also .gz and .zst.",
        ),
        DocumentSourceRecord(
            "text-files",
            "axlearn_inputs.sources.text_files:TextFiles",
            "A document per file.",
        ),
        DocumentSourceRecord(
            "parquet",
            "axlearn_inputs.sources.parquet:Parquet",
            "A document per row of Parquet files.",
        ),
        DocumentSourceRecord(
            "hugging-face",
            "axlearn_inputs.sources.hugging_face:HuggingFaceDataset",
            "A dataset that Hugging Face datasets has saved.",
        ),
        DocumentSourceRecord(
            "seqio",
            "axlearn_inputs.sources.seqio_task:SeqioTask",
            "The text of a seqio task or mixture.",
        ),
    ]


@hookimpl
def axlearn_preprocessors() -> Sequence[PreprocessorRecord]:
    """Filters and packers."""
    return [
        PreprocessorRecord(
            "length",
            "axlearn_inputs.filters.length:LengthFilter",
            "Drops documents by their number of words.",
        ),
        PreprocessorRecord(
            "characters",
            "axlearn_inputs.filters.characters:CharacterFilter",
            "Drops what is no prose, by ratios of characters.",
        ),
        PreprocessorRecord(
            "repetition",
            "axlearn_inputs.filters.repetition:RepetitionFilter",
            "Drops documents that repeat themselves.",
        ),
        PreprocessorRecord(
            "exact-duplicates",
            "axlearn_inputs.filters.exact_duplicates:ExactDuplicates",
            "Drops documents that were there before.",
        ),
        PreprocessorRecord(
            "near-duplicates",
            "axlearn_inputs.filters.near_duplicates:NearDuplicates",
            "Drops documents like earlier ones, by MinHash.",
        ),
        PreprocessorRecord(
            "decontamination",
            "axlearn_inputs.filters.decontamination:Decontamination",
            "Drops documents that hold the text of evaluations.",
        ),
        PreprocessorRecord(
            "best-fit",
            "axlearn_inputs.packers.best_fit:BestFitPacker",
            "Packs documents whole; some places stay empty.",
        ),
        PreprocessorRecord(
            "concatenate",
            "axlearn_inputs.packers.concatenate:ConcatenatingPacker",
            "Cuts documents where a row is full.",
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
        ),
        CommandRecord("tokenizer", "axlearn_inputs.tokenizer_cli:tokenizer", "Train a tokenizer."),
    ]
