"""Finding what repeats among millions of values, with eight bytes for each."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

_RECENT = 200_000


class SeenIds:
    """Remembers a hash of every id; ``suspects`` returns the hashes that occurred twice.

    Two different ids may share a hash, so the caller compares the texts of suspects. A set of the ids would take about 105 bytes
    each.
    """

    def __init__(self) -> None:
        self._hashes = array("q")

    def update(self, custom_ids: Iterable[str]) -> None:
        """Remember some ids."""
        self._hashes.extend(map(hash, custom_ids))

    def suspects(self) -> set[int]:
        """Return the values of ``hash`` that occurred more than once."""
        if not self._hashes:
            return set()
        # Imported here, because no other verb needs it.
        import numpy as np  # noqa: PLC0415 - as said

        hashes = np.frombuffer(self._hashes, np.int64)
        hashes.sort()
        repeated: list[int] = hashes[1:][hashes[1:] == hashes[:-1]].tolist()
        return set(repeated)


class SeenDigests:
    """Remembers digests by their first eight bytes: of ten million different ones, two agree once in 400,000 times."""

    def __init__(self) -> None:
        self._sorted: NDArray[np.uint64] | None = None
        self._recent: set[int] = set()

    def add(self, digests: Sequence[bytes]) -> list[bool]:
        """Remember some digests; return of each whether it was new."""
        # Imported here, because no other verb needs it.
        import numpy as np  # noqa: PLC0415 - as said

        short = np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)
        known = self._among_sorted(short)
        is_new: list[bool] = []
        for value, is_known in zip(short.tolist(), known, strict=True):
            is_new.append(not is_known and value not in self._recent)
            self._recent.add(value)
        if len(self._recent) >= _RECENT:
            recent = np.fromiter(self._recent, np.uint64, len(self._recent))
            every = recent if self._sorted is None else np.concatenate([self._sorted, recent])
            every.sort(kind="stable")
            self._sorted = every
            self._recent = set()
        return is_new

    def _among_sorted(self, short: NDArray[np.uint64]) -> list[bool]:
        if self._sorted is None:
            return [False] * len(short)
        places = self._sorted.searchsorted(short)
        found: list[bool] = (self._sorted.take(places, mode="clip") == short).tolist()
        return found
