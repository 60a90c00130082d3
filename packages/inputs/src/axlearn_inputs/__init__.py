"""Sources of text, filters, tokenizers, packing, mixtures and exactly resumable iterators."""

from axlearn_inputs.document_input import DocumentInput
from axlearn_inputs.filters import (
    CharacterFilter,
    Decontamination,
    DocumentFilter,
    ExactDuplicates,
    LengthFilter,
    NearDuplicates,
    RepetitionFilter,
)
from axlearn_inputs.manifest import Manifest, PreparedDataError, load_manifest
from axlearn_inputs.mixture import MixtureInput
from axlearn_inputs.packed import PackedInput
from axlearn_inputs.packers import BestFitPacker, ConcatenatingPacker, Packer
from axlearn_inputs.prepare import prepare
from axlearn_inputs.row_input import RowInput
from axlearn_inputs.rows import batch_shape, empty_batch, fill_row
from axlearn_inputs.sources import (
    DocumentError,
    DocumentSource,
    HuggingFaceDataset,
    JsonLines,
    Parquet,
    SeqioTask,
    TextFiles,
    TextLines,
)
from axlearn_inputs.spec import PrepareSpec
from axlearn_inputs.synthetic import SyntheticInput
from axlearn_inputs.tokenizers import (
    ByteTokenizer,
    SentencePieceTokenizer,
    SentencePieceTrainer,
    Tokenizer,
    TokenizerTrainer,
)

__all__ = [
    "BestFitPacker",
    "ByteTokenizer",
    "CharacterFilter",
    "ConcatenatingPacker",
    "Decontamination",
    "DocumentError",
    "DocumentFilter",
    "DocumentInput",
    "DocumentSource",
    "ExactDuplicates",
    "HuggingFaceDataset",
    "JsonLines",
    "LengthFilter",
    "Manifest",
    "MixtureInput",
    "NearDuplicates",
    "PackedInput",
    "Packer",
    "Parquet",
    "PrepareSpec",
    "PreparedDataError",
    "RepetitionFilter",
    "RowInput",
    "SentencePieceTokenizer",
    "SentencePieceTrainer",
    "SeqioTask",
    "SyntheticInput",
    "TextFiles",
    "TextLines",
    "Tokenizer",
    "TokenizerTrainer",
    "batch_shape",
    "empty_batch",
    "fill_row",
    "load_manifest",
    "prepare",
]
