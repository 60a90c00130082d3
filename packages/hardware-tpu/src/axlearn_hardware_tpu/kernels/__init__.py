"""Kernels for TPUs; importing one imports jax."""
