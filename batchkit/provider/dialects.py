"""The dialects, by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from batchkit.errors import ConfigurationError
from batchkit.formatting import or_rather
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.mistral.dialect import MISTRAL
from batchkit.provider.openai import profiles
from batchkit.provider.together.dialect import TOGETHER

if TYPE_CHECKING:
    from batchkit.provider.dialect import Dialect

DEFAULT: Final = GROQ.name
#: Those whose calls have a shape of their own; the others are profiles of OpenAI's shape.
_OWN: Final = {dialect.name: dialect for dialect in (GROQ, TOGETHER, MISTRAL)}


def names() -> tuple[str, ...]:
    """Return the names of all providers, the default one first."""
    return (GROQ.name, *profiles.names(), TOGETHER.name, MISTRAL.name)


@cache  # a dialect is a constant; a profile takes a file to read
def dialect_named(name: str) -> Dialect:
    """Return a provider's dialect. Raises ``ConfigurationError`` for a name that is unknown."""
    if name in _OWN:
        return _OWN[name]
    if name in profiles.names():
        return profiles.read(name)
    raise ConfigurationError(
        f"there is no provider {name!r}{or_rather(name, names())}", hint=f"the providers are: {', '.join(names())}"
    )
