"""What the replies so far say about the provider: its time of day, and the trouble that calls are meeting now."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from batchkit.errors import ProviderUnreachable, RateLimited, TornDownload
from batchkit.models import Trouble
from batchkit.provider.headers import http_date

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batchkit.errors import ProviderError

_SENTENCES: dict[type[ProviderError], str] = {
    ProviderUnreachable: "the provider cannot be reached",
    RateLimited: "the provider asks to wait",
    TornDownload: "a download from the provider is not complete",
}
_OTHERWISE = "the provider does not answer as it should"


class Health:
    """Notes every try and every reply; safe to use from several threads at once.

    ``clock`` gives seconds that only rise, ``now`` Unix seconds of this machine.
    """

    def __init__(self, *, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._ahead: float | None = None
        self._trouble: Trouble | None = None

    def note_date(self, headers: Mapping[str, str]) -> None:
        """Note the ``Date`` of a reply, whoever wrote it; one that cannot be read is ignored."""
        moment = http_date(headers.get("date", ""))
        if moment is not None:
            self._ahead = moment - self._clock()

    def note_failure(self, error: ProviderError) -> None:
        """Note a try that failed: it begins a trouble, or counts as one more try of the present one."""
        sentence = next((text for kind, text in _SENTENCES.items() if isinstance(error, kind)), _OTHERWISE)
        what = f"{sentence}: {error.message}".rstrip(".")
        with self._lock:
            before = self._trouble
            self._trouble = Trouble(
                what, since=before.since if before else self._now(), tries=before.tries + 1 if before else 1
            )

    def note_answer(self) -> None:
        """Note a reply that the API itself wrote, be it a refusal: any trouble is over."""
        with self._lock:
            self._trouble = None

    @property
    def provider_time(self) -> float | None:
        """The provider's time in Unix seconds: the last ``Date`` and the time since; None before the first one."""
        ahead = self._ahead
        return None if ahead is None else self._clock() + ahead

    @property
    def trouble(self) -> Trouble | None:
        """The present trouble; None when the last reply came from the API."""
        return self._trouble
