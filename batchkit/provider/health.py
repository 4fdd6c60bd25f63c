"""The provider's health by its replies: its clock, and the current outage of calls."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from batchkit.errors import ProviderUnreachable, RateLimited, TornDownload
from batchkit.models import Trouble
from batchkit.provider.headers import http_date

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from batchkit.errors import ProviderError

_SENTENCES: dict[type[ProviderError], str] = {
    ProviderUnreachable: "the provider cannot be reached",
    RateLimited: "the provider asks to wait",
    TornDownload: "a download from the provider is not complete",
}
_OTHERWISE = "the provider does not answer as it should"
#: A call without a complete answer after this many seconds is reported.
_SLOW_SECONDS = 15.0


class _Call(NamedTuple):
    """A call that waits for its answer, since ``began`` by the monotonic clock, for ``seconds`` at most."""

    name: str
    began: float
    seconds: float


class Health:
    """Records every try and every reply; safe to use from several threads at once.

    ``clock`` returns monotonic seconds, ``now`` Unix seconds of this machine.
    """

    def __init__(self, *, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._ahead: float | None = None
        self._trouble: Trouble | None = None
        self._answered = clock()
        self._calls: dict[object, _Call] = {}

    @contextmanager
    def awaiting(self, name: str, *, seconds: float) -> Iterator[None]:
        """Record that a call (``GET /batches``) waits for its answer, for ``seconds`` at most, until the block ends."""
        key = object()
        with self._lock:
            self._calls[key] = _Call(name, self._clock(), seconds)
        try:
            yield
        finally:
            with self._lock:
                del self._calls[key]

    def note_date(self, headers: Mapping[str, str]) -> None:
        """Record the ``Date`` of a reply, even of a gateway's; an unreadable one is ignored."""
        moment = http_date(headers.get("date", ""))
        if moment is not None:
            self._ahead = moment - self._clock()

    def note_failure(self, error: ProviderError, *, began: float | None = None) -> None:
        """Record a failed try: it begins an outage, or counts as one more try of the current one.

        The outage begins when the try ``began`` (by the monotonic clock), or at the last answer if that was later; for a transfer,
        of which bytes may have arrived, it begins now.
        """
        sentence = next((text for kind, text in _SENTENCES.items() if isinstance(error, kind)), _OTHERWISE)
        what = f"{sentence}: {error.message}".rstrip(".")
        with self._lock:
            before = self._trouble
            since = self._now() if began is None else self._since(began)
            self._trouble = Trouble(
                what, since=before.since if before else since, tries=before.tries + 1 if before else 1
            )

    def note_answer(self) -> None:
        """Record a reply that the API itself wrote, even a refusal: any outage is over."""
        with self._lock:
            self._trouble = None
            self._answered = self._clock()

    @property
    def provider_time(self) -> float | None:
        """Return the provider's time in Unix seconds: the last ``Date`` and the time since; None before the first one."""
        ahead = self._ahead
        return None if ahead is None else self._clock() + ahead

    @property
    def trouble(self) -> Trouble | None:
        """Return the current outage; None when the last reply came from the API and no call waits long for its answer."""
        with self._lock:
            oldest = next(iter(self._calls.values()), None)
            if self._trouble is not None or oldest is None:
                return self._trouble
            if self._clock() - max(oldest.began, self._answered) < _SLOW_SECONDS:
                return None
            limit = f"it is waited for up to {oldest.seconds:g} s"
            what = f"the provider has not finished its answer to {oldest.name}: {limit}"
            return Trouble(what, since=self._since(oldest.began), tries=1)

    def _since(self, began: float) -> float:
        """Return when a try began, or when the last answer came if that was later, in Unix seconds."""
        return self._now() - (self._clock() - max(began, self._answered))
