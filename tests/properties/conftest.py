"""Two depths for every property: a quick one that is always the same, and a deep one that never is."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY = Path("/dev/shm")  # noqa: S108 - used through a temporary directory only
_ENOUGH_MEMORY_BYTES = 2 << 30


class Effort(Protocol):
    """Chooses how many examples are tried."""

    def __call__(self, *, quick: int, deep: int, steps: int = 30) -> settings:
        """Make the settings; ``steps`` is the longest history of a state machine."""
        ...


@pytest.fixture(
    params=["quick", pytest.param("deep", marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])],
)
def effort(request) -> Effort:
    """Give the settings of this depth: the same examples every time, or many new ones that a printed seed repeats."""
    is_deep = request.param == "deep"

    def choose(*, quick: int, deep: int, steps: int = 30) -> settings:
        return settings(
            max_examples=deep if is_deep else quick,
            stateful_step_count=steps * (2 if is_deep else 1),
            derandomize=not is_deep,
            database=None,
            # To make a failure small takes minutes: the quick run says at once that there is one.
            phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if is_deep else ())),
            print_blob=is_deep,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )

    return choose


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Give a folder in memory where there is room: thousands of commits need not wait for a disk."""
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH_MEMORY_BYTES
    with tempfile.TemporaryDirectory(prefix="batchkit-properties-", dir=_MEMORY if has_room else None) as name:
        yield Path(name)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Give a folder in which every example makes one of its own."""
    path: Path = tmp_path / "labs"
    path.mkdir()
    return path
