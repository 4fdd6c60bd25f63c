"""The headers of a server's replies: which ones help support, and which ones tell limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from batchkit.formatting import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.provider.check_report import CheckReport

REQUEST_ID: Final = "x-request-id"
_LIMITS: Final = ("x-ratelimit", "ratelimit", "retry-after")
#: Longer values, and more headers, are no limits.
_LONGEST_CHARS: Final = 60
_MOST_HEADERS: Final = 20


@dataclass(slots=True)
class SeenHeaders:
    """What the replies to a check's calls had: ``limits`` are the last headers of limits, by the kind of the call and their names."""

    batches_path: str
    replies: int = 0
    with_request_id: int = 0
    limits: dict[str, dict[str, str]] = field(default_factory=dict)

    def see(self, _method: str, path: str, headers: Mapping[str, str]) -> None:
        """Take the headers of a reply. May be called in any thread."""
        self.replies += 1
        self.with_request_id += REQUEST_ID in headers
        found = {name.lower(): value for name, value in headers.items() if name.lower().startswith(_LIMITS)}
        self.limits[self._kind(path)] = dict(list(found.items())[:_MOST_HEADERS])

    def conclude(self, report: CheckReport) -> None:
        """Report what was seen of files, batches and other calls."""
        if self.replies:
            every = self.with_request_id == self.replies
            found = "on every reply" if every else f"on {self.with_request_id} of {self.replies} replies"
            report.note(REQUEST_ID, found)
        for kind in ("files", "batches", "chat"):
            if kind in self.limits:
                report.note(f"headers of limits on {kind}", shown(self.limits[kind]))

    def _kind(self, path: str) -> str:
        if path.startswith(self.batches_path):
            return "batches"
        return path.strip("/").partition("/")[0]


def shown(headers: Mapping[str, str]) -> str:
    """Return headers for people."""
    pairs = (
        f"{printable(name, _LONGEST_CHARS)}: {printable(value, _LONGEST_CHARS)}" for name, value in headers.items()
    )
    return ", ".join(pairs) or "none"
