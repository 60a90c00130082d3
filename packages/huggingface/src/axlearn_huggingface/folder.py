"""A Hugging Face folder: what its files say, and its tensors, each read when it is asked for.

Nothing in it is trusted: no pickle is loaded, no code is run, and no name leads out of it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from axlearn_huggingface.weights import LazyTensors, WeightsError

SINGLE = "model.safetensors"
INDEX = f"{SINGLE}.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TEXTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
"""Files that say what ids mean, and how to continue a text."""


class Folder:
    """A folder in the layout of `save_pretrained`.

    Attributes:
        path: where it is.
        config: what its config.json holds.
        files: the file of each tensor, by name.

    Raises:
        WeightsError: unless it has a config.json and safetensors.
    """

    def __init__(self, path: Path):
        if not path.is_dir():
            raise WeightsError(
                f"there is no folder {path}. Nothing is downloaded here; `hf download` does that"
            )
        if not (path / "config.json").exists():
            raise WeightsError(f"{path} lacks config.json, so it is no folder of a published model")
        self.path = path
        self.config = self.read_json("config.json")
        self.files = self._indexed() if (path / INDEX).exists() else self._single()

    def file(self, name: str) -> Path:
        """Returns the path of a file in the folder.

        Raises:
            WeightsError: if it is not there, or not in the folder. A link may lead to the blobs of
                the cache that the folder is in.
        """
        path = self.path / name
        if name != Path(name).name or "\\" in name or "\0" in name:
            raise WeightsError(f"{name!r} is not the name of a file in {self.path}")
        if not path.is_file():
            raise WeightsError(f"{self.path} lacks {name}")
        inside = [self.path.resolve()]
        if self.path.resolve().parent.name == "snapshots":
            inside.append(self.path.resolve().parents[1] / "blobs")
        if path.resolve().parent not in inside:
            raise WeightsError(f"{path} is a link to a file outside of {self.path}")
        return path

    def read_json(self, name: str) -> dict[str, Any]:
        """Returns what a file holds.

        Raises:
            WeightsError: if it is no object of JSON.
        """
        path = self.file(name)
        try:
            data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{path} is no JSON as it should be: {error}") from error
        if not isinstance(data, dict):
            raise WeightsError(f"{path} must hold a JSON object")
        return data

    @contextlib.contextmanager
    def tensors(self) -> Iterator[LazyTensors]:
        """Yields the tensors, which can be read within the block.

        Raises:
            WeightsError: for a file that is damaged, lacks a tensor or holds another file's.
        """
        with contextlib.ExitStack() as stack:
            opened = {name: stack.enter_context(_opened(name)) for name in set(self.files.values())}
            for path, file in opened.items():
                _check(path, set(file.keys()), {n for n, p in self.files.items() if p == path})
            yield LazyTensors(
                {
                    name: partial(_read, opened[path], path, name)
                    for name, path in self.files.items()
                }
            )

    def dtypes(self) -> set[str]:
        """Returns the names of its tensors' dtypes as safetensors has them, such as BF16."""
        found = set()
        for path in set(self.files.values()):
            with _opened(path) as file:
                found |= {str(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
        return found

    def _single(self) -> dict[str, Path]:
        if not (self.path / SINGLE).exists():
            pickles = sorted(p.name for pattern in _PICKLES for p in self.path.glob(pattern))
            if pickles:
                raise WeightsError(_of_pickles(self.path, pickles))
            raise WeightsError(f"{self.path} has neither {SINGLE} nor {INDEX}")
        path = self.file(SINGLE)
        with _opened(path) as file:
            return dict.fromkeys(file.keys(), path)

    def _indexed(self) -> dict[str, Path]:
        weight_map = self.read_json(INDEX).get("weight_map")
        if not (isinstance(weight_map, dict) and weight_map):
            raise WeightsError(f"{self.path / INDEX} has no weight_map")
        if bad := [name for name in weight_map.values() if not isinstance(name, str)]:
            raise WeightsError(f"{self.path / INDEX} names {bad[0]!r}, which is no file")
        files = {name: self.file(name) for name in dict.fromkeys(weight_map.values())}
        return {tensor: files[name] for tensor, name in weight_map.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        file = safe_open(path, "numpy")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged, or no safetensors: {error}") from error
    with file as entered:
        yield entered


def _read(file: Any, path: Path, name: str) -> Any:
    try:
        return file.get_tensor(name)
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise WeightsError(f"{name} of {path} cannot be read: {error}") from error


def _check(path: Path, held: set[str], named: set[str]) -> None:
    if missing := sorted(named - held):
        raise WeightsError(f"{path} lacks {missing[0]}, which {INDEX} says is there")
    if spare := sorted(held - named):
        raise WeightsError(
            f"{path} holds {spare[0]}, which {INDEX} does not name, or names in another file"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice")
    return found


def _of_pickles(path: Path, pickles: list[str]) -> str:
    return (
        f"{path} has its weights in {pickles[0]}, which is a pickle: loading one may run anything, "
        "so none is loaded here. Where you trust it, let transformers write safetensors, and "
        "import those:\n  python -c 'from transformers import AutoModelForCausalLM as M; "
        f'M.from_pretrained("{path}", dtype="auto").save_pretrained("{path}-safetensors")\'\n'
        f"  cp {path}/*.json {path}/*.txt {path}/*.model {path}-safetensors  # the tokenizer's"
    )
