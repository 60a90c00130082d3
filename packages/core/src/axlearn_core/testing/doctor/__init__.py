"""What an installed plugin should have otherwise, and how to mend it."""

from axlearn_core.testing.doctor.examination import Examination, all_plugins, check_plugin, examine
from axlearn_core.testing.doctor.finding import Finding

__all__ = ["Examination", "Finding", "all_plugins", "check_plugin", "examine"]
