"""Every registered experiment under its contract."""

from axlearn_core.testing.contracts import ExperimentContract, check_coverage


class TestExperiments(ExperimentContract):
    distribution = "axlearn-experiments"


def test_every_registered_component_is_under_contract(capsys):
    report = check_coverage("axlearn-experiments", globals().values())
    with capsys.disabled():
        print(f"\n{report}")
