"""Durable bulk workloads on the Groq Batch API: split, submit, poll, merge, resubmit.

The public names are loaded when they are first used, so that ``batchkit --help`` does not wait for a database driver.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchkit.api import (
        adopt,
        annotate,
        cancel,
        clean,
        compare_runs,
        evaluate,
        export,
        moderate,
        report,
        resubmit,
        run,
        runs,
        speak,
        status,
        submit,
        transcribe,
        watch,
    )
    from batchkit.engine.observer import Observer
    from batchkit.engine.progress import Progress, WorkloadState
    from batchkit.errors import BatchkitError, InputInvalid
    from batchkit.models import ReuseMode
    from batchkit.settings import Settings, load_settings
    from batchkit.steps.split import SplitOptions

__version__ = "0.1.0"

__all__ = [
    "BatchkitError",
    "InputInvalid",
    "Observer",
    "Progress",
    "ReuseMode",
    "Settings",
    "SplitOptions",
    "WorkloadState",
    "__version__",
    "adopt",
    "annotate",
    "cancel",
    "clean",
    "compare_runs",
    "evaluate",
    "export",
    "load_settings",
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
    "batchkit.api": (
        *(
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
        ),
        *("runs", "speak", "status", "submit", "transcribe", "watch"),
    ),
    "batchkit.errors": ("BatchkitError", "InputInvalid"),
    "batchkit.engine.observer": ("Observer",),
    "batchkit.engine.progress": ("Progress", "WorkloadState"),
    "batchkit.models": ("ReuseMode",),
    "batchkit.settings": ("Settings", "load_settings"),
    "batchkit.steps.split": ("SplitOptions",),
}

# In a checkout `flows` stands beside this package, in a wheel inside it: either way it is `batchkit.flows`,
# so that a folder of that name in the user's working directory is never picked up instead.
if not (Path(__file__).parent / "flows").is_dir():
    __path__.append(str(Path(__file__).parent.parent))


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
