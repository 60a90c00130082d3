"""What is changed of a JSON schema before llguidance sees it."""

import pytest

from axlearn_inference.exclusive_bounds import within_exclusive_bounds


def test_only_schemas_are_changed_wherever_they_are():
    bounds = {"exclusiveMinimum": 0, "maximum": 0.5}
    moved = {"exclusiveMinimum": pytest.approx(5e-7), "maximum": 0.5}
    schema = {
        "enum": [bounds],
        "const": bounds,
        "properties": {"const": bounds, "exclusiveMinimum": {"minimum": 1}},
        "anyOf": [{"items": bounds}, True],
        "exclusiveMinimum": 0,
        "maximum": 2,
    }
    assert within_exclusive_bounds(schema) == schema | {
        "properties": {"const": moved, "exclusiveMinimum": {"minimum": 1}},
        "anyOf": [{"items": moved}, True],
    }
