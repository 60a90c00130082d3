"""A Slurm job, whose processes jax recognises by itself."""

from __future__ import annotations

import shlex
import shutil
import subprocess

from axlearn_core.config import ConfigError
from axlearn_core.launch.contract import Job, Launcher, LaunchError

_SCRIPT = """\
#!/bin/bash
{directives}

# {warning} s before the time limit Slurm tells this script. It tells the processes, which save and
# end together, and queues the job again.
stopped=0
stop() {{ stopped=$((stopped + 1)); scancel --quiet --signal=TERM "$SLURM_JOB_ID"; }}
trap stop TERM

{exports}srun --kill-on-bad-exit=1 {command} &
step=$!
until before=$stopped; wait "$step"; code=$?; [ "$stopped" -eq "$before" ]; do
  :  # a signal ends `wait` before the processes have ended
done

if [ "$stopped" -gt 0 ] && [ "$code" -eq 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
elif [ "$code" -ne 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


class Slurm(Launcher):
    """Submits a batch script. A job that is preempted or requeued goes on from its checkpoint."""

    class Config(Launcher.Config):
        """Options of `axl launch slurm`.

        Attributes:
            nodes: how many.
            processes_per_node: how many; on GPUs one for all of a node's, or one for each.
            gpus_per_node: how many; by default none are asked for.
            cpus_per_process: how many.
            memory: per node, such as 64G.
            time: the job's limit, such as 24:00:00.
            partition: where to run.
            account: who pays.
            restarts: how often to queue the job again after a process has failed.
            warning: seconds before the time limit at which the processes save.
            directives: further options of sbatch, such as --constraint=h100.
            exports: variables of the processes, such as NCCL_DEBUG=INFO.
            command: what runs axl on a node.
        """

        nodes: int = 1
        processes_per_node: int = 1
        gpus_per_node: int | None = None
        cpus_per_process: int | None = None
        memory: str | None = None
        time: str | None = None
        partition: str | None = None
        account: str | None = None
        restarts: int = 0
        warning: int = 120
        directives: list[str] = []
        exports: list[str] = []
        command: str = "axl"

    def __init__(self, config: Config):
        super().__init__(config)
        gpus, processes = config.gpus_per_node, config.processes_per_node
        if config.nodes < 1 or processes < 1:
            raise ConfigError("nodes and processes_per_node must be at least 1")
        if gpus is not None and (gpus < 1 or gpus % processes):
            raise ConfigError(
                f"gpus_per_node (={gpus}) must be a multiple of processes_per_node (={processes}), "
                "so that each process gets as many as the others"
            )
        for export in config.exports:
            if "=" not in export:
                raise ConfigError(f"exports must be NAME=VALUE, got {export!r}")

    def text(self, job: Job) -> str:
        cfg = self.config
        words = {
            "job-name": job.name,
            "nodes": cfg.nodes,
            "ntasks-per-node": cfg.processes_per_node,
            "gpus-per-node": cfg.gpus_per_node,
            "cpus-per-task": cfg.cpus_per_process,
            "mem": cfg.memory,
            "time": cfg.time,
            "partition": cfg.partition,
            "account": cfg.account,
            "signal": f"B:TERM@{cfg.warning}",
            "output": "%x-%j.log",
            "open-mode": "append",
        }
        directives = [f"--{name}={value}" for name, value in words.items() if value is not None]
        exports = (export.partition("=") for export in cfg.exports)
        return _SCRIPT.format(
            directives="\n".join(
                f"#SBATCH {line}" for line in [*directives, "--requeue", *cfg.directives]
            ),
            warning=cfg.warning,
            exports="".join(f"export {name}={shlex.quote(value)}\n" for name, _, value in exports),
            command=f"{self._chosen_devices()}{cfg.command} {shlex.join(job.words)}",
            restarts=cfg.restarts,
        )

    def launch(self, job: Job) -> int:
        if shutil.which("sbatch") is None:
            raise LaunchError(
                "there is no sbatch here: run this on a login node of the cluster, or take "
                "--dry-run, which prints the script, and submit that there"
            )
        done = subprocess.run(["sbatch"], input=self.text(job), text=True, capture_output=True)
        if done.returncode:
            raise LaunchError(f"sbatch refused the job: {done.stderr.strip()}")
        print(done.stdout.strip())
        return 0

    def _chosen_devices(self) -> str:
        """Returns words that give each process its GPUs; jax would give it a single one."""
        each = (self.config.gpus_per_node or 0) // self.config.processes_per_node
        if each < 2:
            return ""
        choose = (
            f"first=$((SLURM_LOCALID * {each})); "
            f"export AXLEARN_LOCAL_DEVICES=$(seq -s, $first $((first + {each - 1}))); "
            'exec "$@"'
        )
        return f"bash -c {shlex.quote(choose)} bash "
