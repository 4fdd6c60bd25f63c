"""Imports of the user's own models and functions."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from batchkit.errors import ConfigurationError


def import_by_path(path: str) -> Any:
    """Import ``package.module:name``, also from the working directory. Raises ``ConfigurationError``."""
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(f"{path!r} is not an import path", hint="write package.module:name")
    here = str(Path.cwd())
    if here not in sys.path:
        # Last, so that a file of the user's never replaces a library's module.
        sys.path.append(here)
    try:
        found: Any = import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # importing runs the user's module, which may raise anything
        raise ConfigurationError(
            f"{path} cannot be imported: {type(error).__name__}: {error}",
            hint="run the command in the folder where the module is, or install the module; workers need it too",
        ) from error
    return found
