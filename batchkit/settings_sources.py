"""Where settings and the key come from: variables of the environment and of ``.env``, and ``batchkit.toml``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from batchkit.child_environment import ENV_PREFIX, OWN_KEY_VARIABLE
from batchkit.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batchkit.provider.dialect import Dialect
    from batchkit.settings_file import SettingsFile

logger = logging.getLogger(__name__)

DOTENV = ".env"
#: The unknown variables that were told in this process.
_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class Sources:
    """What gives settings besides flags: names of variables in upper case by place, the first place first; and the file."""

    variables: dict[str, list[str]]
    file: SettingsFile | None

    @property
    def in_file(self) -> dict[str, Any]:
        """The values of the file, by the names of the settings."""
        return {} if self.file is None else self.file.values

    def variable(self, name: str) -> tuple[str, str] | None:
        """Return the variable that gives a setting and its place, None when there is none."""
        return self.first_of((f"{ENV_PREFIX}{name.upper()}",))

    def first_of(self, wanted: Sequence[str]) -> tuple[str, str] | None:
        """Return the first of these variables that there is, and its place; None when there is none."""
        return next(
            ((variable, place) for place, names in self.variables.items() for variable in wanted if variable in names),
            None,
        )


class _KeyReader(BaseSettings):
    """Reads a key, whose name depends on the provider, from where settings come from."""

    model_config = SettingsConfigDict(env_file=DOTENV, extra="ignore", hide_input_in_errors=True)

    key: SecretStr | None = None


def names_in_dotenv() -> list[str]:
    """Read the names, not the values, that ``.env`` in the working directory sets."""
    try:
        lines = Path(DOTENV).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    except UnicodeDecodeError:
        raise ConfigurationError(f"{DOTENV} is not text in UTF-8", hint="save the file as UTF-8") from None
    names = (line.strip().removeprefix("export ").partition("=")[0].strip() for line in lines if "=" in line)
    return [name.upper() for name in names if not name.startswith("#")]


def warn_about_unknown_variables(sources: Sources, settings: Iterable[str]) -> None:
    """Log each variable that is called like one of the ``settings`` and is none, once per process."""
    # Compared without their prefix, which would make any two names alike.
    known = [name.upper() for name in settings]
    for place, names in sources.variables.items():
        for name in names:
            own = name.removeprefix(ENV_PREFIX)
            if own != name and own not in known and name not in {OWN_KEY_VARIABLE, *_warned}:
                _warned.add(name)
                near = get_close_matches(own, known, n=1)
                hint = f"; did you mean {ENV_PREFIX}{near[0]}?" if near else ""
                logger.warning("%s in %s is not a batchkit setting and has no effect%s", name, place, hint)


def key_of(sources: Sources, dialect: Dialect, address_in_file: str | None) -> SecretStr | None:
    """Read the key: that of the provider, else that of whatever server the settings name; None without one.

    Whoever wrote ``batchkit.toml`` chose the address in it, so the provider's key goes there only if it is the provider's own. Raises
    ``ConfigurationError`` when there is no other.
    """
    variables = (*dialect.key.variables, OWN_KEY_VARIABLE)
    if address_in_file is None or (dialect.base_url is not None and _is_same_server(address_in_file, dialect.base_url)):
        return _read_key(variables)
    if key := _read_key((OWN_KEY_VARIABLE,)):
        return key
    if sources.file is not None and sources.first_of(variables) is not None:
        raise ConfigurationError(
            f"{sources.file.place_of('base_url')}: {variables[0]} is a key for {dialect.title}, but base_url names another"
            " server; nothing was sent",
            hint=f"set {OWN_KEY_VARIABLE} to a key of that server, or give the address with --base-url or BATCHKIT_BASE_URL",
        )
    return None


def _read_key(variables: Sequence[str]) -> SecretStr | None:
    """Read the first of these variables from the environment or from ``.env``."""
    key_field = Field(default=None, validation_alias=AliasChoices(*variables))
    model = create_model("_Key", __base__=_KeyReader, key=(SecretStr | None, key_field))
    found: SecretStr | None = model().key
    return found


def _is_same_server(one: str, other: str) -> bool:
    try:
        found, wanted = urlsplit(one), urlsplit(other)
    except ValueError:
        return False
    return (found.scheme, found.netloc) == (wanted.scheme, wanted.netloc)
