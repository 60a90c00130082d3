"""The minimal core: configs, modules, hook specifications, trainer, checkpoints and the axl command."""
