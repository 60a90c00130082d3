"""What tests of plugins need."""

from axlearn_core.testing.doctor import Finding, check_plugin

__all__ = ["Finding", "check_plugin"]
