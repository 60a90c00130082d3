"""What of a model's config says what it computes, however its layers are arranged."""

from __future__ import annotations

import math
import re

from axlearn_core.config import ConfigBase
from axlearn_core.config.text import flat
from axlearn_layers import LayerList, Pipeline, Repeat
from axlearn_layers.adapter import Adapter

# What changes how fast a model computes, how it is trained or how it starts, and not its function.
_BESIDES = re.compile(
    r"(.*\.)?(initializer|dtype|kernel|remat|cache|loss|dropout|chunk_size|axis"
    r"|balance_loss_scale|balance_over|z_loss_scale)(\..*)?"
)


def flattened(cfg: ConfigBase) -> ConfigBase:
    """Returns the config with each stack as a flat list of its layers, without adapters."""
    new = cfg.clone()
    for name, value in cfg.items():
        if isinstance(value, ConfigBase):
            setattr(new, name, _flattened(value))
    return new


def _flattened(cfg: ConfigBase) -> ConfigBase:
    if isinstance(cfg, Adapter.Config):
        return _flattened(cfg.inner)
    layers = _layers(cfg)
    if layers == [cfg]:
        return flattened(cfg)
    return LayerList.default_config().set(layers=[flattened(layer) for layer in layers])


def _layers(cfg: ConfigBase) -> list[ConfigBase]:
    if isinstance(cfg, (Repeat.Config, Pipeline.Config)):
        return _layers(cfg.layer) * cfg.num_layers
    if isinstance(cfg, LayerList.Config):
        return [layer for each in cfg.layers for layer in _layers(each)]
    return [cfg]


def values(flattened_cfg: ConfigBase) -> dict[str, str]:
    """Returns what the model computes, as values by path."""
    return {
        path: "set" if path.endswith("bias_rate") and value != "null" else value
        for path, value in flat(flattened_cfg).items()
        if not _BESIDES.fullmatch(path)
    }


def differences(ours: dict[str, str], other: dict[str, str]) -> list[str]:
    """Returns lines that say where two models compute something else."""
    return [
        f"{path}: {ours.get(path, '(absent)')}, there {other.get(path, '(absent)')}"
        for path in sorted(ours.keys() | other.keys())
        if not _same(ours.get(path), other.get(path))
    ]


def _same(one: str | None, other: str | None) -> bool:
    if one == other:
        return True
    try:
        return math.isclose(float(one or ""), float(other or ""), rel_tol=1e-9)
    except ValueError:
        return False
