"""Settings: one frozen model.

A flag beats the environment, which beats ``.env`` in the working directory, which beats ``batchkit.toml`` there or above.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    SerializeAsAny,
    ValidationError,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from batchkit.child_environment import ENV_PREFIX, OWN_KEY_VARIABLE
from batchkit.errors import ConfigurationError
from batchkit.models import LaneChoice
from batchkit.provider.dialects import DEFAULT, dialect_changed, dialect_named, own_profile, own_profile_names
from batchkit.provider.stored import set_own_dialect
from batchkit.settings_file import read_settings_file
from batchkit.settings_sources import DOTENV, Sources, key_of, names_in_dotenv, warn_about_unknown_variables
from batchkit.sharding import SMALL_REQUESTS, hours_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.provider.dialect import Dialect


#: What stands in the header of the key for a server that asks for none.
_NO_KEY = "none"


def _window(value: str) -> str:
    hours_of(value)
    return value


Window = Annotated[str, AfterValidator(_window)]


def _web_address(value: str) -> str:
    address = urlsplit(value)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise ValueError("write an address that begins with https:// or http://")
    return value


def _command(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"not a command: {str(error).lower()}") from None
    if not words:
        raise ValueError("not a command: it is empty")
    return value


#: Words as a shell splits them.
CommandLine = Annotated[str, AfterValidator(_command)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
#: A profile of the user's own. Its model is built when there is one.
OwnProfile = Annotated[SerializeAsAny[BaseModel], PlainValidator(own_profile)]


class Settings(BaseSettings):
    """Everything that can be set. Environment names are ``BATCHKIT_`` and the field's name; the key has the provider's own."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=DOTENV,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    provider: str = Field(default=DEFAULT, description="Whose batch API it is; `batchkit provider list` shows them.")
    provider_profile: OwnProfile | None = Field(
        default=None, description="What differs from the provider's profile; in batchkit.toml below [provider.profile]."
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="The provider's key; it is sent in one header and written nowhere.",
    )
    base_url: str | None = Field(
        default=None, description="The API's address, with its /v1 or /openai/v1; by default the provider's own."
    )
    allow_insecure_http: bool = Field(
        default=False, description="Allow http:// to other hosts than this one: the key travels in the clear."
    )
    accept_other_key: bool = Field(
        default=False, description="Continue with another key than the one that submitted (of the same organisation)."
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

    window: Window | None = Field(
        default=None, description="Completion window of a first try; by default the provider's shortest."
    )
    max_window: Window | None = Field(
        default=None,
        description="The longest window that a resubmission after expiry may take; by default the provider's longest.",
    )
    shard_lines: PositiveInt | None = Field(
        default=None, description="Requests per shard; by default 1,000 or more by the size of the input."
    )
    shard_bytes: PositiveInt | None = Field(
        default=None, description="The largest shard file, in bytes; by default what the provider is known to accept."
    )
    max_attempts: PositiveInt = Field(
        default=5, le=1_000, description="Attempts of a request that may end in an error."
    )
    max_expiries: PositiveInt = Field(
        default=10, le=1_000, description="Attempts of a request that may expire or go missing."
    )

    lane: LaneChoice = Field(
        default=LaneChoice.BATCH,
        description="How requests travel: batch, sync (one by one, over the ordinary endpoints), or auto.",
    )
    small: NonNegativeInt = Field(
        default=SMALL_REQUESTS, description="With the lane auto, an input of up to so many requests is sent one by one."
    )
    rpm: PositiveFloat | None = Field(
        default=None, description="Requests per minute that the sync lane may send; by default what the provider says."
    )
    tpm: PositiveFloat | None = Field(default=None, description="The same for tokens per minute.")
    rpd: PositiveFloat | None = Field(default=None, description="The same for requests per day.")
    tpd: PositiveFloat | None = Field(default=None, description="The same for tokens per day.")
    max_in_flight: PositiveInt = Field(
        default=200, le=1_000, description="Calls of the sync lane at the same time, at most."
    )
    call_timeout_seconds: PositiveFloat = Field(
        default=600, description="Longest wait of the sync lane for the answer to one call."
    )
    grace_seconds: NonNegativeFloat = Field(
        default=30, description="How long an interrupted command waits for calls of the sync lane that are on the way."
    )

    max_cost: PositiveFloat | None = Field(
        default=None, description="What a new workload may cost, in USD; by default there is no limit."
    )
    max_total_tokens: PositiveInt | None = Field(
        default=None,
        description="What a new workload may use, in tokens of prompts and answers; by default there is no limit.",
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
    cancel_seconds: NonNegativeFloat = Field(
        default=600, description="How long a cancelled batch may take to stop; a deadline leaves so much time for it."
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

    notify_url: WebAddress | None = Field(
        default=None,
        repr=False,  # such addresses hold their own key
        description="Where events are sent with POST: a web hook of yours, or Slack's.",
    )
    notify_format: Literal["json", "slack"] = Field(
        default="json", description="What is sent: JSON with all fields, or a text that Slack shows."
    )
    on_finish: CommandLine | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="A command that is run for each event, without a shell; it gets the report as JSON on stdin.",
    )

    @property
    def dialect(self) -> Dialect:
        """The provider's dialect, with the user's profile. Raises ``ConfigurationError`` for an unknown provider."""
        if self.provider_profile is None:
            return dialect_named(self.provider)
        return dialect_changed(self.provider, self.provider_profile)

    @property
    def address(self) -> str:
        """The API's address. Raises ``ConfigurationError`` when neither the settings nor the provider have one."""
        address = self.dialect.base_url if self.base_url is None else self.base_url
        if address is None:
            raise ConfigurationError(
                f"{self.dialect.title} has no address of its own",
                hint="give the one of your server with --base-url or BATCHKIT_BASE_URL",
            )
        return address

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


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; overrides that are None count as not given.

    Logs a warning for each variable that is called like a setting and is none. Raises ``ConfigurationError``; for a wrong
    ``batchkit.toml`` it tells the line of each problem. Workloads of a provider with a profile of the user's own are read with that
    profile from then on.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    sources = _read_sources()
    warn_about_unknown_variables(sources, Settings.model_fields)
    used = {name: value for name, value in sources.in_file.items() if name not in given and not sources.variable(name)}
    if "provider" in given and "base_url" not in given:
        # An address of the environment belongs to the provider of the environment, one of the file to that of the file.
        used.pop("base_url", None)
        if given["provider"] == sources.in_file.get("provider") and "base_url" in sources.in_file:
            used["base_url"] = sources.in_file["base_url"]
        else:
            given["base_url"] = None
    try:
        settings = Settings(**used, **given)
        if settings.provider != sources.in_file.get("provider", DEFAULT):
            # What the file says of its provider does not hold for another one.
            of_file = {"provider_profile", *(("base_url",) if "provider" in sources.in_file else ())} & used.keys()
            settings = settings.model_copy(update=dict.fromkeys(of_file))
            used = {name: value for name, value in used.items() if name not in of_file}
        dialect = settings.dialect
        if "api_key" not in given:
            key = key_of(sources, dialect, used.get("base_url")) or _placeholder(settings)
            settings = settings.model_copy(update={"api_key": key})
    except ValidationError as error:
        problems = "; ".join(_problem(found, given, sources) for found in error.errors(include_url=False))
        raise ConfigurationError(f"a setting is wrong: {problems}", hint="see `batchkit run --help`") from None
    _check_sizes(settings, given, sources)
    set_own_dialect(None if settings.provider_profile is None else dialect)
    return settings


def _placeholder(settings: Settings) -> SecretStr | None:
    """Return what is sent as the key of a server on this machine, which needs none unless it says so; None for every other one."""
    if settings.dialect.base_url is not None or settings.base_url is None:
        return None
    from batchkit.provider.access import is_loopback  # noqa: PLC0415 - loads an HTTP client, which --help does not need

    try:
        host = urlsplit(settings.base_url).hostname
    except ValueError:
        return None  # whoever opens the address tells what is wrong with it
    return SecretStr(_NO_KEY) if host is not None and is_loopback(host) else None


def _check_sizes(settings: Settings, given: Mapping[str, Any], sources: Sources) -> None:
    """Refuse windows and sizes of files that the provider does not take. Raises ``ConfigurationError``."""
    sizes = {name: getattr(settings, name) for name in ("window", "max_window", "shard_lines", "shard_bytes")}
    problems = [
        f"{_shown(name, given, sources)}: {reason}"
        for name, reason in settings.dialect.problems_of_sizes(**sizes).items()
    ]
    if problems:
        raise ConfigurationError(f"a setting is wrong: {'; '.join(problems)}", hint="see `batchkit run --help`")


def origins_of_settings(flags: Mapping[str, Any], dialect: Dialect) -> dict[str, str]:
    """Return for each setting that is not at its default where it comes from, in the order of the fields.

    ``flags`` are those of the command line, ``dialect`` is that of the provider, whose key may have a name of its own. Raises ``ConfigurationError`` for a wrong ``batchkit.toml``.
    """
    sources = _read_sources()
    found: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = (
            sources.first_of((*dialect.key.variables, OWN_KEY_VARIABLE))
            if name == "api_key"
            else sources.variable(name)
        )
        if name in flags:
            found[name] = "a flag"
        elif variable is not None:
            found[name] = variable[1]
        elif sources.file is not None and name in sources.in_file:
            found[name] = sources.file.place_of(name)
    return found


class _FileSettings(Settings):
    """Checks values without reading anything else."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the framework's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _read_sources() -> Sources:
    variables = {"the environment": [name.upper() for name in os.environ], DOTENV: names_in_dotenv()}
    file = read_settings_file(
        Settings.model_fields, profile_names=own_profile_names, check=lambda values: _FileSettings(**values)
    )
    return Sources(variables, file)


def _problem(found: Any, given: Mapping[str, Any], sources: Sources) -> str:
    """Write what is wrong with a setting, with the variable that gives it."""
    name = ".".join(map(str, found["loc"]))
    return f"{_shown(name, given, sources)}: {found['msg'].removeprefix('Value error, ')}"


def _shown(name: str, given: Mapping[str, Any], sources: Sources) -> str:
    """Return a setting's name with what gives it."""
    variable = None if name in given else sources.variable(name)
    if variable is not None:
        return f"{name} ({variable[0]} in {variable[1]})"
    is_of_file = name not in given and sources.file is not None and name in sources.in_file
    return f"{name} ({sources.file.place_of(name)})" if is_of_file and sources.file is not None else name
