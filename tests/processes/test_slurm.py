"""A real Slurm: a controller and four nodes in network namespaces, brought up for the test."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

NODES = 4
GUARD = 300  # seconds after which a test that waits gives up
CONFIG = """\
ClusterName=test
SlurmctldHost=axl0
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=60
MpiDefault=none
SchedulerParameters=batch_sched_delay=1,sched_interval=2
NodeName=axl[0-{last}] CPUs=1 RealMemory=500 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "scontrol")


@pytest.fixture
def slurm(hosts, tmp_path):
    """Gives a function that runs a command on the first node."""
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        pytest.skip(f"Slurm is not here ({', '.join(missing)}): apt install slurm-wlm munge")
    within = hosts(NODES)
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    for index in range(NODES):
        (folder / f"spool-axl{index}").mkdir()
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, last=NODES - 1))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    munge += [f"--socket={folder}/munge.socket"]
    nodes = [
        [*within(index), "slurmd", "-D", "-N", f"axl{index}", "-f", config]
        for index in range(NODES)
    ]
    environment = {**os.environ, "SLURM_CONF": str(config)}
    log = (folder / "daemons.log").open("w")
    daemons = []

    def run(*words, **more):
        done = subprocess.run(
            [*within(0), *map(str, words)],
            env={**environment, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    try:
        for command in (munge, [*within(0), "slurmctld", "-D", "-f", config], *nodes):
            daemons.append(
                subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log)
            )
        wait_until(lambda: run("sinfo", "--noheader", "-o", "%T %D").strip() == f"idle {NODES}")
        yield run
    finally:
        run("scancel", "--full", "--signal=KILL", "--user=root")
        for daemon in daemons[::-1]:
            daemon.terminate()
        for daemon in daemons:
            daemon.wait()


def wait_until(condition):
    deadline = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_job_that_is_requeued_goes_on_with_the_bits_of_one_undisturbed(slurm, train, tmp_path):
    words = ("slow:experiment", "max_step=100")
    flags = [f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f]
    submitted = slurm(
        *(sys.executable, "-m", "axlearn_core.cli.main", "launch", "slurm", *words),
        *("--dir", "run", "--nodes", NODES, "--directives=--output=job.log"),
        *("--command", f"{sys.executable} -m axlearn_core.cli.main"),
        XLA_FLAGS=" ".join(flags),
        JAX_NUM_CPU_DEVICES=str(8 // NODES),
    )
    job = re.search(r"Submitted batch job (\d+)", submitted)[1]
    log = tmp_path / "job.log"
    wait_until(lambda: log.exists() and "step   3/100" in log.read_text())
    slurm("scontrol", "requeue", job)
    wait_until(
        lambda: re.search("JobState=(COMPLETED|FAILED)", slurm("scontrol", "show", "job", job))
    )
    written = log.read_text()
    assert "JobState=COMPLETED" in slurm("scontrol", "show", "job", job), written
    assert "done: step 100" in written
    assert "resuming from step" in written
    assert train(1, *words, "--dir", "undisturbed")[0].code == 0
    found, expected = (tmp_path / name / "metrics.jsonl" for name in ("run", "undisturbed"))
    assert found.read_bytes() == expected.read_bytes()
