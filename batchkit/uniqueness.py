"""Finding repeated custom_ids among millions with eight bytes each."""

from __future__ import annotations

from array import array

_BUCKETS = 256


class SeenIds:
    """Remembers a hash of every id; ``suspects`` names the hashes that came twice.

    Two different ids may share a hash, so a suspect is looked at again, by its text. A set of the ids themselves would
    take about 105 bytes each.
    """

    def __init__(self) -> None:
        self._buckets = tuple(array("q") for _ in range(_BUCKETS))

    def add(self, custom_id: str) -> None:
        """Remember an id."""
        number = hash(custom_id)
        self._buckets[number & (_BUCKETS - 1)].append(number)

    def suspects(self) -> set[int]:
        """Give the values of ``hash`` that occurred more than once."""
        found: set[int] = set()
        for bucket in self._buckets:
            seen: set[int] = set()
            for number in bucket if len(set(bucket)) < len(bucket) else ():
                if number in seen:
                    found.add(number)
                seen.add(number)
        return found
