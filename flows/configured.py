"""Checks whether the user has a Prefect server without importing Prefect, which takes more than a second."""

from __future__ import annotations

import os
from pathlib import Path

_NAME = "PREFECT_API_URL"


def may_be_configured() -> bool:
    """Return whether the environment, a profile or a project file seems to name a server. Only Prefect itself knows for certain."""
    if os.environ.get(_NAME):
        return True
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    if any(_holds(path, _NAME) for path in (profiles, Path(".env"))):
        return True
    return _holds(Path("prefect.toml"), "[api]") or _holds(Path("pyproject.toml"), "[tool.prefect.api]")


def _holds(path: Path, text: str) -> bool:
    try:
        return text in path.read_text(errors="replace")
    except OSError:
        return False
