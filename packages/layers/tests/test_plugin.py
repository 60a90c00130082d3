import subprocess
import sys

import pytest

from axlearn_core.plugins import get_registry
from axlearn_layers import _plugin

RECORDS = [*_plugin.axlearn_layers(), *_plugin.axlearn_models()]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_record_leads_to_its_component(record):
    registry = get_registry()
    component = registry.load(record.kind, f"axlearn-layers/{record.name}")
    assert registry.name_of(component) == f"axlearn-layers/{record.name}"


def test_records_are_read_without_jax():
    code = (
        "import sys; from axlearn_core.plugins import get_registry; "
        "get_registry().get('layer', 'rms_norm'); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
