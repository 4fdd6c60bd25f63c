"""A flow in a thread of its own: the engine's start, waits and retries stay there."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from .foreground import Foreground

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from .adapter import Job
    from .server import ServerChoice
