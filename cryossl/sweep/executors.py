"""Where parts of a command run: processes of this machine, or jobs of a Slurm cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from cryossl.errors import ConfigError, CryosslError, StorageError, one_line
from cryossl.progress.interruption import PARENT_VARIABLE
from cryossl.system.process import PROJECT

SECONDS_TO_CHECKPOINT = 60.0
MINUTES_OF_A_JOB = 24 * 60  # submitit's own default is five
CPUS_OF_A_JOB = 4
FAILED = 1
RUN = ("run", "--config")
"""The words between `cli.py` and the file of settings, for a cell of a sweep."""
_LAST_BYTES = 4096


@runtime_checkable
class Job(Protocol):
    """A cell that was started."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs; minus the signal that ended it."""

    def terminate(self) -> None:
        """Signal the job to write a checkpoint and end; do not wait for it."""

    def wait(self) -> None:
        """Wait until the job has ended.

        A job that does not end is killed, and loses the work since its last checkpoint.
        """


@runtime_checkable
class Executor(Protocol):
    """Starts cells."""

    def start(self, settings: Path, log: Path) -> Job:
        """Start `cryossl run` on a file of settings; its output is written to `log`.

        Raises CryosslError if it cannot be started.
        """


class LocalExecutor:
    """Each cell is a process of its own."""

    def __init__(
        self, verb: Sequence[str] = RUN, *, variables: Mapping[str, str] | None = None
    ) -> None:
        """Choose what is started.

        Args:
            verb: the words between `cli.py` and the file of settings.
            variables: of the environment, beside those of this process.
        """
        self._verb, self._variables = verb, dict(variables or {})

    def start(self, settings: Path, log: Path) -> Job:
        """Start the process in a process group of its own.

        Ctrl-C in a terminal then reaches the sweep alone, which ends its cells itself. A sweep that
        is killed cannot: its cells notice that standard input is closed, and end.
        """
        try:
            with log.open("wb") as output:
                return _Process(
                    subprocess.Popen(
                        command(settings, self._verb),
                        env={**environment(os.environ), **self._variables, PARENT_VARIABLE: "1"},
                        stdin=subprocess.PIPE,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        process_group=0,
                    )
                )
        except OSError as error:
            raise StorageError(
                f"cannot start a cell: {error.filename or command(settings)[0]}: {error.strerror}",
                cure="check memory and permissions",
            ) from None


class SlurmExecutor:
    """Each cell is a job that submitit submits."""

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        options: Mapping[str, str | int],
        cluster: str = "slurm",
        verb: Sequence[str] = RUN,
    ) -> None:
        """Check that jobs can be submitted.

        Args:
            folder: where submitit keeps job scripts and logs; the nodes must see it at the same
                path.
            threads: CPU threads of a cell, and CPUs of a job; 0: four, or `cpus_per_task` of the
                options.
            options: submitit's parameters by their names, e.g. slurm_partition, timeout_min,
                gpus_per_node.
            cluster: submitit's name of the cluster; "local" runs jobs as processes.
            verb: the words between `cli.py` and the file of settings.

        Raises:
            ConfigError: submitit is not installed, this machine has no Slurm, or submitit does not
                know a parameter.
        """
        try:
            import submitit
        except ImportError:
            raise ConfigError(
                "--executor slurm needs the package submitit",
                cure=".venv/bin/pip install -e '.[slurm]', or use --executor local",
            ) from None
        wanted: dict[str, Any] = {
            "name": "cryossl",
            "timeout_min": MINUTES_OF_A_JOB,
            "cpus_per_task": threads or CPUS_OF_A_JOB,
            **options,
        }
        self.cpus, self._verb = wanted["cpus_per_task"], verb
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
            self._executor.update_parameters(**wanted)
        except (RuntimeError, NameError, AssertionError, TypeError) as error:
            raise ConfigError(
                f"submitit refuses: {one_line(error)[:200]}",
                cure="check --slurm, and that sbatch and srun are on the path",
            ) from None

    def start(self, settings: Path, log: Path) -> Job:
        """Submit the job; its output is written to `log` when it has ended."""
        try:
            # A function of the standard library: the node unpickles it without this project on its
            # module path.
            return _Submitted(
                self._executor.submit(
                    subprocess.run,
                    command(settings.absolute(), self._verb),
                    env=environment(os.environ),
                    cwd=Path.cwd(),
                    encoding="utf-8",
                    errors="replace",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    check=False,
                ),
                log,
            )
        except Exception as error:  # errors of sbatch and of its parsing come as they are
            raise CryosslError(
                f"the job cannot be submitted: {one_line(error)[:300]}",
                cure="see the message of sbatch",
            ) from None


def slurm_options(text: str | None) -> dict[str, str | int]:
    """Parse submitit's parameters, e.g. `slurm_partition=gpu,timeout_min=600`.

    Raises ConfigError for a part that is not NAME=VALUE.
    """
    options: dict[str, str | int] = {}
    for part in (text or "").split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if name and equals and value:
            options[name] = int(value) if value.isdecimal() else value
        elif part.strip():
            raise ConfigError(
                f"--slurm: {part.strip()!r} is not NAME=VALUE",
                cure="e.g. --slurm slurm_partition=gpu,mem_gb=16",
            )
    return options


def command(settings: Path, verb: Sequence[str] = RUN) -> list[str]:
    """The command line that runs one cell."""
    return [sys.executable, str(PROJECT / "cli.py"), *verb, str(settings)]


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """A cell's environment: this one without the run that `mlflow run` made for the whole sweep.

    With it every cell would adopt that run. The experiment stays the same. What a cell prints is
    written to a log, which is UTF-8 whatever the locale.
    """
    dropped = {"MLFLOW_RUN_ID"} if "MLFLOW_RUN_ID" in ours else set()
    if dropped and ours.get("MLFLOW_EXPERIMENT_ID"):
        # Beside MLFLOW_RUN_ID MLflow takes the experiment's id. Without it, the name would win.
        dropped.add("MLFLOW_EXPERIMENT_NAME")
    kept = {name: value for name, value in ours.items() if name not in dropped}
    return {**kept, "PYTHONIOENCODING": "utf-8"}


def last_line(log: Path) -> str:
    """The last line of a log that is not blank, without the prefix of an error message."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _LAST_BYTES))
            lines = stream.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return "it left no log"
    return next(
        (line.strip() for line in reversed(lines) if line.strip()), "it said nothing"
    ).removeprefix("cryossl: error: ")


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            self._let_go()
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        try:
            self._process.wait(SECONDS_TO_CHECKPOINT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


class _Submitted:
    def __init__(self, job: Any, log: Path) -> None:
        self._job, self._log = job, log

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        fault = self._job.exception()
        with suppress(OSError):
            self._log.write_text(
                str(fault) if fault else self._job.result().stdout, encoding="utf-8"
            )
        return FAILED if fault else int(self._job.result().returncode)

    def terminate(self) -> None:
        self._job.cancel(check=False)

    def wait(self) -> None:
        """Do nothing: the cluster ends the job."""
