"""The body of `tune`: the plan is checked, then printed or carried out."""

from __future__ import annotations

from cryossl.config import Config
from cryossl.errors import ConfigError
from cryossl.sweep.executors import Executor, LocalExecutor
from cryossl.sweep.slurm import SlurmExecutor, slurm_options
from cryossl.tuning import tuning
from cryossl.tuning.plan import Request, plan_of, print_plan
from cryossl.tuning.trial import VERB


def tune(config: Config, request: Request) -> None:
    """Tune the strategies of a config, or say what would be done.

    Raises:
        ConfigError: it cannot be tuned like that.
        CryosslError: a trial could not be done; the same command goes on.
    """
    if request.slurm is not None and request.executor != "slurm":
        raise ConfigError(
            "--slurm says how jobs are submitted, and there are none", cure="add --executor slurm"
        )
    plan = plan_of(config, request)
    executor: Executor = (
        LocalExecutor(VERB)
        if request.executor == "local"
        else SlurmExecutor(
            threads=config.training.threads, options=slurm_options(request.slurm), verb=VERB
        )
    )
    if request.dry_run:
        print_plan(plan, executor)
    else:
        tuning.tune(plan, executor)
