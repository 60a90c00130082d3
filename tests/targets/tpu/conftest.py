"""Programs for TPUs, compiled without one. Each test here needs libtpu, and no TPU."""

import pytest

pytest.importorskip("libtpu", reason="pip install libtpu")
