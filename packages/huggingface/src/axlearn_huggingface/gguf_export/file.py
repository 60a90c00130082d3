"""Writes a GGUF file: metadata, then one tensor after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from axlearn_core.errors import UserError
from axlearn_huggingface.exporting import Published
from axlearn_huggingface.gguf_export.metadata import frequency_factors, of_decoder
from axlearn_huggingface.gguf_export.models import GGUFModel, gguf_model
from axlearn_huggingface.gguf_export.vocabulary import vocabulary
from axlearn_huggingface.weights.axes import Array

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
_OF_DTYPE = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_ROUTER = "gate.weight"  # which stays as exact as vectors: it chooses
_BLOCK = 32  # numbers of a row that Q8_0 gives one scale; rows of other lengths stay F16


def export_gguf(given: Published, target: Path, *, kind: str | None = None) -> list[str]:
    """Writes a GGUF file, and returns what users should know of it.

    Args:
        given: what to write.
        target: a new file.
        kind: of matrices, one of TYPES; None keeps their dtype. Vectors are float32.

    Raises:
        UserError: for a family or a tokenizer that llama.cpp has not, or a file that is there.
            Nothing is left if it cannot be completed.
    """
    try:
        import gguf
    except ImportError as error:
        raise UserError("gguf is not installed: pip install 'axlearn-huggingface[gguf]'") from error
    if target.exists():
        raise UserError(f"{target} is there already; choose another name, or delete it")
    model = gguf_model(given.model_type, given.config)
    kind = kind or _OF_DTYPE[given.config["dtype"]]
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    writer = gguf.GGUFWriter(partial, model.architecture)
    try:
        notes = _add_metadata(writer, model, given, kind)
        tensors = _Tensors(model, given, gguf.GGMLQuantizationType[TYPES[kind]])
        for name, array, quantization in tensors.described():
            writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes, quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for array in tensors.made():
            writer.write_tensor_data(array)
        writer.close()
        partial.rename(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return [*given.notes, *notes]


class _Tensors:
    """The tensors in one order, first what they are and then their numbers."""

    def __init__(self, model: GGUFModel, given: Published, quantization: GGMLQuantizationType):
        from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

        self._model, self._config, self._quantization = model, given.config, quantization
        self._tensors = model.layout(given.tensors, given.config)
        arch = {name: number for number, name in MODEL_ARCH_NAMES.items()}[model.architecture]
        assert isinstance(arch, MODEL_ARCH)
        self._names = get_tensor_name_map(arch, given.config["num_hidden_layers"])
        self._extra = frequency_factors(given.config)

    def described(self) -> Iterator[tuple[str, Array, GGMLQuantizationType]]:
        """Yields the name, an array of the shape and dtype, and the kind of each."""
        for name, shape in self._tensors.shapes.items():
            # Broadcast: it has a shape and takes no memory.
            numbers = np.broadcast_to(np.zeros((), np.float32), shape)
            quantization = self._of(name, shape)
            yield self._name(name), _shaped(numbers, quantization), quantization
        for name, array in self._extra.items():
            yield name, array, self._of(name, array.shape)

    def made(self) -> Iterator[Array]:
        """Yields their numbers."""
        from gguf.quants import quantize

        for name, shape in self._tensors.shapes.items():
            tensor = self._model.convert(name, self._tensors[name], self._config)
            numbers = np.ascontiguousarray(tensor, np.float32)
            yield quantize(numbers, self._of(name, shape))
        yield from self._extra.values()

    def _name(self, name: str) -> str:
        if name == "lm_head.weight":
            return "output.weight"
        found = self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UserError(f"llama.cpp's {self._model.architecture} has no tensor for {name}")
        return found

    def _of(self, name: str, shape: tuple[int, ...]) -> GGMLQuantizationType:
        from gguf import GGMLQuantizationType

        if len(shape) < 2 or name.endswith(_ROUTER):
            return GGMLQuantizationType.F32
        if self._quantization == GGMLQuantizationType.Q8_0 and shape[-1] % _BLOCK:
            return GGMLQuantizationType.F16
        return self._quantization


def _shaped(numbers: Array, quantization: GGMLQuantizationType) -> Any:
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    if quantization == GGMLQuantizationType.F32:
        return numbers
    if quantization == GGMLQuantizationType.F16:
        return np.broadcast_to(np.zeros((), np.float16), numbers.shape)
    shape = quant_shape_to_byte_shape(numbers.shape, quantization)
    return np.broadcast_to(np.zeros((), np.uint8), shape)


def _add_metadata(writer: GGUFWriter, model: GGUFModel, given: Published, kind: str) -> list[str]:
    from gguf import LlamaFileType

    writer.add_file_type(LlamaFileType[_FILE_TYPES[kind]])
    for key, value in (of_decoder(given.config) | model.more(given.config)).items():
        add = _ADD[type(value)]
        getattr(writer, add)(f"{model.architecture}.{key}", value)
    return vocabulary(given.tokenizer, given.config["vocab_size"]).write(writer)


_ADD = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string"}
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
