"""Programs for TPUs, compiled without one. Each test here needs libtpu, and no TPU."""

import os

import pytest

pytest.importorskip("libtpu", reason="pip install libtpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # else libtpu asks the cloud what this machine is
