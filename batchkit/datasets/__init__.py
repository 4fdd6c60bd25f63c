"""Reads and writes tables in bounded memory.

The libraries for it are an extra. They are imported when a name of this package is used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from batchkit.errors import UsageError

if TYPE_CHECKING:
    from batchkit.datasets.opening import is_among as is_among
    from batchkit.datasets.opening import open_table as open_table
    from batchkit.datasets.rows import rows_of as rows_of
    from batchkit.datasets.table import Table as Table
    from batchkit.datasets.writing import Snapshot as Snapshot
    from batchkit.datasets.writing import TableWriter as TableWriter
    from batchkit.datasets.writing import check_target as check_target
    from batchkit.datasets.writing import table_name_of as table_name_of

_HOMES = {
    "Snapshot": "writing",
    "Table": "table",
    "TableWriter": "writing",
    "check_target": "writing",
    "is_among": "opening",
    "open_table": "opening",
    "rows_of": "rows",
    "table_name_of": "writing",
}
#: Packages of the extra that no other dependency installs.
_EXTRA_PACKAGES = ("genai_prices", "pyarrow", "scipy")


def require_extra() -> None:
    """Raise ``UsageError`` if the libraries for tables, prompts and statistics are not installed."""
    missing = [name for name in _EXTRA_PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the libraries for tables are not installed ({', '.join(missing)})",
            hint="pip install 'groq-batchkit[annotate]'",
        )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_extra()
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
