"""A Hugging Face folder becomes the directory of a run, one tensor after the other."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from axlearn_core.config import ConfigBase, apply_overrides, visit
from axlearn_core.module import Layer
from axlearn_core.plugins import get_registry
from axlearn_core.training.learner import Frozen
from axlearn_core.training.model import Model
from axlearn_core.training.new_run import Parameter, new_directory, write_run
from axlearn_core.training.saved_run import IN_RUN
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_core.training.trainer import Trainer
from axlearn_huggingface.configs import Family, family_named
from axlearn_huggingface.families import FAMILIES
from axlearn_huggingface.folder import TEXTS, Folder
from axlearn_huggingface.pretrained import Pretrained
from axlearn_huggingface.weights import WeightMapping, WeightsError, imported

TOKENIZER = "tokenizer"  # the folder in that of a run
_SENTENCE_PIECE = {"tokenizer.model", "spiece.model"}
_READER = "sentencepiece-model"  # of axlearn-inputs, where that is installed
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Imported(NamedTuple):
    """What was made.

    Attributes:
        model_type: of the model there.
        dtype: of the parameters.
        texts: names of the files that were copied.
        tokenizer: whether ids have a meaning.
    """

    model_type: str
    dtype: str
    texts: list[str]
    tokenizer: bool


def import_folder(
    source: Path,
    directory: Path,
    *,
    dtype: str | None = None,
    ignore: Collection[str] = (),
    overrides: Sequence[str] = (),
) -> Imported:
    """Makes the directory of a run at step 0, with a checkpoint of a published model.

    Args:
        source: the folder; see `Folder`.
        directory: a new one.
        dtype: of the parameters; None keeps that of the tensors.
        ignore: fields of config.json to pass over.
        overrides: `path=value` words for the trainer's config, such as a mesh.

    Raises:
        UserError: for a folder that cannot be read, or a model that our layers do not compute.
            Nothing is left then.
    """
    folder = Folder(source)
    family = family_of(folder.config)
    dtype = dtype or kept_dtype(folder.dtypes())
    model = with_dtype(family.model(folder.config, ignore), dtype)
    texts = [name for name in TEXTS if (source / name).exists()]
    registry = get_registry()
    config: ConfigBase = Trainer.default_config().set(
        model=model,
        learner=Frozen.default_config(),
        input=Pretrained.default_config().set(
            tokenizer=tokenizer_config(texts),
            max_length=folder.config.get("max_position_embeddings"),
        ),
        max_step=1,
    )
    config = apply_overrides(config, overrides, resolve=registry.lookup)
    trainer: Trainer = config.instantiate()
    with new_directory(directory) as partial, folder.tensors() as tensors:
        (partial / TOKENIZER).mkdir()
        for name in texts:
            shutil.copyfile(folder.file(name), partial / TOKENIZER / name)
        parameters = _parameters(family.weights, trainer.model, tensors)
        write_run(partial, trainer, parameters, changes=[f"imported from {source.name}"])
    return Imported(family.model_type, dtype, texts, trainer.config.input.tokenizer is not None)


def family_of(config: dict[str, Any]) -> Family:
    """Returns the family of a config.json.

    Raises:
        WeightsError: if there is none here.
    """
    names = config.get("architectures") or [None]
    return family_named(FAMILIES, str(config.get("model_type")), names[0])


def kept_dtype(found: Collection[str]) -> str:
    """Returns the dtype that holds every number of tensors of these dtypes.

    Raises:
        WeightsError: for quantised ones, and those of 64 bits.
    """
    if strange := set(found) - _DTYPES.keys():
        raise WeightsError(
            f"the tensors are {', '.join(sorted(strange))}; {', '.join(_DTYPES)} can be kept, and "
            "what is quantised is not read. For others say what to make of them: --dtype float32"
        )
    return _DTYPES[next(iter(found))] if len(set(found)) == 1 else "float32"


def with_dtype(model: Model.Config, dtype: str) -> Model.Config:
    """Returns the config with parameters of a dtype."""

    def set_dtype(path: str, node: ConfigBase) -> None:
        if isinstance(node, Layer.Config):
            node.dtype = dtype

    visit(model, set_dtype)
    return model


def tokenizer_config(texts: Collection[str]) -> Tokenizer.Config | None:
    """Returns what reads the tokenizer's files in the directory of a run; None if there is none."""
    registry = get_registry()
    if "tokenizer.json" in texts or {"vocab.json", "merges.txt"} <= set(texts):
        cls, path = registry.tokenizer("axlearn-huggingface/huggingface"), f"{IN_RUN}{TOKENIZER}"
    elif (models := sorted(_SENTENCE_PIECE & set(texts))) and registry.resolve(_READER):
        cls, path = registry.tokenizer(_READER), f"{IN_RUN}{TOKENIZER}/{models[0]}"
    else:
        return None
    return cast(Tokenizer.Config, cls.default_config().set(path=path))


def _parameters(mapping: WeightMapping, model: Layer, tensors: Any) -> Iterator[Parameter]:
    for parameter, array in imported(mapping, model, tensors):
        yield parameter.path, parameter.indices, array
