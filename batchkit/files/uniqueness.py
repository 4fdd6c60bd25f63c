"""Finding repeated custom_ids among millions, with eight bytes per id."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


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
