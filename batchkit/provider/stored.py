"""The dialects of stored workloads, of which a database has the names: the known ones, and the one of the user's own profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.errors import ConfigurationError
from batchkit.provider.dialects import dialect_named

if TYPE_CHECKING:
    from batchkit.provider.dialect import Dialect

_own: dict[str, Dialect] = {}


def set_own_dialect(dialect: Dialect | None) -> None:
    """Set the dialect of the user's own profile, as the settings of this process have it now; None: they have none."""
    _own.clear()
    if dialect is not None:
        _own[dialect.name] = dialect


def own_dialect(name: str) -> Dialect | None:
    """Return the dialect of the user's own profile if it is this provider's."""
    return _own.get(name)


def runs_tools(provider: str, model: str) -> bool:
    """Return whether a model is a system of the provider that runs tools itself, and tells which."""
    dialect = stored_dialect(provider)
    return dialect is not None and model.lower() in dialect.models.runs_tools


def stored_dialect(name: str) -> Dialect | None:
    """Return the dialect of a workload's provider; None where this installation and its settings do not know it."""
    if name in _own:
        return _own[name]
    try:
        return dialect_named(name)
    except ConfigurationError:
        return None
