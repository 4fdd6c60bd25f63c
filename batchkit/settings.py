"""Settings: one frozen model. A flag beats the environment, which beats ``.env`` in the working directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from batchkit.errors import ConfigurationError
from batchkit.sharding import parse_window

GROQ_BASE_URL = "https://api.groq.com/openai/v1"

_ENV_PREFIX = "BATCHKIT_"
KEY_VARIABLES = ("GROQ_API_KEY", "BATCHKIT_API_KEY")


def _window(value: str) -> str:
    parse_window(value)
    return value


Window = Annotated[str, AfterValidator(_window)]


class Settings(BaseSettings):
    """Everything that can be set. Environment names are ``BATCHKIT_`` and the field's name; the key is ``GROQ_API_KEY``."""

    model_config = SettingsConfigDict(
        env_prefix=_ENV_PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices(*KEY_VARIABLES),
        description="The Groq key; it is sent in the Authorization header and written nowhere.",
    )
    base_url: str = Field(default=GROQ_BASE_URL, description="The API's address, with its /openai/v1.")
    allow_insecure_http: bool = Field(
        default=False, description="Allow http:// to other hosts than this one: the key travels in the clear."
    )
    accept_other_key: bool = Field(
        default=False, description="Go on with another key than the one that submitted (of the same organisation)."
    )
    home: Path = Field(default=Path(".batchkit"), description="Where shard files, downloads and the SQLite file lie.")
    database_url: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="The results store: sqlite:///file.db or postgresql+psycopg://user:password@host/name.",
    )
    spool_url: str | None = Field(
        default=None,
        repr=False,  # as above
        description="Where machines that share no disk find the shard files: s3://bucket/folder, any fsspec URL.",
    )

    shared_folder: Path | None = Field(
        default=None,
        description="A folder that every machine sees at the same path: outputs in it are written by whoever finishes.",
    )

    window: Window = Field(default="24h", description="Completion window of a first try: 24h to 7d.")
    max_window: Window = Field(
        default="7d", description="The longest window that a resubmission after expiry may take."
    )
    shard_lines: PositiveInt | None = Field(
        default=None, le=50_000, description="Requests per shard; by default 1,000 to 50,000 by the size of the input."
    )
    shard_bytes: PositiveInt = Field(
        default=100_000_000, le=200_000_000, description="The largest shard file, in bytes."
    )
    max_attempts: PositiveInt = Field(default=5, le=1_000, description="Rides per request that may end in an error.")
    max_expiries: PositiveInt = Field(
        default=10, le=1_000, description="Rides per request that may expire or go missing."
    )

    poll_interval_seconds: PositiveFloat = Field(default=15, description="First wait between two status calls.")
    max_poll_interval_seconds: PositiveFloat = Field(default=300, description="Longest wait between two status calls.")
    lease_seconds: PositiveFloat = Field(default=60, description="How long a silent runner keeps what it has taken.")
    settle_seconds: PositiveFloat = Field(
        default=120, description="How long a batch whose creation was not answered may stay out of the list."
    )
    stuck_seconds: PositiveFloat = Field(
        default=3_600,
        description="How long a batch may stay unfinished past its expiry, or unknown, before it is given up.",
    )
    resubmit_linger_seconds: float = Field(
        default=300, ge=0, description="How long a few returned requests wait for company before a small shard is cut."
    )
    capacity_wait_seconds: PositiveFloat = Field(
        default=60, description="First wait after the provider refused for want of capacity; doubles each time."
    )
    outage_seconds: PositiveFloat = Field(
        default=900,
        description="How long the provider or the database may be away before the command gives up for now.",
    )
    http_attempts: PositiveInt = Field(default=5, description="Tries of one call that may be repeated.")
    http_timeout_seconds: PositiveFloat = Field(default=120, description="Longest silence within one reply.")
    connect_timeout_seconds: PositiveFloat = Field(default=10, description="Longest wait for a connection.")
    transfers: PositiveInt = Field(default=8, le=64, description="Uploads and downloads at the same time.")
    task_runner: Literal["threads", "dask", "ray"] = Field(
        default="threads",
        description="Where a flow's waves are done: in threads of its process, or on a Dask or Ray cluster.",
    )
    task_runner_address: str | None = Field(
        default=None, description="The Dask scheduler or Ray head to use; by default a cluster for each flow run."
    )
    parallel_waves: PositiveInt | None = Field(
        default=None,
        le=64,
        description="Waves of merging at the same time: by default 1 in threads, and on a cluster one for each core here.",
    )

    @property
    def resolved_parallel_waves(self) -> int:
        """How many waves of merging are done at the same time. Threads of one process parse no faster than one."""
        if self.parallel_waves is not None:
            return self.parallel_waves
        return 1 if self.task_runner == "threads" else os.cpu_count() or 1

    @property
    def resolved_database_url(self) -> str:
        """The database URL, by default ``batchkit.db`` in the home folder."""
        if self.database_url:
            return self.database_url
        return f"sqlite:///{self.home.absolute() / 'batchkit.db'}"


def environment_for_others() -> dict[str, str]:
    """Copy this process's environment for a child that needs neither the key nor the results store: it gets no secret of ours."""
    withheld = {*KEY_VARIABLES, "PGPASSWORD"}
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in withheld and not name.upper().startswith(_ENV_PREFIX)
    }


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; overrides that are None count as not given. Raises ``ConfigurationError``."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise ConfigurationError(f"a setting is wrong: {problems}", hint="see `batchkit run --help`") from None
