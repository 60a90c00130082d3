"""Processes that are watched side by side; what they do here, the shell can do."""

import os
import signal

import pytest

from axlearn_core.launch.supervisor import supervise


@pytest.fixture
def run():
    """Runs a shell command in `count` processes, which know their number as $n."""

    def run(command, count=2, **options):
        environments = [{**os.environ, "n": str(index)} for index in range(count)]
        return supervise(["sh", "-c", command], environments, **options)

    return run


def test_all_that_end_well_have_not_failed(run):
    ended = run("true", 3)
    assert (ended.codes, ended.failed, ended.stopped) == ([0, 0, 0], None, None)


def test_a_process_can_be_made_to_run_somewhere_else(run, capfd):
    ended = run(
        "echo $n in $place", within=lambda index: ("env", f"place={index + 7}"), shown="all"
    )
    assert ended.codes == [0, 0]
    assert sorted(capfd.readouterr().out.splitlines()) == ["[0] 0 in 7", "[1] 1 in 8"]


def test_one_that_fails_ends_the_others_and_its_last_lines_are_kept(run, monkeypatch):
    monkeypatch.setattr("axlearn_core.launch.supervisor._GRACE_SECONDS", 0)
    ended = run('test $n = 0 && exec sleep 1000; echo why; echo "[Gloo] noise"; exit 7')
    assert (ended.codes, ended.failed) == ([-signal.SIGKILL, 7], 1)
    assert ended.last_lines == ["why"]


def test_the_others_have_a_moment_to_say_what_they_know(run, capfd):
    ended = run("if test $n = 0; then sleep 0.3; echo gone >&2; exit 1; else kill -9 $$; fi")
    assert (ended.codes, ended.failed) == ([1, -signal.SIGKILL], 1)
    assert capfd.readouterr().out == "gone\n"


def test_one_that_hangs_while_the_others_lose_it_is_to_blame(run, monkeypatch):
    monkeypatch.setattr("axlearn_core.launch.supervisor._GRACE_SECONDS", 0.3)
    ended = run("test $n = 1 && exec sleep 1000; kill -ABRT $$", 3)
    assert ended.codes == [-signal.SIGABRT, -signal.SIGKILL, -signal.SIGABRT]
    assert ended.failed == 1


def test_all_that_are_left_at_the_limit_are_killed(run):
    assert run("exec sleep 1000", limit=0.2).codes == [-signal.SIGKILL, -signal.SIGKILL]


def test_only_the_first_is_shown_or_all_with_their_numbers(run, capfd):
    run('sleep 0.$n; echo "I am $n"', 3)
    assert capfd.readouterr().out == "I am 0\n"
    run('sleep 0.$n; echo "I am $n"', 3, shown="all")
    assert sorted(capfd.readouterr().out.splitlines()) == ["[0] I am 0", "[1] I am 1", "[2] I am 2"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_as_sigterm(run, capfd, tmp_path, number):
    ready = f"touch {tmp_path}/$n; until test -e {tmp_path}/0 -a -e {tmp_path}/1; do :; done"
    stopper = f"test $n = 0 && kill -{int(number)} {os.getpid()}; sleep 1000 & wait"
    ended = run(f"trap 'echo saved; exit 0' TERM; {ready}; {stopper}", shown="all")
    assert (ended.codes, ended.failed, ended.stopped) == ([0, 0], None, number)
    assert sorted(capfd.readouterr().out.splitlines()) == ["[0] saved", "[1] saved"]


def test_the_handlers_are_put_back(run):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run("true")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
