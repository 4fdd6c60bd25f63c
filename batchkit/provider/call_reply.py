"""How one call of an ordinary endpoint ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.models import Download


class CallEnd(StrEnum):
    """What is certain of a call."""

    #: A complete HTTP reply came, of any status.
    ANSWERED = "answered"
    #: Nothing reached the API: no address, no connection, no TLS, a proxy that refuses, a closed client.
    NOT_SENT = "not_sent"
    #: Some of it was sent and no complete reply came: it may have been executed and billed.
    IN_DOUBT = "in_doubt"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReply:
    """The end of one call; its ``repr`` shows neither headers nor body.

    ``status`` is that of a reply whose headers came, also of one whose body did not. ``body`` is decoded and has no key in it.
    ``headers`` have names in lower case and are bounded in number and length. ``message`` is for people: what was asked, and how
    it ended. ``seconds`` is the time from the call to its end. ``file`` is a binary answer that was written to the disk; ``body`` is
    empty then. ``is_time_out``: the call ended because its time was over.
    """

    end: CallEnd
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    message: str = ""
    seconds: float = 0.0
    file: Download | None = None
    is_time_out: bool = False

    @property
    def is_success(self) -> bool:
        """Return whether the complete reply has one of the statuses 200 to 299."""
        return self.end is CallEnd.ANSWERED and self.status is not None and self.status // 100 == 2  # noqa: PLR2004 - RFC 9110, section 15.3
