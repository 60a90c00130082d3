"""Layers and the language models built from them."""
