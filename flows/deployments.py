"""Deploys the suites of a folder as deployments of ``evaluate``, each with its own cron; a repetition updates them.

The workers need the suites and their files under the same absolute paths. The deployments of ``prefect.yaml``, or one
``batchkit serve``, advance the batches and collect the answers. A suite that was removed from the folder keeps its deployment until it
is deleted: ``prefect deployment delete evaluate/NAME``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL
from prefect.types.entrypoint import EntrypointType

from batchkit.errors import ConfigurationError

from .evaluate import evaluate

if TYPE_CHECKING:
    from pathlib import Path

    from batchkit.evaluation.suite_file import SuiteFile


def deploy_suites(folder: Path, *, pool: str) -> list[str]:
    """Deploy every suite of a folder that has a schedule; return a line for each suite.

    All suites are checked before the first is deployed. Raises ``InputInvalid`` for a suite, ``UsageError`` for the folder and for two
    suites with one name, ``ConfigurationError`` if Prefect refuses.
    """
    from batchkit.evaluation.suite_file import suites_in  # noqa: PLC0415 - an extra

    suites = suites_in(folder)
    if not PREFECT_API_URL.value():
        raise ConfigurationError(
            "no Prefect server is configured",
            hint="export PREFECT_API_URL=http://127.0.0.1:4200/api (`prefect server start`)",
        )
    made = [(file, deployment_of(file, pool) if file.suite.schedule is not None else None) for file in suites]
    return [_deployed(file, deployment) for file, deployment in made]


def deployment_of(file: SuiteFile, pool: str) -> RunnerDeployment:
    """Return the deployment of a suite with a schedule. Raises ``ConfigurationError`` for a cron that Prefect cannot read."""
    schedule = file.suite.schedule
    if schedule is None:
        raise ValueError("a suite without a schedule has no deployment")
    try:
        return RunnerDeployment.from_flow(
            evaluate,
            name=file.suite.name,
            description=f"The suite {file.path.name}, at {schedule.cron} ({schedule.timezone}).",
            schedule=Cron(schedule.cron, timezone=schedule.timezone, slug="suite"),
            parameters={"suite": str(file.path.absolute())},
            tags=["batchkit"],
            work_pool_name=pool,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
    except ValueError as error:
        raise ConfigurationError(f"{file.path}: {error}", hint="correct the suite's schedule") from error


def _deployed(file: SuiteFile, deployment: RunnerDeployment | None) -> str:
    if deployment is None:
        return f"{file.path}: no schedule, not deployed"
    try:
        deployment.apply()
    except Exception as error:  # not all errors of its client are Prefect's
        raise ConfigurationError(
            f"Prefect refuses the deployment of {file.suite.name!r}: {error}",
            hint="check PREFECT_API_URL, and that the pool exists: `prefect work-pool create batchkit --type process`",
        ) from error
    return f"{file.path}: evaluate/{file.suite.name} in the pool {deployment.work_pool_name}"
