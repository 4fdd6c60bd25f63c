"""The environment of processes that batchkit starts: it holds no secret of ours."""

from __future__ import annotations

import os
from typing import Final

ENV_PREFIX: Final = "BATCHKIT_"
#: The key of whatever server the settings name.
OWN_KEY_VARIABLE: Final = f"{ENV_PREFIX}API_KEY"
#: Every provider's key is in a variable that ends so.
_KEY_ENDING: Final = "_API_KEY"


def environment_for_others() -> dict[str, str]:
    """Copy this process's environment for a child that needs neither a key nor the results store: it gets no secret of ours."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() != "PGPASSWORD" and not name.upper().startswith(ENV_PREFIX) and not _is_key(name.upper())
    }


def _is_key(name: str) -> bool:
    # Prefect's own key is for the processes of Prefect that we start.
    return name.endswith(_KEY_ENDING) and name != "PREFECT_API_KEY"
