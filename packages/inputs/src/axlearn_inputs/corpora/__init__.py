"""Texts that come with the package, each a task of its name: `CORPORA[name].documents(split)`."""

from axlearn_inputs.corpora import moby_dick

CORPORA = {"moby_dick": moby_dick}

__all__ = ["CORPORA", "moby_dick"]
