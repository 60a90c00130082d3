"""What every experiment keeps to, and that none is forgotten."""

from axlearn_core.testing.contracts import ExperimentContract, check_coverage


class TestExperiments(ExperimentContract):
    distribution = "acme-experiments"


def test_every_component_is_under_contract():
    check_coverage("acme-experiments", globals().values())
