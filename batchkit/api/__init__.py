"""The only way in: each verb is one function that opens, checks, does and reports. The command line, flows and users call the same ones.

The functions are loaded when they are first used, so that ``batchkit --help`` does not wait for a database driver. No module here is called
like a function that stands beside it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchkit.api.adopting import adopt
    from batchkit.api.evaluations import evaluate
    from batchkit.api.looking_back import compare_runs, runs
    from batchkit.api.managing import cancel, clean, resubmit
    from batchkit.api.reading import export, report, status
    from batchkit.api.running import run, submit, watch
    from batchkit.api.tables import annotate, moderate, speak, transcribe

__all__ = [
    "adopt",
    "annotate",
    "cancel",
    "clean",
    "compare_runs",
    "evaluate",
    "export",
    "moderate",
    "report",
    "resubmit",
    "run",
    "runs",
    "speak",
    "status",
    "submit",
    "transcribe",
    "watch",
]

_HOMES = {
    "adopting": ("adopt",),
    "evaluations": ("evaluate",),
    "looking_back": ("compare_runs", "runs"),
    "managing": ("cancel", "clean", "resubmit"),
    "reading": ("export", "report", "status"),
    "running": ("run", "submit", "watch"),
    "tables": ("annotate", "moderate", "speak", "transcribe"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
