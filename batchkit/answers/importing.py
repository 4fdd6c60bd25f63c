"""Things of the user's own that are named by their import path."""

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
        raise ConfigurationError(f"{path!r} is no import path", hint="write package.module:name")
    here = str(Path.cwd())
    if here not in sys.path:
        # Behind everything else: a file of the user's must not take the place of a library's.
        sys.path.append(here)
    try:
        found: Any = import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ConfigurationError(
            f"{path} cannot be imported: {type(error).__name__}: {error}",
            hint="run the command in the folder where the module is, or install the module; workers need it too",
        ) from error
    return found
