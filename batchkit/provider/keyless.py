"""A provider without a key: for work on answers that are here already. It knows what its dialect says, and refuses every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, cast

from batchkit.errors import ConfigurationError
from batchkit.provider.refusals import is_account_refusal, refusal_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.models import RefusalKind
    from batchkit.provider.base import Provider
    from batchkit.provider.dialect import Dialect


def keyless(dialect: Dialect) -> Provider:
    """Return a provider that needs no key; its calls raise ``ConfigurationError``."""
    return cast("Provider", _KeylessProvider(dialect))


class _KeylessProvider:
    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def refuse(*_given: object, **_named: object) -> NoReturn:
            raise ConfigurationError("there is no API key", hint=self.dialect.key_hint)

        return refuse

    def refusal_kind(
        self, *, status: int | None, code: str | None, message: str | None, param: str | None = None
    ) -> RefusalKind:
        return refusal_kind(status=status, code=code, message=message, param=param)

    def is_account_refusal(self, *, status: int | None, code: str | None, message: str | None) -> bool:
        return is_account_refusal(status=status, code=code, message=message)

    def now(self) -> None:
        """Return None: there is no reply."""

    def trouble(self) -> None:
        """Return None: there are no calls."""

    def close(self) -> None:
        """No-op: there are no connections."""
