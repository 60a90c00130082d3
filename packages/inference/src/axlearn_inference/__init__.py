"""Generation and serving of language models."""
