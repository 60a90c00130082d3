"""Starting runs on engines that exist. Imports no jax."""

from axlearn_core.launch.contract import Job, Launcher, LaunchError

__all__ = ["Job", "LaunchError", "Launcher"]
