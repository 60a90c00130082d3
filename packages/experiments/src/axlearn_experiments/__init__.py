"""Named experiments that compose the other packages."""

from axlearn_experiments.text import llama_1b, llama_85m, llama_tiny, markov, quickstart

__all__ = ["llama_1b", "llama_85m", "llama_tiny", "markov", "quickstart"]
