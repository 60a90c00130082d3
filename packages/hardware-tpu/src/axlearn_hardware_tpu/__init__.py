"""TPU chips, topologies, flags and mesh rules."""
