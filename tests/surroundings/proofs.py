"""What must hold at the end of every run, whatever happened to it; and a provider that lets a test meddle at a moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tests.workloads import mixed_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.emulator import Emulator


def assert_complete(lines: list[dict[str, Any]], count: int) -> None:
    """Every request of a mixed workload succeeded, and stands in its place."""
    assert [line["custom_id"] for line in lines] == [mixed_line(number)["custom_id"] for number in range(count)]
    assert {line["status"] for line in lines} == {"succeeded"}


def assert_bought_once(emulator: Emulator, count: int) -> None:
    """Every request was executed once, and no shard became two batches."""
    ledger = emulator.ledger()
    keys = [batch.metadata["batchkit_key"] for batch in ledger.batches if batch.metadata]
    assert len(set(keys)) == len(keys), "a shard was bought as two batches"
    assert ledger.totals.requests_executed == count
    assert ledger.totals.bought_twice == 0


class Meddled:
    """A provider that is real, but for what a test does before or after its calls.

    ``meddle`` is called with the name of the call, first with a ``>`` in front and then with a ``<``; and with a ``!`` when a
    creation has passed its last check and is about to be sent.
    """

    def __init__(self, provider: Any, meddle: Callable[[str], None]) -> None:
        self._provider = provider
        self._meddle = meddle
        self.limits = provider.limits

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._provider, name)
        if name == "trouble":
            # Asks the provider for nothing: what is known already is read, at any time and in any thread.
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
    """Calls something for the first so many times of each moment, and counts them all."""

    def __init__(self, times: int, act: Callable[[], object]) -> None:
        self._times = times
        self._act = act
        self._lock = threading.Lock()
        self.seen: dict[str, int] = {}

    def __call__(self, moment: str) -> None:
        """Take note of a moment, and act if it is one of the first."""
        with self._lock:
            self.seen[moment] = self.seen.get(moment, 0) + 1
            is_early = self.seen[moment] <= self._times
        if is_early:
            self._act()
