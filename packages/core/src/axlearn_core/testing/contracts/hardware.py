"""The contract of hardware backends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from axlearn_core.hardware import EnvironmentSetting, Hardware, apply_environment, explicit_cluster
from axlearn_core.testing.contracts.component import NamedContract

CLUSTER = {
    "AXLEARN_COORDINATOR": "host0:1234",
    "AXLEARN_PROCESS_COUNT": "2",
    "AXLEARN_PROCESS_INDEX": "1",
}


class HardwareContract(NamedContract):
    """A backend is asked before JAX starts, overrides nothing, and says where numbers are from."""

    kind: ClassVar[str] = "hardware"

    def device_kinds(self) -> Mapping[str, str | None]:
        """Returns the name of a chip by a `jax.Device.device_kind`, None where it is no chip's."""
        raise NotImplementedError(
            f"{type(self).__name__} needs examples: define device_kinds(self) and return a device "
            "kind, as jax names it, of every chip: {'NVIDIA H100 80GB HBM3': 'h100'}"
        )

    def backend(self) -> Hardware:
        hardware: Hardware = self.registered().load()()
        return hardware

    def test_it_is_of_the_platform_that_its_record_says(self) -> None:
        backend: Any = self.backend()
        assert getattr(self.registered().record, "platform", None) == backend.platform
        probe = backend.probe({})
        assert probe is None or probe.platform == backend.platform

    # Phase 1.

    def test_phase_1_imports_no_jax(self) -> None:
        module, _, attribute = self.registered().record.target.partition(":")
        program = (
            f"import importlib, sys; backend = importlib.import_module({module!r}).{attribute}(); "
            "backend.probe({}); backend.missing(); backend.settings(); "
            "backend.compile_settings(8); sys.exit('jax' in sys.modules)"
        )
        paths = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr or (
            f"importing {module}, or asking the backend, imports jax, which then reads the "
            "environment before the backend could set it: import jax within functions of phase 2"
        )

    def test_phase_1_leaves_the_environment_as_it_is(self) -> None:
        before, backend = dict(os.environ), self.backend()
        backend.probe({}), backend.missing(), backend.settings()
        assert dict(os.environ) == before

    def test_what_the_user_set_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "jax", raising=False)  # settings are made before it starts
        for setting in self.backend().settings():
            for name in (setting.name, *setting.aliases):
                users = _users(setting)
                environment = {name: users}
                apply_environment(self.backend(), environment)
                words = environment[name].split()
                assert words[0] == users, f"{name} was overridden"
                again = [word for word in words[1:] if _flag(word) == _flag(users)]
                assert not again, f"{again} comes after the user's {users}"
                if name != setting.name:
                    assert setting.name not in environment, f"{name} means the same"

    def test_every_setting_says_why_it_is_made(self) -> None:
        backend = self.backend()
        for setting in (*backend.settings(), *backend.compile_settings(8)):
            assert setting.comment.strip(), f"{setting.name} {setting.value} needs a comment"

    # Phase 2.

    def test_every_chip_says_where_its_numbers_are_from(self) -> None:
        for chip in self.backend().chips:
            assert chip.source.strip(), f"{chip.name} needs a source"
            numbers = (*chip.peak_flops.values(), chip.memory_bytes, chip.memory_bandwidth)
            assert all(number is None or number > 0 for number in numbers), chip.name

    def test_a_device_kind_leads_to_its_chip(self) -> None:
        backend = self.backend()
        names = [chip.name for chip in backend.chips]
        assert len(set(names)) == len(names), f"two chips have one name: {names}"
        kinds = self.device_kinds()
        unseen = set(names) - set(kinds.values())
        assert not unseen, f"device_kinds() lacks an example of {', '.join(sorted(unseen))}"
        for kind, name in kinds.items():
            chip = backend.chip(kind)
            assert (chip.name if chip else None) == name, kind

    def test_topologies_are_of_known_chips(self) -> None:
        backend = self.backend()
        for topology in backend.topologies():
            assert topology.chip in [chip.name for chip in backend.chips], topology
            assert topology.devices > 0, topology

    def test_a_cluster_that_the_user_describes_is_the_one(self) -> None:
        assert self.backend().distributed_arguments(CLUSTER) == explicit_cluster(CLUSTER)


def _users(setting: EnvironmentSetting) -> str:
    """Returns what a user might have set instead."""
    return f"{setting.value.partition('=')[0]}=mine" if setting.value.startswith("--") else "mine"


def _flag(word: str) -> str:
    return word.partition("=")[0]
