"""Kernels for NVIDIA GPUs; importing one imports jax."""
