"""Settings: one frozen model.

A flag beats the environment, which beats ``.env`` in the working directory, which beats ``batchkit.toml`` there or above.
"""

from __future__ import annotations

import logging
import os
import shlex
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from batchkit.child_environment import ENV_PREFIX, KEY_VARIABLES
from batchkit.errors import ConfigurationError
from batchkit.settings_file import SettingsFile, read_settings_file
from batchkit.sharding import parse_window

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

GROQ_BASE_URL = "https://api.groq.com/openai/v1"

_GROQ = ("https", urlsplit(GROQ_BASE_URL).netloc)

_DOTENV = ".env"
#: The unknown variables that were told in this process.
_warned: set[str] = set()


def _window(value: str) -> str:
    parse_window(value)
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


class Settings(BaseSettings):
    """Everything that can be set. Environment names are ``BATCHKIT_`` and the field's name; the key is ``GROQ_API_KEY``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=_DOTENV,
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
    max_attempts: PositiveInt = Field(
        default=5, le=1_000, description="Attempts of a request that may end in an error."
    )
    max_expiries: PositiveInt = Field(
        default=10, le=1_000, description="Attempts of a request that may expire or go missing."
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
    ``batchkit.toml`` it tells the line of each problem.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    sources = _read_sources()
    _warn_about_unknown_variables(sources)
    used = {name: value for name, value in sources.in_file.items() if name not in given and not sources.variable(name)}
    if "base_url" in used and "api_key" not in given:
        used |= _key_for_file(sources, used["base_url"])
    try:
        return Settings(**used, **given)
    except ValidationError as error:
        problems = "; ".join(_problem(found, given, sources) for found in error.errors(include_url=False))
        raise ConfigurationError(f"a setting is wrong: {problems}", hint="see `batchkit run --help`") from None


def origins_of_settings(flags: Mapping[str, Any]) -> dict[str, str]:
    """Return for each setting that is not at its default where it comes from, in the order of the fields.

    ``flags`` are those of the command line. Raises ``ConfigurationError`` for a wrong ``batchkit.toml``.
    """
    sources = _read_sources()
    found: dict[str, str] = {}
    for name in Settings.model_fields:
        variable = sources.variable(name)
        if name in flags:
            found[name] = "a flag"
        elif variable is not None:
            found[name] = variable[1]
        elif sources.file is not None and name in sources.in_file:
            found[name] = sources.file.place_of(name)
    return found


@dataclass(frozen=True, slots=True)
class _Sources:
    """What gives settings besides flags: names of variables in upper case by place, the first place first; and the file."""

    variables: dict[str, list[str]]
    file: SettingsFile | None

    @property
    def in_file(self) -> dict[str, Any]:
        return {} if self.file is None else self.file.values

    def variable(self, name: str) -> tuple[str, str] | None:
        """Return the variable that gives a setting and its place, None when there is none."""
        wanted = KEY_VARIABLES if name == "api_key" else (f"{ENV_PREFIX}{name.upper()}",)
        return next(
            ((variable, place) for place, names in self.variables.items() for variable in wanted if variable in names),
            None,
        )


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


class _OwnKey(BaseSettings):
    """The key of the server that the settings name, whoever runs it."""

    model_config = SettingsConfigDict(env_file=_DOTENV, extra="ignore", hide_input_in_errors=True)

    key: SecretStr | None = Field(default=None, validation_alias=KEY_VARIABLES[1])


def _read_sources() -> _Sources:
    variables = {"the environment": [name.upper() for name in os.environ], _DOTENV: _names_in_dotenv()}
    file = read_settings_file(Settings.model_fields, check=lambda values: _FileSettings(**values))
    return _Sources(variables, file)


def _names_in_dotenv() -> list[str]:
    """Read the names, not the values, that ``.env`` in the working directory sets."""
    try:
        lines = Path(_DOTENV).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    except UnicodeDecodeError:
        raise ConfigurationError(f"{_DOTENV} is not text in UTF-8", hint="save the file as UTF-8") from None
    names = (line.strip().removeprefix("export ").partition("=")[0].strip() for line in lines if "=" in line)
    return [name.upper() for name in names if not name.startswith("#")]


def _warn_about_unknown_variables(sources: _Sources) -> None:
    """Log each variable that is called like a setting and is none, once per process."""
    # Compared without their prefix, which would make any two names alike.
    known = [name.upper() for name in Settings.model_fields]
    for place, names in sources.variables.items():
        for name in names:
            own = name.removeprefix(ENV_PREFIX)
            if own != name and own not in known and name not in {*KEY_VARIABLES, *_warned}:
                _warned.add(name)
                near = get_close_matches(own, known, n=1)
                hint = f"; did you mean {ENV_PREFIX}{near[0]}?" if near else ""
                logger.warning("%s in %s is not a batchkit setting and has no effect%s", name, place, hint)


def _key_for_file(sources: _Sources, base_url: str) -> dict[str, SecretStr]:
    """Return the key to use with an address of ``batchkit.toml``, where it is another one than usual.

    Whoever wrote the file chose the address, so Groq's key goes only to Groq. Raises ``ConfigurationError`` when there is no other.
    """
    if _is_groqs(base_url):
        return {}
    if key := _OwnKey().key:
        return {"api_key": key}
    if sources.file is not None and sources.variable("api_key") is not None:
        raise ConfigurationError(
            f"{sources.file.place_of('base_url')}: {KEY_VARIABLES[0]} is a key for Groq, but base_url names another server;"
            " nothing was sent",
            hint=f"set {KEY_VARIABLES[1]} to a key of that server, or give the address with --base-url or BATCHKIT_BASE_URL",
        )
    return {}


def _is_groqs(address: str) -> bool:
    try:
        found = urlsplit(address)
    except ValueError:
        return False
    return (found.scheme, found.netloc) == _GROQ


def _problem(found: Any, given: Mapping[str, Any], sources: _Sources) -> str:
    """Write what is wrong with a setting, with the variable that gives it."""
    name = ".".join(map(str, found["loc"]))
    variable = None if name in given else sources.variable(name)
    where = f" ({variable[0]} in {variable[1]})" if variable else ""
    return f"{name}{where}: {found['msg'].removeprefix('Value error, ')}"
