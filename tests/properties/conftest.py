"""Two depths for every property: a quick one with fixed examples, and a deep one with new examples every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from pathlib import Path


class Effort(Protocol):
    """Chooses the number of examples."""

    def __call__(self, *, quick: int, deep: int, steps: int = 30) -> settings:
        """Return the settings; ``steps`` is the longest history of a state machine."""
        ...


@pytest.fixture(
    params=["quick", pytest.param("deep", marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])],
)
def effort(request) -> Effort:
    """Return the settings of this depth: the same examples every time, or many new ones that a printed seed reproduces."""
    is_deep = request.param == "deep"

    def choose(*, quick: int, deep: int, steps: int = 30) -> settings:
        return settings(
            max_examples=deep if is_deep else quick,
            stateful_step_count=steps * (2 if is_deep else 1),
            derandomize=not is_deep,
            database=None,
            # Shrinking takes minutes: the quick run reports a failure at once.
            phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if is_deep else ())),
            print_blob=is_deep,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )

    return choose


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a folder in which every example makes its own."""
    path: Path = tmp_path / "labs"
    path.mkdir()
    return path
