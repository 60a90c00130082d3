"""A checkpoint's model, ready to generate: its parameters, and nothing else of the train state."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp

from axlearn_core.checkpoint import CheckpointInfo, choose
from axlearn_core.checkpoint.checkpointer import restore_part
from axlearn_core.config import ConfigError, apply_overrides
from axlearn_core.errors import UserError
from axlearn_core.module import Module, flatten_paths, functional
from axlearn_core.module.parameters import ParameterSpecs, map_specs
from axlearn_core.parallel import Placement, infer_mesh_shape, make_mesh
from axlearn_core.parallel.sharding import axes_of, partition_spec
from axlearn_core.plugins import get_registry
from axlearn_core.training.compile_cache import use_compile_cache
from axlearn_core.training.learner import Learner
from axlearn_core.training.model import Model
from axlearn_core.training.precision import check_dtype
from axlearn_core.training.saved_run import saved_config
from axlearn_core.training.state import Tree, merge_trees, split_trainable
from axlearn_core.training.step import cast_floats
from axlearn_core.training.tokenizer import Tokenizer
from axlearn_core.training.trainer import Trainer, learner_of
from axlearn_inference.model import EncoderDecoding, Generating, LanguageModel
from axlearn_inference.unrolling import unrolled

_logger = logging.getLogger(__name__)


def load(
    directory: Path,
    *,
    step: int | None = None,
    overrides: Sequence[str] = (),
    dtype: str | None = None,
) -> LanguageModel:
    """Returns the model of a run's checkpoint; see `load_checkpoint`.

    Args:
        directory: of the run.
        step: of the checkpoint; None takes the newest intact one.
        overrides, dtype: as `load_checkpoint` takes them.

    Raises:
        UserError: if there is no such checkpoint, or it cannot be used.
    """
    checkpoint, damaged = choose(directory, step)
    assert checkpoint is not None  # choose raises
    for bad in damaged:
        _logger.warning("the checkpoint of step %d is damaged: %s", bad.step, bad.problem)
    return load_checkpoint(checkpoint, overrides=overrides, dtype=dtype)


def load_checkpoint(
    checkpoint: CheckpointInfo, *, overrides: Sequence[str] = (), dtype: str | None = None
) -> LanguageModel:
    """Returns the model of a checkpoint, on this process's devices.

    Of the checkpoint only parameters are read, already in the dtype in which the model computes,
    and what the learner needs of its state to give the weights that it evaluates with.

    They are split over the devices as the config's mesh splits them. Where the devices do not
    suffice, one is used, unless the overrides ask for that mesh.
    Mesh axes that split no parameter have size 1: a mesh for data alone is one device.

    Args:
        checkpoint: an intact one.
        overrides: `path=value` words for the run's config, such as
            `model.**.cache=inference/paged` or `mesh_shape={"model": 4}`.
        dtype: in which to compute; None is the config's.

    Raises:
        UserError: if the config or the arrays cannot be read, or the model cannot generate.
    """
    registry = get_registry()
    config = apply_overrides(saved_config(checkpoint, registry), overrides, resolve=registry.lookup)
    assert isinstance(config, Trainer.Config)
    use_compile_cache(config.compile_cache)
    model: Model = config.model.instantiate(name="model")
    if not isinstance(model, Generating):
        raise ConfigError(
            f"{type(model).__qualname__} cannot generate: it has no init_cache and extend "
            "(see axlearn_inference.Generating)"
        )
    check_dtype("dtype", dtype)
    dtype = dtype or config.compute_dtype or model.config.dtype
    specs = model.parameter_specs()
    asked = any(word.startswith("mesh_shape") for word in overrides)
    placement = _placement(config, specs, or_one=not asked)
    variables = _variables(checkpoint.path, config, specs, placement, dtype)
    loaded = LanguageModel(
        name=checkpoint.path.parents[1].resolve().name,
        module=model,
        variables=variables,
        tokenizer=_tokenizer(config),
        dtype=dtype,
        vocab_size=_vocab_size(model, variables, dtype),
        placement=placement if placement.mesh.size > 1 else None,
        max_length=getattr(config.input, "max_length", None),  # of a model that was imported
    )
    return unrolled(loaded)


def _vocab_size(model: Generating, variables: Tree, dtype: str) -> int:
    def scores(variables: Tree) -> jax.Array:
        inputs = (jnp.zeros((1, 1), jnp.int32), model.init_cache(1, 1, dtype))
        method = "prefill" if isinstance(model, EncoderDecoding) else "extend"
        (logits, _), _ = functional(
            cast(Module, model), state=variables, prng_key=None, inputs=inputs, method=method
        )
        return cast(jax.Array, logits)

    return int(jax.eval_shape(scores, variables).shape[-1])


def _tokenizer(config: Trainer.Config) -> Tokenizer | None:
    """Returns the input's tokenizer. Ids need none, so that what is missing is but a warning."""
    try:
        tokenizer: Tokenizer | None = config.input.instantiate().tokenizer()
    except (UserError, OSError, ImportError) as error:
        _logger.warning("there is no tokenizer, so ids stand for no text: %s", error)
        return None
    return tokenizer


def _placement(config: Trainer.Config, specs: ParameterSpecs, *, or_one: bool) -> Placement:
    rules, devices = config.sharding_rules, jax.local_devices()
    used = {
        axis
        for spec in flatten_paths(specs).values()
        for entry in partition_spec(spec.axes, rules)
        for axis in axes_of(entry)
    }
    try:
        shape = infer_mesh_shape(config.mesh_shape, len(devices))
    except ConfigError:  # the mesh of a larger machine
        if not or_one:
            raise
        shape = {}
    kept = {axis: size for axis, size in shape.items() if axis in used}
    return Placement(make_mesh(kept, devices), rules)


def _variables(
    folder: Path, config: Trainer.Config, specs: ParameterSpecs, placement: Placement, dtype: str
) -> Tree:
    """Reads all parameters, cast to a dtype, but those that keep their precision."""
    structs = map_specs(
        lambda spec: jax.ShapeDtypeStruct(
            spec.shape, spec.dtype, sharding=placement.sharding(*spec.axes)
        ),
        specs,
    )
    params, module_state = split_trainable(structs, specs)
    evaluation = _Evaluation(learner_of(config, specs), params, placement)

    def cast(tree: Tree) -> Tree:
        return cast_floats(tree, specs, dtype)

    if evaluation.is_plain:
        narrow = jax.tree.map(
            lambda x, small: jax.ShapeDtypeStruct(x.shape, small.dtype, sharding=x.sharding),
            params,
            jax.eval_shape(cast, params),
        )
        held = restore_part(folder, {"params": narrow, "module_state": module_state})
        return merge_trees(held["params"], held["module_state"])
    held = restore_part(folder, {**evaluation.wanted, "module_state": module_state})
    shardings = jax.tree.map(lambda x: x.sharding, params)
    evaluated = jax.jit(
        lambda params, learner: cast(evaluation.params(params, learner)), out_shardings=shardings
    )(held["params"], held["learner"])
    return merge_trees(evaluated, held["module_state"])


class _Evaluation:
    """What a learner's `evaluation_params` reads: for a mean of weights, not the weights.

    Attributes:
        wanted: the arrays that it reads, `params` and `learner`, with None for the others.
        is_plain: whether it returns the parameters as they are.
    """

    def __init__(self, learner: Learner, params: Tree, placement: Placement):
        self._learner = learner
        self._all = (params, _placed_state(learner, params, placement))
        traced = jax.make_jaxpr(learner.evaluation_params)(*self._all).jaxpr
        read = {id(x) for equation in traced.eqns for x in equation.invars}
        read |= {id(x) for x in traced.outvars}
        leaves, tree = jax.tree.flatten(self._all)
        kept = [
            struct if id(x) in read else None
            for struct, x in zip(leaves, traced.invars, strict=True)
        ]
        wanted = jax.tree.unflatten(tree, kept)
        self.wanted: dict[str, Any] = {"params": wanted[0], "learner": wanted[1]}
        count = len(jax.tree.leaves(params))
        self.is_plain = [*map(id, traced.outvars)] == [*map(id, traced.invars[:count])]

    def params(self, params: Tree, learner: Any) -> Tree:
        """Calls it with what is `wanted`, and with zeros for what it does not read."""

        def filled(struct: jax.ShapeDtypeStruct, x: jax.Array | None) -> jax.Array:
            return jnp.zeros(struct.shape, struct.dtype) if x is None else x

        whole = jax.tree.map(filled, self._all, (params, learner), is_leaf=lambda x: x is None)
        return self._learner.evaluation_params(*whole)


def _placed_state(learner: Learner, params: Tree, placement: Placement) -> Any:
    structs = jax.eval_shape(learner.init, params)
    leaves, tree = jax.tree.flatten(structs)
    axes = cast(Any, tree).flatten_up_to(learner.state_axes())
    placed = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement.sharding(*names))
        for x, names in zip(leaves, axes, strict=True)
    ]
    return jax.tree.unflatten(tree, placed)
