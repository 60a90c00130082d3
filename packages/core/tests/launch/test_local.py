"""Places of this host, and the spare ones."""

import json
import sys

import pytest

from axlearn_core.config import ConfigError
from axlearn_core.errors import EXIT_HUNG
from axlearn_core.launch import Job
from axlearn_core.launch.local import Local, Places


def test_a_spare_place_takes_over_as_long_as_there_is_one():
    places = Places(2, spares=1)
    assert places.replace(1) == "process 1 leaves place 1 for the spare place 2"
    assert places.taken == [0, 2]
    assert places.replace(0) is None
    assert places.taken == [0, 2]


def test_a_gpu_that_failed_is_left_for_the_spare_one(monkeypatch):
    monkeypatch.setattr("axlearn_core.launch.local.detect", lambda *_: FourGpus)
    local = Local.Config(processes=3, spares=1).instantiate()
    places = Places(3, spares=1)
    places.replace(1)
    devices = [own["AXLEARN_LOCAL_DEVICES"] for own in local.variables(places, 1234)]
    assert devices == ["0", "3", "2"]


class FourGpus:
    class probe:
        platform, count, description = "gpu", 4, "4 GPUs"


@pytest.mark.parametrize(
    "code, how", [(1, "ended with code 1"), (EXIT_HUNG, "hung, and its watchdog ended it")]
)
def test_a_process_that_died_or_hung_starts_again_in_the_spare_place(
    monkeypatch, tmp_path, capfd, code, how
):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        f"with open({str(tmp_path / 'seen')!r}, 'a') as seen:\n"
        "    print(os.environ['AXLEARN_PLACE'], file=seen)\n"
        f"sys.exit({code} * (os.environ['AXLEARN_PLACE'] == '1'))\n"
    )
    monkeypatch.setattr("axlearn_core.launch.local._command", lambda job: [sys.executable, program])
    local = Local.Config(processes=2, spares=1, restarts=1).instantiate()
    assert local.launch(Job("acme", (), tmp_path)) == 0
    assert sorted(json.loads(f"[{','.join((tmp_path / 'seen').read_text().split())}]")) == [
        *(0, 0, 1, 2)
    ]
    said = capfd.readouterr().out
    assert f"process 1 {how}, and the others with it" in said
    assert "process 1 leaves place 1 for the spare place 2" in said


def test_fewer_than_no_spares_are_refused():
    with pytest.raises(ConfigError, match=r"spares \(=-1\) must be at least 0"):
        Local.Config(spares=-1).instantiate()
