"""The features: what each claims to change, and how it comes to be installed."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from axlearn_core.config import Configurable
from axlearn_core.plugins import PluginError, Registry, discover, use_registry
from axlearn_core.testing.distributions import write_metadata
from axlearn_core.training import Trainer
from axlearn_layers import AttentionLayer, FeedForward, Linear, Norm, Projection, RotaryFrequencies
from axlearn_learners import Optimizer
from modularity.lines import count

FOLDER = Path(__file__).parent / "features"
SNIPPET = "snippet.py"
Apply = Callable[[Trainer.Config], Trainer.Config]


class Feature(NamedTuple):
    """A plugin, and what must be true of an experiment that it was brought to.

    Attributes:
        package: its folder, which is its import name.
        title: for people.
        old: what must be gone, all of it; None where nothing is swapped.
        new: what stands in its place, "module:Class" of the plugin.
        wraps: whether the old may stay within the new.
        sets: fields of the trainer that it changes.
        host: the variable that tells a host with its hardware.
        recomputes: layers that compute the same in another way.
        loss: by how much the first loss may be another, relative to the one without the feature;
            0 is the same bits, None is anything else than the same.
        folder: where features are.
    """

    package: str
    title: str
    old: type[Configurable] | None = None
    new: str | None = None
    wraps: bool = False
    sets: tuple[str, ...] = ()
    host: tuple[str, str] | None = None
    recomputes: type[Configurable] | None = None
    loss: float | None = None
    folder: Path = FOLDER

    @property
    def path(self) -> Path:
        return self.folder / self.package

    @property
    def distribution(self) -> str:
        return self.package.replace("_", "-")

    def new_kind(self) -> Any:
        """Imports what the feature adds."""
        assert self.new is not None
        module, _, name = self.new.partition(":")
        return getattr(importlib.import_module(f"{self.package}.{module}"), name)

    def apply(self) -> Apply:
        """Imports the snippet that brings the feature to one experiment."""
        module = importlib.import_module(f"{self.package}.{Path(SNIPPET).stem}")
        apply: Apply = module.apply
        return apply

    def snippet_lines(self) -> int:
        return count(self.path / SNIPPET)

    def plugin_lines(self) -> int:
        return sum(count(file) for file in self.path.glob("*.py") if file.name != SNIPPET)


FEATURES = (
    Feature("p_rope", "RoPE -> p-RoPE", RotaryFrequencies, "frequencies:PRoPE"),
    Feature("switch_experts", "dense -> experts", FeedForward, "experts:SwitchExperts"),
    Feature("online_softmax", "attention kernel", recomputes=AttentionLayer, loss=1e-5),
    Feature("dynamic_tanh", "normalisation", Norm, "norm:DynamicTanh"),
    Feature(
        "rank_stabilized_lora",
        "LoRA everywhere",
        Projection,
        "adapter:RankStabilizedLoRA",
        wraps=True,
    ),
    Feature("cautious_adamw", "optimizer", Optimizer, "optimizer:CautiousAdamW", loss=0.0),
    Feature("int8_linear", "int8 dot product", Linear, "linear:Int8Linear"),
    Feature(
        "acme_chips",
        "hardware target",
        sets=("mesh_shape",),
        host=("ACME_CHIPS", "8"),
        loss=0.0,
    ),
)


@contextlib.contextmanager
def installed(feature: Feature) -> Iterator[Registry]:
    """Within the block the feature's plugin is discovered, by an entry point like any other's."""
    with tempfile.TemporaryDirectory() as metadata:
        write_metadata(Path(metadata), feature.distribution, requires=["axlearn-core>=0.1"])
        added = [str(feature.folder), metadata]
        sys.path[:0] = added
        importlib.invalidate_caches()
        try:
            registry = Registry(discover())
            states = {plugin.distribution: plugin for plugin in registry.plugins}
            if states[feature.distribution].status != "ok":
                raise PluginError(str(states[feature.distribution].problem))
            with use_registry(registry):
                yield registry
        finally:
            for path in added:
                sys.path.remove(path)
