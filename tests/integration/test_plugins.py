"""The plugins of this repository are as the doctor wants those of others to be."""

import pytest

from axlearn_core.testing import check_plugin
from axlearn_core.testing.doctor import all_plugins

OURS = [name for name in all_plugins() if name.startswith("axlearn-")]


@pytest.mark.parametrize("distribution", OURS)
def test_the_doctor_finds_nothing_to_mend(distribution):
    findings = check_plugin(distribution)
    assert not findings, "\n".join(map(str, findings))
