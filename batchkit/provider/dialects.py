"""The dialects, by name.

The default provider's has no profile, and the other ones are loaded when they are asked for: pydantic needs more time to build the
models of a profile than a short command needs for its work.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

from batchkit.errors import ConfigurationError
from batchkit.formatting import or_rather
from batchkit.provider.dialect import ApiShape
from batchkit.provider.groq.dialect import GROQ

if TYPE_CHECKING:
    from pydantic import BaseModel

    from batchkit.provider.dialect import Dialect
    from batchkit.provider.profiles import Profile

DEFAULT: Final = GROQ.name
#: OpenAI's shape at any address: what differs is in a profile of the user's own.
CUSTOM: Final = "custom"
_TOGETHER: Final = "together"
_MISTRAL: Final = "mistral"
_VERIFIED_BY_USER: Final = "a profile of your own"


def names() -> tuple[str, ...]:
    """Return the names of all providers, the default one first and the user's own last."""
    from batchkit.provider import profiles  # noqa: PLC0415 - see above

    return (GROQ.name, *profiles.names(), _TOGETHER, _MISTRAL, CUSTOM)


@cache  # a dialect is a constant; a profile takes a file to read
def dialect_named(name: str) -> Dialect:
    """Return a provider's dialect. Raises ``ConfigurationError`` for a name that is unknown."""
    if name == GROQ.name:
        return GROQ
    if name not in names():
        raise ConfigurationError(
            f"there is no provider {name!r}{or_rather(name, names())}", hint=f"the providers are: {', '.join(names())}"
        )
    from batchkit.provider import profiles  # noqa: PLC0415 - see above

    return profiles.dialect_of(name, *_profile_and_shape(name))


def dialect_changed(name: str, changes: BaseModel) -> Dialect:
    """Return a provider's dialect with the values of a user's profile, which belong to it or to a server of any other name.

    Raises ``ConfigurationError`` for a provider without a profile.
    """
    if name == GROQ.name:
        raise ConfigurationError(
            f"{GROQ.title} has no profile that could be changed",
            hint=f'give the profile another name, such as "{CUSTOM}"',
        )
    from batchkit.provider import profiles  # noqa: PLC0415 - see above

    profile, shape = _profile_and_shape(name)
    return replace(profiles.dialect_of(name, profiles.changed(profile, changes), shape), verified=_VERIFIED_BY_USER)


def profile_named(name: str) -> Profile | None:
    """Return the profile of a provider, None where it has none."""
    return None if name == GROQ.name else _profile_and_shape(name)[0]


def own_profile(values: object) -> BaseModel:
    """Check a user's profile, whose entries are ``own_profile_names``. Raises ``ValidationError``."""
    from batchkit.provider.profiles import PlainProfile  # noqa: PLC0415 - see above

    return PlainProfile.model_validate(values)


def own_profile_names() -> tuple[str, ...]:
    """Return the names of the entries of a user's profile."""
    from batchkit.provider.profiles import PLAIN_NAMES  # noqa: PLC0415 - see above

    return PLAIN_NAMES


def _profile_and_shape(name: str) -> tuple[Profile, type[ApiShape]]:
    from batchkit.provider import profiles  # noqa: PLC0415 - see above

    if name == _TOGETHER:
        from batchkit.provider.together import dialect as together  # noqa: PLC0415 - see above

        return together.PROFILE, together.TogetherShape
    if name == _MISTRAL:
        from batchkit.provider.mistral import dialect as mistral  # noqa: PLC0415 - see above

        return mistral.PROFILE, mistral.MistralShape
    if name in profiles.names():
        return profiles.profile_named(name), ApiShape
    return (profiles.CUSTOM if name == CUSTOM else profiles.CUSTOM.model_copy(update={"title": name})), ApiShape
