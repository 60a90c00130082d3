"""NVIDIA GPU chips, topologies, flags and mesh rules."""
