"""Options of HTTP clients: timeouts, limits, retries. All clients use the same options."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit.errors import ConfigurationError
from batchkit.provider.pace import LOWEST_SPEED, LowestSpeed

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options of HTTP; times are in seconds. Raises ``ConfigurationError`` for a number that must be greater than zero.

    ``read_timeout_seconds`` and ``write_timeout_seconds`` are the longest silence within one transfer, not its length.
    ``pool_timeout_seconds`` is the longest wait for one of ``max_connections``. A call that may be repeated is tried
    ``attempts`` times (from 1), and no repetition begins after ``total_seconds`` (``transfer_seconds`` for uploads and
    downloads). A wait that the server asks for is spent within the call up to ``retry_after_cap_seconds``; a longer one is
    raised as ``RateLimited``.

    No try outlasts ``total_seconds`` (an upload or download: ``transfer_seconds`` for its body), however slowly a server sends
    its bytes, and no reply that is held in memory is longer than ``max_reply_bytes``, counted decoded, or has more JSON values
    than about ``max_reply_values``, because each takes far more memory than its text: all are ``OutcomeUnknown``. Uploads and downloads that fall below ``lowest_speed`` are given up without another try: the caller
    tries again later, because the next transfer may be as slow.

    ``allow_insecure_http`` permits ``http://`` to another machine. Proxies and certificates are those of the environment.

    ``sleep`` waits for seconds, ``clock`` returns monotonic seconds, ``now`` Unix seconds, ``jitter`` a number from 0 to 1;
    tests pass them in.
    """

    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 120.0
    write_timeout_seconds: float = 120.0
    pool_timeout_seconds: float = 300.0
    max_connections: int = 64
    attempts: int = 5
    total_seconds: float = 180.0
    transfer_seconds: float = 3_600.0
    retry_after_cap_seconds: float = 30.0
    max_reply_bytes: int = 64_000_000
    max_reply_values: int = 3_000_000
    lowest_speed: LowestSpeed = LOWEST_SPEED
    allow_insecure_http: bool = False
    sleep: Callable[[float], object] = time.sleep  # noqa: TID251 - the default of a wait that is passed in
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        times = (
            self.connect_timeout_seconds,
            self.read_timeout_seconds,
            self.write_timeout_seconds,
            self.pool_timeout_seconds,
        )
        if min(times) <= 0 or self.attempts < 1 or self.max_connections < 1:
            raise ConfigurationError("time-outs, attempts and connections must be greater than zero")


HTTP_OPTIONS = HttpOptions()
