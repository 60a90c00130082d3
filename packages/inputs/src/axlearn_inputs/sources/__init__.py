"""Where documents come from."""

from axlearn_inputs.sources.by_name import ENDS, source_of_files
from axlearn_inputs.sources.files import FileSource
from axlearn_inputs.sources.hugging_face import HuggingFaceDataset
from axlearn_inputs.sources.lines import JsonLines, LineSource, TextLines
from axlearn_inputs.sources.parquet import Parquet
from axlearn_inputs.sources.seqio_task import SeqioTask
from axlearn_inputs.sources.source import DocumentError, DocumentSource, Found, Position
from axlearn_inputs.sources.text_files import TextFiles

__all__ = [
    "ENDS",
    "DocumentError",
    "DocumentSource",
    "FileSource",
    "Found",
    "HuggingFaceDataset",
    "JsonLines",
    "LineSource",
    "Parquet",
    "Position",
    "SeqioTask",
    "TextFiles",
    "TextLines",
    "source_of_files",
]
