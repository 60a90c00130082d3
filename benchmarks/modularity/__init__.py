"""Measures how many lines of existing code must change to bring a feature to many experiments."""
