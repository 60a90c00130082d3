"""What a run leaves in `profile/`."""

import gzip
import json
import os
import signal

import pytest

from axlearn_core.config import ConfigError, apply_overrides
from axlearn_core.observe.events import read_events
from axlearn_core.testing import tiny


@pytest.fixture
def small(axlearn_tiny):
    axlearn_tiny.evaluations = {}
    return axlearn_tiny.set(max_step=8)


def profiled(trained):
    events = read_events(trained.directory)
    return [(e["what"], e["path"]) for e in events if e["event"] == "profiled"]


def traced_steps(folder):
    """The steps that a Perfetto trace names."""
    (path,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    steps = [e["args"] for e in events if e.get("name") == "train" and "args" in e]
    return sorted({int(args["step_num"]) for args in steps})


def test_a_run_profiles_nothing_unless_asked(run, small):
    assert not (run(small).directory / "profile").exists()


def test_each_profile_is_one_override(run, small):
    apply_overrides(small, ["profile.trace=3:5", "profile.hlo=true", "profile.memory=6"])
    trained = run(small)
    folder = trained.directory / "profile"
    assert traced_steps(folder / "trace_3-5") == [3, 4, 5]
    assert list(folder.glob("trace_3-5/plugins/profile/*/*.xplane.pb"))
    assert (folder / "step.hlo.txt").read_text().startswith("HloModule")
    assert gzip.decompress((folder / "memory_6.prof").read_bytes())
    assert profiled(trained) == [
        ("hlo", "profile/step.hlo.txt"),
        ("trace", "profile/trace_3-5"),
        ("memory", "profile/memory_6.prof"),
    ]


def test_a_trace_ends_with_the_run(run, small):
    small.profile.trace = "7:99"
    assert traced_steps(run(small).directory / "profile/trace_7-99") == [7, 8]


def test_a_signal_profiles_the_next_steps_of_a_live_run(run, observer, small):
    def ask(event):
        if event.step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)

    small.profile.signal_steps = 2
    trained = run(small.set(max_step=12), test=observer(step_completed=ask))
    (hlo, memory, trace) = profiled(trained)
    first = int(trace[1].partition("_")[2].partition("-")[0])
    assert hlo == ("hlo", "profile/step.hlo.txt")
    assert memory == ("memory", f"profile/memory_{first - 1}.prof")
    assert traced_steps(trained.directory / trace[1]) == [first, first + 1]


def test_profiles_change_no_bit(run, small):
    plain = run(small, "plain")
    small.profile.set(trace="2:3", memory=4)
    assert run(small, "profiled").metrics == plain.metrics


def test_what_cannot_be_profiled_does_not_stop_the_run(run, small, caplog, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Only one profile may be run at a time.")

    monkeypatch.setattr("jax.profiler.start_trace", refuse)
    small.profile.trace = "2:3"
    assert run(small).result.reason == "completed"
    assert "no trace profile: RuntimeError: Only one" in caplog.text


@pytest.mark.parametrize("text", ["10", "5:3", "0:3", "a:b", "1:2:3"])
def test_steps_that_are_no_range_are_refused(text):
    cfg = tiny.experiment()
    cfg.profile.trace = text
    with pytest.raises(ConfigError, match=r"profile\.trace \(=.* such as 10:12"):
        cfg.instantiate()
