"""Sets the variables that a backend wants, before jax reads them, and never against the user."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, MutableMapping

from axlearn_core.hardware.contract import EnvironmentSetting, Hardware

# Variables that hold many flags: ours are added to the user's, one by one.
_FLAG_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def wanted(
    settings: Iterable[EnvironmentSetting], environment: Mapping[str, str]
) -> tuple[EnvironmentSetting, ...]:
    """Returns the settings that do not contradict or repeat what the user has set."""
    return tuple(setting for setting in settings if not _is_set(setting, environment))


def apply_environment(
    hardware: Hardware,
    environment: MutableMapping[str, str],
    more: Iterable[EnvironmentSetting] = (),
) -> list[str]:
    """Sets what `hardware` wants and the user has not set, in place.

    Call it before jax is imported: jax reads some of it then, the rest when it first sees a
    device, and says nothing of what comes too late.

    Args:
        hardware: The backend in use.
        environment: `os.environ`, or a dict to look without touching.
        more: further settings, such as those to compile for hardware that is not here.

    Returns:
        One line for each setting, to be shown. If jax is already imported, nothing is set and one
        line says how to set it.
    """
    settings = wanted((*hardware.settings(), *more), environment)
    if settings and "jax" in sys.modules:
        exports = " ".join(f"{name}='{value}'" for name, value in _merged(settings, {}).items())
        return [
            f"jax was imported before the {hardware.platform} settings could be made. To have "
            f"them, start with: {exports}"
        ]
    environment.update(_merged(settings, environment))
    return [f"{setting.name} {setting.value}  # {setting.comment}" for setting in settings]


def _is_set(setting: EnvironmentSetting, environment: Mapping[str, str]) -> bool:
    if setting.name not in _FLAG_VARIABLES:
        return any(name in environment for name in (setting.name, *setting.aliases))
    # A flag counts as set wherever it stands: libtpu reads some XLA flags from either variable.
    given = " ".join(environment.get(name, "") for name in _FLAG_VARIABLES).split()
    return _flag(setting.value) in map(_flag, given)


def _flag(word: str) -> str:
    return word.lstrip("-").partition("=")[0]


def _merged(
    settings: Iterable[EnvironmentSetting], environment: Mapping[str, str]
) -> dict[str, str]:
    values: dict[str, str] = {}
    for setting in settings:
        before = ""
        if setting.name in _FLAG_VARIABLES:
            before = values.get(setting.name, environment.get(setting.name, ""))
        values[setting.name] = f"{before} {setting.value}".strip()
    return values
