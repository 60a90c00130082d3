"""Optimizers, schedules and the learner, on optax."""
