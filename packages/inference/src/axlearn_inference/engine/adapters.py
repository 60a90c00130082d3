"""LoRA adapters by name, of which each row of a batch may use another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace as with_fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from axlearn_core.checkpoint import choose, parameters_of, read_array, read_manifest
from axlearn_core.config import ConfigError, replace
from axlearn_core.errors import UserError
from axlearn_core.module import Layer, Module, ParameterSpec, flatten_paths, nest_paths
from axlearn_core.module.context import Tree
from axlearn_core.plugins import get_registry
from axlearn_core.training.saved_run import saved_config
from axlearn_core.training.state import split_trainable
from axlearn_core.training.trainer import Trainer, learner_of
from axlearn_inference.model import Generating, LanguageModel
from axlearn_inference.unrolling import unrolled, unrolled_config, unrolled_state
from axlearn_layers import LoRA, MultiLoRA, Projection
from axlearn_layers.adapter import Adapter

_logger = logging.getLogger(__name__)


class _Loaded(NamedTuple):
    place: int
    version: bytes  # never that of another adapter, nor of an earlier one of this name


class Adapters:
    """A fixed number of places around every projection of a model, filled by name.

    Loading and unloading replaces arrays in place, so nothing is compiled again. See `MultiLoRA`
    for what a row costs.

    Attributes:
        model: with the places, all empty.
        variables: of the model as it is now.

    Args:
        model: without adapters, or with such that all requests use.
        places: how many adapters there may be at a time.
        rank: the highest of any of them; lower ones are filled up by zeros.
    """

    def __init__(self, model: LanguageModel, *, places: int = 4, rank: int = 16):
        if places < 1:
            raise ConfigError(f"places (={places}) must be at least 1")
        # The caller keeps its own tree of the same arrays.
        model = unrolled(with_fields(model, variables=jax.tree.map(lambda x: x, model.variables)))
        cfg = cast(Module, model.module).config.clone()
        around = partial(MultiLoRA.default_config().set, num_adapters=places, rank=rank)
        # Each adapter's own alpha / rank goes into its B.
        replace(cfg, Projection, lambda old: around(inner=old, alpha=float(rank)))
        module: Layer = cfg.instantiate()
        self._specs: Tree = module.parameter_specs()
        self.variables: Tree = _wrapped(module, model.variables, self._specs, model)
        self.model = with_fields(model, module=cast(Generating, module), variables=self.variables)
        self._rank = rank
        self._projections = dict(_within(module, MultiLoRA))
        self._free = list(reversed(range(places)))
        self._loaded: dict[str, _Loaded] = {}
        self._versions = 0

    @property
    def names(self) -> list[str]:
        """Those that are loaded."""
        return sorted(self._loaded)

    def place(self, name: str | None) -> int:
        """Returns the place of an adapter, -1 for none: an entry of `adapter_ids`.

        Raises:
            UserError: if no adapter of this name is loaded.
        """
        return -1 if name is None else self._find(name).place

    def version(self, name: str) -> bytes:
        """Returns what names its weights; see `page_key`.

        Raises:
            UserError: if no adapter of this name is loaded.
        """
        return self._find(name).version

    def load_run(self, name: str, directory: Path, *, step: int | None = None) -> None:
        """Loads the adapter that a run has trained, of its newest intact checkpoint.

        Raises:
            UserError: if there is none, or its model has other adapters than LoRA.
        """
        checkpoint = choose(directory, step).info
        assert checkpoint is not None  # choose raises
        config = saved_config(checkpoint, get_registry())
        module = config.model.instantiate(name="model")
        arrays = parameters_of(read_manifest(checkpoint.path).arrays)
        wanted = [f"{path}.{own}" for path, _ in _within(module, Adapter) for own in ("a", "b")]
        if others := sorted(_trained(config, module) - set(wanted)):
            _logger.warning(
                "the run of adapter %s has trained %s and %d others besides, which stay here: it "
                "does not answer as its run does (freeze them there: docs/serving.md)",
                name,
                others[0],
                len(others) - 1,
            )
        held = {name: arrays[name] for name in wanted if name in arrays}
        self.load(name, module, {n: read_array(checkpoint.path, i) for n, i in held.items()})

    def load(self, name: str, module: Module, arrays: Mapping[str, Any]) -> None:
        """Loads an adapter into a free place.

        Args:
            name: by which requests ask for it.
            module: a model like this one, with `LoRA` around any of its projections.
            arrays: their A and B by path, such as "stack.layer.feed_forward.output.a".

        Raises:
            UserError: if the name is taken, no place is free, or it does not fit this model.
        """
        if name in self._loaded:
            raise UserError(f"an adapter {name!r} is loaded already; unload it first")
        if not self._free:
            raise UserError(
                f"all places are taken, by {', '.join(self.names)}; unload one of them first"
            )
        changes = self._changes(module, arrays)  # raises before anything is changed
        place = self._free.pop()
        self._versions += 1
        self._loaded[name] = _Loaded(place, f"{name}:{self._versions}".encode())
        for path in self._projections:
            a, b = changes.get(path, (None, None))
            self._set(path, "a", place, a)
            self._set(path, "b", place, b)

    def unload(self, name: str) -> None:
        """Frees a place. `Engine.unload` refuses while requests use it.

        Raises:
            UserError: if no adapter of this name is loaded.
        """
        self._free.append(self._find(name).place)
        del self._loaded[name]

    def _find(self, name: str) -> _Loaded:
        found = self._loaded.get(name)
        if found is None:
            there = f"loaded are {', '.join(self.names)}" if self._loaded else "none is loaded"
            raise UserError(f"there is no adapter {name!r}; {there}")
        return found

    def _changes(
        self, module: Module, arrays: Mapping[str, Any]
    ) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """Returns A and B of each projection that is changed, as they go into a place."""
        changes = {}
        paths = {path.replace(".", "/"): array for path, array in arrays.items()}
        state = unrolled_state(module, nest_paths(paths))
        module = unrolled_config(module.config).instantiate(name=module.name)
        for path, lora in _within(module, Adapter):
            if type(lora) is not LoRA:
                raise UserError(
                    f"{path} is a {type(lora).__name__}; only LoRA can be one of several, so merge "
                    "this one (merge_adapters) and serve the model that it gives"
                )
            if path not in self._projections:
                raise UserError(f"the adapter changes {path}, which {self.model.name} has not")
            own = _at(state, path)
            if "a" not in own or "b" not in own:
                raise UserError(f"the adapter's arrays lack {path}.a or {path}.b")
            if lora.config.rank > self._rank:
                raise UserError(
                    f"{path} has rank {lora.config.rank}, and places are for a rank of at most "
                    f"{self._rank}; raise that (--adapter-rank)"
                )
            a, b = np.asarray(own["a"]), np.asarray(own["b"])
            changes[path] = self._fitted(path, "a", a), self._fitted(path, "b", b * lora.scale)
        if not changes:
            raise UserError(f"{type(module).__name__} has no LoRA around any of its projections")
        return changes

    def _fitted(self, path: str, own: str, array: NDArray[Any]) -> NDArray[Any]:
        """Fills the rank up by zeros."""
        shape = list(_at(self._specs, path)[own].shape)
        del shape[self._axis(path, own)]
        rank_axis = len(shape) - 1 if own == "a" else self._axis(path, own)
        padding = [(0, 0)] * array.ndim
        if array.ndim == len(shape):
            padding[rank_axis] = (0, self._rank - array.shape[rank_axis])
        padded = np.pad(array, padding)
        if list(padded.shape) != shape:
            raise UserError(
                f"{path}.{own} has shape {array.shape}, and {self.model.name} needs {tuple(shape)}"
            )
        return padded

    def _axis(self, path: str, own: str) -> int:
        """Returns the axis of the places, which those of stacked layers go before."""
        alone = self._projections[path].own_parameters()[own].shape
        return len(_at(self._specs, path)[own].shape) - len(alone)

    def _set(self, path: str, own: str, place: int, array: NDArray[Any] | None) -> None:
        tree, axis = _at(self.variables, path), self._axis(path, own)
        leaf: jax.Array = tree[own]
        new = np.zeros(leaf.shape[:axis] + leaf.shape[axis + 1 :]) if array is None else array
        where = leaf.sharding
        tree[own] = jax.device_put(_put(leaf, place, jnp.asarray(new, leaf.dtype), axis), where)


@partial(jax.jit, static_argnums=3, donate_argnums=0)
def _put(leaf: jax.Array, place: int, new: jax.Array, axis: int) -> jax.Array:
    changed: jax.Array = jax.lax.dynamic_update_index_in_dim(leaf, new, place, axis)
    return changed


def _wrapped(module: Module, state: Tree, specs: Tree, model: LanguageModel) -> Tree:
    """Returns the parameters of a model with empty places around its projections."""
    if isinstance(module, MultiLoRA):
        own = {name: _empty(specs[name], model) for name in module.own_parameters()}
        return {**own, "inner": state}
    return {
        name: _wrapped(module.children[name], value, specs[name], model)
        if name in module.children
        else value
        for name, value in state.items()
    }


def _trained(config: Trainer.Config, module: Layer) -> set[str]:
    """Returns the paths of what a run's learner changes."""
    specs = module.parameter_specs()
    params, _ = split_trainable(specs, specs)
    trained = learner_of(config, specs).trained(params)
    return {path.replace("/", ".") for path in flatten_paths(trained)}


def _empty(spec: ParameterSpec, model: LanguageModel) -> jax.Array:
    where = None if model.placement is None else model.placement.sharding(*spec.axes)
    return jnp.zeros(spec.shape, model.dtype, device=where)


def _within(module: Module, kind: type[Module], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the outermost modules of a kind, and their paths below the root."""
    for name, child in module.children.items():
        here = f"{path}.{name}" if path else name
        if isinstance(child, kind):
            yield here, child
        else:
            yield from _within(child, kind, here)


def _at(tree: Tree, path: str) -> Tree:
    """Returns the part of a tree below a path; nothing if it has none."""
    for name in path.split("."):
        tree = tree.get(name, {})
    return tree
