"""A checkpoint becomes a Hugging Face folder, one tensor after the other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from axlearn_core.checkpoint import CheckpointInfo
from axlearn_core.config import replace
from axlearn_core.config.edit import find
from axlearn_core.errors import UserError
from axlearn_core.plugins import get_registry
from axlearn_core.training.model import Model
from axlearn_core.training.new_run import new_directory
from axlearn_core.training.saved_run import saved_config
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_core.training.trainer import Trainer
from axlearn_huggingface.checkpoint_arrays import evaluation_parameters
from axlearn_huggingface.configs import recognise
from axlearn_huggingface.families import FAMILIES
from axlearn_huggingface.folder import INDEX, SINGLE, TEXTS
from axlearn_huggingface.scaled_embedding import scale_of, with_scaled_table, without_scale
from axlearn_huggingface.weights import LazyTensors, export_weights
from axlearn_layers.adapter import Adapter


class Published(NamedTuple):
    """A checkpoint by the names of a published family.

    Attributes:
        model_type: of the family.
        config: what its config.json holds.
        tensors: by published name, each made when it is read.
        tokenizer: what ids mean, if anything.
        notes: what users should know.
    """

    model_type: str
    config: dict[str, Any]
    tensors: LazyTensors
    tokenizer: Tokenizer | None
    notes: list[str]


def published(
    checkpoint: CheckpointInfo,
    *,
    family: str | None = None,
    dtype: str | None = None,
    max_length: int | None = None,
) -> Published:
    """Returns what a checkpoint is in a published family.

    Args:
        checkpoint: an intact one.
        family: the `model_type`; None takes the first that fits.
        dtype: of the tensors; None keeps that of the parameters.
        max_length: tokens that the model is good for; None is what its input says.

    Raises:
        UserError: if it is none of a published family.
    """
    registry = get_registry()
    trainer = saved_config(checkpoint, registry)
    model = without_adapters(trainer.model)
    scale = None
    try:
        found = recognise(FAMILIES, model, family)
    except UserError:
        if (scale := scale_of(model)) is None:
            raise
        model = without_scale(model)
        found = recognise(FAMILIES, model, family)
    parameters = evaluation_parameters(checkpoint, trainer)
    notes = []
    if scale is not None:
        parameters = with_scaled_table(parameters, scale)
        notes.append(f"the table of embeddings has their scale, {scale:.4g}, in it")
    built: Model = model.clone().instantiate(name="model")
    tensors = export_weights(found.family.weights, built, parameters)
    if found.others:
        notes.append(f"it is {', '.join(found.others)} as well: --family")
    tokenizer, why = _tokenizer(trainer)
    if tokenizer is None:
        notes.append(f"no tokenizer: {why}")
    dtype = dtype or str(next(iter(tensors.values())).dtype)
    length = max_length or found.config.get("max_position_embeddings") or _length(trainer)
    config = {
        **found.config,
        "dtype": dtype,
        "torch_dtype": dtype,  # for all that do not know the line above
        **({} if length is None else {"max_position_embeddings": length}),
        **_special_ids(tokenizer),
    }
    return Published(found.family.model_type, config, tensors.cast(dtype), tokenizer, notes)


def export_folder(
    given: Published, target: Path, *, shard_bytes: int = 2 << 30, made_for: str = "pt"
) -> int:
    """Writes a folder that `transformers` loads, and returns how many tensors it has.

    Args:
        given: what to write.
        target: a new folder.
        shard_bytes: of a file, and so of memory; a larger tensor has a file of its own.
        made_for: what the files say of themselves, "pt" or "mlx".

    Raises:
        UserError: if the folder is there already. Nothing is left if it cannot be completed.
    """
    with new_directory(target) as partial:
        _write_json(partial / "config.json", given.config)
        _copy_texts(given, partial)
        return _write_tensors(given.tensors, partial, shard_bytes, {"format": made_for})


def without_adapters(model: Model.Config) -> Model.Config:
    """Returns the config of the model into which adapters are merged."""
    plain = model.clone()
    if find(plain, Adapter):
        replace(plain, Adapter, _inner)
    return plain


def _inner(adapter: Any) -> Any:
    while isinstance(adapter, Adapter.Config):
        adapter = adapter.inner
    return adapter


def _write_tensors(
    tensors: Mapping[str, Any], folder: Path, shard_bytes: int, metadata: dict[str, str]
) -> int:
    files: list[list[str]] = []
    total = 0
    for shard in _shards(tensors, shard_bytes):
        save_file(shard, folder / f"shard-{len(files)}", metadata)
        files.append(list(shard))
        total += sum(array.nbytes for array in shard.values())
    weight_map = {}
    for number, names in enumerate(files):
        name = f"model-{number + 1:05d}-of-{len(files):05d}.safetensors"
        (folder / f"shard-{number}").rename(folder / (SINGLE if len(files) == 1 else name))
        weight_map.update(dict.fromkeys(names, name))
    if len(files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        _write_json(folder / INDEX, index)
    return len(weight_map)


def _shards(tensors: Mapping[str, Any], most: int) -> Iterator[dict[str, Any]]:
    shard: dict[str, Any] = {}
    size = 0
    for name in tensors:
        array = np.ascontiguousarray(tensors[name])
        if shard and size + array.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = array
        size += array.nbytes
    yield shard


def _copy_texts(given: Published, folder: Path) -> None:
    path = tokenizer_folder(given.tokenizer)
    for name in TEXTS:
        if path is not None and (path / name).is_file():
            shutil.copyfile(path / name, folder / name)
    ids = {name: value for name, value in given.config.items() if name.endswith("_token_id")}
    if not (folder / "generation_config.json").exists() and ids:
        _write_json(folder / "generation_config.json", ids)


def tokenizer_folder(tokenizer: Tokenizer | None) -> Path | None:
    """Returns the folder of a tokenizer's files, if it has some."""
    path = None if tokenizer is None else getattr(tokenizer.config, "path", None)
    if path is None:
        return None
    return Path(path) if Path(path).is_dir() else Path(path).parent


def _tokenizer(trainer: Trainer.Config) -> tuple[Tokenizer | None, str]:
    try:
        found = trainer.input.instantiate().tokenizer()
    except UserError as error:  # data that are not here
        return None, str(error)
    return found, "the run's input has none"


def _length(trainer: Trainer.Config) -> int | None:
    """Returns the tokens of a row of the input, or what it says of the model."""
    if (length := getattr(trainer.input, "max_length", None)) is not None:
        return int(length)
    try:
        shapes = trainer.input.instantiate().batch_shape()
        return int(shapes["input_ids"][0][1])
    except (UserError, LookupError):
        return None


def _special_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Null where there is none, since transformers would take a default that may be no id."""
    if tokenizer is None:
        return dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    ends = [int(end) for end in tokenizer.end_ids if end >= 0]
    return {
        "bos_token_id": tokenizer.bos_id if tokenizer.bos_id >= 0 else None,
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "pad_token_id": tokenizer.pad_id if tokenizer.pad_id >= 0 else None,
    }


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
