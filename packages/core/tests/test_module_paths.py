"""Trees of parameters by path, and back."""

from axlearn_core.module import flatten_paths, nest_paths


def test_nesting_undoes_flattening():
    tree = {"decoder": {"norm": {"scale": 1}, "bias": 2}, "head": 3}
    assert nest_paths(flatten_paths(tree)) == tree
