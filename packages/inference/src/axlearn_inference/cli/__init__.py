"""Commands of `axl`. They import jax only when they run."""
