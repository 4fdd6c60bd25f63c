"""The environment of processes that batchkit starts: it holds no secret of ours."""

from __future__ import annotations

import os
from typing import Final

ENV_PREFIX: Final = "BATCHKIT_"
#: The first is a key of Groq's; the second belongs to whatever server the settings name.
KEY_VARIABLES: Final = ("GROQ_API_KEY", "BATCHKIT_API_KEY")


def environment_for_others() -> dict[str, str]:
    """Copy this process's environment for a child that needs neither the key nor the results store: it gets no secret of ours."""
    withheld = {*KEY_VARIABLES, "PGPASSWORD"}
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() not in withheld and not name.upper().startswith(ENV_PREFIX)
    }
