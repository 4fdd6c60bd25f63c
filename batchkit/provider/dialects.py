"""The dialects, by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from batchkit.errors import ConfigurationError
from batchkit.formatting import or_rather
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.openai import profiles

if TYPE_CHECKING:
    from batchkit.provider.dialect import Dialect

DEFAULT: Final = GROQ.name


def names() -> tuple[str, ...]:
    """Return the names of all providers, the default one first."""
    return (GROQ.name, *profiles.names())


@cache  # a dialect is a constant; a profile takes a file to read
def dialect_named(name: str) -> Dialect:
    """Return a provider's dialect. Raises ``ConfigurationError`` for a name that is unknown."""
    if name == GROQ.name:
        return GROQ
    if name in profiles.names():
        return profiles.read(name)
    raise ConfigurationError(
        f"there is no provider {name!r}{or_rather(name, names())}", hint=f"the providers are: {', '.join(names())}"
    )
