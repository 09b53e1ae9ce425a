"""A SLURM of one node, without systemd: its daemons, started in a temporary folder by whoever may start processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
SEARCHED = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# A credential that expires soon lets a requeued job start within seconds instead of minutes; a job that has ended stays
# in scontrol's memory, not in squeue's answer.
CONF = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0,sched_min_interval=0
JobRequeue=1
KillWait=5
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


@contextlib.contextmanager
def one_node(cpus: int = 2) -> Iterator[dict[str, str]]:
    """Environment in which SLURM's commands reach the cluster; the test is skipped where its programs are missing."""
    if missing := [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name, path=SEARCHED) is None]:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurm-wlm")
    folder = Path(tempfile.mkdtemp(prefix="sl"))  # a unix socket's path must be short
    folder.chmod(0o755)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    controller, node = _free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, controller=controller, node=node, user=user, cpus=cpus))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    environment = os.environ | {"PATH": SEARCHED, "SLURM_CONF": str(conf), "MUNGE_SOCKET": f"{folder}/munge.socket"}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += _start(folder, conf, environment)
        _wait_until_idle(environment, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--user", user], env=environment, capture_output=True)
        time.sleep(0.5)
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, conf: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    munged = ["munged", "--foreground", f"--socket={folder}/munge.socket", f"--key-file={key}",
              f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log",
              f"--seed-file={folder}/munge.seed"]  # fmt: skip
    for command in (munged, ["slurmctld", "-D", "-f", str(conf)], ["slurmd", "-D", "-N", "localhost", "-f", str(conf)]):
        with (folder / f"{command[0]}.out").open("wb") as out:
            yield subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        if command is munged:
            _wait_for(folder / "munge.socket")


def _wait_for(path: Path) -> None:
    for _ in range(100):
        if path.exists():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{path} did not come up")


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    for _ in range(200):
        asked = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True)
        if asked.stdout.strip() == "idle":
            return
        time.sleep(0.1)
    logs = "\n".join(path.read_text()[-1000:] for path in folder.glob("*.log"))
    raise RuntimeError(f"slurm did not come up: {asked.stdout} {asked.stderr}\n{logs}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
