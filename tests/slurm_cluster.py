"""A Slurm of a test's own, with one node on the loopback address, where Slurm and munge are installed."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scancel", "scontrol")
SECONDS_TO_START = 60.0


@dataclass
class Cluster:
    """A cluster: one node of two CPUs and two GPUs that are none; partitions `low`, `high` and `brief`.

    A job of `high` takes the place of one of `low`, which is queued again. A job of `brief` ends
    after a minute at the latest.
    """

    folder: Path
    serving: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find the cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *words: str) -> str:
        """The output of a program of Slurm."""
        return subprocess.run(
            words,
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout.strip()

    def start(self, program: str, *words: str) -> None:
        """Start a program that serves the cluster."""
        path = _found(program)
        assert path is not None
        with (self.folder / f"{program}.out").open("ab") as output:
            self.serving[program] = subprocess.Popen(
                [path, *words],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    def lose_controller(self, *, seconds: float) -> None:
        """Kill the program that answers all others, and start it again after some seconds."""
        self.serving["slurmctld"].kill()
        self.serving["slurmctld"].wait()
        time.sleep(seconds)
        self.start("slurmctld", "-D")

    def cut_power_of_node(self, *, until_down: float) -> None:
        """Kill the node's program and its jobs at once; start it again when it is given up.

        `until_down`: the most seconds that the cluster may take to give the node up.
        """
        self.serving["slurmd"].kill()
        self.serving["slurmd"].wait()
        for process in self._of_jobs():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + until_down
        while "down" not in self.ask("sinfo", "--noheader", "--format=%T", "--partition=low"):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        self.start("slurmd", "-D", "-c", "-N", "node")
        self.node("resume")

    def _of_jobs(self) -> list[int]:
        """The processes of this cluster's jobs, and what watches them."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                given = (folder / "environ").read_bytes().split(b"\0")
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            of_ours = f"SLURM_CONF={self.folder}/slurm.conf".encode() in given
            in_job = any(one.startswith(b"SLURM_JOB_ID=") for one in given)
            if of_ours and (in_job or words.startswith(b"slurmstepd")):
                found.append(int(folder.name))
        return found

    def jobs(self) -> dict[str, str]:
        """Id -> state of every job that the cluster still knows."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def names(self) -> list[str]:
        """The names of all jobs that the cluster still knows, one for each job."""
        listed = self.ask("squeue", "--noheader", "--states=all", "--format=%j").splitlines()
        return sorted(listed)

    def node(self, state: str) -> None:
        """Set the state of the node: down or resume; it is resumed once its jobs have ended."""
        words = ["scontrol", "update", "nodename=node", f"state={state}", "reason=test"]
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                self.ask(*words)
            except subprocess.CalledProcessError:
                assert time.monotonic() < deadline
                time.sleep(0.5)
            else:
                return

    def end_jobs(self) -> None:
        """Cancel what is there, and wait until the node is free."""
        self.ask("scancel", f"--user={getpass.getuser()}")
        deadline = time.monotonic() + SECONDS_TO_START
        while self.ask("squeue", "--noheader"):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def _write_configuration(folder: Path, *, more: str) -> None:
    folder.chmod(0o755)
    for inner in ("state", "spool"):
        (folder / inner).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(_configuration(folder) + more)
    # Any two character devices: the cluster hands them out, and nobody opens them.
    (folder / "gres.conf").write_text(
        "NodeName=node Name=gpu File=/dev/null\nNodeName=node Name=gpu File=/dev/zero\n"
    )


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _configuration(folder: Path) -> str:
    controller, node = _free_ports(2)
    user = getpass.getuser()
    return f"""
ClusterName=test
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=0
MinJobAge=3600
KillWait=20
MpiDefault=none
GresTypes=gpu
NodeName=node NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 Gres=gpu:2 State=UNKNOWN
PartitionName=DEFAULT Nodes=node State=UP DefMemPerCPU=500
PartitionName=low Default=YES PriorityTier=1
PartitionName=high PriorityTier=10
PartitionName=brief MaxTime=1 PriorityTier=1
"""


@contextmanager
def slurm(*, more: str = "") -> Iterator[Cluster]:
    """Start a cluster and stop it; the test is skipped where a program is missing.

    `more`: lines of its configuration, beside the usual ones.
    """
    missing = [program for program in PROGRAMS if _found(program) is None]
    if missing:
        pytest.skip(f"no Slurm is installed ({missing[0]}): apt-get install slurm-wlm munge")
    # Not below tmp_path, whose name is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(folder)
    _write_configuration(folder, more=more)
    try:
        cluster.start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.socket",
            f"--key-file={folder}/munge.key",
            f"--pid-file={folder}/munged.pid",
            f"--seed-file={folder}/munged.seed",
            f"--log-file={folder}/munged.log",
        )
        _wait_for_socket(folder / "munge.socket")
        cluster.start("slurmctld", "-D", "-c")
        cluster.start("slurmd", "-D", "-c", "-N", "node")
        _wait_for_node(cluster)
        yield cluster
        cluster.end_jobs()
    finally:
        for process in reversed(cluster.serving.values()):
            process.send_signal(signal.SIGTERM)
        for process in reversed(cluster.serving.values()):
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_socket(path: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)


def _wait_for_node(cluster: Cluster) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            if cluster.ask("sinfo", "--noheader", "--format=%T", "--partition=low") == "idle":
                return
        except subprocess.SubprocessError:
            pass  # the controller does not answer yet
        if time.monotonic() > deadline:
            said = "\n".join(path.read_text()[-1000:] for path in cluster.folder.glob("slurm*.log"))
            raise TimeoutError(said)
        time.sleep(0.2)
