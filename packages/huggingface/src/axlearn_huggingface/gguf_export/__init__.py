"""GGUF files, which llama.cpp and its kin read."""

from axlearn_huggingface.gguf_export.file import export_gguf

__all__ = ["export_gguf"]
