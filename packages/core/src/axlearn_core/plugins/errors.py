"""What can be wrong with plugins. Each message names the plugin and says what to do."""

from __future__ import annotations

from axlearn_core.errors import UserError


class PluginError(UserError):
    """A plugin, or what was asked of the plugins, does not make sense."""


class RecordError(PluginError):
    """A record that a plugin announces is malformed."""


class UnknownComponentError(PluginError):
    """No installed plugin provides a component of this name."""


class AmbiguousNameError(PluginError):
    """Several plugins provide a component of this name; a qualified name says which is meant."""


class TargetError(PluginError):
    """The object behind a record cannot be imported, or is not what its kind promises."""
