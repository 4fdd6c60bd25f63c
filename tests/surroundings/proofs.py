"""The conditions that hold at the end of every run, whatever happened to it, and a provider whose calls a test can intercept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tests.workloads import mixed_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.emulator import Emulator


def assert_complete(lines: list[dict[str, Any]], count: int) -> None:
    """Check that every request of a mixed workload succeeded and is in its place."""
    assert [line["custom_id"] for line in lines] == [mixed_line(number)["custom_id"] for number in range(count)]
    assert {line["status"] for line in lines} == {"succeeded"}


def assert_bought_once(emulator: Emulator, count: int) -> None:
    """Check that every request was executed once, and no shard became two batches."""
    ledger = emulator.ledger()
    keys = [batch.metadata["batchkit_key"] for batch in ledger.batches if batch.metadata]
    assert len(set(keys)) == len(keys), "a shard was bought as two batches"
    assert ledger.totals.requests_executed == count
    assert ledger.totals.bought_twice == 0


class Meddled:
    """A real provider, with a hook before and after each of its calls.

    ``meddle`` is called with the name of the call, prefixed with ``>`` before it and with ``<`` after it; with ``!`` when a
    creation has passed its last check and is about to be sent.
    """

    def __init__(self, provider: Any, meddle: Callable[[str], None]) -> None:
        self._provider = provider
        self._meddle = meddle
        self.dialect = provider.dialect

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._provider, name)
        if name == "trouble":
            # This one calls no provider: it reads what is already known, at any time and in any thread.
            return call

        def meddled(*arguments: Any, **keywords: Any) -> Any:
            self._meddle(f">{name}")
            if check := keywords.get("before_sending"):
                keywords["before_sending"] = lambda: (check(), self._meddle(f"!{name}"))
            result = call(*arguments, **keywords)
            self._meddle(f"<{name}")
            return result

        return meddled


class Times:
    """Calls a function the first ``times`` times that each moment comes, and counts all of them."""

    def __init__(self, times: int, act: Callable[[], object]) -> None:
        self._times = times
        self._act = act
        self._lock = threading.Lock()
        self.seen: dict[str, int] = {}

    def __call__(self, moment: str) -> None:
        """Count a moment, and act if it is one of the first."""
        with self._lock:
            self.seen[moment] = self.seen.get(moment, 0) + 1
            is_early = self.seen[moment] <= self._times
        if is_early:
            self._act()
